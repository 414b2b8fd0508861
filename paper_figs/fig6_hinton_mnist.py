"""Figure 6: test errors of Hinton's section 3, the paper's and ours.

    python -m paper_figs.fig6_hinton_mnist    # reads results/ and nothing else

A dot a student at its last epoch, and means with 95 % intervals over seeds; the paper's
numbers are single runs, with the spread that counting them alone has, plus or minus
their square root.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import numpy as np

from kdjax import results
from paper_figs import figures

PAPER = {"teacher": 67, "hard": 146, "distilled": 74}
NAMES = {
    "teacher": "teacher, 1,200 units",
    "distilled": "800 units, distilled at T = 20",
    "hard": "800 units, hard labels",
}


def draw(name: str) -> Figure:
    table, meta = results.load(name), results.meta(name)
    fig, ax = plt.subplots(figsize=(5.2, 2.2))
    for place, arm in enumerate(NAMES):
        paper = PAPER[arm]
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
            errors = results.select(table, arm=arm)["test_errors_last"]
            at, half = results.interval(errors)
            ax.plot(errors, np.full(len(errors), place - 0.18), "|", color="tab:blue")
            ax.errorbar(at, place - 0.18, xerr=half, fmt="o", color="tab:blue")
            text = f"{at:.1f} ± {half:.1f}"
        ax.annotate(text, (at, place - 0.42), ha="center", color="tab:blue")
    ax.plot([], [], "o", color="tab:blue", label="here")
    ax.set_yticks(range(len(NAMES)), NAMES.values())
    ax.set(xlabel="errors on 10,000 test images", ylim=(-0.6, len(NAMES) - 0.4))
    ax.set_xlim(left=0)
    ax.grid(False, axis="y")
    ax.legend(loc="center left", bbox_to_anchor=(0.02, 0.5))
    return fig


if __name__ == "__main__":
    figures.main(draw, __file__, "hinton_mnist")
