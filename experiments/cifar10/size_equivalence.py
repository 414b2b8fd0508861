"""Which size of a network trained on hard labels does a distilled one match?

A rule of thumb says that a distilled network is as good as one of four times its size.
Plain networks with two convolutions, from a quarter to four times the usual width,
learn CIFAR-10 from hard labels. All but the widest also learn from a published residual
network, by Hinton's loss at T = 4. As a control, the network of the usual width learns
from hard labels for twice the epochs. Learning rates are selected on the validation set
with a separate seed.

The size of a network is its number of trained parameters. The factor of a student is
the size of the smallest network on hard labels that is as accurate, over its own size.
Between the sizes that were trained, accuracy is linear in the logarithm of size. The
interval of the factor holds the sizes at which accuracy on hard labels does not differ
significantly from the student's (Student's t over seeds). Nothing is extrapolated: a
factor beyond the networks that were trained is a bound.

    python -m experiments.cifar10.size_equivalence    # 3 hours of one core
"""

from dataclasses import dataclass
from functools import partial
import math

import numpy as np

from experiments.cifar10 import setup
from kdjax.study.arms import Arm
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import best_row
from kdjax.study.statistics import Estimate, estimates_table, interval, magnitude
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Fraction, Positive, Positives

RULE = 4.0  # the factor of the rule of thumb
USUAL = 1.0  # width of the network that is also trained for longer
FINE = 2000  # sizes at which the ladder is read
TEST = "test_accuracy_last"
UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Config(setup.OneTeacher):
    widths: Positives = (0.25, 0.5, USUAL, 2.0, 4.0)
    """Factors of the numbers of filters."""
    temperature: Positive = 4.0
    """Temperature of Hinton's loss."""
    alpha: Fraction = 0.9
    """Weight of the teacher in Hinton's loss."""


def arms(config, images):
    soft = {"temperature": [config.temperature], "alpha": [config.alpha]}
    for width in sorted(config.widths):
        network = setup.model("plain-2", config.dataset, width=width)
        ways = {"hard": (setup.HARD, config.epochs, {})}
        if width == USUAL:
            ways["hard_long"] = (setup.HARD, 2 * config.epochs, {})
        if width < max(config.widths):
            ways["distilled"] = (setup.HINTON, config.epochs, soft)
        for arm, (objective, epochs, axes) in ways.items():
            training = setup.student(network, objective, epochs=epochs)
            columns = {"arm": arm, "width": width}
            columns["parameters"] = setup.parameters(network)
            axes = axes | {"learning_rate": config.learning_rates}
            yield Arm(columns, training, images, config.seeds, axes, best_row)


def ladder(runs):
    """Sizes ``[widths]`` of networks on hard labels, accuracies ``[seeds, widths]``."""
    hard = runs[runs["arm"] == "hard"]
    table = hard.pivot(index="seed", columns="parameters", values=TEST)
    return table.columns.to_numpy(float), table.to_numpy()


def equivalent(accuracies, sizes, hard):
    """The size of the network on hard labels that is as accurate, as an `Estimate`.

    Its value is the smallest size with at least the same mean accuracy, so a larger
    network that is less accurate does not matter. The ends of the interval are the
    smallest sizes that are not significantly less, and significantly more accurate.
    Each is the largest size if no network is, and the smallest if all are.

    Args:
      accuracies: ``[seeds]``, of the student.
      sizes: ``[widths]``, ascending.
      hard: ``[seeds, widths]``, accuracies on hard labels.
    """
    tried = np.geomspace(sizes[0], sizes[-1], FINE)
    between = [np.interp(np.log(tried), np.log(sizes), each) for each in hard]
    lead = np.array([interval(each) for each in (accuracies - np.transpose(between))])
    mean, half = lead.T

    def first(leads):
        if np.isnan(leads).any():
            return math.nan
        return tried[np.argmax(leads <= 0)] if (leads <= 0).any() else tried[-1]

    return Estimate(first(mean), first(mean - half), first(mean + half))


def student(runs, arm, width):
    """The size of a student, and its accuracies ``[seeds]``."""
    own = runs[(runs["arm"] == arm) & (runs["width"] == width)].sort_values("seed")
    return own["parameters"].iloc[0], own[TEST].to_numpy()


def factor(runs, arm, width):
    """The size of the network on hard labels that is as accurate, over the own size."""
    own, accuracies = student(runs, arm, width)
    return Estimate(*(size / own for size in equivalent(accuracies, *ladder(runs))))


def bounds(runs, width):
    """The least and the largest factor that the ladder can tell."""
    (sizes, _), (own, _) = ladder(runs), student(runs, "hard", width)
    return sizes[0] / own, sizes[-1] / own


def decisive(runs, width):
    """The factor of a distilled student, unless a bound could decide the rule."""
    least, most = bounds(runs, width)
    return factor(runs, "distilled", width) if least < RULE < most else UNKNOWN


def of_each_seed(runs, width):
    """``[seeds]``, the factor of a distilled student; NaN if it is a bound."""
    own, accuracies = student(runs, "distilled", width)
    sizes, hard = ladder(runs)
    pairs = zip(accuracies[:, None], hard[:, None], strict=True)
    found = np.array([equivalent(a, sizes, h).value for a, h in pairs])
    return np.where((sizes[0] < found) & (found < sizes[-1]), found / own, math.nan)


def change(runs, narrow, wide):
    """The larger of two widths' factors over the smaller, from means of logarithms."""
    logs = [np.log(of_each_seed(runs, width)) for width in (narrow, wide)]
    return Estimate(*map(math.exp, magnitude(logs[1] - logs[0])))


def factors(runs):
    """The factor of each student but those of the ladder, and its bounds."""
    others = runs[runs["arm"] != "hard"]
    cells = others.groupby(["arm", "width", "parameters"], as_index=False, sort=False)
    table = cells[TEST].agg(lambda each: each.mean(skipna=False))
    keys = ["arm", "width"]
    found = {(arm, w): factor(runs, arm, w) for arm, w in table[keys].to_numpy()}
    table = table.merge(estimates_table(found, keys, "factor"))
    table[["least", "most"]] = [bounds(runs, width) for width in table["width"]]
    return table


def in_words(row):
    """A factor and its interval; a number at an end of the ladder is a bound."""

    def word(number):
        sign = "≤ " if number <= row.least else "≥ " if number >= row.most else ""
        return f"{sign}{number:.3g}"

    names = ("factor", "factor_low", "factor_high")
    return "{} ({} to {})".format(*(word(getattr(row, name)) for name in names))


def show(tables, meta):
    means = 100 * tables["runs"].pivot_table(TEST, "parameters", "arm", sort=False)
    print_table(means.round(2), "Test accuracy (%) by parameters, mean over seeds")
    if "factors" in tables:
        table = tables["factors"]
        table["shown"] = [in_words(row) for row in table.itertuples()]
        shown = table.pivot(index="width", columns="arm", values="shown")
        print_table(shown, "Size on hard labels that is as accurate / own size")


SAME, NARROW = 1.5, 0.5
CLAIMS = {
    f"four_times{suffix}": Claim(
        "A distilled network is as good as one of four times its size",
        f"size of the network on hard labels that is as accurate, over the student's "
        f"size, {words}",
        partial(decisive, width=width),
        above(RULE),
    )
    for suffix, width, words in (
        ("", USUAL, "16 filters per layer"),
        ("_narrow", NARROW, "8 filters per layer"),
    )
}
CLAIMS["same_factor"] = Claim(
    "Networks of all sizes gain the same factor of size by distillation",
    "the larger over the smaller of the factors with 8 and with 16 filters per layer",
    partial(change, narrow=NARROW, wide=USUAL),
    below(SAME),
)
STUDY = Study(
    "size_equivalence_cifar10",
    __doc__,
    Config,
    arms_run(setup.prepare, arms),
    show,
    cost="3 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK
    | {"teacher": "plain-4", "widths": (0.25, 0.5), "learning_rates": (4e-3,)},
    derived={"factors": lambda found: factors(found.tables["runs"])},
    claims=CLAIMS,
    paper={"factor": RULE},
)

if __name__ == "__main__":
    main(STUDY)
