"""Accuracy of students on a digit that was omitted from their training images.

Each digit is omitted in turn (left), or all but 7 and 8 (right; omitted digits are
shaded). Open marks: students as trained. Filled marks: a bias is added to the logit of
the omitted digit (or to those of 7 and 8, if only these are seen), selected on held-out
training images of all digits. Bars are 95 % intervals over {config[seeds]} seeds.
Dashes: the bias is selected on the test images, as in Hinton et al. (2015), whose
values are the diamonds. Distilled students match the teacher at T =
{config[temperature]:g}. A naive teacher never saw the digit either.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "omitted_digit"
MADE_BY = "experiments.mnist.omitted_digit --dataset mnist"
ARMS = {
    "distilled": ("distilled", figures.BLUE, "o"),
    "naive_teacher": ("distilled, naive teacher", figures.RED, "^"),
    "hard": ("hard labels", "0.55", "s"),
}
STAGES = ("unbiased", "bias_held_out", "bias_test")
ONLY = "only 7 and 8"
SIZE = {"markersize": 3.5}


def draw(name: str) -> Figure:
    runs, classes = results.load(name), results.load(name, "classes")
    meta = results.meta(name)
    images, known = meta["dataset"]["test"], meta["paper"]
    for stage in STAGES:
        missed = runs[f"omitted_errors_{stage}"] / runs["omitted_images"]
        runs[f"omitted_{stage}"] = 100 * (1 - missed)
        runs[f"all_{stage}"] = 100 * runs[f"errors_{stage}"] / images
        classes[f"class_{stage}"] = 100 * classes[f"accuracy_{stage}"]
    mosaic = [["omitted", "only"], ["errors", "legend"]]
    fig, axes = plt.subplot_mosaic(
        mosaic, figsize=(figures.PAGE, 4.3), width_ratios=(1.7, 1)
    )
    accuracies = {
        transfer: [100 - wrong for wrong in numbers["omitted_errors_percent"]]
        for transfer, numbers in known.items()
        if transfer != ONLY
    }
    left = axes["omitted"]
    by_transfer(left, runs[runs["transfer"] != ONLY], "omitted", accuracies)
    left.set(ylabel="accuracy on the\nomitted digit (%)", ylim=(-4, 110))
    by_class(axes["only"], classes)
    below = axes["errors"]
    errors = {
        transfer: numbers["errors_percent"] for transfer, numbers in known.items()
    }
    by_transfer(below, runs, "all", errors)
    below.set(ylabel="test error (%)", yscale="log", ylim=(0.8, 120))
    below.set_yticks(ticks := (1, 2, 5, 10, 20, 50, 100), map(str, ticks))
    below.minorticks_off()
    axes["legend"].set_axis_off()
    axes["legend"].legend(handles=legend(), loc="center")
    return fig


def by_class(ax: Axes, classes: pd.DataFrame) -> None:
    """Accuracy on every digit of distilled students that saw two."""
    only = classes[(classes["transfer"] == ONLY) & (classes["arm"] == "distilled")]
    for digit, here in only.groupby("class"):
        change(ax, digit, here, "class", "distilled")
        if f"{digit:g}" not in ONLY:
            shade(ax, digit)
    ax.set(xlabel=f"digit ({ONLY} are seen)", xticks=range(10))
    ax.set(ylabel="accuracy on the digit (%)", ylim=(-4, 110), xlim=(-0.6, 9.6))
    ax.grid(axis="x", visible=False)


def by_transfer(
    ax: Axes, runs: pd.DataFrame, column: str, known: dict[str, Sequence[float]]
) -> None:
    """A place for each transfer set: the paper's values, then a change for each arm."""
    transfers = runs["transfer"].unique()
    for place, transfer in enumerate(transfers):
        arms = dict(iter(runs[runs["transfer"] == transfer].groupby("arm")))
        for i, arm in enumerate(ARMS):
            if arm in arms:
                change(ax, place - 0.12 + 0.22 * i, arms[arm], column, arm)
        if transfer in known:
            paper(ax, place - 0.34, known[transfer])
        if place % 2:
            shade(ax, place)
    labels = [t.removeprefix("without ").replace("only", "all but") for t in transfers]
    ax.set_xticks(range(len(transfers)), [t.replace("but ", "but\n") for t in labels])
    ax.set(xlabel="omitted digit", xlim=(-0.6, len(transfers) - 0.4))
    ax.grid(axis="x", visible=False)


def change(ax: Axes, x: float, rows: pd.DataFrame, column: str, arm: str) -> None:
    """From the first stage to the second, and the third, each over all seeds."""
    values = (interval(rows[f"{column}_{stage}"]) for stage in STAGES)
    (before, _), (after, half), (by_test, _) = values
    _, colour, marker = ARMS[arm]
    ax.plot([x, x], [before, after], color=colour, linewidth=2.5, alpha=0.3)
    ax.plot(x, before, marker, color=colour, markerfacecolor="white", **SIZE)
    ax.errorbar(x, after, half, fmt=marker, color=colour, elinewidth=0.8, **SIZE)
    ax.plot(x, by_test, "_", color=colour, markersize=6)


def paper(ax: Axes, x: float, values: Sequence[float]) -> None:
    ax.plot([x, x], values, color="black", linewidth=2.5, alpha=0.3)
    for y, face in zip(values, ("white", "black"), strict=True):
        ax.plot(x, y, "D", color="black", markerfacecolor=face, zorder=3, **SIZE)


def shade(ax: Axes, x: float) -> None:
    ax.axvspan(x - 0.5, x + 0.5, color="0.94", linewidth=0, zorder=0)


def legend() -> list[Line2D]:
    def mark(label: str, colour: str, marker: str, face: str | None = None) -> Line2D:
        style = {"markerfacecolor": face or colour, "linestyle": "none"}
        return Line2D([], [], color=colour, marker=marker, label=label, **style)

    return [
        *(mark(*look) for look in ARMS.values()),
        mark("Hinton et al. (2015), distilled", "black", "D"),
        mark("as trained", "0.3", "o", "white"),
        mark("bias selected on held-out images", "0.3", "o"),
        mark("bias selected on test images", "0.3", "_"),
    ]


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
