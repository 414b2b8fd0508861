"""Figure 7: what a teacher believes of a digit, at three temperatures.

    python -m paper_figs.fig07_softmax_at_temperature    # reads results/ alone

Test digits that the teacher gets right: a plain one (of median entropy for its class)
and doubtful ones (of the hundredth part with the largest entropy).
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures

TEMPERATURES = (1, 4, 20)
SHOWN = ((2, "plain"), (2, "doubtful"), (4, "doubtful"), (7, "doubtful"))


def draw(name: str) -> Figure:
    digits = results.load(name, "digits").groupby(["label", "kind"])
    fig, axes = plt.subplots(
        len(SHOWN),
        1 + len(TEMPERATURES),
        figsize=(6.8, 1.25 * len(SHOWN) + 0.3),
        width_ratios=(0.75, *(1.5 for _ in TEMPERATURES)),
    )
    for row, (digit, kind) in zip(axes, SHOWN, strict=True):
        shown = digits.get_group((digit, kind)).iloc[0]
        row[0].imshow(figures.image(shown), cmap="gray_r")
        row[0].set_axis_off()
        row[0].set_title(f"a {kind} {digit}")
        for ax, temperature in zip(row[1:], TEMPERATURES, strict=True):
            bars(ax, figures.probabilities(shown, temperature), digit)
    for ax, temperature in zip(axes[0, 1:], TEMPERATURES, strict=True):
        ax.set_title(f"$T = {temperature}$")
    for ax in axes[-1, 1:]:
        ax.set_xlabel("class")
    for ax in axes[:, 1]:
        ax.set_ylabel("probability")
    return fig


def bars(ax: Axes, p: np.ndarray, digit: int) -> None:
    """Probabilities, with a number at the largest of the other classes."""
    colours = ["tab:blue" if c == digit else "tab:orange" for c in range(10)]
    ax.bar(range(10), p, color=colours)
    ax.set(ylim=(0, 1.08), xticks=range(10), yticks=(0, 0.5, 1))
    ax.grid(False, axis="x")
    c = np.where(np.arange(10) == digit, -1, p).argmax()
    side = "left" if c > digit else "right"
    ax.annotate(f"{p[c]:.2g}", (c, p[c] + 0.04), ha=side, va="bottom")


if __name__ == "__main__":
    made_by = "experiments.mnist.temperature_alpha --dataset mnist"
    figures.main(draw, __file__, "temperature_alpha", made_by)
