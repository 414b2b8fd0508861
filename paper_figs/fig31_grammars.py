"""Which grammars a student's texts are of.

Bars are shares of the valid ones among 4,096 texts that starved students write, by the
most probable grammar of each text: means, and a dot for each of {config[seeds]} seeds.
Dotted lines are the teacher's. The titles say by what the students learn, and of whose
texts.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures
from paper_figs.fig30_divergences import LOSSES, named

RESULTS = "divergences"
MADE_BY = "experiments.language.divergences"
CELLS = (
    ("forward_kl", "teacher"),
    ("jensen_shannon 0.5", "mixed"),
    ("reverse_kl", "student"),
)


def draw(name: str) -> Figure:
    runs, weights = named(results.load(name)), results.meta(name)["weights"]
    starved = runs[runs["size"] == "starved"]
    fig, axes = plt.subplots(
        1, len(CELLS), figsize=(figures.PAGE, 1.9), sharey=True, squeeze=False
    )
    for ax, (loss, texts) in zip(axes[0], CELLS, strict=True):
        rows = starved[(starved["name"] == loss) & (starved["texts"] == texts)]
        for number, weight in enumerate(weights):
            shares = rows[f"test_template_{number}"]
            ax.bar(number, shares.mean(), color=figures.BLUE, alpha=0.5)
            aside = np.linspace(-0.2, 0.2, len(shares))
            ax.plot(number + aside, shares, "o", color=figures.BLUE, markersize=3)
            ax.hlines(weight, number - 0.5, number + 0.5, "black", ":", linewidth=1)
        ax.set_title(f"{LOSSES[loss]}, {texts} texts")
        ax.set_xticks(range(len(weights)), range(1, len(weights) + 1))
        ax.set_xlabel("grammar")
    axes[0, 0].set_ylabel("share of texts")
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
