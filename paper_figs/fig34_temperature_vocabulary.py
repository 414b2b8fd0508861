"""Likelihood of stories by the temperature of distillation and the vocabulary.

Nats per token of students of the teacher's distribution alone, less those of students
of the true tokens with the same seed: below zero the teacher helps. Grey: temperatures
of 6 to 10, which are said to be best for language. Means with 95 % intervals over
{config[seeds]} seeds.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

RESULTS = "temperature_vocabulary"
MADE_BY = "experiments.language.temperature_vocabulary"
SCORE = "test_nll_last"


def draw(name: str) -> Figure:
    runs = results.load(name)
    sizes = sorted(runs["vocabulary"].unique())
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 2.6))
    ax.axvspan(6, 10, color="0.93")
    ax.axhline(0, color="0.35", linewidth=0.8)
    looks = figures.series(len(sizes))
    for place, (size, look) in enumerate(zip(sizes, looks, strict=True)):
        own = runs[runs["vocabulary"] == size]
        labels, distilled = (own[own["arm"] == a] for a in ("labels", "distilled"))
        less = figures.differences(distilled, labels, SCORE)
        means = figures.intervals(less, "temperature", SCORE)
        aside = 1.02 ** (place - len(sizes) / 2)
        ax.errorbar(
            means.index * aside,
            means["mean"],
            means["half"],
            elinewidth=0.8,
            label=f"{size:,}",
            **look,
        )
    ticks = sorted(runs["temperature"].dropna().unique())
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="temperature T", ylabel="nats per token over true tokens")
    fig.legend(title="tokens", loc="outside right upper")
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
