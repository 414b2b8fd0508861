"""Accuracy on SST-2 by the share of its training texts, for each recipe.

The student has two layers of width 128 and begins from MiniLM's loss without labels;
the teacher was fine-tuned with all texts. All students take the same number of steps.
With the fewest texts, some learn from the teacher's predictions alone, also of copies
with words replaced by neighbours. Means with 95 % intervals over {config[seeds]} seeds.
Dashed: the teacher.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig24_recipes import NAMES

RESULTS = "data_fraction"
MADE_BY = "experiments.glue.data_fraction"
START = "minilm"
ALONE = {"alone": "teacher alone", "alone_reworded": "…, words replaced"}


def draw(name: str) -> Figure:
    runs = results.load(name)
    runs = runs[runs["start"] == START]
    names = {"fine_tuning": "fine-tuning"} | NAMES | ALONE
    arms = [arm for arm in names if arm in set(runs["arm"])]
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 2.6))
    for place, (arm, look) in enumerate(
        zip(arms, figures.series(len(arms)), strict=True)
    ):
        means = figures.intervals(runs[runs["arm"] == arm], "fraction", "score")
        aside = 1.04 ** (place - len(arms) / 2)
        ax.errorbar(
            100 * means.index * aside,
            means["mean"],
            yerr=means["half"],
            elinewidth=0.8,
            label=names[arm],
            **look,
        )
    ax.axhline(
        runs["teacher_score"].iloc[0], color="0.3", linestyle="--", linewidth=0.8
    )
    shares = 100 * runs["fraction"].unique()
    ax.set_xscale("log")
    ax.set_xticks(shares, [f"{share:g}" for share in shares])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="share of the training texts (%)", ylabel="accuracy (%)")
    fig.legend(loc="outside right upper")
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
