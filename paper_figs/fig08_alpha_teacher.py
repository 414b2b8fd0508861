"""Figure 8: test errors against the teacher's weight, for four teachers.

    python -m paper_figs.fig08_alpha_teacher    # reads results/ and nothing else

A panel for each share of the training images. Bars are 95 % intervals over seeds, side
by side for legibility. Rings: the alpha that each teacher's students choose by
validation errors. At 0 there is no teacher, and all lines meet. Shaded: where the
paper finds the best alpha.
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

TEACHERS = {
    "full": ("Hinton's", "tab:blue", "o"),
    "early": ("few passes", "tab:orange", "s"),
    "noisy": ("wrong labels", "tab:red", "^"),
    "small": ("few units", "tab:green", "D"),
}
NONE = "none"
ERRORS = "test_errors_last"
APART = 0.012  # between the bars of two teachers


def draw(name: str) -> Figure:
    fractions, meta = results.load(name).groupby("fraction"), results.meta(name)
    dataset, config = meta["dataset"], meta["config"]
    fig, axes = plt.subplots(
        1,
        len(fractions),
        figsize=(0.6 + 2.9 * len(fractions), 3.4),
        squeeze=False,
    )
    for ax, (fraction, rows) in zip(axes[0], fractions, strict=True):
        panel(ax, rows, meta)
        ax.set_title(f"{100 * fraction:g} %: {fraction * dataset['train']:,.0f} images")
    axes[0, 0].set_ylabel(f"errors on {dataset['test']:,} test images")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    title = "teachers, with their test accuracy"
    fig.legend(handles, labels, loc="outside lower center", ncols=3, title=title)
    fig.suptitle(
        f"{dataset['name']}: students of {config['student_width']} units, "
        f"T = {config['temperature']:g}, {config['seeds']} seeds",
        fontsize=8,
    )
    return fig


def panel(ax: Axes, rows: pd.DataFrame, meta: dict) -> None:
    ax.axvspan(*meta["paper"]["typical_alpha"], color="0.93", zorder=0)
    alone = figures.intervals(rows[rows["teacher"] == NONE], "alpha", ERRORS)
    for place, (name, (says, colour, marker)) in enumerate(TEACHERS.items()):
        own = figures.intervals(rows[rows["teacher"] == name], "alpha", ERRORS)
        aside = APART * (place - (len(TEACHERS) - 1) / 2)
        accuracy = meta["teachers"][name]["test"]["accuracy"]
        both = pd.concat([alone, own])["mean"]
        ax.plot([0, *own.index + aside], both, color=colour, linewidth=0.8)
        ax.errorbar(
            own.index + aside,
            own["mean"],
            own["half"],
            fmt=marker,
            color=colour,
            elinewidth=1,
            label=f"{says}: {100 * accuracy:.2f} %",
        )
        best = best_setting(rows[rows["teacher"].isin([NONE, name])], "alpha")
        at = best["alpha"].iloc[0]
        x, y = at + (aside if at else 0), best[ERRORS].mean(skipna=False)
        size = 8 + (0 if at else 2 * place)  # at 0 rings lie around each other
        ax.plot(x, y, "o", color=colour, markersize=size, fillstyle="none")
    style = {"fmt": "P", "color": "black", "label": "no teacher"}
    ax.errorbar(alone.index, alone["mean"], alone["half"], **style)
    ring = {"color": "0.4", "markersize": 8, "fillstyle": "none"}
    ax.errorbar([], [], fmt="o", label="chosen on validation", **ring)
    ticks = np.unique(rows["alpha"])
    ax.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
    ax.set(xlabel=r"$\alpha$, the teacher's weight", yscale="log")
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    made_by = "experiments.mnist.alpha_teacher --dataset mnist"
    figures.main(draw, __file__, "alpha_teacher", made_by)
