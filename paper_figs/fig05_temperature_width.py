"""Figure 5: test errors against the temperature, and the best one for each width.

    python -m paper_figs.fig05_temperature_width    # reads results/ and nothing else

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
import pandas as pd

from kdjax import results
from paper_figs import figures

ERRORS = "test_errors_last"


def draw(name: str) -> Figure:
    widths = results.load(name).groupby("student_width")
    best = results.load(name, "best").groupby("student_width")
    meta = results.meta(name)
    top = max(meta["config"]["temperatures"]) * 1.3
    fig, (left, right) = plt.subplots(1, 2, figsize=(6.6, 3.1))
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(widths)))
    for place, ((width, rows), colour) in enumerate(zip(widths, colours, strict=True)):
        line(left, rows, f"{width:g}", colour)
        for row in best.get_group(width).sort_values("alpha").itertuples():
            interval(right, place, row, colour)
        if known := meta["paper"]["best_temperatures"].get(f"{width:g}"):
            low, high = known
            bar = {"color": "0.87", "zorder": 0, "width": 0.8}
            right.bar(place, (high or top) - low, bottom=low, **bar)
    left.axhline(1, color="0.5", linestyle="--", linewidth=0.8)
    left.set(
        xscale="log", xlabel="temperature", ylabel="test errors / without a teacher"
    )
    left.legend(ncols=2, title="units a layer", title_fontsize=7)
    right.set(
        yscale="log", xlabel="units a layer", ylabel="temperature of fewest errors"
    )
    right.set_ylim(0.85, top)
    right.set_xticks(range(len(widths)), [f"{w:g}" for w in widths.groups])
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


def line(ax: Axes, rows: pd.DataFrame, label: str, colour: np.ndarray) -> None:
    """Errors of one width, relative to what it makes without a teacher."""
    alone = rows.loc[rows["arm"] == "hard", ERRORS].mean(skipna=False)
    taught = rows[(rows["arm"] == "distilled") & (rows["alpha"] == 1)]
    found = figures.intervals(
        taught.assign(share=taught[ERRORS] / alone), "temperature", "share"
    )
    style = {"fmt": "o-", "color": colour, "label": label}
    ax.errorbar(found.index, found["mean"], yerr=found["half"], **style)


def interval(ax: Axes, place: int, row: tuple, colour: np.ndarray) -> None:
    """The best temperature; an open circle where labels stood beside the teacher."""
    alone = row.alpha == 1
    place += 0.15 if alone else -0.15
    bars = np.maximum(0, [[row.best - row.best_low], [row.best_high - row.best]])
    style = {"color": colour, "fillstyle": "full" if alone else "none"}
    ax.errorbar(place, row.best, yerr=bars, fmt="o", **style)


if __name__ == "__main__":
    made_by = "experiments.mnist.temperature_width --dataset mnist"
    figures.main(draw, __file__, "temperature_width", made_by)
