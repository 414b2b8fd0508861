"""Figure 12: the soft gradient against temperature, beside the law of the square.

    python -m paper_figs.fig12_temperature_gradients    # reads results/ alone

Norms times T^2, over their value at the largest T: the law is the line at 1. Right:
the same norms over those of the cross-entropy with the labels. Bands are 95 % intervals
over seeds. Solid lines are gradients by the logits, dashed ones by the parameters.
"""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

TICKS = (0.5, 1, 2, 4, 10, 20, 50, 100)
STYLES = {"by_logits": "-", "by_parameters": "--"}


def draw(name: str) -> Figure:
    runs, gaussian = results.load(name), results.load(name, "gaussian")
    dataset = results.meta(name)["dataset"]
    fig, axes = plt.subplots(1, 3, figsize=(6.9, 2.7))
    classes = gaussian.groupby("classes")
    for (n, rows), colour in zip(classes, shades("plasma", len(classes)), strict=True):
        line(axes[0], relative(rows, "by_logits"), colour, "-", f"$N = {n:g}$")
    stages = runs.groupby("stage", sort=False)
    colours = shades("viridis", len(stages))
    for (stage, rows), colour in zip(stages, colours, strict=True):
        for kind, style in STYLES.items():
            label = f"{stage} of training" if style == "-" else None
            line(axes[1], relative(rows, kind), colour, style, label)
            line(axes[2], by_seed(rows, f"{kind}_ratio"), colour, style)
    axes[0].set_title("Gaussian logits of $N$ classes")
    axes[1].set_title(f"{dataset['name']}: teacher and students")
    axes[2].set_title(f"{dataset['name']}: beside hard labels")
    largest = gaussian["temperature"].max()
    axes[0].set_ylabel(rf"$T^2 \|g\|$ over its value at $T = {largest:g}$")
    axes[2].set_ylabel(r"$T^2 \|g\|$ over hard labels' $\|g\|$")
    for ax in axes[:2]:
        ax.axhline(1, color="0.35", linewidth=0.9, zorder=1)
        ax.annotate(
            r"law: $\|g\| \propto 1/T^2$",
            (largest, 1),
            (3, 6),
            textcoords="offset points",
            color="0.35",
            fontsize=7,
            ha="right",
        )
    axes[0].set(yscale="log", ylim=(0.15, 7))
    axes[1].set(yscale="log", ylim=(None, 3))
    for ax in axes:
        axis(ax)
    legends(axes)
    return fig


def shades(name: str, count: int) -> np.ndarray:
    return colormaps[name](np.linspace(0.8, 0.05, count))


def by_seed(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The column, a row a temperature, with a column a seed."""
    return rows.pivot(index="temperature", columns="seed", values=column)


def relative(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    table = by_seed(rows, f"{kind}_compensated")
    return table / table.iloc[-1]


def line(
    ax: Axes,
    table: pd.DataFrame,
    colour: np.ndarray,
    style: str,
    label: str | None = None,
) -> None:
    means, halves = np.transpose([interval(values) for values in table.to_numpy()])
    t = table.index
    ax.fill_between(t, means - halves, means + halves, color=colour, alpha=0.2, lw=0)
    ax.plot(t, means, style, marker="o", color=colour, label=label)


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
    styles = {"by the logits": "-", "by the parameters": "--"}
    handles = [Line2D([], [], color="0.3", linestyle=s) for s in styles.values()]
    axes[2].legend(handles, styles, loc="lower right")


if __name__ == "__main__":
    made_by = "experiments.mnist.temperature_gradients --dataset mnist"
    figures.main(draw, __file__, "temperature_gradients", made_by)
