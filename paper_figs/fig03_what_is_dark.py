"""The share of the teacher's gain due to each part of its output.

The gain is the number of test errors of students trained on hard labels minus that of
students trained on the full teacher output (both above each panel). Points show the
share of this gain that other targets attain: 0 is as good as hard labels, 1 as good as
the full teacher output. Bars are 95 % intervals over {config[seeds]} seeds. Panels
differ in the fraction of the training images. Students have two layers of
{config[student_width]} hidden units. Temperatures and learning rates are selected on
the validation set.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import MultipleLocator
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "what_is_dark"
MADE_BY = "experiments.mnist.what_is_dark --dataset mnist"
GROUPS = {
    "without a teacher": {
        "jitter": "hard labels, jittered images",
        "smoothing": "label smoothing",
    },
    "without class similarity": {
        "argmax": "teacher's class as label",
        "cwtm": "labels weighted by confidence (CWTM)",
        "tckd": "target class only (TCKD)",
        "dkpp": "other classes permuted (DKPP)",
        "even": "other classes uniform (mean of DKPP)",
    },
    "with some class similarity": {
        "top2": "top-2 classes",
        "top3": "top-3 classes",
        "nckd": "hard labels + other classes (NCKD)",
    },
    "full teacher output, other loss": {
        "mse": "MSE of logits",
        "centered_mse": "MSE of centred logits",
        "reverse_kl": "reverse KL",
        "skew_forward_kl": "skew forward KL",
        "jensen_shannon": "Jensen–Shannon",
        "total_variation": "total variation",
    },
}
LOOKS = (("0.45", "o"), (figures.RED, "^"), (figures.BLUE, "s"), ("black", "D"))
GAP = 1.4  # above a group, in rows, for its title
LIMITS = (-0.75, 2.0)


def draw(name: str) -> Figure:
    runs, shares = results.load(name), results.load(name, "shares")
    images = results.meta(name)["dataset"]["train"]
    errors = runs.groupby(["fraction", "arm"])["test_errors_last"].mean(skipna=False)
    fractions = shares.set_index("arm").groupby("fraction")
    fig, axes = plt.subplots(
        *(1, len(fractions)),
        figsize=(figures.PAGE, 4.4),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for ax, (fraction, rows) in zip(axes[0], fractions, strict=True):
        panel(ax, rows)
        hard, whole = errors[fraction, "hard"], errors[fraction, "whole"]
        ax.set_title(
            f"{fraction * images:,.0f} images ({100 * fraction:g} %)\n"
            f"{hard:,.0f} → {whole:,.0f} test errors",
            size=7,
        )
    label_rows(axes[0, 0])
    says = "share of the gain (0: hard labels, 1: full teacher output)"
    fig.supxlabel(says, x=0.64, size=8)
    return fig


def places() -> dict[str, float]:
    """The height of each arm: from the top, groups apart."""
    heights, height = {}, 0.0
    for group in GROUPS.values():
        height += GAP
        for arm in group:
            heights[arm] = height
            height += 1
    return heights


def panel(ax: Axes, shares: pd.DataFrame) -> None:
    for end in (0, 1):
        ax.axvline(end, color="0.5", linestyle="--", linewidth=0.8)
    heights = places()
    for group, (colour, marker) in zip(GROUPS.values(), LOOKS, strict=True):
        there = [arm for arm in group if arm in shares.index]
        for arm in there:
            point(ax, heights[arm], shares.loc[arm], colour, marker)
        if not there:
            middle = np.mean([heights[arm] for arm in group])
            style = {"color": "0.45", "backgroundcolor": "white", "size": 7}
            at = {"ha": "center", "va": "center"}
            ax.text(np.mean(LIMITS), middle, "not trained", **style, **at)
    ax.set(xlim=LIMITS, ylim=(max(heights.values()) + 0.6, 0))
    ax.xaxis.set_major_locator(MultipleLocator(1))
    ax.tick_params(axis="y", length=0)


def point(ax: Axes, y: float, row: pd.Series, colour: str, marker: str) -> None:
    """A share with its interval; an arrow and a number at the edge if it is outside."""
    x, low, high = row[["share", "share_low", "share_high"]]
    left, right = LIMITS
    middle = {"size": 7, "ha": "center", "va": "center"}
    if np.isnan([x, low, high]).any():
        ax.text(np.mean(LIMITS), y, "no gain to share", color="0.45", **middle)
    elif left < x < right:
        style = {"fmt": marker, "color": colour, "elinewidth": 1}
        ax.errorbar(x, y, xerr=[[x - low], [high - x]], **style)
    else:
        edge, text = (left, f"← {x:.1f}") if x < left else (right, f"{x:.1f} →")
        at = {"size": 7, "ha": "left" if x < left else "right", "va": "center"}
        ax.text(edge, y, text.replace("-", "−"), color=colour, **at)


def label_rows(ax: Axes) -> None:
    heights = places()
    names = [name for group in GROUPS.values() for name in group.values()]
    ax.set_yticks(list(heights.values()), names)
    for title, group in GROUPS.items():
        above = heights[next(iter(group))] - 0.9
        place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
        ax.text(-0.04, above, title, weight="bold", size=7, **place)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
