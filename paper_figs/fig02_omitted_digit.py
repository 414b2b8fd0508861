"""Accuracy of students on a digit that was omitted from their training images.

Each digit is omitted in turn (left), or all but 7 and 8 (right; omitted digits are
shaded). Open marks: students as trained. Filled marks: a bias is added to the logit of
the omitted digit (or to those of 7 and 8, if only these are seen), selected on held-out
training images of all digits. Bars are 95 % intervals over {config[seeds]} seeds.
Dashes: the bias is selected on the test images, as in Hinton et al. (2015), whose
values are the diamonds. Distilled students match the teacher at T =
{config[temperature]:g}. A naive teacher never saw the digit either.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
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
    for stage in STAGES:
        missed = runs[f"omitted_errors_{stage}"] / runs["omitted_images"]
        runs[f"omitted_{stage}"] = 100 * (1 - missed)
        runs[f"all_{stage}"] = 100 * runs[f"errors_{stage}"] / meta["dataset"]["test"]
        classes[f"class_{stage}"] = 100 * classes[f"accuracy_{stage}"]
    paper = pd.DataFrame(meta["paper"]).T
    accuracies = 100 - paper["omitted_errors_percent"].drop(ONLY).map(np.array)
    mosaic, size = [["omitted", "only"], ["errors", "legend"]], (figures.PAGE, 4.3)
    fig, axes = plt.subplot_mosaic(mosaic, figsize=size, width_ratios=(1.7, 1))
    ax = axes["omitted"]
    by_transfer(ax, runs[runs["transfer"] != ONLY], "omitted", accuracies)
    ax.set(ylabel="accuracy on the\nomitted digit (%)", ylim=(-4, 110))
    by_class(axes["only"], classes)
    ax = axes["errors"]
    by_transfer(ax, runs, "all", paper["errors_percent"])
    ax.set(ylabel="test error (%)", yscale="log", ylim=(0.8, 120))
    ax.set_yticks(ticks := (1, 2, 5, 10, 20, 50, 100), map(str, ticks))
    ax.minorticks_off()
    marks = [
        *(figures.mark(*look) for look in ARMS.values()),
        figures.mark("Hinton et al. (2015), distilled", "black", "D"),
        figures.mark("as trained", "0.3", "o", markerfacecolor="white"),
        figures.mark("bias selected on held-out images", "0.3", "o"),
        figures.mark("bias selected on test images", "0.3", "_"),
    ]
    axes["legend"].set_axis_off()
    axes["legend"].legend(handles=marks, loc="center")
    return fig


def by_class(ax: Axes, classes: pd.DataFrame) -> None:
    """Plots the accuracy on every digit of distilled students that saw two."""
    only = classes[(classes["transfer"] == ONLY) & (classes["arm"] == "distilled")]
    for digit, rows in only.groupby("class"):
        change(ax, digit, rows, "class", "distilled")
        if f"{digit:g}" not in ONLY:
            shade(ax, digit)
    ax.set(xlabel=f"digit ({ONLY} are seen)", xticks=range(10))
    ax.set(ylabel="accuracy on the digit (%)", ylim=(-4, 110), xlim=(-0.6, 9.6))
    ax.grid(axis="x", visible=False)


def by_transfer(ax: Axes, runs: pd.DataFrame, column: str, paper: pd.Series) -> None:
    """Plots, for each transfer set, the paper's values and those of each arm."""
    transfers = runs["transfer"].unique()
    for place, transfer in enumerate(transfers):
        for i, arm in enumerate(ARMS):
            rows = runs[(runs["transfer"] == transfer) & (runs["arm"] == arm)]
            if len(rows):
                change(ax, place - 0.12 + 0.22 * i, rows, column, arm)
        if transfer in paper:
            x, style = place - 0.34, {"color": "black", **SIZE}
            ax.plot([x, x], paper[transfer], color="black", linewidth=2.5, alpha=0.3)
            for y, face in zip(paper[transfer], ("white", "black"), strict=True):
                ax.plot(x, y, "D", markerfacecolor=face, zorder=3, **style)
        if place % 2:
            shade(ax, place)
    labels = [t.removeprefix("without ").replace("only", "all but") for t in transfers]
    ax.set_xticks(range(len(transfers)), [t.replace("but ", "but\n") for t in labels])
    ax.set(xlabel="omitted digit", xlim=(-0.6, len(transfers) - 0.4))
    ax.grid(axis="x", visible=False)


def change(ax: Axes, x: float, rows: pd.DataFrame, column: str, arm: str) -> None:
    """Plots the means over seeds at each stage, and the change between them."""
    values = (interval(rows[f"{column}_{stage}"]) for stage in STAGES)
    (before, _), (after, half), (by_test, _) = values
    _, colour, marker = ARMS[arm]
    ax.plot([x, x], [before, after], color=colour, linewidth=2.5, alpha=0.3)
    ax.plot(x, before, marker, color=colour, markerfacecolor="white", **SIZE)
    ax.errorbar(x, after, half, fmt=marker, color=colour, elinewidth=0.8, **SIZE)
    ax.plot(x, by_test, "_", color=colour, markersize=6)


def shade(ax: Axes, x: float) -> None:
    ax.axvspan(x - 0.5, x + 0.5, color="0.94", linewidth=0, zorder=0)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
