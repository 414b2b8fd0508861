"""The largest gradient, KL at the end, and the cosine with reverse KL, by skew.

Students learn by skewed forward KL, from random weights or after maximum likelihood.
Left and middle: dots are means over {config[seeds]} seeds, with 95 % intervals; the
loss of open dots is divided by the square of one minus the skew. Dashed: forward KL
with its gradient clipped, from random weights. Middle: the sum of forward and reverse
KL between texts, at the end. Right: the cosine between the gradients of skewed and of
reverse KL, of students after maximum likelihood.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "skew_stability"
MADE_BY = "experiments.language.skew_stability"
STARTS = {
    "cold": ("random weights", figures.RED),
    "warm": ("after maximum likelihood", figures.BLUE),
}
COLUMNS = {
    "largest_norm": "largest norm of the gradient",
    "test_both_kl": "forward + reverse KL (nats)",
}


def draw(name: str) -> Figure:
    runs, cosines = results.load(name), results.load(name, "cosines")
    fig, axes = plt.subplots(1, 3, figsize=(figures.PAGE, 2.4))
    skews = sorted(runs["skew"].unique())
    for ax, (column, label) in zip(axes, COLUMNS.items(), strict=False):
        for place, (start, (_, colour)) in enumerate(STARTS.items()):
            own = runs[(runs["start"] == start) & np.isinf(runs["clip"])]
            for power, fill in ((0, "full"), (2, "none")):
                rows, aside = own[own["power"] == power], 0.1 * (2 * place + power - 2)
                points(ax, rows, column, skews, aside, color=colour, fillstyle=fill)
        clipped = runs[np.isfinite(runs["clip"]) & (runs["start"] == "cold")]
        ax.axhline(clipped[column].mean(), color="0.4", linestyle="--", linewidth=0.8)
        ax.set(yscale="log", ylabel=label)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_locator(NullLocator())
    points(axes[2], cosines, "cosine", skews, 0, color=figures.BLUE, fillstyle="full")
    axes[2].set(ylabel="cosine with reverse KL")
    for ax in axes:
        ax.set(xlabel="skew")
        ax.set_xticks(range(len(skews)), [f"{s:g}" for s in skews])
    marks = [figures.mark(label, colour, "o") for label, colour in STARTS.values()]
    marks.append(figures.mark("over (1 − skew)²", "0.3", "o", fillstyle="none"))
    marks.append(figures.line("clipped forward KL", "0.4", "--"))
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    return fig


def points(
    ax: Axes,
    rows: pd.DataFrame,
    column: str,
    skews: list[float],
    aside: float,
    **look: str,
) -> None:
    """Plots the mean of a column at each skew, at equal distances."""
    for skew, values in rows.groupby("skew")[column]:
        mean, half = interval(values)
        ax.errorbar(skews.index(skew) + aside, mean, yerr=half, marker="o", **look)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
