"""What all figures share: their look, and where they go."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import rich
import tyro

from kdjax import results


def main(draw: Callable[[str], Figure], script: str, default: str) -> None:
    """Draws from ``results/<name>/`` into PDF and PNG, the same bytes every time.

    The committed results are drawn beside the script, others into their own folder.
    """

    name = tyro.cli(
        Annotated[str, tyro.conf.arg(name="results", help="A folder under results/.")],
        default=default,
    )
    here = Path(script).parent
    plt.style.use(here / "paper.mplstyle")
    figure = draw(name)
    folder = here if name == default else results.ROOT / name
    for suffix, stamp in (("pdf", "CreationDate"), ("png", "Software")):
        path = folder / f"{Path(script).stem}.{suffix}"
        figure.savefig(path, metadata={stamp: None})
        rich.print(f"wrote {path}")
