"""Figure 1: test errors of Hinton's section 3, the paper's and ours.

    python -m paper_figs.fig01_hinton_mnist    # reads results/ and nothing else

A dot a student at its last epoch, and means with 95 % intervals over seeds; the paper's
numbers are single runs, with the spread that counting them alone has, plus or minus
their square root.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures


def draw(name: str) -> Figure:
    runs, meta = results.load(name).groupby("arm"), results.meta(name)
    fig, ax = plt.subplots(figsize=(5.2, 2.2))
    labels = names(meta["config"])
    for place, arm in enumerate(labels):
        paper = meta["paper"][arm]
        ax.errorbar(
            paper,
            place + 0.18,
            xerr=np.sqrt(paper),
            fmt="s",
            color="0.45",
            label="the paper" if not place else None,
        )
        ax.annotate(f"{paper}", (paper, place + 0.28), ha="center", color="0.45")
        if arm == "teacher":
            errors = meta["teacher"]["test"]["errors"]
            ax.plot(errors, place - 0.18, "o", color="tab:blue")
            text, at = f"{errors:.0f}", errors
        else:
            errors = runs.get_group(arm)["test_errors_last"]
            at, half = interval(errors)
            ax.plot(errors, np.full(len(errors), place - 0.18), "|", color="tab:blue")
            ax.errorbar(at, place - 0.18, xerr=half, fmt="o", color="tab:blue")
            text = f"{at:.1f} ± {half:.1f}"
        ax.annotate(text, (at, place - 0.42), ha="center", color="tab:blue")
    ax.plot([], [], "o", color="tab:blue", label="here")
    ax.set_yticks(range(len(labels)), labels.values())
    images = meta["dataset"]["test"]
    ax.set(xlabel=f"errors on {images:,} test images", ylim=(-0.6, len(labels) - 0.4))
    ax.set_xlim(left=0)
    ax.grid(False, axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(0.02, 0.5))
    return fig


def names(config: dict) -> dict[str, str]:
    """What each arm is."""
    student = f"{config['student_width']} units"
    return {
        "teacher": f"teacher, {config['teacher_width']:,} units",
        "distilled": f"{student}, distilled at T = {config['temperature']:g}",
        "hard": f"{student}, hard labels",
    }


if __name__ == "__main__":
    made_by = "experiments.mnist.hinton --dataset mnist"
    figures.main(draw, __file__, "hinton_mnist", made_by)
