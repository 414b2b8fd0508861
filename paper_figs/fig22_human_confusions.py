"""How near networks are to people, by temperature and by pair of classes.

Left: mean KL in nats from people's answers to a network's outputs against the
temperature of the outputs, with 95 % intervals over {config[seeds]} seeds. Others: the
mean probability of a wrong class for images of a class, against the share of people who
name it; there is one mark for each of the 90 pairs. Each network has the temperature at
which it is nearest to people on other images, and probabilities are means over seeds.
The rank correlation ρ over pairs is above each panel. Students were distilled from the
larger teacher at T = 4.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter
import pandas as pd

from kdjax import results
from kdjax.study.statistics import rank_correlation
from paper_figs import figures

RESULTS = "human_beliefs"
MADE_BY = "experiments.cifar10.human_beliefs"
KINDS = {
    "teacher": ("teacher", figures.BLUE, "-"),
    "kl": ("distilled students", figures.YELLOW, "--"),
    "hard": ("hard labels", figures.RED, "-."),
}
NAMED = {(3, 5): "cat: dog", (3, 9): "cat: truck"}


def draw(name: str) -> Figure:
    beliefs, confusions = (results.load(name, t) for t in ("beliefs", "confusions"))
    meta = results.meta(name)
    teacher, reference = meta["config"]["teachers"][-1], meta["reference"]
    fig, axes = plt.subplots(1, 1 + len(KINDS), figsize=(figures.PAGE, 2.2))
    by_temperature(axes[0], beliefs, teacher)
    axes[0].set_ylabel(f"KL from {reference} (nats)")
    people = off_diagonal(confusions.query("arm == 'reference'"))
    found = {arm: off_diagonal(of_kind(confusions, arm, teacher)) for arm in KINDS}
    low, high = (pick(list(map(pick, found.values()))) for pick in (min, max))
    for ax, (arm, own) in zip(axes[1:], found.items(), strict=True):
        label, colour, _ = KINDS[arm]
        ax.scatter(people, own, s=6, color=colour, linewidths=0)
        ax.set(xscale="log", yscale="log", ylim=(low / 1.5, high * 1.5))
        ax.set_xlim(left=people.min() / 3)
        ax.set_title(f"{label} (ρ = {rank_correlation(people, own):.2f})")
        ax.set_xlabel(f"share of {reference}")
        ax.tick_params(labelleft=ax is axes[1])
        for pair, says in NAMED.items() if reference == "people" else ():
            place = people[pair], own[pair]
            ax.plot(*place, "o", mfc="none", mec="black", ms=5)
            ax.annotate(
                says, place, (-4, 4), textcoords="offset points", ha="right", size=7
            )
    axes[1].set_ylabel("mean probability")
    return fig


def of_kind(table: pd.DataFrame, arm: str, teacher: str) -> pd.DataFrame:
    """The rows of an arm that this teacher taught, if any, at T = 4."""
    own = table[(table["arm"] == arm) & table["teacher"].isin([teacher, "none"])]
    return own[own["temperature"] == 4] if arm == "kl" else own


def off_diagonal(rows: pd.DataFrame) -> pd.Series:
    """The mean confusions over seeds by class of the images and wrong class."""
    cells = [name for name in rows if name.startswith("class")]
    means = rows.groupby("label")[cells].mean().set_axis(range(len(cells)), axis=1)
    found = means.stack()
    return found[found.index.get_level_values(0) != found.index.get_level_values(1)]


def by_temperature(ax: Axes, beliefs: pd.DataFrame, teacher: str) -> None:
    for arm, (label, colour, dash) in KINDS.items():
        rows = of_kind(beliefs[~beliefs["fitted"]], arm, teacher)
        found = figures.intervals(rows, "evaluated_at", "kl")
        mean, half = found["mean"], found["half"].fillna(0)
        ax.plot(found.index, mean, color=colour, linestyle=dash, label=label)
        ax.fill_between(found.index, mean - half, mean + half, color=colour, alpha=0.2)
    ax.set(xscale="log", xlabel="$T$")
    ax.set_xticks([0.5, 1, 2, 4, 8, 20])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0)
    ax.legend()


if __name__ == "__main__":
    figures.main(draw, __file__, RESULTS, MADE_BY)
