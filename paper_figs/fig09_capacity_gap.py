"""Figure 9: students against the size, the loss and the entropy of their teachers.

    python -m paper_figs.fig09_capacity_gap    # reads results/ and nothing else

Above a panel for each student, taught by full teachers; means at the last epoch with
95 % intervals over seeds. Below a mark for each pair at T = 4, by how the teacher was
trained, and for every loss which trait of a teacher its students' accuracy goes with,
over all teachers and, open, over the full ones alone.
"""

from collections.abc import Collection
import itertools

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

ARMS = {
    "kl": ("KL, T = 4", "tab:blue"),
    "kl_tuned": ("KL, T tuned", "tab:cyan"),
    "dist": ("DIST", "tab:orange"),
    "standardized": ("standardised logits", "tab:green"),
}
KINDS = {
    "early": ("trained briefly", "v"),
    "full": ("full", "o"),
    "over": ("over-trained", "^"),
}
TRAITS = {
    "parameters": "size",
    "validation_nll": "loss",
    "train_entropy": "entropy",
}


def draw(name: str) -> Figure:
    runs, teachers = results.load(name), results.load(name, "teachers")
    runs["accuracy"] = 100 * runs["test_accuracy_last"]
    students, meta = runs.groupby("student_width"), results.meta(name)
    widths, sweet_spot = list(students.groups), meta["paper"]["sweet_spot"]
    fig = plt.figure(figsize=(7.2, 4.8))
    above, below = fig.subfigures(2, 1, height_ratios=(1, 1.1))
    axes = above.subplots(1, len(widths), squeeze=False)[0]
    for ax, (width, rows) in zip(axes, students, strict=True):
        by_ratio(ax, rows, sweet_spot)
        ax.set_title(f"{width:g} units")
    axes[0].set_ylabel("test accuracy, %")
    above.supxlabel("student's share of its teacher's parameters", size=8)
    shaded = "{:g} to {:g}".format(*sweet_spot)
    above.legend(
        handles=[Line2D([], [], color=c, marker="o", label=n) for n, c in ARMS.values()]
        + [
            Line2D([], [], color="0.4", linestyle="--", label="labels alone"),
            Line2D([], [], color="0.9", linewidth=7, label=shaded),
        ],
        loc="outside upper center",
        ncols=6,
    )
    axes = below.subplots(1, 3, width_ratios=(1, 1, 0.9))
    for ax, trait in zip(axes, ("validation_nll", "train_entropy"), strict=False):
        against(ax, students, teachers, trait)
    axes[0].set_ylabel("errors over labels' alone, T = 4")
    axes[0].set_xlabel("teacher's validation loss, nats")
    axes[1].set_xlabel("its entropy on training images, nats")
    axes[1].sharey(axes[0])
    axes[1].tick_params(labelleft=False)
    correlations(axes[2], results.load(name, "explains"))
    below.legend(handles=marks(widths), loc="outside lower center", ncols=8)
    dataset, seeds = meta["dataset"]["name"], meta["config"]["seeds"]
    fig.suptitle(f"{dataset}: {len(teachers)} teachers, {seeds} seeds", size=8)
    return fig


def by_ratio(ax: Axes, rows: pd.DataFrame, sweet_spot: list[float]) -> None:
    """Of one student: a line an arm, full teachers from the largest to the smallest."""
    ax.axvspan(*sweet_spot, color="0.93", linewidth=0)
    mean, half = interval(rows.loc[rows["arm"] == "hard", "accuracy"])
    ax.axhline(mean, color="0.4", linestyle="--", linewidth=0.8)
    ax.axhspan(mean - half, mean + half, color="0.4", alpha=0.15, linewidth=0)
    for place, (arm, (_, colour)) in enumerate(ARMS.items()):
        full = rows[(rows["arm"] == arm) & (rows["kind"] == "full")]
        found = figures.intervals(full, "ratio", "accuracy")
        x = found.index * 1.06 ** (place - 1.5)  # bars beside each other
        style = {"fmt": "-o", "color": colour, "elinewidth": 0.8}
        ax.errorbar(x, found["mean"], yerr=found["half"], **style)
    ax.set_xscale("log")
    plain(ax.xaxis, subs=(1,))
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, 0), min(high, 100))


def against(
    ax: Axes, students: DataFrameGroupBy, teachers: pd.DataFrame, trait: str
) -> None:
    """Students' errors at T = 4, over those of labels alone, a mark a pair."""
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
    plain(ax.xaxis, subs=(1,) if wide else (1, 2, 5), base=100 if wide else 10)
    plain(ax.yaxis, subs=(1, 2, 5))


def plain(axis: Axis, subs: tuple[int, ...], base: int = 10) -> None:
    """Ticks of a logarithmic axis as plain numbers."""
    axis.set_major_locator(LogLocator(base, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def correlations(ax: Axes, explains: pd.DataFrame) -> None:
    """A row a trait; of each arm a point for all teachers, and one for the full."""
    found = explains.set_index(["arm", "kind", "trait"])
    for row, trait in enumerate(TRAITS):
        each = itertools.product(ARMS.items(), ("all", "full"))
        for place, ((arm, (_, colour)), kind) in enumerate(each):
            value, low, high = found.loc[arm, kind, trait]
            y = row + 0.1 * (place - 3.5)
            fill = "full" if kind == "all" else "none"
            ax.plot([low, high], [y, y], color=colour, linewidth=1)
            ax.plot(value, y, "o", color=colour, fillstyle=fill)
    ax.axvline(0, color="0.5", linewidth=0.8)
    ax.set_yticks(range(len(TRAITS)), TRAITS.values())
    ax.set(xlim=(-1.05, 1.05), ylim=(len(TRAITS) - 0.5, -0.5))
    ax.set_xlabel("rank correlation with accuracy\n(open: full teachers alone)")
    ax.grid(False, axis="y")


def colours(widths: Collection[float]) -> np.ndarray:
    return plt.get_cmap("viridis")(np.linspace(0, 0.9, len(widths)))


def marks(widths: Collection[float]) -> list[Line2D]:
    """Of the lower panels: colours of students, and marks of kinds of teachers."""
    return [
        Line2D([], [], color=colour, marker="s", linestyle="", label=f"{width:g} units")
        for colour, width in zip(colours(widths), widths, strict=True)
    ] + [
        Line2D([], [], color="0.3", marker=marker, linestyle="", label=text)
        for text, marker in KINDS.values()
    ]


if __name__ == "__main__":
    made_by = "experiments.mnist.capacity_gap --dataset mnist"
    figures.main(draw, __file__, "capacity_gap_mnist", made_by)
