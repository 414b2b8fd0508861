"""Test errors against temperature for students of several widths.

Left: test errors of students that learn from the teacher alone (α = 1), relative to
students trained on hard labels; means with 95 % intervals over seeds. Right: the
temperature with the fewest test errors, with 95 % bootstrap intervals over seeds. They
end at temperatures that were tested: a long bar means that many temperatures are
equally good, no bar that nearly all resamples agree. With only {config[seeds][4]} seeds
for {config[student_widths][4]} hidden units, these bars are little more than ranges.
Shaded: the best temperatures of Hinton et al. (2015), 2.5 to 4 for 30 hidden units and
all above 8 for 300 and more.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "temperature_width"
MADE_BY = "experiments.mnist.temperature_width --dataset mnist"
ERRORS = "test_errors_last"
SHADE = "0.88"


def draw(name: str) -> Figure:
    widths = results.load(name).groupby("student_width")
    best = results.load(name, "best").groupby("student_width")
    meta = results.meta(name)
    top = max(meta["config"]["temperatures"]) * 1.3
    fig, (left, right) = plt.subplots(1, 2, figsize=(figures.PAGE, 3.0))
    looks = figures.series(len(widths))
    for place, ((width, rows), look) in enumerate(zip(widths, looks, strict=True)):
        line(left, rows, f"{width:g}", look)
        for row in best.get_group(width).sort_values("alpha").itertuples():
            interval(right, place, row, look)
        if known := meta["paper"]["best_temperatures"].get(f"{width:g}"):
            low, high = known
            bar = {"color": SHADE, "zorder": 0, "width": 0.8}
            right.bar(place, (high or top) - low, bottom=low, **bar)
    left.axhline(1, color="0.5", linewidth=0.8)
    left.set(xscale="log", xlabel="temperature $T$")
    left.set_ylim(top=left.get_ylim()[1] + 0.22)  # for the legend
    left.set_ylabel("test errors relative to hard labels")
    style = {"loc": "upper left", "handlelength": 3.5, "title_fontsize": 7}
    left.legend(ncols=3, title="hidden units", **style)
    right.set(yscale="log", ylim=(0.85, top), xlabel="hidden units")
    right.set_ylabel("temperature with fewest test errors")
    right.set_xticks(range(len(widths)), [f"{w:g}" for w in widths.groups])
    right.grid(False, axis="x")
    fig.legend(handles=marks(best), loc="outside lower right", ncols=3)
    for axis in (left.xaxis, right.yaxis):
        axis.set_major_locator(plt.FixedLocator([1, 2, 4, 8, 20, 40, 100]))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_locator(plt.NullLocator())
    return fig


def line(ax: Axes, rows: pd.DataFrame, label: str, look: dict) -> None:
    """Plots the errors of one width relative to those with hard labels."""
    hard = rows.loc[rows["arm"] == "hard", ERRORS].mean(skipna=False)
    alone = rows[(rows["arm"] == "distilled") & (rows["alpha"] == 1)]
    found = figures.intervals(
        alone.assign(share=alone[ERRORS] / hard), "temperature", "share"
    )
    style = {"elinewidth": 0.8, "label": label}
    ax.errorbar(found.index, found["mean"], yerr=found["half"], **look, **style)


def interval(ax: Axes, place: int, row: tuple, look: dict) -> None:
    """Plots the best temperature; marks are open if labels are used, too."""
    alone = row.alpha == 1
    place += 0.15 if alone else -0.15
    bars = np.maximum(0, [[row.best - row.best_low], [row.best_high - row.best]])
    style = {"fillstyle": "full" if alone else "none", "linestyle": "none"}
    ax.errorbar(place, row.best, yerr=bars, **{**look, **style}, markersize=4)


def marks(best: pd.api.typing.DataFrameGroupBy) -> list:
    """Legend entries: filled marks without labels (α = 1), open ones with labels."""
    style = {"color": "black", "marker": "o", "linestyle": "none"}
    return [
        Line2D(
            *([], []),
            **style,
            fillstyle="full" if alpha == 1 else "none",
            label=rf"teacher's weight $\alpha$ = {alpha:.2g}",
        )
        for alpha in sorted(set(best.obj["alpha"]))
    ] + [Patch(color=SHADE, label="Hinton et al. (2015)")]


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
