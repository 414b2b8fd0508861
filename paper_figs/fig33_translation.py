"""BLEU of translations by what a student learns from, decoded in two ways.

Dots are means over {config[seeds]} seeds, with 95 % intervals; dashed lines are the
teacher. The student learns from the true translations, from the teacher's distribution
of their words, from what the teacher writes, from both, or from a peer.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

RESULTS = "translation"
MADE_BY = "experiments.language.translation"
METHODS = {
    "true": "true translations",
    "long": "true, twice the epochs",
    "mutual": "a peer",
    "word": "word level",
    "sample": "a sample",
    "samples": "four samples",
    "greedy": "greedy",
    "beam": "beam search",
    "like_true": "candidate like the true",
    "word_and_beam": "word level, beam search",
}
WAYS = {"greedy": (figures.BLUE, "o"), "beam": (figures.RED, "s")}


def draw(name: str) -> Figure:
    runs, teacher = results.load(name), results.load(name, "teacher").iloc[0]
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 2.8))
    for way, (colour, marker) in WAYS.items():
        found = figures.intervals(runs, "method", f"bleu_{way}").loc[list(METHODS)]
        style = {"color": colour, "marker": marker, "linestyle": ""}
        rows = range(len(METHODS))
        ax.errorbar(found["mean"], rows, xerr=found["half"], **style)
        ax.axvline(teacher[f"bleu_{way}"], color=colour, linestyle="--", linewidth=0.8)
    ax.set_yticks(range(len(METHODS)), METHODS.values())
    ax.invert_yaxis()
    ax.set_xlabel("BLEU on Multi30k's test pairs")
    marks = [figures.mark(f"{way} decoding", *look) for way, look in WAYS.items()]
    fig.legend(handles=marks, loc="outside lower center", ncols=2)
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
