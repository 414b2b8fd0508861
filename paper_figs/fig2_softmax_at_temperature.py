"""Figure 2: what a teacher believes of a digit, at three temperatures.

    python -m paper_figs.fig2_softmax_at_temperature    # reads results/ alone

Test digits that the teacher gets right: a plain one (of median entropy for its class)
and doubtful ones (of the hundredth part with the largest entropy).
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures

TEMPERATURES = (1, 4, 20)
SHOWN = ((2, "plain"), (2, "doubtful"), (4, "doubtful"), (7, "doubtful"))


def draw(name: str) -> Figure:
    table = results.load(name, "digits")
    fig, axes = plt.subplots(
        len(SHOWN),
        1 + len(TEMPERATURES),
        figsize=(6.8, 1.25 * len(SHOWN) + 0.3),
        width_ratios=(0.75, *(1.5 for _ in TEMPERATURES)),
    )
    logits = np.stack([table[f"logit{c}"] for c in range(10)], -1)
    pixels = np.stack([table[f"pixel{i}"] for i in range(28 * 28)], -1)
    for row, (digit, kind) in zip(axes, SHOWN, strict=True):
        found = (table["label"] == digit) & (table["kind"] == kind)
        i = np.flatnonzero(found)[0]
        row[0].imshow(pixels[i].reshape(28, 28), cmap="gray_r")
        row[0].set_axis_off()
        row[0].set_title(f"a {kind} {digit}")
        for ax, temperature in zip(row[1:], TEMPERATURES, strict=True):
            p = softmax(logits[i] / temperature)
            colours = ["tab:blue" if c == digit else "tab:orange" for c in range(10)]
            ax.bar(range(10), p, color=colours)
            ax.set(ylim=(0, 1.08), xticks=range(10), yticks=(0, 0.5, 1))
            ax.grid(False, axis="x")
            for c in range(10):
                if c != digit and p[c] == np.delete(p, digit).max():
                    ax.annotate(
                        f"{p[c]:.2g}",
                        (c, p[c] + 0.04),
                        ha="left" if c > digit else "right",
                        va="bottom",
                    )
    for ax, temperature in zip(axes[0, 1:], TEMPERATURES, strict=True):
        ax.set_title(f"$T = {temperature}$")
    for ax in axes[-1, 1:]:
        ax.set_xlabel("class")
    for ax in axes[:, 1]:
        ax.set_ylabel("probability")
    return fig


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


if __name__ == "__main__":
    figures.main(draw, __file__, "temperature_alpha")
