"""How students' test errors depend on traits of the teacher.

Left and middle: test errors of students distilled at T = 4, relative to those of
students trained on hard labels, against the teacher's loss and the entropy of its
predictions. There is one mark per pair of student and teacher, with 95 % intervals over
{config[seeds]} seeds. Teachers of each size were trained for {config[early_epochs]}
(briefly), {config[full_epochs]} (fully) and {config[over_epochs]} epochs
(over-trained). Right: rank correlation of each trait with the students' test accuracy
(above 0, students of teachers with more of it are better), for every loss, with 95 %
bootstrap intervals. Filled marks are over all teachers, open ones over the fully
trained teachers.
"""

from collections.abc import Collection
import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.typing import ColorType
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from kdjax import results
from paper_figs import figures
from paper_figs.fig09_capacity_gap import ARMS, plain

RESULTS = "capacity_gap_mnist"
MADE_BY = "experiments.mnist.capacity_gap --dataset mnist"
KINDS = {
    "early": ("trained briefly", "v"),
    "full": ("fully trained", "o"),
    "over": ("over-trained", "^"),
}
TRAITS = {
    "parameters": "size",
    "validation_nll": "loss",
    "train_entropy": "entropy",
}


def draw(name: str) -> Figure:
    teachers = results.load(name, "teachers")
    students = results.load(name).groupby("student_width")
    size, ratios = (figures.PAGE, 3.1), (1, 1, 0.9)
    fig, axes = plt.subplots(1, 3, figsize=size, width_ratios=ratios)
    for ax, trait in zip(axes, ("validation_nll", "train_entropy"), strict=False):
        against(ax, students, teachers, trait)
    axes[0].set_ylabel("test errors relative to hard labels")
    axes[0].set_xlabel("teacher's validation loss (nats)")
    axes[1].set_xlabel("entropy of its predictions on\ntraining images (nats)")
    axes[1].sharey(axes[0])
    axes[1].tick_params(labelleft=False)
    correlations(axes[2], results.load(name, "explains"))
    widths = list(students.groups)
    style = {"title_fontsize": 7, "handlelength": 1}
    kinds = [figures.mark(label, "0.3", marker) for label, marker in KINDS.values()]
    axes[0].legend(handles=kinds, title="teacher", loc="upper left", **style)
    own = zip(colours(widths), widths, strict=True)
    own = [figures.mark(f"{w:g} hidden units", colour, "s") for colour, w in own]
    fig.legend(handles=own, title="student", loc="outside lower left", ncols=3, **style)
    arms = [figures.mark(*look[:3]) for look in ARMS.values()]
    fig.legend(handles=arms, title="loss", loc="outside lower right", ncols=2, **style)
    return fig


def against(
    ax: Axes, students: DataFrameGroupBy, teachers: pd.DataFrame, trait: str
) -> None:
    """Plots relative test errors at T = 4 against a trait, one mark per pair."""
    shown = []
    for colour, (_, rows) in zip(colours(students.groups), students, strict=True):
        errors = 1 - rows["test_accuracy_last"]
        hard = errors[rows["arm"] == "hard"].mean(skipna=False)
        rows = rows.assign(relative=errors / hard)
        found = figures.intervals(rows[rows["arm"] == "kl"], "teacher", "relative")
        for teacher, mean, half in found.itertuples():
            value, kind = teachers.loc[teacher, [trait, "kind"]]
            _, marker = KINDS[kind]
            style = {"color": colour, "alpha": 0.8, "elinewidth": 0.6}
            ax.errorbar(value, mean, yerr=half, fmt=marker, **style)
            shown.append(mean)
    ax.axhline(1, color="0.4", linestyle="--", linewidth=0.8)
    ax.set(xscale="log", yscale="log", ylim=(0.7 * min(shown), 1.4 * max(shown)))
    wide = max(teachers[trait]) > 100 * min(teachers[trait])
    plain(ax.xaxis, subs=(1,) if wide else (1, 2, 3, 5, 7), base=100 if wide else 10)
    plain(ax.yaxis, subs=(1, 2, 5))


def correlations(ax: Axes, explains: pd.DataFrame) -> None:
    """Plots, for each trait and arm, the correlation over all and full teachers."""
    found = explains.set_index(["arm", "kind", "trait"])
    for row, trait in enumerate(TRAITS):
        each = itertools.product(ARMS.items(), ("all", "full"))
        for place, ((arm, (_, colour, marker, _)), kind) in enumerate(each):
            value, low, high = found.loc[arm, kind, trait]
            y = row + 0.1 * (place - 3.5)
            fill = "full" if kind == "all" else "none"
            ax.plot([low, high], [y, y], color=colour, linewidth=1)
            ax.plot(value, y, marker, color=colour, fillstyle=fill)
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set_yticks(range(len(TRAITS)), TRAITS.values())
    ax.set(xlim=(-1.05, 1.05), ylim=(len(TRAITS) - 0.5, -0.5))
    ax.set_xlabel("rank correlation with\nstudents' test accuracy")
    ax.grid(False, axis="y")


def colours(widths: Collection[float]) -> list[ColorType]:
    return [look["color"] for look in figures.series(len(widths))]


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
