"""What all figures share: their look, and where they go."""

from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import rich
import tyro

from kdjax import results


def main(draw: Callable[[str], Figure], script: str, default: str) -> None:
    """Draws from ``results/<name>/`` into PDF and PNG, the same bytes every time.

    The committed results are drawn beside the script, others into their own folder.
    """

    def cli(results: str = default) -> Path:
        """Draws one figure.

        Args:
          results: A folder under results/.
        """
        return Path(results)

    name = str(tyro.cli(cli))
    here = Path(script).parent
    plt.style.use(here / "paper.mplstyle")
    figure = draw(name)
    folder = here if name == default else results.ROOT / name
    for suffix, stamp in (("pdf", "CreationDate"), ("png", "Software")):
        path = folder / f"{Path(script).stem}.{suffix}"
        figure.savefig(path, metadata={stamp: None})
        rich.print(f"wrote {path}")
