"""Figure 10: test errors against the teacher's weight, for four teachers.

    python -m paper_figs.fig10_alpha_teacher    # reads results/ and nothing else

A panel for each share of the training images. Bars are 95 % intervals over seeds, side
by side for legibility. Rings: the alpha that each teacher's students choose by
validation errors. At 0 there is no teacher, and all lines meet. Shaded: 0.5 to 0.9.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator, NullLocator, ScalarFormatter
import numpy as np

from kdjax import results
from paper_figs import figures

TEACHERS = {
    "full": ("Hinton's", "tab:blue", "o"),
    "early": ("few passes", "tab:orange", "s"),
    "noisy": ("wrong labels", "tab:red", "^"),
    "small": ("few units", "tab:green", "D"),
}
NONE = "none"
TYPICAL = (0.5, 0.9)
APART = 0.012  # between the bars of two teachers


def draw(name: str) -> Figure:
    table, meta = results.load(name), results.meta(name)
    dataset, config = meta["dataset"], meta["config"]
    fractions = np.unique(table["fraction"])
    fig, axes = plt.subplots(
        1,
        len(fractions),
        figsize=(0.6 + 2.9 * len(fractions), 3.4),
        squeeze=False,
    )
    for ax, fraction in zip(axes[0], fractions, strict=True):
        panel(ax, results.select(table, fraction=fraction), meta["teachers"])
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


def panel(ax: Axes, rows: results.Table, qualities: dict) -> None:
    ax.axvspan(*TYPICAL, color="0.93", zorder=0)
    alone = results.select(rows, teacher=NONE)
    for place, (name, (says, colour, marker)) in enumerate(TEACHERS.items()):
        own = results.select(rows, teacher=name)
        aside = APART * (place - (len(TEACHERS) - 1) / 2)
        accuracy = qualities[name]["test"]["accuracy"]
        alphas, means, halves = by_alpha(own)
        start = alone["test_errors_last"].mean()
        ax.plot([0, *alphas + aside], [start, *means], color=colour, linewidth=0.8)
        ax.errorbar(
            alphas + aside,
            means,
            halves,
            fmt=marker,
            color=colour,
            elinewidth=1,
            label=f"{says}: {100 * accuracy:.2f} %",
        )
        best = results.choose(results.concatenate([alone, own]), "alpha")
        at = best["alpha"][0]
        x, y = at + (aside if at else 0), best["test_errors_last"].mean()
        size = 8 + (0 if at else 2 * place)  # at 0 rings lie around each other
        ax.plot(x, y, "o", color=colour, markersize=size, fillstyle="none")
    ax.errorbar(*by_alpha(alone), fmt="P", color="black", label="no teacher")
    ring = {"color": "0.4", "markersize": 8, "fillstyle": "none"}
    ax.errorbar([], [], fmt="o", label="chosen on validation", **ring)
    ticks = np.unique(rows["alpha"])
    ax.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
    ax.set(xlabel=r"$\alpha$, the teacher's weight", yscale="log")
    ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_locator(NullLocator())


def by_alpha(rows: results.Table) -> tuple[np.ndarray, ...]:
    """Alphas, and at each the mean of test errors and half its interval."""
    alphas = np.unique(rows["alpha"])
    errors = (results.select(rows, alpha=alpha)["test_errors_last"] for alpha in alphas)
    means, halves = zip(*map(results.interval, errors), strict=True)
    return alphas, np.array(means), np.array(halves)


if __name__ == "__main__":
    figures.main(draw, __file__, "alpha_teacher")
