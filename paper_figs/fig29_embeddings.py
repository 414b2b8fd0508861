"""Sentence embeddings of small students, by the loss that taught them.

Rank correlation on STS-B, and how often a paraphrase is the nearest sentence, for
students of two widths; students that keep their linear map are as wide as the teacher,
all-MiniLM-L6-v2. Marks are means with 95 % intervals over {config[seeds]} seeds.
Dashed: the teacher. Dotted: the teacher's embeddings reduced to the student's width.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "embeddings"
MADE_BY = "experiments.glue.embeddings"
GROUPS = {
    "no teacher": {"none": "SimCSE"},
    "points": {
        "mse": "MSE of a linear map",
        "cosine": "cosine of a linear map",
        "reduced": "cosine, teacher reduced",
        "kept": "linear map kept",
    },
    "relations": {
        "rkd": "RKD",
        "similarity": "similarity (SP)",
        "pkt": "PKT",
        "cka": "CKA",
        "neighbours": "neighbours (KL)",
        "info_nce": "InfoNCE",
    },
}
SCORES = {
    "spearman": "Spearman, STS-B (%)",
    "recall1_mrpc": "recall@1, MRPC (%)",
    "recall1_qqp_9k": "recall@1, QQP (%)",
}
GAP = 1.2  # rows above each group, for its title
APART = 0.17


def draw(name: str) -> Figure:
    runs, teachers = results.load(name), results.load(name, "teachers")
    runs = runs[(runs["teacher"] == "minilm") & (runs["layers"] == 2)]
    teachers = teachers[teachers["teacher"] == "minilm"]
    scores = [score for score in SCORES if score in runs]
    fig, axes = plt.subplots(
        1, len(scores), figsize=(figures.PAGE, 3), sharey=True, squeeze=False
    )
    colours = dict(zip(sorted(runs["width"].unique()), COLOURS, strict=False))
    for ax, score in zip(axes[0], scores, strict=True):
        panel(ax, runs, teachers, score, colours)
    marks = [
        figures.mark(f"width {width}", colour, marker)
        for width, (colour, marker) in colours.items()
    ]
    marks.append(figures.line("teacher", "0.3", "--"))
    marks.append(figures.line("teacher, reduced", "0.3", ":"))
    fig.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return fig


COLOURS = ((figures.RED, "s"), (figures.BLUE, "o"))


def panel(
    ax: Axes, runs: pd.DataFrame, teachers: pd.DataFrame, score: str, colours: dict
) -> None:
    height, ticks = 0.0, {}
    for title, group in GROUPS.items():
        height += GAP
        ax.text(0.02, height - 0.7, title, transform=ax.get_yaxis_transform(), size=7)
        for arm, label in group.items():
            for place, (width, (colour, marker)) in enumerate(colours.items()):
                own = runs[(runs["arm"] == arm) & (runs["width"] == width)]
                means = figures.intervals(own, "arm", score)
                for mean, half in means.itertuples(index=False):
                    y = height + APART * (2 * place - 1)
                    look = {"color": colour, "fmt": marker, "elinewidth": 0.8}
                    ax.errorbar(mean, y, xerr=half, **look)
            ticks[height] = label
            height += 1
    for row in teachers.to_dict("records"):
        colour, _ = (
            colours.get(row["width"], ("0.3", "")) if row["reduced"] else ("0.3", "")
        )
        dash = ":" if row["reduced"] else "--"
        ax.axvline(row[score], color=colour, linestyle=dash, linewidth=0.8)
    ax.set_yticks(list(ticks), ticks.values())
    ax.set_ylim(height - 0.3, 0)
    ax.set_xlabel(SCORES[score])
    ax.grid(False, axis="y")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
