"""How a language model that lost two thirds of its layers comes back.

Nats per token of stories, and acceptance as a draft of the whole model, by the number
of steps, and nats by the temperature of forward KL: means over {config[seeds]} seeds,
with 95 % intervals. The student has {config[layers]} of the 30 layers of
SmolLM2-135M-Instruct. Dashed: the whole model.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

RESULTS = "pretrained"
MADE_BY = "experiments.language.pretrained"
NAMES = {
    "stories": "stories alone",
    "long": "stories alone, twice the steps",
    "t_1": "forward KL",
    "on_policy": "forward KL, and reverse KL of own texts",
}
SCORES = {"nll": "nats per token", "acceptance": "acceptance"}


def draw(name: str) -> Figure:
    curves, meta = results.load(name, "curves"), results.meta(name)
    curves = curves.assign(step=curves["epoch"] * meta["config"]["steps"])
    fig, axes = plt.subplots(1, 3, figsize=(figures.PAGE, 2.7))
    for ax, (score, label) in zip(axes, SCORES.items(), strict=False):
        looks = figures.series(len(NAMES))
        for (arm, words), look in zip(NAMES.items(), looks, strict=True):
            own = curves[curves["arm"] == arm]
            means = figures.intervals(own, "step", f"validation_{score}")
            ax.errorbar(
                means.index,
                means["mean"],
                means["half"],
                elinewidth=0.8,
                label=words,
                **look,
            )
        whole = meta["whole"][score]
        if score == "nll":
            ax.axhline(whole, color="0.35", linestyle="--", linewidth=0.8)
        ax.set(xlabel="steps", ylabel=label)
    runs, ax = results.load(name), axes[-1]
    softened = runs[runs["temperature"].notna()]
    means = figures.intervals(softened, "temperature", "test_nll_last")
    ax.errorbar(means.index, means["mean"], means["half"], color=figures.BLUE)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set(xlabel="temperature", ylabel="nats per token, test")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2)
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
