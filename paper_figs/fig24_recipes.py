"""Gain in accuracy on SST-2 of every recipe for BERT over fine-tuning.

The student has every other layer of its teacher, and begins from them; all arms train
for the same number of steps, unless they say another. Marks are means of differences of
the same seed, with 95 % intervals over {config[seeds]} seeds. Open marks: the hidden
states of a teacher that was never trained. Dotted lines: fine-tuning for twice the
epochs. Dashed lines: the teacher. Intervals may leave the panel.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "recipes"
MADE_BY = "experiments.glue.recipes"
NAMES = {
    "hinton": "Hinton",
    "logit_mse": "logit MSE",
    "pkd_skip": "PKD-Skip",
    "pkd_last": "PKD-Last",
    "tinybert": "TinyBERT",
    "minilm": "MiniLM",
    "minilm_v2": "MiniLMv2",
    "similarity": "similarity (SP)",
    "rkd": "RKD",
    "best_two": "best two together",
}
SCORES = {"matthews": "Matthews", "f1": "F1", "pearson": "Pearson"}
TASKS = {"sst2": "SST-2", "stsb": "STS-B"}
START = "layers"
APART = 0.2


def draw(name: str) -> Figure:
    runs = results.load(name)
    tasks = list(runs["task"].unique())
    fig, axes = plt.subplots(
        1, len(tasks), figsize=(figures.PAGE, 3), sharey=True, squeeze=False
    )
    for ax, task in zip(axes[0], tasks, strict=True):
        panel(ax, runs[(runs["task"] == task) & (runs["start"] == START)])
    marks = [
        figures.mark("trained teacher", figures.BLUE, "o"),
        figures.mark("untrained teacher", "0.4", "o", fillstyle="none"),
        figures.line("fine-tuning, twice the epochs", "0.3", ":"),
        figures.line("teacher", figures.RED, "--"),
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=4)
    return fig


def panel(ax: Axes, runs: pd.DataFrame) -> None:
    plain = runs[runs["arm"] == "fine_tuning"]
    means = figures.intervals(figures.differences(runs, plain, "score"), "arm", "score")
    arms = [arm for arm in NAMES if arm in means.index]
    for place, arm in enumerate(arms):
        for own, aside, look in (
            (arm, 0, {"color": figures.BLUE}),
            (f"{arm}_untrained", APART, {"color": "0.4", "fillstyle": "none"}),
        ):
            if own in means.index:
                mean, half = means.loc[own]
                ax.errorbar(
                    mean, place + aside, xerr=half, fmt="o", elinewidth=0.8, **look
                )
    ax.axvline(0, color="black", linewidth=0.8)
    ax.axvline(means.loc["long", "mean"], color="0.3", linestyle=":", linewidth=0.8)
    teacher = runs["teacher_score"].iloc[0] - plain["score"].mean()
    ax.axvline(teacher, color=figures.RED, linestyle="--", linewidth=0.8)
    ends = [*means["mean"], teacher]
    ax.set_xlim(min(ends) - 2, max(ends) + 1)
    ax.set_yticks(range(len(arms)), [NAMES[arm] for arm in arms])
    ax.set_ylim(len(arms) - 0.5, -0.5)
    metric = SCORES.get(own := runs["metric"].iloc[0], own)
    name = TASKS.get(task := runs["task"].iloc[0], task.upper())
    ax.set_title(f"{name} ({metric})")
    ax.set_xlabel("gain over fine-tuning\n(points)")
    ax.grid(False, axis="y")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
