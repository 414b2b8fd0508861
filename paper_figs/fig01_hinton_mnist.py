"""Test errors of a teacher, and of students with and without it.

Squares: section 3 of Hinton et al. (2015), a single run each. Circles: here, with
{dataset[train]:,} training images and {dataset[validation]:,} images to select settings
on. Diamonds: trained with the same settings on all of these images, as in the paper
(`hinton_refit`). Circles and diamonds are means over {config[seeds]} seeds, except for
the teachers, a single run each. Numbers and thick bars are 95 % intervals of the mean
over seeds. Thin bars are the 95 % binomial intervals n ± 1.96 √n of the n errors of one
network on the test images. Distilled students use T = {config[temperature]:g}.
"""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "hinton_mnist"
MADE_BY = "experiments.mnist.hinton --dataset mnist"
ROWS = ("teacher", "distilled", "hard")


def draw(name: str) -> Figure:
    meta = results.meta(name)
    paper = {arm: [errors] for arm, errors in meta["paper"].items()}
    sizes = meta["dataset"]
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 3.1))
    points(ax, 0.28, paper, color="0.45", fmt="s", label="Hinton et al. (2015)")
    label = f"here: {sizes['train']:,} images"
    points(ax, 0, errors_of(name), color=figures.BLUE, fmt="o", label=label)
    refit = name.replace(RESULTS, "hinton_refit")
    if (results.ROOT / refit / "meta.json").exists():
        label = f"here: all {sizes['train'] + sizes['validation']:,}"
        points(ax, -0.28, errors_of(refit), color=figures.RED, fmt="D", label=label)
    units = {arm: f"{meta['config']['student_width']:,}" for arm in ROWS}
    units["teacher"] = f"{meta['config']['teacher_width']:,}"
    names = {"teacher": "teacher", "distilled": "distilled", "hard": "hard labels"}
    labels = [f"{names[arm]},\n{units[arm]} hidden units" for arm in ROWS]
    ax.set_yticks(range(len(ROWS)), labels)
    ax.set(xlabel="test errors", xlim=(0, None), ylim=(-0.5, len(ROWS) - 0.35))
    ax.grid(False, axis="y")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def errors_of(name: str) -> dict[str, Sequence[float]]:
    """Test errors of every arm and of the teacher."""
    runs = results.load(name).groupby("arm")["test_errors_last"]
    return dict(list(runs)) | {
        "teacher": [results.meta(name)["teacher"]["test"]["errors"]]
    }


def points(
    ax: Axes,
    aside: float,
    errors: Mapping[str, Sequence[float]],
    *,
    color: str,
    fmt: str,
    label: str,
) -> None:
    """Plots the mean of each arm with both intervals."""
    for row, arm in enumerate(ROWS):
        mean, half = interval(errors[arm])
        y, text = row + aside, f"{mean:g}"
        style = {"fmt": fmt, "color": color, "elinewidth": 0.8, "markersize": 4}
        ax.errorbar(mean, y, xerr=1.96 * np.sqrt(mean), label=label, **style)
        if len(errors[arm]) > 1:
            text = f"{mean:.1f} ± {half:.1f}"
            ax.plot([mean - half, mean + half], [y, y], color=color, linewidth=2.5)
        away = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center"}
        ax.annotate(text, (mean, y), **away, color=color, size=7)
        label = None


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
