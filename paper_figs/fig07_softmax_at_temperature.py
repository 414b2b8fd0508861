"""The teacher's probabilities for some test digits at three temperatures.

The teacher classifies all of these digits correctly. The typical one has a prediction
with the median entropy of its class, the ambiguous ones are among the 1 % with the
largest entropy. The number is the largest probability of a class other than the true
one.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures

RESULTS = "temperature_alpha"
MADE_BY = "experiments.mnist.temperature_alpha --dataset mnist"
TEMPERATURES = (1, 4, 20)
SHOWN = ((2, "plain"), (2, "doubtful"), (4, "doubtful"), (7, "doubtful"))
KINDS = {"plain": "a typical", "doubtful": "an ambiguous"}
TRUE, OTHER = figures.BLUE, figures.YELLOW


def draw(name: str) -> Figure:
    digits = results.load(name, "digits").groupby(["label", "kind"])
    fig, axes = plt.subplots(
        *(len(SHOWN), 1 + len(TEMPERATURES)),
        figsize=(figures.PAGE, 4.6),
        width_ratios=(0.75, *(1.5 for _ in TEMPERATURES)),
        sharex="col",
    )
    for row, (digit, kind) in zip(axes, SHOWN, strict=True):
        shown = digits.get_group((digit, kind)).iloc[0]
        row[0].imshow(figures.image(shown), cmap="gray_r")
        row[0].set_axis_off()
        row[0].set_title(f"{KINDS[kind]} {digit}")
        for ax, temperature in zip(row[1:], TEMPERATURES, strict=True):
            bars(ax, figures.probabilities(shown, temperature), digit)
    for ax, temperature in zip(axes[0, 1:], TEMPERATURES, strict=True):
        ax.set_title(f"$T$ = {temperature}")
    for ax in axes[-1, 1:]:
        ax.set_xlabel("class")
    for ax in axes[:, 1]:
        ax.set_ylabel("probability")
    handles = [Patch(color=TRUE, label="true class")]
    handles += [Patch(color=OTHER, label="other classes")]
    fig.legend(handles=handles, loc="outside lower center", ncols=2)
    return fig


def bars(ax: Axes, p: np.ndarray, digit: int) -> None:
    """Plots probabilities, with a number at the largest of the other classes."""
    ax.bar(range(10), p, color=[TRUE if c == digit else OTHER for c in range(10)])
    ax.set(ylim=(0, 1.1), xlim=(-0.8, 9.8), xticks=range(10), yticks=(0, 0.5, 1))
    ax.tick_params(labelbottom=True)
    ax.grid(False, axis="x")
    c = np.where(np.arange(10) == digit, -1, p).argmax()
    # Align the number of an adjacent class so that it does not overlap the true class.
    x, side = {1: (c - 0.4, "left"), -1: (c + 0.4, "right")}.get(
        c - digit, (c, "center")
    )
    ax.annotate(written(p[c]), (x, p[c] + 0.03), ha=side, va="bottom", size=7)


def written(p: float) -> str:
    if p >= 1e-3:
        return f"{p:.2g}"
    digits, exponent = f"{p:.1e}".split("e")
    return rf"${digits}\times10^{{{int(exponent)}}}$"


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
