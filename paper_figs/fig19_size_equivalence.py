"""Which size of network on hard labels is as accurate as a distilled one.

Left: test accuracy on CIFAR-10 of plain networks with two convolutions, from
{config[widths][0]:g} to {config[widths][4]:g} times the usual number of filters. The
dashed line is where distilled networks would lie if each were as good as one of four
times its size. Right: the size of the smallest network on hard labels that is as
accurate, over the network's own. At the ends of the grey range the networks on hard
labels end, so a mark there is a bound. Open: hard labels for twice the epochs. Bars are
95 % intervals over {config[seeds]} seeds.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator, StrMethodFormatter
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "size_equivalence_cifar10"
MADE_BY = "experiments.cifar10.size_equivalence --dataset cifar10_10k"
ARMS = {
    "hard": ("hard labels", "0.35", "s", "full"),
    "hard_long": ("twice the epochs", "0.35", "o", "none"),
    "distilled": ("distilled", figures.BLUE, "o", "full"),
}


def draw(name: str) -> Figure:
    runs, factors = results.load(name), results.load(name, "factors")
    fig, axes = plt.subplots(1, 2, figsize=(figures.PAGE, 2.7))
    accuracies(axes[0], runs, rule := results.meta(name)["paper"]["factor"])
    equivalents(axes[1], factors, rule)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    return fig


def accuracies(ax: Axes, runs: pd.DataFrame, rule: float) -> None:
    runs = runs.assign(accuracy=100 * runs["test_accuracy_last"])
    for arm, (label, colour, marker, fill) in ARMS.items():
        found = figures.intervals(runs[runs["arm"] == arm], "parameters", "accuracy")
        if arm == "hard":
            ax.plot(
                found.index / rule,
                found["mean"],
                color="0.35",
                linestyle="--",
                label=f"hard labels, {rule:g} times the size",
            )
        ax.errorbar(
            found.index,
            found["mean"],
            found["half"],
            color=colour,
            marker=marker,
            fillstyle=fill,
            linestyle="none" if arm == "hard_long" else "-",
            elinewidth=0.8,
            label=label,
        )
    sizes = runs["parameters"]
    ax.set(xscale="log", xlabel="parameters", ylabel="test accuracy (%)")
    ax.set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)


def equivalents(ax: Axes, factors: pd.DataFrame, rule: float) -> None:
    ax.axhline(rule, color="0.35", linestyle="--", linewidth=0.8)
    ax.axhline(1, color="0.35", linewidth=0.8)
    for row in factors.itertuples():
        _, colour, marker, fill = ARMS[row.arm]
        aside = 1.06 if row.arm == "hard_long" else 1
        style = {"color": colour, "marker": marker, "fillstyle": fill}
        bars = [[row.factor - row.factor_low], [row.factor_high - row.factor]]
        ax.fill_between(
            [row.width / 1.1, row.width * 1.1], row.least, row.most, color="0.93"
        )
        ax.errorbar(row.width * aside, row.factor, bars, elinewidth=0.8, **style)
    ax.set(xscale="log", yscale="log", xlabel="width of the network")
    ax.set_ylabel("size that is as accurate\n/ own size")
    for axis, ticks in (
        (ax.xaxis, sorted(set(factors["width"]))),
        (ax.yaxis, [0.25, 0.5, 1, 2, 4, 8, 16]),
    ):
        axis.set_ticks(ticks)
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
