"""Figure 4: test digits that only a teacher's students get right, and its beliefs.

    python -m paper_figs.fig04_telling_digits    # reads results/ and nothing else

Those on which most students of hard labels and of the teacher's whole answer differ,
all of one width on all training images. Bars are the teacher's beliefs at the
temperature of its students: the digit's class in blue, in red the one that students of
labels mostly take it for. Under each, how many students of either kind get it right;
above, on how many images most of either kind are right, and of the other wrong.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures

PAIRS = 3  # of a digit and its beliefs, a row


def draw(name: str) -> Figure:
    digits, meta = results.load(name, "digits"), results.meta(name)
    taught = results.load(name).query("arm == 'whole' and fraction == 1")
    temperature = taught["temperature"].iloc[0]
    count = len(digits)
    rows = -(-count // PAIRS)
    fig, axes = plt.subplots(
        rows,
        2 * PAIRS,
        figsize=(6.8, 1.1 * rows + 0.2),
        width_ratios=(0.8, 1.3) * PAIRS,
        squeeze=False,
    )
    pairs = axes.reshape(-1, 2)
    for (left, right), (_, row) in zip(pairs, digits.iterrows(), strict=False):
        picture(left, row, meta["config"]["seeds"])
        beliefs(right, row, temperature)
    for ax in pairs[count:].flat:
        ax.set_axis_off()
    for ax in pairs[max(0, count - PAIRS) : count, 1]:
        ax.set_xlabel(f"class, at T = {temperature:g}")
    alone = meta["alone_right"]
    fig.suptitle(
        f"{meta['dataset']['name']}: on {alone['whole']} test images most students of "
        f"the teacher are right and most of labels wrong;\non {alone['hard']} it is "
        f"the other way round",
        fontsize=8,
    )
    return fig


def picture(ax: Axes, row: pd.Series, seeds: int) -> None:
    ax.imshow(figures.image(row), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(f"a {row['label']:g}")
    right = [round(row[f"{arm}_right"] * seeds) for arm in ("hard", "whole")]
    ax.set_xlabel(f"labels {right[0]} of {seeds}\nteacher {right[1]} of {seeds}")


def beliefs(ax: Axes, row: pd.Series, temperature: float) -> None:
    colours = ["0.75"] * 10
    colours[int(row["hard_answer"])] = "tab:red"
    colours[int(row["label"])] = "tab:blue"
    ax.bar(range(10), figures.probabilities(row, temperature), color=colours)
    ax.set(ylim=(0, 1), xticks=range(10), yticks=(0, 0.5, 1))
    ax.grid(False, axis="x")


if __name__ == "__main__":
    made_by = "experiments.mnist.what_is_dark --dataset mnist"
    figures.main(draw, __file__, "what_is_dark", made_by)
