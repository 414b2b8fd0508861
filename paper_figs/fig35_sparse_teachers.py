"""Likelihood and over-confidence of students of a part of the teacher's distribution.

Top: nats per token over those of students of the whole distribution with the same seed.
Bottom: mean confidence less accuracy. Dashed lines: students of the whole distribution;
dotted ones: of the true tokens. k is the number of the most probable tokens, or of
drawn ones. Means with 95 % intervals over {config[seeds]} seeds.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "sparse_teachers"
MADE_BY = "experiments.language.sparse_teachers"
NAMES = {
    "renormalised": "renormalised",
    "raw": "raw",
    "tail": "with one class for the others",
    "mixed": "… and the true token",
    "sampled": "drawn",
}
NLL, OVER = "test_nll_last", "test_overconfidence"


def draw(name: str) -> Figure:
    runs = results.load(name)
    sizes = sorted(runs["vocabulary"].unique())
    fig, axes = plt.subplots(
        2,
        len(sizes),
        figsize=(figures.PAGE, 3.6),
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    for column, size in zip(axes.T, sizes, strict=True):
        own = runs[runs["vocabulary"] == size]
        whole = own[own["arm"] == "full"]
        less = figures.differences(own, whole, NLL)
        for ax, rows, score in zip(column, (less, own), (NLL, OVER), strict=True):
            panel(ax, rows, score)
            for arm, dash in (("full", "--"), ("labels", ":")):
                mean = rows.loc[rows["arm"] == arm, score].mean()
                ax.axhline(mean, color="0.35", linewidth=0.8, linestyle=dash)
        column[0].set_title(f"{size:,} tokens")
        column[1].set_xlabel("k")
    axes[0, 0].set_ylabel("nats per token\nover the whole")
    axes[1, 0].set_ylabel("over-confidence")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return fig


def panel(ax: Axes, runs: pd.DataFrame, score: str) -> None:
    arms = [arm for arm in NAMES if arm in set(runs["arm"])]
    ticks = sorted(runs.loc[runs["arm"].isin(arms), "tokens"].unique())
    for place, arm in enumerate(arms):
        means = figures.intervals(runs[runs["arm"] == arm], "tokens", score)
        ax.errorbar(
            means.index * 1.03 ** (place - 1.5),
            means["mean"],
            means["half"],
            elinewidth=0.8,
            label=NAMES[arm],
            **figures.series(len(NAMES))[list(NAMES).index(arm)],
        )
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
