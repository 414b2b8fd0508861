"""Share of the teacher's score that small encoders keep, by how much smaller they are.

Blue: published students, with the numbers of their papers. Cross: where a popular
article puts MiniLM 6 x 384, with too large a teacher and another student's score. Red:
students of all-MiniLM-L6-v2 (22 million parameters) here, by Hinton's loss, means over
SST-2 and STS-B with 95 % intervals. Areas are parameters.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
import pandas as pd

from kdjax import results
from kdjax.study.statistics import interval
from paper_figs import figures

RESULTS = "larger_students"
MADE_BY = "experiments.glue.larger_students"
BEGUN = ("layers", "minilm")  # how students begin, but for those from nothing
AREA = 3  # square points for each million of parameters


def draw(name: str) -> Figure:
    fig, ax = plt.subplots(figsize=(figures.PAGE, 3))
    paper = results.meta(name)["paper"]
    places = {}
    for label, (own, teacher, kept) in paper["published"].items():
        places[label] = teacher / own, kept
        bubble(ax, *places[label], own, figures.BLUE, label)
    for label, (ratio, kept) in paper["article"].items():
        ax.plot(ratio, kept, "x", color="0.3")
        ax.annotate(
            "",
            places[label],
            (ratio, kept),
            arrowprops={"arrowstyle": "->", "color": "0.3", "shrinkA": 5, "shrinkB": 9},
        )
    runs, students = results.load(name), results.load(name, "students")
    teacher = results.load(name, "teachers")["parameters"].iloc[0] / 1e6
    for row in students.to_dict("records"):
        mean, half = kept_share(runs, row["student"])
        own = row["parameters"] / 1e6
        ax.errorbar(teacher / own, mean, yerr=half, color=figures.RED, elinewidth=0.8)
        bubble(ax, teacher / own, mean, own, figures.RED, row["student"])
    ax.set_xscale("log")
    ax.margins(y=0.12)
    ticks = [1.5, 2, 3, 5, 8, 16]
    ax.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set(xlabel="compression of parameters", ylabel="share of the score kept (%)")
    return fig


def kept_share(runs: pd.DataFrame, student: str) -> tuple[float, float]:
    """The mean and half the interval over seeds, in percent."""
    rows = runs[(runs["student"] == student) & (runs["arm"] == "hinton")]
    rows = rows[rows["start"].isin(BEGUN)]
    shares = 100 * rows["score"] / rows["teacher_score"]
    return interval(shares.groupby(rows["seed"]).mean())


def bubble(
    ax: Axes, ratio: float, kept: float, parameters: float, colour: str, label: str
) -> None:
    ax.scatter(ratio, kept, s=AREA * parameters, color=colour, alpha=0.6, linewidth=0)
    aside = (4 + (AREA * parameters) ** 0.5 / 2, -10)  # below arrows
    ax.annotate(label, (ratio, kept), aside, textcoords="offset points", size=7)


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
