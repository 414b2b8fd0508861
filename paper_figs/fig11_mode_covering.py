"""Students that minimise different divergences from a teacher with two modes.

The teacher p (grey) is a mixture of two Gaussians, and the student q (solid) minimises
the divergence of its column. In the first row, the student is one Gaussian, which
cannot match the teacher. Below, it has a free logit for each point of the grid, so it
can. Of {config[seeds]} starts, the one with the lowest loss is shown, with both KL
divergences in nats. Dashed lines are local optima that other starts reach.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from kdjax import results
from paper_figs import figures

RESULTS = "mode_covering"
MADE_BY = "experiments.toy.mode_covering"
LOSSES = {
    "forward_kl": "forward KL",
    "skew_forward_kl": "skew forward KL",
    "jensen_shannon": "Jensen–Shannon",
    "total_variation": "total variation",
    "skew_reverse_kl": "skew reverse KL",
    "reverse_kl": "reverse KL",
}


def draw(name: str) -> Figure:
    densities = results.load(name, "densities")
    fits = results.load(name).groupby(["student", "stage", "loss"])
    config = results.meta(name)["config"]
    rows = {
        ("gaussian", "end"): "one Gaussian",
        ("free", "early"): f"free logits,\n{config['early_steps']} steps",
        ("free", "end"): f"free logits,\n{config['steps']:,} steps",
    }
    fig, axes = plt.subplots(
        *(len(rows), len(LOSSES)),
        figsize=(figures.PAGE, 3.8),
        sharex=True,
        sharey=True,
    )
    for row, ((student, stage), label) in zip(axes, rows.items(), strict=True):
        for ax, loss in zip(row, LOSSES, strict=True):
            starts = fits.get_group((student, stage, loss)).reset_index(drop=True)
            panel(ax, densities, f"{student}_{loss}_{stage}")
            if student == "gaussian":
                other_optima(ax, densities["x"], starts)
            write_kls(ax, starts)
        row[0].set_ylabel(f"{label}\ndensity")
    for ax, title in zip(axes[0], LOSSES.values(), strict=True):
        ax.set_title(title)
    axes[0, 0].set(ylim=(0, 0.98), yticks=(0, 0.2, 0.4, 0.6), xticks=(-4, 0, 4))
    for ax in axes[-1]:
        ax.set_xlabel("$x$")
    handles, labels = axes[0, -1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    return fig


def panel(ax: Axes, densities: pd.DataFrame, column: str) -> None:
    x = densities["x"]
    step = x[1] - x[0]
    teacher = densities["teacher"] / step
    ax.fill_between(x, teacher, color="0.8", linewidth=0, label="teacher $p$")
    ax.plot(
        x, densities[column] / step, color=figures.BLUE, label="student $q$, best start"
    )


def other_optima(ax: Axes, x: pd.Series, starts: pd.DataFrame) -> None:
    seen = [starts["gaussian_mean"][starts["loss_value"].idxmin()]]
    for start in starts.itertuples():
        if min(abs(start.gaussian_mean - other) for other in seen) < 0.05:
            continue
        seen.append(start.gaussian_mean)
        q = np.exp(-(((x - start.gaussian_mean) / start.gaussian_scale) ** 2) / 2)
        q /= q.sum() * (x[1] - x[0])
        label = "student $q$, another local optimum" if len(seen) == 2 else None
        ax.plot(x, q, "--", color=figures.RED, linewidth=0.9, label=label)


def write_kls(ax: Axes, starts: pd.DataFrame) -> None:
    """Writes both KL divergences of the best start."""
    best = starts.loc[starts["loss_value"].idxmin()]
    text = f"KL(p‖q) = {best['forward_kl']:.2f}\nKL(q‖p) = {best['reverse_kl']:.2f}"
    ax.text(1, 1, text, transform=ax.transAxes, ha="right", va="top", size=7)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
