"""The Jensen–Shannon divergence JS and its gradient as β approaches 0 and 1.

JS (squares) vanishes at both ends. A common convention replaces its values there by
forward and reverse KL (diamonds), far from the values nearby. Divided by β(1−β), the
divergence approaches these continuously (circles). The scale of β is log(β/(1−β)), with
0 and 1 set apart. Means over {config[seeds]} seeds and {dataset[validation]:,}
validation images, for distilled students before and after training. Gradient norms are
with respect to the logits.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "jensen_shannon_ends"
MADE_BY = "experiments.mnist.jensen_shannon_ends --dataset mnist"
TICKS = {1e-5: "$10^{-5}$", 0.01: "0.01", 0.5: "0.5", 0.99: "0.99"}
TICKS |= {1 - 1e-5: "$1-10^{-5}$"}
STAGES = {"start": "before training", "end": "after training"}
ROWS = {"": "divergence (nats)", "_gradient": "gradient norm"}


def draw(name: str) -> Figure:
    stages = results.load(name).groupby("stage")
    fig, axes = plt.subplots(
        2, 2, figsize=(figures.PAGE, 3.8), sharex=True, sharey="row"
    )
    for row, (suffix, label) in zip(axes, ROWS.items(), strict=True):
        for ax, stage in zip(row, STAGES, strict=True):
            panel(ax, stages.get_group(stage), suffix)
        row[0].set_ylabel(label)
    for ax, title in zip(axes[0], STAGES.values(), strict=True):
        ax.set_title(title)
    for ax in axes[1]:
        ax.set_xlabel(r"$\beta$")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def place(beta: np.ndarray, apart: float) -> np.ndarray:
    """The log-odds of beta, clipped to ``±apart``."""
    with np.errstate(divide="ignore"):
        return np.clip(np.log(beta) - np.log1p(-beta), -apart, apart)


def panel(ax: Axes, rows: pd.DataFrame, suffix: str) -> None:
    means = rows.groupby("beta").mean(numeric_only=True, skipna=False)
    betas = means.index.to_numpy()
    apart = 1.15 * place(betas[-2], np.inf)
    x = place(betas, apart)
    normalized, plain, cased = (
        means[kind + suffix].to_numpy()
        for kind in ("normalized", "jensen_shannon", "special_cased")
    )
    label = r"JS / ($\beta(1-\beta)$)"
    ax.plot(x, normalized, "o-", color=figures.BLUE, label=label)
    ax.plot(x[1:-1], plain[1:-1], "s--", color=figures.YELLOW, label="JS")
    label = "JS with forward and reverse KL at its ends"
    for end, inner in ((0, 1), (-1, -2)):
        ax.plot(x[[end, inner]], cased[[end, inner]], ":", color=figures.RED)
        ax.plot(x[end], cased[end], "D", color=figures.RED, markersize=5, label=label)
        label = None
    ax.set(yscale="log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks([-apart, *place(np.array(list(TICKS)), apart), apart])
    ax.set_xticklabels(["0", *TICKS.values(), "1"])


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
