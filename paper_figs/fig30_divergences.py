"""Forward and reverse KL between the texts of student and teacher.

The teacher is a mixture of four grammars; panels are decoders of three sizes. Colours
are the divergence that a student learns by, markers whose texts it learns from: its
teacher's, its own, or half of each. Grey stars are likelihood, grey crosses forward KL
for twice the steps; open marks are four times the steps. Marks are means over
{config[seeds]} seeds, with 95 % intervals. Axes are logarithmic.
"""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "divergences"
MADE_BY = "experiments.language.divergences"
LOSSES = {
    "forward_kl": "forward KL",
    "skew_forward_kl": "skew forward KL",
    "jensen_shannon 0.1": "Jensen–Shannon 0.1",
    "jensen_shannon 0.5": "Jensen–Shannon 0.5",
    "jensen_shannon 0.9": "Jensen–Shannon 0.9",
    "total_variation": "total variation",
    "adaptive_kl": "AKL",
    "skew_reverse_kl": "skew reverse KL",
    "reverse_kl": "reverse KL",
}
TEXTS = {"teacher": "o", "mixed": "s", "student": "^"}
CONTROLS = {"likelihood": ("likelihood", "*"), "long": ("twice the steps", "x")}
LONG = "_4"  # ends the names of losses for four times the steps
KL = ("test_forward_kl", "test_reverse_kl")


def draw(name: str) -> Figure:
    runs = named(results.load(name))
    colours = {n: s["color"] for n, s in zip(LOSSES, figures.series(9), strict=True)}
    sizes = runs["size"].unique()
    fig, axes = plt.subplots(1, len(sizes), figsize=(figures.PAGE, 2.9), squeeze=False)
    for ax, size in zip(axes[0], sizes, strict=True):
        for (loss, texts), rows in runs[runs["size"] == size].groupby(
            ["name", "texts"]
        ):
            if loss in CONTROLS:
                point(ax, rows, color="0.5", marker=CONTROLS[loss][1])
            else:
                look = {"color": colours[loss.removesuffix(LONG)]}
                look["fillstyle"] = "none" if loss.endswith(LONG) else "full"
                point(ax, rows, marker=TEXTS[texts], **look)
        ax.set(xscale="log", yscale="log", title=f"{size} student")
        ax.set_xlabel("forward KL (nats)")
    axes[0, 0].set_ylabel("reverse KL (nats)")
    marks = [figures.mark(LOSSES[n], c, "o") for n, c in colours.items()]
    marks += [figures.mark(f"{t} texts", "black", m) for t, m in TEXTS.items()]
    marks += [figures.mark(label, "0.5", m) for label, m in CONTROLS.values()]
    fig.legend(handles=marks, loc="outside lower center", ncols=5)
    return fig


def named(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with the ``name`` of their loss, which has its beta."""
    beta = runs.get("beta", pd.Series(math.nan, runs.index))
    words = beta.map(" {:.1f}".format).where(beta.notna(), "")
    return runs.assign(name=runs["loss"] + words)


def point(ax: Axes, rows: pd.DataFrame, **look: str) -> None:
    """Plots a mean of both divergences with intervals."""
    (x, dx), (y, dy) = (interval(rows[name]) for name in KL)
    ax.errorbar(x, y, xerr=dx, yerr=dy, elinewidth=0.5, **look)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
