"""Gain in accuracy on SST-2 over fine-tuning, by the fraction of its training texts.

The student has two layers of width 128 and begins from MiniLM's loss without labels;
the teacher was fine-tuned with all texts. All students take the same number of steps.
With the fewest texts, some learn from the teacher's predictions without labels, also of
copies with words replaced by neighbours. Means of differences of the same seed, with
95 % intervals over {config[seeds]} seeds.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig24_recipes import NAMES

RESULTS = "data_fraction"
MADE_BY = "experiments.glue.data_fraction"
START = "minilm"
ALONE = {"alone": "without labels", "alone_reworded": "… and words replaced"}


def draw(name: str) -> Figure:
    runs = results.load(name)
    runs = runs[runs["start"] == START].copy()
    keys = ["fraction", "seed"]
    plain = runs[runs["arm"] == "fine_tuning"].set_index(keys)["score"]
    runs["gain"] = runs["score"] - runs.set_index(keys).index.map(plain)
    names = NAMES | ALONE
    arms = [arm for arm in names if arm in set(runs["arm"])]
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 2.6))
    ax.axhline(0, color="black", linewidth=0.8)
    for place, (arm, look) in enumerate(
        zip(arms, figures.series(len(arms)), strict=True)
    ):
        means = figures.intervals(runs[runs["arm"] == arm], "fraction", "gain")
        aside = 1.06 ** (place - len(arms) / 2)
        ax.errorbar(
            100 * means.index * aside,
            means["mean"],
            yerr=means["half"],
            elinewidth=0.8,
            label=names[arm],
            **look,
        )
    fractions = 100 * runs["fraction"].unique()
    ax.set_xscale("log")
    ax.set_xticks(fractions, [f"{each:g}" for each in fractions])
    ax.set_xticks([], minor=True)
    ax.set_xlabel("fraction of the training texts (%)")
    ax.set_ylabel("gain over fine-tuning (points)")
    fig.legend(loc="outside right upper")
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
