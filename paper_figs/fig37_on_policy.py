"""Quality of translations against the time of training, by method.

BLEU of students on Multi30k, decoded greedily, against the seconds of a training; both
are means over {config[seeds]} seeds, with 95 % intervals of BLEU. All begin from one
student that has learned by maximum likelihood (dotted), and take the same number of
steps, but for reverse KL for twice the steps.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "on_policy"
MADE_BY = "experiments.language.on_policy"
NAMES = {
    "off_policy": "forward KL, true texts",
    "off_policy_reverse": "reverse KL, true texts",
    "off_policy_long": "the same, twice the steps",
    "on_policy": "reverse KL, own texts",
    "gkd": "GKD, half of each",
    "minillm": "MiniLLM",
    "minillm_not_mixed": "MiniLLM, not mixed",
    "minillm_not_normalised": "MiniLLM, not normalised",
    "minillm_not_single": "MiniLLM, REINFORCE alone",
    "minillm_code": "MiniLLM, loss of its code",
    "own_half": "skewed KL, half own texts",
    "distillm": "DistiLLM",
    "distillm_2": "loss of DistiLLM-2",
}


def draw(name: str) -> Figure:
    runs, meta = results.load(name), results.meta(name)
    fig, ax = plt.subplots(figsize=(figures.PAGE, 3))
    methods = [method for method in NAMES if method in set(runs["method"])]
    for method, look in zip(methods, figures.series(len(methods)), strict=True):
        own = runs[runs["method"] == method]
        y, y_half = interval(own["bleu"])
        ax.errorbar(
            own["seconds"].mean(),
            y,
            y_half,
            color=look["color"],
            marker=look["marker"],
            linestyle="none",
            elinewidth=0.8,
            label=NAMES[method],
        )
    ax.axhline(
        meta["bleu"]["by maximum likelihood"],
        color="0.35",
        linestyle=":",
        linewidth=0.8,
    )
    ax.set(xlabel="seconds of training", ylabel="BLEU, greedy", xlim=(0, None))
    fig.legend(loc="outside right upper")
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
