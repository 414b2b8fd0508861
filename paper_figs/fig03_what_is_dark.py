"""Figure 3: which part of the teacher's answer gives how much of its gain.

    python -m paper_figs.fig03_what_is_dark    # reads results/ and nothing else

A panel for each share of the training images. 0 is a student of hard labels and 1 one
of the whole answer, by test errors at the last epoch; bars are 95 % intervals over
seeds. Triangles lie outside. "none": where the whole answer may gain nothing, it has no
shares.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import MultipleLocator
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

GROUPS = {
    "no teacher": {
        "jitter": "jittered images",
        "smoothing": "label smoothing",
    },
    "no likeness of classes": {
        "argmax": "teacher's class as label",
        "cwtm": "labels by confidence (CWTM)",
        "tckd": "label's class only (TCKD)",
        "dkpp": "others permuted (DKPP)",
        "even": "others even (DKPP's mean)",
    },
    "some likeness": {
        "top2": "two likeliest classes",
        "top3": "three likeliest classes",
        "nckd": "labels + others (NCKD)",
    },
    "whole answer, other distance": {
        "mse": "logit MSE",
        "centered_mse": "logit MSE, centred",
        "reverse_kl": "reverse KL",
        "skew_forward_kl": "skew forward KL",
        "jensen_shannon": "Jensen–Shannon",
        "total_variation": "total variation",
    },
}
COLOURS = ("0.35", "tab:red", "tab:blue", "tab:green")
GAP = 1.4  # above a group, in rows, for its title
LIMITS = (-0.75, 2.0)


def draw(name: str) -> Figure:
    runs, shares = results.load(name), results.load(name, "shares")
    meta = results.meta(name)
    dataset = meta["dataset"]
    errors = runs.groupby(["fraction", "arm"])["test_errors_last"].mean(skipna=False)
    fractions = shares.set_index("arm").groupby("fraction")
    fig, axes = plt.subplots(
        1,
        len(fractions),
        figsize=(1.9 + 1.25 * len(fractions), 4.4),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for ax, (fraction, rows) in zip(axes[0], fractions, strict=True):
        panel(ax, rows)
        hard, whole = errors[fraction, "hard"], errors[fraction, "whole"]
        ax.set_title(
            f"{100 * fraction:g} %: {fraction * dataset['train']:,.0f} images\n"
            f"errors {hard:.0f} → {whole:.0f}"
        )
    label_rows(axes[0, 0])
    fig.supxlabel(
        "share of the gain: 0 hard labels, 1 the teacher's whole answer", size=8
    )
    fig.suptitle(
        f"{dataset['name']}: students of {meta['config']['student_width']:g} units, "
        f"{meta['config']['seeds']} seeds; teacher "
        f"{100 * meta['teacher']['test']['accuracy']:.2f} %",
        fontsize=8,
    )
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
    for group, colour in zip(GROUPS.values(), COLOURS, strict=True):
        there = [arm for arm in group if arm in shares.index]
        for arm in there:
            point(ax, heights[arm], shares.loc[arm], colour)
        if not there:
            middle = np.mean([heights[arm] for arm in group])
            centre = np.mean(LIMITS)
            style = {"color": "0.6", "backgroundcolor": "white", "size": 7}
            ax.text(centre, middle, "not tried", ha="center", va="center", **style)
    ax.set(xlim=LIMITS, ylim=(max(heights.values()) + 0.6, 0))
    ax.xaxis.set_major_locator(MultipleLocator(1))
    ax.tick_params(axis="y", length=0)


def point(ax: Axes, y: float, row: pd.Series, colour: str) -> None:
    """A share with its interval; a triangle at the edge if it lies outside."""
    x, low, high = row[["share", "share_low", "share_high"]]
    left, right = LIMITS
    if np.isnan([x, low, high]).any():
        ax.text(
            np.mean(LIMITS), y, "none", color="0.6", size=6, ha="center", va="center"
        )
    elif left < x < right:
        bars = [[x - low], [high - x]]
        ax.errorbar(x, y, xerr=bars, fmt="o", color=colour, elinewidth=1)
    else:
        outside, aside = (left, 0.12) if x < left else (right, -0.12)
        marker = "<" if x < left else ">"
        edge = outside + aside / 2
        ax.plot(np.clip([low, high], left, right), [y, y], color=colour, linewidth=1)
        ax.plot(edge, y, marker, color=colour)
        side = "left" if x < left else "right"
        text = f"{x:.1f}".replace("-", "−")
        ax.text(edge + aside, y, text, color=colour, size=6, ha=side, va="bottom")


def label_rows(ax: Axes) -> None:
    heights = places()
    names = [name for group in GROUPS.values() for name in group.values()]
    ax.set_yticks(list(heights.values()), names)
    ticks = iter(ax.get_yticklabels())
    for (title, group), colour in zip(GROUPS.items(), COLOURS, strict=True):
        above = heights[next(iter(group))] - 0.9
        place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
        ax.text(-0.04, above, title, color=colour, weight="bold", size=7, **place)
        for _ in group:
            next(ticks).set_color(colour)


if __name__ == "__main__":
    made_by = "experiments.mnist.what_is_dark --dataset mnist"
    figures.main(draw, __file__, "what_is_dark", made_by)
