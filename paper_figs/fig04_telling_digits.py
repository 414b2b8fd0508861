"""Test digits that distilled students get right and students on hard labels wrong.

On {alone_right[whole]} test images most of {config[seeds]} distilled students are right
and most students trained on hard labels wrong; on {alone_right[hard]} it is the other
way round. Shown are some of the former. Below each digit is the number of students of
each kind that get it right, and beside it are the teacher's probabilities at the
temperature of its students. Students have two layers of {config[student_width]} hidden
units and learn from all training images.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "what_is_dark"
MADE_BY = "experiments.mnist.what_is_dark --dataset mnist"
PAIRS = 3  # of a digit and its probabilities, per row
CLASSES = {
    "true class": figures.BLUE,
    "class that most students of hard labels predict": figures.RED,
    "other classes": "0.8",
}


def draw(name: str) -> Figure:
    digits, meta = results.load(name, "digits"), results.meta(name)
    distilled_runs = results.load(name).query("arm == 'whole' and fraction == 1")
    temperature = distilled_runs["temperature"].iloc[0]
    count = len(digits)
    rows = -(-count // PAIRS)
    fig, axes = plt.subplots(
        *(rows, 2 * PAIRS),
        figsize=(figures.PAGE, 1.05 * rows + 0.4),
        width_ratios=(0.8, 1.3) * PAIRS,
        squeeze=False,
    )
    pairs = axes.reshape(-1, 2)
    beliefs = [figures.probabilities(row, temperature) for _, row in digits.iterrows()]
    for (left, right), (_, row), p in zip(
        pairs, digits.iterrows(), beliefs, strict=False
    ):
        picture(left, row, meta["config"]["seeds"])
        bars(right, p, row, top=1.1 * np.max(beliefs))
    for ax in pairs[count:].flat:
        ax.set_axis_off()
    for ax in pairs[max(0, count - PAIRS) : count, 1]:
        ax.set_xlabel("class")
    for ax in axes[:, 1]:
        ax.set_ylabel(f"probability\nat $T$ = {temperature:g}", size=7)
    handles = [Patch(color=c, label=label) for label, c in CLASSES.items()]
    fig.legend(handles=handles, loc="outside lower center", ncols=len(CLASSES))
    return fig


def picture(ax: Axes, row: pd.Series, seeds: int) -> None:
    ax.imshow(figures.image(row), cmap="gray_r")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    right = [round(row[f"{arm}_right"] * seeds) for arm in ("hard", "whole")]
    says = f"hard labels {right[0]}/{seeds}\ndistilled {right[1]}/{seeds}"
    ax.set_xlabel(says, size=7)


def bars(ax: Axes, p: np.ndarray, row: pd.Series, top: float) -> None:
    truth, taken_for, others = CLASSES.values()
    colours = [others] * 10
    colours[int(row["hard_answer"])] = taken_for
    colours[int(row["label"])] = truth
    ax.bar(range(10), p, color=colours)
    ax.set(ylim=(0, top), xticks=range(10))
    ax.grid(False, axis="x")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
