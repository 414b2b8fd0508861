"""Coverage risk and likelihood risk of students, by divergence and texts.

The teacher is a mixture of four grammars; panels are decoders of three sizes. Colours
are the divergence that a student learns by, markers whose texts it learns from: its
teacher's, its own, or half of each. Grey stars are maximum likelihood, the grey cross
forward KL for twice the steps; open marks are four times the steps. Coverage risk is
how improbable the teacher's texts are for the student, likelihood risk how improbable
the student's are for the teacher; dashed lines are the teacher's entropy, which both
would be if the student were the teacher. Marks are means over {config[seeds]} seeds,
with 95 % intervals.
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
CONTROLS = {"likelihood": ("maximum likelihood", "*"), "long": ("twice the steps", "x")}
LONG = "_4"  # ends the names of losses for four times the steps
RISKS = ("test_coverage_risk", "test_likelihood_risk")


def draw(name: str) -> Figure:
    runs, entropy = named(results.load(name)), results.meta(name)["entropy"]
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
        for line in (ax.axvline, ax.axhline):
            line(entropy, color="0.3", linestyle="--", linewidth=0.8)
        ax.set(title=f"{size} student", xlabel="coverage risk (nats)")
    axes[0, 0].set_ylabel("likelihood risk (nats)")
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
    """Plots the means of both risks with intervals."""
    (x, dx), (y, dy) = (interval(rows[name]) for name in RISKS)
    ax.errorbar(x, y, xerr=dx, yerr=dy, elinewidth=0.5, **look)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
