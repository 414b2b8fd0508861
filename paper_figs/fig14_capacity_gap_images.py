"""Test error on CIFAR-10 against the ratio of the student's to the teacher's size.

As in figure 9, for a plain network with two convolutions. Left: teachers with four to
ten convolutions, trained on the same images. Middle: published residual networks,
trained on all of CIFAR-10. Marks are means with 95 % intervals over {config[seeds]}
seeds. DIST and KL between standardised logits were tried with two teachers. Right: the
errors at T = 4 against the mean entropy of the teacher's predictions on the training
images; open marks are the published teachers. Dotted: hard labels, and ResNet-56 by KL
at T = 4, for twice the epochs.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures
from paper_figs.fig09_capacity_gap import by_ratio, legend, plain

RESULTS = "capacity_gap_cifar10"
MADE_BY = "experiments.cifar10.capacity_gap --dataset cifar10_10k"
FAMILIES = {
    "plain": "plain teachers, same images",
    "resnet": "residual teachers, published",
}
FIXED = 4
LONGER = {
    "hard_long": ("hard labels, twice the epochs", "black"),
    "kl_long": ("KL, twice the epochs", figures.BLUE),
}


def draw(name: str) -> Figure:
    runs, meta = results.load(name), results.meta(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    rows, sweet_spot = as_arms(runs), meta["paper"]["sweet_spot"]
    fig, axes = plt.subplots(1, 3, figsize=(figures.PAGE, 2.9), sharey=True)
    for ax, (family, title) in zip(axes, FAMILIES.items(), strict=False):
        own = rows[rows["family"].isin([family, "none"])]
        by_ratio(ax, own, sweet_spot)
        plain(ax.xaxis, subs=(1, 2, 5))
        ax.set(title=title, xlabel="student's / teacher's parameters")
    by_entropy(axes[2], rows[rows["arm"] == "kl"], results.load(name, "teachers"))
    handles = legend(sweet_spot)
    for arm, (label, color) in LONGER.items():
        style = {"color": color, "linestyle": ":", "linewidth": 1.2}
        handles.append(Line2D([], [], label=label, **style))
        for ax in axes:
            ax.axhline(runs.loc[runs["arm"] == arm, "error"].mean(), **style)
    axes[0].autoscale(axis="y")
    axes[0].set_ylabel("test error (%)")
    fig.legend(handles=handles, loc="outside lower center", ncols=4)
    return fig


def by_entropy(ax: Axes, rows: pd.DataFrame, teachers: pd.DataFrame) -> None:
    """Plots the errors of students at T = 4 against the entropy of each teacher."""
    rows = rows.merge(teachers[["teacher", "train_entropy"]], on="teacher")
    for family, fill in (("plain", "full"), ("resnet", "none")):
        own = rows[rows["family"] == family]
        found = figures.intervals(own, "train_entropy", "error")
        style = {"fmt": "o", "color": figures.BLUE, "fillstyle": fill}
        ax.errorbar(found.index, found["mean"], found["half"], elinewidth=0.8, **style)
    ax.set(xscale="log", title="both", xlabel="entropy of the teacher (nats)")
    plain(ax.xaxis, subs=(1,))


def as_arms(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with the arms ``kl``, at T = 4, and ``kl_tuned``, at any temperature."""
    kl = runs["arm"] == "kl"
    fixed = runs[kl & (runs["temperature"] == FIXED)]
    tuned = runs[kl & runs["tuned"]].assign(arm="kl_tuned")
    return pd.concat([runs[~kl], fixed, tuned]).assign(kind="full")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
