"""Shared by all figures: style, command line, output and statistics."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path
import re
import sys
from typing import Annotated, Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
from matplotlib.typing import ColorType
import numpy as np
import pandas as pd
import rich
import tyro

from kdjax import results
from kdjax.study import flags
from kdjax.study.statistics import interval

COLUMN, PAGE = 3.35, 7.0  # widths of a column and of a page, in inches
# Paul Tol's high-contrast colours, distinguishable in greyscale.
BLUE, RED, YELLOW = "#004488", "#bb5566", "#ddaa33"
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def main(
    draw: Callable[[str], Figure],
    script: str,
    experiment: str,
    made_by: str,
) -> None:
    """Draws ``results/<name>/`` as PDF and PNG, with reproducible bytes.

    Figures of the committed results, whose folder is named after the experiment, are
    written beside the script, others to their folder of results. The program ends with
    status 2 if the results are missing or lack what the figure shows.

    Args:
      draw: Draws the figure, given the name of a folder under ``results``.
      script: Path of the figure's script.
      experiment: Name of the experiment.
      made_by: Module and flags that made the committed results.
    """
    name = flags.parse(
        Annotated[str, tyro.conf.arg(name="results", help="A folder under results/.")],
        default=experiment,
    )
    here = Path(script).parent
    plt.style.use(here / "paper.mplstyle")
    try:
        check_results(name, Path(script).stem, experiment, made_by)
        figure = draw(name)
    except (FileNotFoundError, results.Damaged, OtherExperiment) as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except (LookupError, ValueError) as error:
        if name == experiment:
            raise
        print(
            f"{Path(script).stem} needs what {results.ROOT / name}, of another config, "
            f"lacks: {error!r}",
            file=sys.stderr,
        )
        sys.exit(2)
    folder = here if name == experiment else results.ROOT / name
    write(figure, folder / Path(script).stem)


def write(figure: Figure, path: Path) -> None:
    """Writes ``path`` as .pdf and .png, without time stamps."""
    for suffix, stamp in ((".pdf", "CreationDate"), (".png", "Software")):
        figure.savefig(path.with_suffix(suffix), metadata={stamp: None})
        rich.print(f"wrote {path.with_suffix(suffix)}")


class OtherExperiment(ValueError):
    """The results are of another experiment than the figure."""


def check_results(name: str, figure: str, experiment: str, made_by: str) -> None:
    """Raises an error unless ``results/<name>`` exists and is of the experiment."""
    folder = results.ROOT / name
    if not (folder / "meta.json").exists():
        command = command_for(name, experiment, made_by)
        raise FileNotFoundError(f"there are no results in {folder}; run: {command}")
    found = results.meta(name).get("experiment")
    if found is None:
        raise OtherExperiment(
            f"{folder} does not record its experiment; run the experiment again with "
            f"--force"
        )
    if found != experiment:
        raise OtherExperiment(
            f"{folder} holds results of {found}, but {figure} draws those of "
            f"{experiment}"
        )


def command_for(name: str, experiment: str, made_by: str) -> str:
    """The command that makes ``results/<name>``, guessed from the name."""
    rest = name.removeprefix(experiment) if name.startswith(experiment) else ""
    words = rest.split("_")[1:]
    quick = " --quick" if "quick" in words else ""
    for dataset in set(words) - {"quick"}:
        made_by = re.sub(r"(?<=--dataset )\w+", dataset, made_by)
    return f"python -m {made_by}{quick}"


def intervals(table: pd.DataFrame, by: str, column: str) -> pd.DataFrame:
    """The ``mean`` of a column, and ``half`` its interval, for each value of ``by``."""
    found = {value: interval(cells) for value, cells in table.groupby(by)[column]}
    return pd.DataFrame.from_dict(found, orient="index", columns=["mean", "half"])


def differences(
    table: pd.DataFrame, baseline: pd.DataFrame, column: str
) -> pd.DataFrame:
    """Subtracts from a column the value of the baseline with the same seed."""
    of_seed = baseline.set_index("seed")[column]
    return table.assign(**{column: table[column] - table["seed"].map(of_seed)})


def series(count: int) -> list[dict]:
    """Colours from dark to light, with a marker and a dash pattern each."""
    colours = colormaps["viridis"](np.linspace(0, 0.85, count))
    looks = zip(colours, cycle(MARKERS), cycle(DASHES), strict=False)
    return [{"color": c, "marker": m, "linestyle": d} for c, m, d in looks]


def mark(label: str, color: ColorType, marker: str, **style: Any) -> Line2D:
    """A legend entry without a line."""
    return Line2D([], [], color=color, marker=marker, ls="", label=label, **style)


def line(label: str, color: ColorType, dash: Any) -> Line2D:
    """A legend entry of a thin line."""
    return Line2D([], [], color=color, linestyle=dash, linewidth=0.8, label=label)


def image(row: pd.Series) -> np.ndarray:
    """The pixels ``[28, 28]`` in a row of a table of digits."""
    return row[[f"pixel{i}" for i in range(28 * 28)]].to_numpy(float).reshape(28, 28)


def probabilities(row: pd.Series, temperature: float) -> np.ndarray:
    """The softmax ``[10]`` of the logits in a row of a table of digits."""
    z = row[[f"logit{c}" for c in range(10)]].to_numpy(float) / temperature
    return np.exp(z - np.logaddexp.reduce(z))
