"""A student's gain over hard labels, by the assistants on the way from its teacher.

The teacher has ten convolutions and the student two; the labels give the numbers of
convolutions on the way. Dots are means of differences of the same seed, in points of
test accuracy, with 95 % intervals over {config[seeds]} seeds. Open circles: students of
a network of the assistant's size that learned from labels alone. Crosses, on the upper
axis: the accuracy of the last teacher on the way. Dashed lines, with shaded
intervals: students that train as many epochs as a student and an assistant together.
Open diamonds: Mirzadeh et al., who trained on all of CIFAR-10.
"""

from matplotlib.figure import Figure
import matplotlib.pyplot as plt

from kdjax import results
from paper_figs import figures

RESULTS = "teacher_assistant"
MADE_BY = "experiments.cifar10.teacher_assistant --dataset cifar10_10k"
ALONE = " alone"  # ends the names of teachers that learned from labels
LONG = {
    "hard_long": ("hard labels, longer", "0.45"),
    "direct_long": ("direct, longer", figures.RED),
}


def draw(name: str) -> Figure:
    runs, paper = results.load(name), results.meta(name)["paper"]
    teachers = results.load(name, "teachers").set_index("path")
    hard = runs[runs["arm"] == "hard"]
    found = figures.differences(runs, hard, "test_accuracy_last")
    found = 100 * figures.intervals(found, "arm", "test_accuracy_last")
    paths = [path for path in teachers.index if ALONE not in path]
    fig, ax = plt.subplots(figsize=(figures.COLUMN, 2.6))
    values = found.loc[paths]
    style = {"color": figures.BLUE, "marker": "o", "linestyle": ""}
    rows = range(len(paths))
    ax.errorbar(values["mean"], rows, xerr=values["half"], label="student", **style)
    for row, path in enumerate(paths):
        if path + ALONE in found.index:
            mean, half = found.loc[path + ALONE]
            look = style | {"fillstyle": "none", "elinewidth": 0.8}
            look["label"] = "teacher of labels alone" if path == "8" else None
            ax.errorbar(mean, row + 0.25, xerr=half, **look)
    published = [
        (paper[p] - paper["hard"], i) for i, p in enumerate(paths) if p in paper
    ]
    look = {"fillstyle": "none", "color": figures.YELLOW, "label": "published"}
    ax.plot(*zip(*published, strict=True), "D", **look)
    for arm, (label, colour) in LONG.items():
        mean, half = found.loc[arm]
        ax.axvline(mean, color=colour, linestyle="--", linewidth=0.8, label=label)
        ax.axvspan(mean - half, mean + half, color=colour, alpha=0.1, linewidth=0)
    ax.axvline(0, color="black", linewidth=0.8)
    ax.set_yticks(rows, [label_of(path) for path in paths])
    ax.invert_yaxis()
    ax.set_xlabel("gain over hard labels (points)")
    above = ax.twiny()
    look = {"color": "0.45", "label": "last teacher (upper axis)"}
    above.plot(100 * teachers.loc[paths, "accuracy"], rows, "x", **look)
    above.set_xlabel("last teacher's test accuracy (%)")
    above.grid(False)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def label_of(path: str) -> str:
    """The convolutions of all networks on a path."""
    between = [] if path == "direct" else path.split(", ")
    return " → ".join(["10", *between, "2"])


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
