"""Figure 1: test accuracy against temperature, a line an alpha, a panel a width.

    python -m paper_figs.fig1_temperature_alpha    # reads results/ and nothing else

Last epoch; bars and bands are 95 % intervals over seeds. Bands are students of the
same budget without a teacher's softness.
"""

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter, NullLocator
import numpy as np

from kdjax import results
from paper_figs import figures

METRIC = "test_accuracy_last"


def draw(name: str) -> Figure:
    table = results.load(name)
    meta = results.meta(name)
    widths = np.unique(table["student_width"])
    fig, axes = plt.subplots(
        1, len(widths), figsize=(2.9 * len(widths) + 1.6, 2.9), squeeze=False
    )
    for ax, width in zip(axes[0], widths, strict=True):
        panel(ax, results.select(table, student_width=width))
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


def panel(ax: Axes, table: results.Table) -> None:
    taught = results.select(table, loss="hinton")
    alphas = [a for a in np.unique(taught["alpha"]) if a > 0]
    colours = colormaps["viridis"](np.linspace(0.85, 0.0, len(alphas)))
    for i, (alpha, colour) in enumerate(zip(alphas, colours, strict=True)):
        rows = results.select(taught, alpha=alpha)
        temperatures = np.unique(rows["temperature"])
        means, halves = zip(
            *(accuracy(results.select(rows, temperature=t)) for t in temperatures),
            strict=True,
        )
        aside = 1.025 ** (
            i - (len(alphas) - 1) / 2
        )  # so that bars do not hide each other
        label = rf"$\alpha={alpha:g}$"
        ax.errorbar(
            temperatures * aside,
            means,
            halves,
            fmt="o-",
            color=colour,
            elinewidth=0.7,
            label=label,
        )
    smoothed = results.choose(
        results.select(table, loss="label_smoothing"), "smoothing"
    )
    band(ax, results.select(taught, alpha=0), "0.35", r"no teacher ($\alpha=0$)")
    band(
        ax,
        smoothed,
        "tab:orange",
        "label smoothing",
    )
    band(
        ax,
        results.select(table, loss="teacher_argmax"),
        "tab:red",
        "teacher's class",
    )
    ticks = np.unique(taught["temperature"])
    ax.set(xscale="log", xlabel="temperature $T$", xticks=ticks)
    ax.set_xticklabels([f"{t:g}" for t in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def band(ax: Axes, rows: results.Table, colour: str, label: str) -> None:
    if len(rows["seed"]):
        mean, half = accuracy(rows)
        ax.axhspan(mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(mean, color=colour, linestyle="--", label=label)


def accuracy(rows: results.Table) -> tuple[float, float]:
    return results.interval(100 * rows[METRIC])


if __name__ == "__main__":
    figures.main(draw, __file__, "temperature_alpha")
