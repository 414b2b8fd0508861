"""Test errors against the teacher's weight α, for four teachers.

Panels differ in the fraction of the training images. Students have two layers of
{config[student_width]} hidden units and learn at T = {config[temperature]:g}. Marks are
means with 95 % intervals over {config[seeds]} seeds, offset for legibility. At α = 0
students are trained on hard labels only, so all lines meet. Rings: the weight selected
on the validation set for each teacher. Shaded: where the best weight is commonly said
to be. In brackets are the teachers' own test errors. One teacher is fully trained, as
in figure 1; one is stopped after {config[early_epochs]} epochs; one learns from labels
of which a fraction of {config[wrong_share]:g} is wrong; one has {config[small_width]}
hidden units per layer.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.selection import best_setting
from paper_figs import figures

RESULTS = "alpha_teacher"
MADE_BY = "experiments.mnist.alpha_teacher --dataset mnist"
TEACHERS = {
    "full": ("fully trained", figures.BLUE, "o", "-"),
    "early": ("stopped early", figures.YELLOW, "s", "--"),
    "noisy": ("wrong labels", figures.RED, "^", "-."),
    "small": ("small", "0.5", "D", ":"),
}
NONE = "none"
ERRORS = "test_errors_last"
APART = 0.012  # offset between teachers


def draw(name: str) -> Figure:
    fractions, meta = results.load(name).groupby("fraction"), results.meta(name)
    images = meta["dataset"]["train"]
    fig, axes = plt.subplots(
        1, len(fractions), figsize=(figures.PAGE, 3.2), squeeze=False
    )
    for ax, (fraction, rows) in zip(axes[0], fractions, strict=True):
        panel(ax, rows, meta)
        ax.set_title(f"{fraction * images:,.0f} images ({100 * fraction:g} %)")
    axes[0, 0].set_ylabel("test errors")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    style = {"ncols": 3, "handlelength": 3}
    fig.legend(handles, labels, loc="outside lower center", **style)
    return fig


def panel(ax: Axes, rows: pd.DataFrame, meta: dict) -> None:
    ax.axvspan(*meta["paper"]["typical_alpha"], color="0.93", zorder=0)
    hard = figures.intervals(rows[rows["teacher"] == NONE], "alpha", ERRORS)
    for place, (name, (says, colour, marker, dash)) in enumerate(TEACHERS.items()):
        own = figures.intervals(rows[rows["teacher"] == name], "alpha", ERRORS)
        aside = APART * (place - (len(TEACHERS) - 1) / 2)
        error = 100 * (1 - meta["teachers"][name]["test"]["accuracy"])
        found = pd.concat([hard, own])
        ax.errorbar(
            [0, *own.index + aside],
            found["mean"],
            found["half"],
            color=colour,
            marker=marker,
            linestyle=dash,
            elinewidth=0.8,
            label=f"teacher: {says} ({error:.2f} %)",
        )
        best = best_setting(rows[rows["teacher"].isin([NONE, name])], "alpha")
        at = best["alpha"].iloc[0]
        x, y = at + (aside if at else 0), best[ERRORS].mean(skipna=False)
        size = 8 + (0 if at else 2 * place)  # at 0 rings are concentric
        ax.plot(x, y, "o", color=colour, markersize=size, fillstyle="none")
    style = {"fmt": "P", "color": "black", "markersize": 4, "label": "hard labels"}
    ax.errorbar(hard.index, hard["mean"], hard["half"], **style, zorder=5)
    ring = {"color": "0.4", "markersize": 8, "fillstyle": "none"}
    ax.errorbar([], [], fmt="o", label="selected on the validation set", **ring)
    ticks = np.unique(rows["alpha"])
    ax.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
    ax.set(xlabel=r"teacher's weight $\alpha$", yscale="log")
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
