"""Figure 6: test accuracy against temperature, a line an alpha, a panel a width.

    python -m paper_figs.fig06_temperature_alpha    # reads results/ and nothing else

Last epoch; bars and bands are 95 % intervals over seeds. Bands are students of the
same budget without a teacher's softness.
"""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, NullLocator
import numpy as np
import pandas as pd

from kdjax import results
from kdjax.study.selection import best_setting
from kdjax.study.statistics import interval
from paper_figs import figures


def draw(name: str) -> Figure:
    runs, meta = results.load(name), results.meta(name)
    runs["accuracy"] = 100 * runs["test_accuracy_last"]
    widths = runs.groupby("student_width")
    fig, axes = plt.subplots(
        1, len(widths), figsize=(2.9 * len(widths) + 1.6, 2.9), squeeze=False
    )
    for ax, (width, rows) in zip(axes[0], widths, strict=True):
        panel(ax, rows)
        ax.set_title(f"students of {width:g} + {width:g} units")
    axes[0, 0].set_ylabel("test accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside right center")
    dataset = meta["dataset"]
    fig.suptitle(
        f"{dataset['name']}: {dataset['train']:,} training images, "
        f"{meta['config']['seeds']} seeds; teacher "
        f"{100 * meta['teacher']['test']['accuracy']:.2f} %",
        fontsize=8,
    )
    return fig


def panel(ax: Axes, rows: pd.DataFrame) -> None:
    taught, smoothed, argmax = (
        rows[rows["loss"] == loss]
        for loss in ("hinton", "label_smoothing", "teacher_argmax")
    )
    lines(ax, taught[taught["alpha"] > 0])
    band(ax, taught[taught["alpha"] == 0], "0.35", r"no teacher ($\alpha=0$)")
    if len(smoothed):
        best = best_setting(smoothed, "smoothing")
        band(ax, best, "tab:orange", "label smoothing")
    band(ax, argmax, "tab:red", "teacher's class")
    ticks = np.unique(taught["temperature"])
    ax.set(xscale="log", xlabel="temperature $T$", xticks=ticks)
    ax.set_xticklabels([f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def lines(ax: Axes, rows: pd.DataFrame) -> None:
    """A line an alpha, each a little aside, so that bars do not hide each other."""
    alphas = rows.groupby("alpha")
    colours = colormaps["viridis"](np.linspace(0.85, 0.0, len(alphas)))
    aside = 1.025 ** (np.arange(len(alphas)) - (len(alphas) - 1) / 2)
    for (alpha, cells), colour, factor in zip(alphas, colours, aside, strict=True):
        found = figures.intervals(cells, "temperature", "accuracy")
        ax.errorbar(
            found.index * factor,
            found["mean"],
            found["half"],
            fmt="o-",
            color=colour,
            elinewidth=0.7,
            label=rf"$\alpha={alpha:g}$",
        )


def band(ax: Axes, rows: pd.DataFrame, colour: str, label: str) -> None:
    if len(rows):
        mean, half = interval(rows["accuracy"])
        ax.axhspan(mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(mean, color=colour, linestyle="--", label=label)


if __name__ == "__main__":
    made_by = "experiments.mnist.temperature_alpha --dataset mnist"
    figures.main(draw, __file__, "temperature_alpha", made_by)
