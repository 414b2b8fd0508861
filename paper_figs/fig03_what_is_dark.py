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
GAP = 1.4  # rows above each group, for its title
ROWS = [(g, arm) for g, group in enumerate(GROUPS.values(), 1) for arm in group]
HEIGHTS = {arm: GAP * group + row for row, (group, arm) in enumerate(ROWS)}
LIMITS = (-0.75, 2.0)
CENTRE = {"size": 7, "ha": "center", "va": "center"}


def draw(name: str) -> Figure:
    runs, shares = results.load(name), results.load(name, "shares")
    images = results.meta(name)["dataset"]["train"]
    errors = runs.groupby(["fraction", "arm"])["test_errors_last"].mean(skipna=False)
    fractions = shares.set_index("arm").groupby("fraction")
    style = {"figsize": (figures.PAGE, 4.4), "sharex": True, "sharey": True}
    fig, axes = plt.subplots(1, len(fractions), squeeze=False, **style)
    for ax, (fraction, rows) in zip(axes[0], fractions, strict=True):
        panel(ax, rows)
        hard, whole = errors[fraction, "hard"], errors[fraction, "whole"]
        title = f"{fraction * images:,.0f} images ({100 * fraction:g} %)\n"
        ax.set_title(f"{title}{hard:,.0f} → {whole:,.0f} test errors", size=7)
    label_rows(axes[0, 0])
    says = "share of the gain (0: hard labels, 1: full teacher output)"
    fig.supxlabel(says, x=0.64, size=8)
    return fig


def panel(ax: Axes, shares: pd.DataFrame) -> None:
    for end in (0, 1):
        ax.axvline(end, color="0.5", linestyle="--", linewidth=0.8)
    for group, (colour, marker) in zip(GROUPS.values(), LOOKS, strict=True):
        there = [arm for arm in group if arm in shares.index]
        for arm in there:
            point(ax, HEIGHTS[arm], shares.loc[arm], colour, marker)
        if not there:
            middle = np.mean([HEIGHTS[arm] for arm in group])
            style = {"color": "0.45", "backgroundcolor": "white", **CENTRE}
            ax.text(np.mean(LIMITS), middle, "not trained", **style)
    ax.set(xlim=LIMITS, ylim=(max(HEIGHTS.values()) + 0.6, 0))
    ax.xaxis.set_major_locator(MultipleLocator(1))
    ax.tick_params(axis="y", length=0)


def point(ax: Axes, y: float, row: pd.Series, colour: str, marker: str) -> None:
    """Plots a share with its interval, or an arrow and a number if it is outside."""
    x, low, high = row[["share", "share_low", "share_high"]]
    left, right = LIMITS
    if np.isnan([x, low, high]).any():
        ax.text(np.mean(LIMITS), y, "no gain to share", color="0.45", **CENTRE)
    elif left < x < right:
        style = {"fmt": marker, "color": colour, "elinewidth": 1}
        ax.errorbar(x, y, xerr=[[x - low], [high - x]], **style)
    else:
        edge, text = (left, f"← {x:.1f}") if x < left else (right, f"{x:.1f} →")
        at = CENTRE | {"ha": "left" if x < left else "right"}
        ax.text(edge, y, text.replace("-", "−"), color=colour, **at)


def label_rows(ax: Axes) -> None:
    names = [name for group in GROUPS.values() for name in group.values()]
    ax.set_yticks(list(HEIGHTS.values()), names)
    for title, group in GROUPS.items():
        above = HEIGHTS[next(iter(group))] - 0.9
        place = CENTRE | {"transform": ax.get_yaxis_transform(), "ha": "right"}
        ax.text(-0.04, above, title, weight="bold", **place)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
