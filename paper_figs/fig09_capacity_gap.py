"""Test error against the ratio of the student's to the teacher's parameters.

One panel per student, with fully trained teachers from the largest (left) to the
smallest (right). Marks are means with 95 % intervals over {config[seeds]} seeds, offset
for legibility. Dashed: hard labels, with their interval as a pale band. Grey columns:
ratios that are commonly said to be best. The temperature of "KL, T tuned" is selected
for each pair on the validation set.
"""

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "capacity_gap_mnist"
MADE_BY = "experiments.mnist.capacity_gap --dataset mnist"
ARMS = {
    "kl": ("KL, $T$ = 4", figures.BLUE, "o", "-"),
    "kl_tuned": ("KL, $T$ tuned", "0.45", "s", "--"),
    "dist": ("DIST", figures.YELLOW, "^", "-"),
    "standardized": ("standardised logits", figures.RED, "D", "-."),
}
COLUMNS = 3
SHADE = "0.86"


def draw(name: str) -> Figure:
    runs, meta = results.load(name), results.meta(name)
    runs["error"] = 100 * (1 - runs["test_accuracy_last"])
    students, sweet_spot = runs.groupby("student_width"), meta["paper"]["sweet_spot"]
    rows = -(-(len(students) + 1) // COLUMNS)  # one more cell for the legend
    size = (figures.PAGE, 1.8 * rows + 0.3)
    fig, axes = plt.subplots(rows, COLUMNS, figsize=size, squeeze=False)
    for ax, (width, of_width) in zip(axes.flat, students, strict=False):
        by_ratio(ax, of_width, sweet_spot)
        ax.set_title(f"student with {width:g} hidden units")
    for ax in axes.flat[len(students) :]:
        ax.set_axis_off()
    axes.flat[len(students)].legend(handles=legend(sweet_spot), loc="center")
    fig.supxlabel("student's parameters / teacher's parameters", size=8)
    fig.supylabel("test error (%)", size=8)
    return fig


def by_ratio(ax: Axes, rows: pd.DataFrame, sweet_spot: list[float]) -> None:
    """Plots one student: a line per arm over the fully trained teachers."""
    ax.axvspan(*sweet_spot, color=SHADE, linewidth=0)
    mean, half = interval(rows.loc[rows["arm"] == "hard", "error"])
    ax.axhline(mean, color="black", linestyle=(0, (4, 3)), linewidth=0.8)
    ax.axhspan(mean - half, mean + half, color="black", alpha=0.08, linewidth=0)
    for place, (arm, (_, colour, marker, dash)) in enumerate(ARMS.items()):
        full = rows[(rows["arm"] == arm) & (rows["kind"] == "full")]
        found = figures.intervals(full, "ratio", "error")
        x = found.index * 1.06 ** (place - 1.5)  # offset for legibility
        style = {"color": colour, "marker": marker, "linestyle": dash}
        ax.errorbar(x, found["mean"], yerr=found["half"], elinewidth=0.8, **style)
    ax.set_xscale("log")
    plain(ax.xaxis, subs=(1,))
    low, high = ax.get_ylim()
    ax.set_ylim(max(low, 0), min(high, 100))


def plain(axis: Axis, subs: tuple[float, ...], base: int = 10) -> None:
    """Formats the ticks of a logarithmic axis as plain numbers."""
    axis.set_major_locator(LogLocator(base, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(sweet_spot: list[float]) -> list:
    shaded = "ratios of {:g} to {:g}".format(*sweet_spot)
    return [
        *(
            Line2D([], [], color=colour, marker=marker, linestyle=dash, label=label)
            for label, colour, marker, dash in ARMS.values()
        ),
        figures.line("hard labels", "black", (0, (4, 3))),
        Patch(color=SHADE, label=shaded),
    ]


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
