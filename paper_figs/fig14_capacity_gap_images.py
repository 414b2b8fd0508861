"""Test error on CIFAR-10 against the ratio of the student's to the teacher's size.

As in figure 9, for a plain network with two convolutions. Left: teachers with four to
ten convolutions, trained on the same images. Right: published residual networks,
trained on all of CIFAR-10. Marks are means with 95 % intervals over {config[seeds]}
seeds. DIST and KL between standardised logits were tried with two teachers.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures
from paper_figs.fig09_capacity_gap import by_ratio, legend

RESULTS = "capacity_gap_cifar10"
MADE_BY = "experiments.cifar10.capacity_gap --dataset cifar10_10k"
FAMILIES = {
    "plain": "plain teachers, same images",
    "resnet": "residual teachers, published",
}
FIXED = 4


def draw(name: str) -> Figure:
    runs, meta = results.load(name), results.meta(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    rows, sweet_spot = as_arms(runs), meta["paper"]["sweet_spot"]
    size = (figures.PAGE, 2.4)
    fig, axes = plt.subplots(1, 3, figsize=size, width_ratios=(1, 1, 0.6))
    for ax, (family, title) in zip(axes, FAMILIES.items(), strict=False):
        own = rows[rows["family"].isin([family, "none"])]
        by_ratio(ax, own, sweet_spot)
        ax.set(title=title, xlabel="student's / teacher's parameters")
    low, high = zip(*(ax.get_ylim() for ax in axes[:2]), strict=True)
    for ax in axes[:2]:
        ax.set_ylim(min(low), max(high))
    axes[0].set_ylabel("test error (%)")
    axes[2].set_axis_off()
    axes[2].legend(handles=legend(sweet_spot), loc="center")
    return fig


def as_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with the arms ``kl``, at T = 4, and ``kl_tuned``, at any temperature."""
    kl = runs["arm"] == "kl"
    fixed = runs[kl & (runs["temperature"] == FIXED)]
    tuned = runs[kl & runs["tuned"]].assign(arm="kl_tuned")
    return pd.concat([runs[~kl], fixed, tuned]).assign(kind="full")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
