"""Which size of language model trained on text is as good as a distilled one.

Top: nats per token of stories, by size, of decoders of two layers, which see all of the
stories twice, or a tenth of them twenty times; those trained on text see the tenth less
often if that is better on validation. Open marks: all stories, four times. The dashed
line is where distilled models would lie if each were as good as one of four times its
size. Bottom: the size of the smallest model trained on text that is as good, over the
model's own. At the ends of the grey range the models trained on text end, so a mark
there is a bound. Bars are 95 % intervals over {config[seeds]} seeds.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures
from paper_figs.fig19_size_equivalence import equivalents

RESULTS = "size_equivalence_stories"
MADE_BY = "experiments.language.size_equivalence"
ARMS = {
    "hard": ("text", "0.35", "s", "full"),
    "distilled": ("distilled", figures.BLUE, "o", "full"),
    "hard_long": ("text, twice the steps", "0.35", "o", "none"),
}


def draw(name: str) -> Figure:
    runs, factors = results.load(name), results.load(name, "factors")
    rule, shares = results.meta(name)["paper"]["factor"], runs["share"].unique()
    fig, axes = plt.subplots(
        2, len(shares), figsize=(figures.PAGE, 4.2), sharey="row", squeeze=False
    )
    for column, share in zip(axes.T, shares, strict=True):
        own = runs[runs["share"] == share]
        for arm, (label, colour, marker, fill) in ARMS.items():
            if (cells := own[own["arm"] == arm]).empty:
                continue
            found = figures.intervals(cells, "parameters", "test_nll_best")
            look = {"color": colour, "marker": marker, "fillstyle": fill}
            look["elinewidth"] = 0.8
            column[0].errorbar(
                found.index, found["mean"], found["half"], label=label, **look
            )
            if arm == "hard":
                column[0].plot(
                    found.index / rule,
                    found["mean"],
                    color=colour,
                    linestyle="--",
                    label=f"text, {rule:g} times the size",
                )
        sizes = runs["parameters"]
        column[0].set(xscale="log", xlabel="parameters")
        column[0].set_xlim(sizes.min() / 1.3, sizes.max() * 1.3)
        column[0].set_title(f"{100 * share:g} % of the stories")
        equivalents(column[1], factors[factors["share"] == share], rule)
        column[1].set_ylabel("")
    axes[0, 0].set_ylabel("nats per token")
    axes[1, 0].set_ylabel("size that is as good\n/ own size")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=len(handles))
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
