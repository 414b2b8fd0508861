"""Figure 9: test errors against the temperature, and the best one for each width.

    python -m paper_figs.fig9_temperature_width    # reads results/ and nothing else

Left: errors over those of the same students without a teacher, at the last epoch, with
95 % intervals over seeds, of students that learn from the teacher alone. Right: the
temperature of the fewest test errors, with a 95 % bootstrap interval over seeds, and
where the paper found it: 2.5 to 4 for 30 units, and all alike above 8 for 300 and more.
The interval of the widest is of three seeds, and little more than their range.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures

ERRORS = "test_errors_last"
PAPER = {30: (2.5, 4.0), 300: (8.0, None), 800: (8.0, None)}  # units: from, to


def draw(name: str) -> Figure:
    table, best, meta = (
        results.load(name),
        results.load(name, "best"),
        results.meta(name),
    )
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.1))
    widths = np.unique(table["student_width"])
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(widths)))
    for place, (width, colour) in enumerate(zip(widths, colours, strict=True)):
        line(left, results.select(table, student_width=width), colour)
        for alpha in np.unique(best["alpha"]):
            row = results.select(best, student_width=width, alpha=alpha)
            interval(right, place, row, colour, alone=alpha == 1)
        if width in PAPER:
            low, high = PAPER[width]
            top = high or max(meta["config"]["temperatures"]) * 1.3
            bar = {"color": "0.87", "zorder": 0, "width": 0.8}
            right.bar(place, top - low, bottom=low, **bar)
    left.axhline(1, color="0.5", linestyle="--", linewidth=0.8)
    left.set(
        xscale="log", xlabel="temperature", ylabel="test errors / without a teacher"
    )
    left.legend(ncols=2, title="units a layer", title_fontsize=7)
    right.set(
        yscale="log", xlabel="units a layer", ylabel="temperature of fewest errors"
    )
    right.set_ylim(0.85, max(meta["config"]["temperatures"]) * 1.3)
    right.set_xticks(range(len(widths)), [f"{w:g}" for w in widths])
    right.bar(0, 0, bottom=1, color="0.87", label="the paper")
    right.plot([], [], "ko", label="the teacher alone")
    right.plot([], [], "ko", fillstyle="none", label="and labels")
    handles, labels = right.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower right", ncols=3)
    for axis in (left.xaxis, right.yaxis):
        axis.set_major_locator(plt.FixedLocator([1, 2, 4, 8, 20, 40, 100]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(plt.NullLocator())
    return fig


def line(ax: Axes, here: results.Table, colour: np.ndarray) -> None:
    """Errors of one width, relative to what it makes without a teacher."""
    alone = results.select(here, arm="hard")[ERRORS].mean()
    taught = results.select(here, arm="distilled", alpha=1)
    every = np.unique(taught["temperature"])
    cells = [
        results.interval(results.select(taught, temperature=t)[ERRORS] / alone)
        for t in every
    ]
    means, halves = np.array(cells).T
    label = f"{here['student_width'][0]:g}"
    ax.errorbar(every, means, yerr=halves, fmt="o-", color=colour, label=label)


def interval(
    ax: Axes, place: int, row: results.Table, colour: np.ndarray, *, alone: bool
) -> None:
    """The best temperature; an open circle where labels stood beside the teacher."""
    (best,), (low,), (high,) = (row[n] for n in ("best", "best_low", "best_high"))
    place += 0.15 if alone else -0.15
    bars = np.maximum(0, [[best - low], [high - best]])
    style = {"color": colour, "fillstyle": "full" if alone else "none"}
    ax.errorbar(place, best, yerr=bars, fmt="o", **style)


if __name__ == "__main__":
    figures.main(draw, __file__, "temperature_width")
