"""Where the gradient of the soft loss scales as 1/T², and where it does not.

Left and middle: T² times the norm of the gradient, relative to its value at the largest
T; it is 1 where the gradient scales as 1/T². Right: T² times the same norm, relative to
the norm for cross-entropy with hard labels. Left: Gaussian logits of N classes. Middle
and right: MNIST students at three stages of training; solid lines are gradients with
respect to the logits, dashed ones to the parameters. Bands are 95 % intervals over
{config[seeds]} seeds, mostly narrower than the lines.
"""

from collections.abc import Iterator
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "temperature_gradients"
MADE_BY = "experiments.mnist.temperature_gradients --dataset mnist"
TICKS = (0.5, 1, 2, 4, 10, 20, 50, 100)
STYLES = {"by_logits": "-", "by_parameters": "--"}


def draw(name: str) -> Figure:
    runs, gaussian = results.load(name), results.load(name, "gaussian")
    fig, axes = plt.subplots(1, 3, figsize=(figures.PAGE, 2.7))
    for n, rows, look in looks(gaussian.groupby("classes")):
        line(axes[0], relative(rows, "by_logits"), **look, label=f"$N$ = {n:,g}")
    for stage, rows, look in looks(runs.groupby("stage", sort=False)):
        for kind, dashes in STYLES.items():
            look = {**look, "linestyle": dashes}
            label = f"{stage} of training" if dashes == "-" else None
            line(axes[1], relative(rows, kind), **look, label=label)
            line(axes[2], by_seed(rows, f"{kind}_ratio"), **look)
    axes[0].set_title("Gaussian logits of $N$ classes")
    axes[1].set_title("teacher and students of MNIST")
    axes[2].set_title("the same, relative to hard labels")
    largest = gaussian["temperature"].max()
    axes[0].set_ylabel(rf"$T^2\,\|g\|$ relative to $T$ = {largest:g}")
    axes[2].set_ylabel(r"$T^2\,\|g\|$ relative to hard labels")
    for ax in axes[:2]:
        ax.axhline(1, color="0.35", linewidth=0.9, zorder=1)
        place = {"xy": (largest, 1), "xytext": (3, 6), "textcoords": "offset points"}
        style = {"color": "0.35", "fontsize": 7, "ha": "right"}
        ax.annotate(r"$\|g\| \propto 1/T^2$", **place, **style)
    axes[0].set(yscale="log", ylim=(0.15, 7))
    axes[1].set(yscale="log", ylim=(None, 3))
    for ax in axes:
        axis(ax)
    legends(axes)
    return fig


def looks(groups: DataFrameGroupBy) -> Iterator[tuple[float | str, pd.DataFrame, dict]]:
    """Yields each group with its name and its style, from light to dark."""
    for (name, rows), look in zip(
        groups, reversed(figures.series(len(groups))), strict=True
    ):
        yield name, rows, {**look, "linestyle": "-"}


def by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of a table, with one row per temperature and one column per seed."""
    return rows.pivot(index="temperature", columns="seed", values=column)


def relative(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    table = by_seed(rows, f"{kind}_compensated")
    return table / table.iloc[-1]


def line(ax: Axes, table: pd.DataFrame, **look: Any) -> None:
    """Plots the mean over seeds, with its interval as a band."""
    means, halves = np.transpose([interval(values) for values in table.to_numpy()])
    band = {"color": look["color"], "alpha": 0.2, "lw": 0}
    ax.fill_between(table.index, means - halves, means + halves, **band)
    ax.plot(table.index, means, **look)


def axis(ax: Axes) -> None:
    ax.set(xscale="log", yscale="log", xlabel="temperature $T$", xticks=TICKS)
    ax.set_xticklabels([f"{t:g}" for t in TICKS])
    ax.xaxis.set_minor_locator(NullLocator())
    low, high = ax.get_ylim()
    steps = (1,) if high > 200 * low else (1, 2, 5)
    ticks = [s * 10.0**k for k in range(-6, 4) for s in steps]
    ticks = [y for y in ticks if low <= y <= high]
    ax.set_yticks(ticks, [f"{y:g}" for y in ticks])
    ax.yaxis.set_minor_locator(NullLocator())


def legends(axes: np.ndarray) -> None:
    axes[0].legend(loc="lower right")
    axes[1].legend(loc="lower right")
    styles = {"w.r.t. logits": "-", "w.r.t. parameters": "--"}
    handles = [Line2D([], [], color="0.3", linestyle=s) for s in styles.values()]
    axes[2].legend(handles, styles, loc="lower right")


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
