"""Figure 2: what students make of a digit that they never saw.

    python -m paper_figs.fig02_omitted_digit    # reads results/ and nothing else

Hollow: the student as trained. Filled: one number added to the logit of the omitted
digit (of 7 and 8, where these are all that is seen), chosen on held-out training
images; bars are 95 % intervals over seeds. Small ticks: the number is chosen on the
test images, as it was in the paper, whose values are in black. A naive teacher never
saw the digit either. Shaded above: digits that the student never saw.
"""

from collections.abc import Callable, Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

ARMS = {
    "distilled": ("soft targets", "tab:blue"),
    "hard": ("hard labels", "0.45"),
    "naive_teacher": ("soft targets, naive teacher", "tab:orange"),
}
STAGES = ("unbiased", "bias_held_out", "bias_test")
ONLY = "only 7 and 8"
PANELS = (
    ("without 3", "distilled", (3,)),
    ("without 3", "hard", (3,)),
    ("without 3", "naive_teacher", (3,)),
    (ONLY, "distilled", (0, 1, 2, 3, 4, 5, 6, 9)),
)


def draw(name: str) -> Figure:
    runs, classes = results.load(name), results.load(name, "classes")
    meta = results.meta(name)
    images, known = meta["dataset"]["test"], meta["paper"]
    fig = plt.figure(figsize=(6.9, 5.1))
    upper, lower = fig.subfigures(2, 1, height_ratios=(1, 1.35))
    axes = upper.subplots(1, len(PANELS), sharey=True)
    for ax, (transfer, arm, omitted) in zip(axes, PANELS, strict=True):
        rows = classes[(classes["transfer"] == transfer) & (classes["arm"] == arm)]
        by_class(ax, rows, omitted, ARMS[arm][1])
        ax.set_title(f"{transfer}\n{ARMS[arm][0]}")
    axes[0].set_ylabel("test accuracy (%)")

    left, right = lower.subplots(1, 2, width_ratios=(1, 1.15))
    accuracies = {
        transfer: [100 - wrong for wrong in numbers["omitted_errors_percent"]]
        for transfer, numbers in known.items()
        if transfer != ONLY
    }
    by_transfer(left, runs[runs["transfer"] != ONLY], right_of_omitted, accuracies)
    left.set(ylabel="accuracy on the omitted digit (%)", ylim=(-4, 112))
    by_transfer(
        right,
        runs,
        lambda rows, stage: 100 * rows[f"errors_{stage}"] / images,
        {transfer: numbers["errors_percent"] for transfer, numbers in known.items()},
    )
    right.set(ylabel="test errors, all digits (%)", yscale="log", ylim=(0.7, 120))
    right.set_yticks(ticks := (1, 2, 5, 10, 20, 50, 100), map(str, ticks))
    right.minorticks_off()
    lower.legend(handles=legend(), loc="outside lower center", ncols=4)
    fig.suptitle(
        f"{meta['dataset']['name']}: {images:,} test images, "
        f"{meta['config']['seeds']} seeds; teacher: "
        f"{100 - 100 * meta['teacher']['test']['accuracy']:.2f} % errors",
        fontsize=8,
    )
    return fig


def right_of_omitted(rows: pd.DataFrame, stage: str) -> pd.Series:
    return 100 * (1 - rows[f"omitted_errors_{stage}"] / rows["omitted_images"])


def by_class(ax: Axes, rows: pd.DataFrame, omitted: Sequence[int], colour: str) -> None:
    for digit, here in rows.groupby("class"):
        change(ax, digit, (100 * here[f"accuracy_{s}"] for s in STAGES), colour)
        if digit in omitted:
            shade(ax, digit, "0.92")
    ax.set(xlabel="digit", xticks=range(10), ylim=(-4, 106), xlim=(-0.6, 9.6))
    ax.grid(axis="x", visible=False)


def by_transfer(
    ax: Axes,
    runs: pd.DataFrame,
    measure: Callable[[pd.DataFrame, str], pd.Series],
    known: dict[str, Sequence[float]],
) -> None:
    """A place for each transfer set: the paper's values, then a change for each arm."""
    transfers = runs["transfer"].unique()
    for place, transfer in enumerate(transfers):
        arms = dict(iter(runs[runs["transfer"] == transfer].groupby("arm")))
        for i, (arm, (_, colour)) in enumerate(ARMS.items()):
            if arm in arms:
                values = (measure(arms[arm], stage) for stage in STAGES)
                change(ax, place - 0.08 + 0.2 * i, values, colour)
        if transfer in known:
            paper(ax, place - 0.33, known[transfer])
        if place % 2:
            shade(ax, place, "0.96")
    labels = [t.removeprefix("without ").replace("only", "all but") for t in transfers]
    ax.set_xticks(range(len(transfers)), [t.replace("but ", "but\n") for t in labels])
    ax.set(xlabel="omitted digit", xlim=(-0.6, len(transfers) - 0.4))
    ax.grid(axis="x", visible=False)


def change(ax: Axes, x: float, values: Iterable[pd.Series], colour: str) -> None:
    """From the first of ``values`` to the second, and the third, each of all seeds."""
    (before, _), (after, half), (by_test, _) = map(interval, values)
    ax.plot([x, x], [before, after], color=colour, linewidth=3, alpha=0.25)
    ax.plot(x, before, "o", color=colour, markerfacecolor="white")
    ax.errorbar(x, after, half, fmt="o", color=colour, elinewidth=0.7)
    ax.plot(x, by_test, "_", color=colour, markersize=6)


def paper(ax: Axes, x: float, values: tuple[float, float]) -> None:
    ax.plot([x, x], values, color="black", linewidth=3, alpha=0.25)
    for y, face in zip(values, ("white", "black"), strict=True):
        ax.plot(x, y, "D", color="black", markerfacecolor=face, zorder=3)
        away = 7 if y == max(values) else -7
        at = {"xytext": (0, away), "textcoords": "offset points", "zorder": 4}
        ax.annotate(f"{y:.3g}", (x, y), **at, size=6, ha="center", va="center")


def shade(ax: Axes, x: float, colour: str) -> None:
    ax.axvspan(x - 0.5, x + 0.5, color=colour, linewidth=0, zorder=0)


def legend() -> list[Line2D]:
    """Column by column: an arm over a stage."""

    def mark(label: str, colour: str, marker: str = "o", face: str | None = None):
        face = face or colour
        return Line2D(
            *([], []),
            linestyle="none",
            color=colour,
            marker=marker,
            markerfacecolor=face,
            label=label,
        )

    soft, hard, naive = (mark(label, colour) for label, colour in ARMS.values())
    return [
        *(soft, mark("as trained", "black", face="white")),
        *(hard, mark("bias of held-out images", "black")),
        *(naive, mark("bias of test images", "black", "_")),
        mark("Hinton et al. (test images)", "black", "D"),
    ]


if __name__ == "__main__":
    made_by = "experiments.mnist.omitted_digit --dataset mnist"
    figures.main(draw, __file__, "omitted_digit", made_by)
