"""Test error on CIFAR-10 against T and α, and what each part of a prediction teaches.

Left: test errors of a plain network with two convolutions, distilled from
{config[teacher]}, less those of the same network on hard labels, in percentage points:
below 0, the teacher helps. Means of paired differences with 95 % intervals over
{config[seeds]} seeds. Right: as in figure 3, the share of the teacher's gain that parts
of its prediction attain at T = 4: 0 is as good as hard labels, 1 as good as the whole
prediction. Open: of the errors on cats and dogs alone. Arrows: beyond the axis.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures
from paper_figs.fig03_what_is_dark import GROUPS

RESULTS = "temperature_alpha_cifar10"
MADE_BY = "experiments.cifar10.temperature_alpha --dataset cifar10_10k"
NAMES = {arm: name for group in GROUPS.values() for arm, name in group.items()}
IMAGES = {
    "all": ("all images", figures.BLUE, "s", "full"),
    "alike": ("cats and dogs", figures.RED, "o", "none"),
}
LIMITS = (-1, 2)
APART = 0.13


def draw(name: str) -> Figure:
    fig, axes = plt.subplots(1, 2, figsize=(figures.PAGE, 2.5), width_ratios=(1, 0.8))
    runs = results.load(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    runs = figures.differences(runs, runs[runs["arm"] == "hard"], "error")
    heat_map(fig, axes[0], runs[runs["arm"] == "hinton"])
    parts(axes[1], results.load(name, "shares"))
    return fig


def heat_map(fig: Figure, ax: Axes, rows: pd.DataFrame) -> None:
    cells = rows.groupby(["alpha", "temperature"])["error"].agg(interval).unstack()
    means = cells.map(lambda cell: cell[0])
    most = np.nanmax(np.abs(means))
    shown = ax.imshow(means, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    for (row, column), mean in np.ndenumerate(means):
        half = cells.iloc[row, column][1]
        text = f"{mean:.1f}\n± {half:.1f}".replace("-", "−")
        colour = "white" if abs(mean) > 0.65 * most else "black"
        ax.text(column, row, text, ha="center", va="center", size=7, color=colour)
    ax.set_xticks(range(means.shape[1]), [f"{t:g}" for t in means.columns])
    ax.set_yticks(range(len(means)), [f"{alpha:g}" for alpha in means.index])
    ax.set(xlabel="temperature $T$", ylabel=r"teacher's weight $\alpha$")
    ax.grid(False)
    fig.colorbar(shown, ax=ax, label="test error less that\nof hard labels (points)")


def parts(ax: Axes, shares: pd.DataFrame) -> None:
    arms = [arm for arm in NAMES if arm in set(shares["arm"])]
    for end in (0, 1):
        ax.axvline(end, color="0.5", linestyle="--", linewidth=0.8)
    for aside, (images, (label, colour, marker, fill)) in zip(
        (-APART, APART), IMAGES.items(), strict=True
    ):
        own = shares[shares["images"] == images].set_index("arm").loc[arms]
        share = own["share"]
        ax.errorbar(
            share,
            np.arange(len(arms)) + aside,
            xerr=[share - own["share_low"], own["share_high"] - share],
            fmt=marker,
            color=colour,
            fillstyle=fill,
            elinewidth=0.8,
            label=label,
        )
        for place, value in enumerate(share):
            if value < LIMITS[0]:
                ax.plot(LIMITS[0], place + aside, "<", color=colour, clip_on=False)
    ax.set_yticks(range(len(arms)), [NAMES[arm] for arm in arms])
    ax.set(xlim=LIMITS, xlabel="share of the gain")
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, 1.16), ncols=2)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
