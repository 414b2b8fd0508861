"""Gain in test accuracy of every loss over hard labels, alone and with KL.

Each loss is added to the labels' cross-entropy, with a weight selected on the
validation set; but hint is a first phase without labels. The teacher is a published
ResNet-20, the student a plain network with two convolutions. Marks are means of
differences of the same seed, with 95 % intervals over {config[seeds]} seeds. Open
marks: the features of a teacher that was never trained. Dotted lines: twice the epochs,
of hard labels (left) and of labels with KL.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "losses_cifar10"
MADE_BY = "experiments.cifar10.losses --dataset cifar10_10k"
GROUPS = {
    "logits": {
        "kl": "KL",
        "reverse_kl": "reverse KL",
        "skew_kl": "skew KL",
        "jensen_shannon": "Jensen–Shannon",
        "mse": "mean squared error",
        "dkd": "DKD",
        "dist": "DIST",
    },
    "feature maps": {
        "hint": "hint (FitNets)",
        "attention": "attention transfer",
        "nst": "NST",
        "fsp": "FSP",
        "vid": "VID",
        "review": "knowledge review",
    },
    "relations of examples": {
        "similarity": "similarity (SP)",
        "rkd": "RKD",
        "pkt": "PKT",
        "cka": "CKA",
        "crd": "CRD",
    },
}
LOOKS = {
    ("trained", False): ("alone", figures.BLUE, "o", "full"),
    ("trained", True): ("with KL", figures.RED, "s", "full"),
    ("random", False): ("untrained teacher", "0.4", "o", "none"),
}
GAP = 1.4  # rows above each group, for its title


def draw(name: str) -> Figure:
    runs = gains(results.load(name))
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 4.4))
    height, ticks = 0.0, {}
    for title, group in GROUPS.items():
        height += GAP
        ax.text(0.01, height - 0.8, title, transform=ax.get_yaxis_transform(), size=7)
        for arm, label in group.items():
            own = runs[runs["arm"] == arm]
            if len(own):
                row(ax, own, height)
                ticks[height] = label
                height += 1
    for kl in (False, True):
        long = runs[(runs["arm"] == "long") & (runs["with_kl"] == kl)]
        ax.axvline(long["gain"].mean(), color="0.3", linestyle=":", linewidth=0.8)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(list(ticks), ticks.values())
    ax.set_ylim(height - 0.3, 0)
    ax.set_xlabel("gain over hard labels (points)")
    ax.grid(False, axis="y")
    marks = [
        figures.mark(label, colour, marker, fillstyle=fill)
        for label, colour, marker, fill in LOOKS.values()
    ]
    marks.append(figures.line("twice the epochs", "0.3", ":"))
    fig.legend(handles=marks, loc="outside lower center", ncols=2)
    return fig


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with their gain over hard labels of the same seed, in percentage points."""
    hard = runs[runs["arm"] == "hard"]
    found = figures.differences(runs, hard, "test_accuracy_last")
    gain = 100 * found["test_accuracy_last"]
    return found.assign(gain=gain, with_kl=runs["kl"] > 0)


def row(ax: Axes, own: pd.DataFrame, height: float) -> None:
    """Plots a loss: one mark per way in which it was tried."""
    for place, (cell, (_, colour, marker, fill)) in enumerate(LOOKS.items()):
        cells = own[(own["features"] == cell[0]) & (own["with_kl"] == cell[1])]
        for mean, half in figures.intervals(cells, "arm", "gain").itertuples(
            index=False
        ):
            y = height + 0.2 * (place - 1)
            look = {"color": colour, "marker": marker, "fillstyle": fill}
            ax.errorbar(mean, y, xerr=half, elinewidth=0.8, **look)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
