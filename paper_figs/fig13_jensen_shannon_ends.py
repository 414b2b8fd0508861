"""Figure 13: Jensen-Shannon's divergence to the ends of its beta.

    python -m paper_figs.fig13_jensen_shannon_ends    # reads results/ and nothing else

Along beta the scale is that of log(beta / (1 - beta)), with 0 and 1 set apart: there
the divergence itself is 0, for which a logarithmic axis has no place. Means over
examples and seeds.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

TICKS = {1e-5: "$10^{-5}$", 0.01: "0.01", 0.5: "0.5", 0.99: "0.99"}
TICKS |= {1 - 1e-5: "$1-10^{-5}$"}
STAGES = {"start": "student at the start", "end": "student at the end of training"}
ROWS = {"": "divergence (nats)", "_gradient": "gradient norm by the logits"}


def draw(name: str) -> Figure:
    stages, meta = results.load(name).groupby("stage"), results.meta(name)
    fig, axes = plt.subplots(2, 2, figsize=(6.9, 4.2), sharex=True, sharey="row")
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
    dataset = meta["dataset"]
    fig.suptitle(
        f"{dataset['name']}: {dataset['validation']:,} validation images, "
        f"{meta['config']['seeds']} seeds",
        fontsize=8,
    )
    return fig


def place(beta: np.ndarray, apart: float) -> np.ndarray:
    """The log-odds of beta; ``apart`` from 0 for the ends."""
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
    label = r"over $\beta(1-\beta)$: forward KL to reverse KL"
    ax.plot(x, normalized, "-", marker="o", color="tab:blue", label=label)
    ax.plot(x[1:-1], plain[1:-1], "o-", color="tab:orange", label="Jensen–Shannon")
    label = "its ends special-cased"
    for end, inner in ((0, 1), (-1, -2)):
        ax.plot(x[[end, inner]], cased[[end, inner]], ":", color="tab:red")
        ax.plot(x[end], cased[end], "D", color="tab:red", markersize=5, label=label)
        label = None
    ax.set(yscale="log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xticks([-apart, *place(np.array(list(TICKS)), apart), apart])
    ax.set_xticklabels(["0", *TICKS.values(), "1"])


if __name__ == "__main__":
    made_by = "experiments.mnist.jensen_shannon_ends --dataset mnist"
    figures.main(draw, __file__, "jensen_shannon_ends", made_by)
