"""Similarity of a student's layers to its teacher's, by centred kernel alignment (CKA).

Each cell compares a layer of the student (rows) with one of the teacher (columns) on
1,000 test images, and is a mean over {config[seeds]} seeds; 1 means equal up to
rotation and scale. The teacher is a published ResNet-20. The first stage is averaged to
the size of the second, and the last layer over its pixels.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig16_losses import GROUPS

RESULTS = "losses_cifar10"
MADE_BY = "experiments.cifar10.losses --dataset cifar10_10k"
SHOWN = ("hard", "kl", "hint", "attention", "similarity", "cka")
LAYERS = ("stage 1", "stage 2", "last")


def draw(name: str) -> Figure:
    table = results.load(name, "cka").query("kl == 0")
    labels = {"hard": "hard labels"}
    for group in GROUPS.values():
        labels |= group
    fig, axes = plt.subplots(1, len(SHOWN), figsize=(figures.PAGE, 1.8), sharey=True)
    for ax, arm in zip(axes, SHOWN, strict=True):
        own = table[table["arm"] == arm]
        cells = own.pivot_table("cka", "student_layer", "teacher_layer", "mean")
        shown = ax.imshow(cells, vmin=0, vmax=1, cmap="viridis")
        for (i, j), value in cells.stack().items():
            colour = "white" if value < 0.6 else "black"
            text = {"ha": "center", "va": "center", "size": 7, "color": colour}
            ax.text(j, i, f"{value:.2f}", **text)
        ax.set_title(labels[arm], size=7)
        ax.set_xticks(range(len(LAYERS)), LAYERS, rotation=60)
        ax.grid(False)
    axes[0].set_yticks(range(len(LAYERS)), LAYERS)
    axes[0].set_ylabel("student")
    fig.supxlabel("teacher", size=8)
    fig.colorbar(shown, ax=axes, label="CKA", shrink=0.8)
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
