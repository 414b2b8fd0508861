"""Test error against temperature T and the teacher's weight α, relative to hard labels.

The test error of a student minus that of the student trained on hard labels with the
same seed, in percentage points: below 0, the teacher helps. Means of these paired
differences with 95 % intervals over {config[seeds]} seeds. Rows are the width of the
two hidden layers, columns the weight α. The baselines are label smoothing, with its
strength selected on the validation set, and the teacher's most probable class as label.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.selection import best_setting
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "temperature_alpha"
MADE_BY = "experiments.mnist.temperature_alpha --dataset mnist"
BASELINES = {
    "label_smoothing": "label\nsmoothing",
    "teacher_argmax": "teacher's\nclass",
}
TICKS = (1, 2, 4, 8, 20, 40)


def draw(name: str) -> Figure:
    runs = results.load(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    widths = runs.groupby("student_width")
    alphas = np.unique(runs.loc[runs["alpha"] > 0, "alpha"])
    fig, axes = plt.subplots(
        *(len(widths), len(alphas) + 1),
        figsize=(figures.PAGE, 1.0 + 1.3 * len(widths)),
        sharex="col",
        sharey="row",
        width_ratios=[*(1 for _ in alphas), 1.4],
        squeeze=False,
    )
    for row, (width, of_width) in zip(axes, widths, strict=True):
        of_width = figures.differences(
            of_width, of_width[of_width["alpha"] == 0], "error"
        )
        for ax, alpha in zip(row, alphas, strict=False):
            temperatures(ax, of_width[of_width["alpha"] == alpha])
        baselines(row[-1], of_width)
        row[0].set_ylabel(f"{width:g} hidden units")
    for ax, alpha in zip(axes[0], alphas, strict=False):
        ax.set_title(rf"$\alpha$ = {alpha:g}")
    axes[0, -1].set_title("baselines")
    for ax in axes.flat:
        ax.axhline(0, color="0.35", linewidth=0.8, zorder=1)
    says = "test error less that of hard labels\n(percentage points)"
    fig.supylabel(says, size=8, multialignment="center")
    fig.supxlabel("temperature $T$", size=8)
    return fig


def temperatures(ax: Axes, rows: pd.DataFrame) -> None:
    found = figures.intervals(rows, "temperature", "error")
    style = {"fmt": "o-", "color": figures.BLUE, "elinewidth": 0.8}
    ax.errorbar(found.index, found["mean"], found["half"], **style)
    ticks = [t for t in TICKS if min(found.index) <= t <= max(found.index)]
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def baselines(ax: Axes, rows: pd.DataFrame) -> None:
    for place, (loss, marker) in enumerate(zip(BASELINES, "s^", strict=True)):
        of_loss = rows[rows["loss"] == loss]
        if loss == "label_smoothing" and len(of_loss):
            of_loss = best_setting(of_loss, "smoothing")
        mean, half = interval(of_loss["error"])
        style = {"fmt": marker, "color": figures.RED, "elinewidth": 0.8}
        ax.errorbar(place, mean, half, **style, markersize=4)
    ax.set_xticks(range(len(BASELINES)), BASELINES.values())
    ax.set_xlim(-0.7, len(BASELINES) - 0.3)
    ax.grid(False, axis="x")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
