"""Test accuracy of two students of all of CIFAR-10, by what they learn from.

Students learn from labels alone, or from labels and a published residual network by
Hinton's loss (KL) at T = 4 or by DIST. Dots are means with 95 % intervals over
{config[seeds]} seeds (plain-2) and {config[residual_seeds]} (ResNet-8).
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "all_images"
MADE_BY = "experiments.cifar10.all_images --dataset cifar10"
ARMS = {
    "hard": "hard labels",
    "smoothing": "label smoothing",
    "hard_long": "hard labels, twice the epochs",
    "kl": "KL",
    "dist": "DIST",
}


def draw(name: str) -> Figure:
    runs = results.load(name)
    students = runs["student"].unique()
    fig, axes = plt.subplots(
        1, len(students), figsize=(figures.COLUMN, 1.9), sharey=True, squeeze=False
    )
    rows = list(runs.groupby(["arm", "teacher"], sort=False).groups)
    rows.sort(key=lambda row: list(ARMS).index(row[0]))
    for ax, student in zip(axes[0], students, strict=True):
        own = runs[runs["student"] == student].set_index(["arm", "teacher"])
        for place, row in enumerate(rows):
            colour = "0.3" if row[1] == "none" else figures.BLUE
            accuracy = 100 * own.loc[[row], "test_accuracy_last"]
            mean, half = interval(accuracy)
            ax.errorbar(mean, place, xerr=half, color=colour, marker="o")
        ax.set_title(label_of(student))
    axes[0, 0].set_yticks(range(len(rows)), [words(*row) for row in rows])
    axes[0, 0].invert_yaxis()
    fig.supxlabel("test accuracy (%)", size=8)
    return fig


def words(arm: str, teacher: str) -> str:
    """What a student learns from."""
    return ARMS[arm] + ("" if teacher == "none" else f", {label_of(teacher)}")


def label_of(network: str) -> str:
    return network.replace("resnet", "ResNet")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
