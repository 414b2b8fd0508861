"""Which temperature is best for which width, and are high temperatures only noise?

Hinton's students with 30 hidden units did best with T from 2.5 to 4, and those with 300
or more equally well with any T above 8. A common claim is that T of 3 to 5 is best and
that T above 20 is noise. The learning rate of every cell is selected on the validation
set with a separate seed. The table of best temperatures is descriptive and uses the
test set. Claims use temperatures selected on the validation set, for each seed by the
other seeds.

    python -m experiments.mnist.temperature_width                    # 5,000 digits
    python -m experiments.mnist.temperature_width --dataset mnist    # 1,450 runs
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from experiments.mnist import setup
from kdjax.study.arms import Arm
from kdjax.study.claims import Claim, below
from kdjax.study.command import main
from kdjax.study.selection import range_less_others
from kdjax.study.statistics import bootstrap, estimates_table
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Count, Counts, Fractions, Positives

WIDTHS = {"wide": 300, "narrow": 30}  # hidden units in claims
USUAL = (3, 5)  # temperatures that are usually recommended, inclusive
HOT = (np.nextafter(20, 21), np.inf)  # without 20
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(setup.Students):
    student_widths: Counts = (10, 30, 100, 300, 800)
    """Hidden units in each of a student's two layers."""
    seeds: tuple[Count, ...] = (10, 10, 10, 5, 3)
    """Number of seeds, each with one student per setting: for all widths, or each."""
    temperatures: Positives = (1, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 20, 40, 100)
    """Temperatures of teacher and student."""
    alphas: Fractions = (0.9, 1.0)
    """Weights of the teacher."""
    learning_rates: Positives = (1e-3, 3e-3, 1e-2, 3e-2)

    def __post_init__(self):
        super().__post_init__()
        if len(self.seeds) == 1:
            seeds = self.seeds * len(self.student_widths)
            object.__setattr__(self, "seeds", seeds)
        if len(self.seeds) != len(self.student_widths):
            takes = "one number, or one for each of student_widths"
            raise ValueError(f"seeds is {self.seeds!r}, but takes {takes}")


def arms(config, images):
    soft = {"temperature": config.temperatures, "alpha": config.alphas}
    for width, seeds in zip(config.student_widths, config.seeds, strict=True):
        for arm, training, axes in setup.hard_and_distilled(config, width, soft):
            columns = {"arm": arm, "student_width": width}
            yield Arm(columns, training, images, seeds, axes)


def alone(runs, width):
    """Students of a width that learn from the teacher alone, at alpha = 1."""
    return runs.query("arm == 'distilled' and student_width == @width and alpha == 1")


def between(runs, width, span, column=ERRORS):
    """``[seeds]``, means over a range of temperatures."""
    rows = alone(runs, width)
    cells = rows.pivot(index="seed", columns="temperature", values=column)
    return cells.loc[:, slice(*span)].mean(axis=1, skipna=False)


def cut_when_hot(runs, width):
    """``[seeds]``, errors with hard labels minus the mean of those at T > 20."""
    hard = runs.query("arm == 'hard' and student_width == @width").set_index("seed")
    return hard[ERRORS] - between(runs, width, HOT)


def usual_less_others(runs, width):
    """``[seeds]``, errors at the best T from 3 to 5 minus those at the best other."""
    return range_less_others(alone(runs, width), "temperature", *USUAL)


def best_temperatures(outcome):
    """The temperature with the fewest test errors for each width and weight."""
    cells = outcome.tables["runs"].groupby(["student_width", "alpha"], sort=False)
    found = {
        cell: bootstrap(
            lambda drawn: drawn.groupby("temperature")[ERRORS].mean().idxmin(),
            rows[["seed", "temperature", ERRORS]],
        )
        for cell, rows in cells
    }
    return estimates_table(found, cells.keys, "best")


def show(tables, meta):
    runs = tables["runs"].fillna({"alpha": 1, "temperature": 0}).query("alpha == 1")
    means = runs.pivot_table(ERRORS, "temperature", "student_width").round(1)
    print_table(means, "Test errors by hidden units; T = 0 means hard labels")


CLAIMS = {
    "noise": Claim(
        "T above 20 gives nearly random noise",
        "test accuracy with 30 hidden units, trained on the teacher alone, mean over "
        "T > 20",
        partial(between, width=30, span=HOT, column="test_accuracy_last"),
        below(0.5),  # chance is 0.1; these students see no labels
    ),
}
for name, width in WIDTHS.items():
    CLAIMS[f"no_signal_{name}"] = Claim(
        "T above 20 gives no useful signal",
        f"test errors with hard labels minus those with the teacher alone, {width} "
        "hidden units, mean over T > 20",
        partial(cut_when_hot, width=width),
        below(0.0),
    )
for name, width in WIDTHS.items():
    CLAIMS[f"usual_{name}"] = Claim(
        "T of 3 to 5 is best",
        "test errors at the best T from 3 to 5 minus those at the best other T, both "
        f"selected on the validation set, {width} hidden units",
        partial(usual_less_others, width=width),
        below(0.0),
    )
for name, than, span, words in (
    ("above", "higher", (8, np.inf), "from 8 on"),
    ("below", "lower", (1, 2), "up to 2"),
):
    CLAIMS[f"{name}_narrow"] = Claim(
        f"30 hidden units do better with T from 2.5 to 4 than with a {than} T (Hinton)",
        f"test errors with 30 hidden units, mean over T from 2.5 to 4 minus mean over "
        f"T {words}",
        lambda runs, span=span: between(runs, 30, (2.5, 4)) - between(runs, 30, span),
        below(0.0),
    )
CLAIMS["flat_wide"] = Claim(
    "With 300 hidden units any T above 8 works equally well (Hinton)",
    "relative difference, in absolute value, between test errors at T > 20 and at T "
    "from 8 to 20, 300 hidden units",
    lambda runs: abs(between(runs, 300, HOT) / between(runs, 300, (8, 20)) - 1),
    below(0.1),
)
STUDY = Study(
    "temperature_width",
    __doc__,
    Config,
    arms_run(setup.prepare, arms),
    show,
    cost="4 hours",
    quick=setup.QUICK_TEACHER
    | {"student_widths": (30, 300), "seeds": (3, 2), "alphas": (1.0,), "epochs": 8}
    | {"temperatures": (1.0, 3.0, 8.0, 20.0, 100.0), "learning_rates": (3e-3, 1e-2)},
    derived={"best": best_temperatures},
    claims=CLAIMS,
    paper={"best_temperatures": {"30": [2.5, 4], "300": [8, None], "800": [8, None]}},
)

if __name__ == "__main__":
    main(STUDY)
