"""Which temperature, alpha and part of a teacher's prediction are best on images?

A plain network with two convolutions learns CIFAR-10 from one published residual
network, by Hinton's loss at all pairs of a temperature and an alpha. At T = 4 other
students learn from the whole prediction without labels, and from parts of it, as in
mnist.what_is_dark. The baselines are hard labels and label smoothing.

DKPP permutes the probabilities of all classes but the largest. The permutation is drawn
once per image, and is the same in all six views of it. Classes that are alike may have
more to teach about each other, so errors on test images of cats and dogs are also
counted alone.

Learning rates are selected on the validation set with a separate seed: one for all
cells of Hinton's loss, by the median over the least, middle and largest temperature at
the least and largest alpha, and one for each other arm. There are 143 runs, 28 of them
for selection.

    python -m experiments.cifar10.temperature_alpha    # 4 hours of one core
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import numpy as np
import pandas as pd

from experiments.cifar10 import setup
from experiments.mnist import alpha_teacher, temperature_width, what_is_dark
from kdjax import losses
from kdjax.study.arms import Arm, logits_of
from kdjax.study.claims import Claim, below
from kdjax.study.command import main
from kdjax.study.selection import best_row, range_less_others, shared_rate
from kdjax.study.statistics import estimates_table, format_mean
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Fraction, Fractions, Positives
from kdjax.sweep import grid
from kdjax.training import step

FIXED = 4.0  # temperature of all parts of the prediction
Other = Literal["whole", "hard", "smoothing", "argmax", "dkpp", "even", "top2", "nckd"]
ALIKE = (3, 5)  # cats and dogs
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(setup.OneTeacher):
    temperatures: Positives = (1.0, 2.0, FIXED, 8.0, 20.0)
    """Temperatures of Hinton's loss."""
    alphas: Fractions = (0.5, 0.9, 1.0)
    """Weights of the teacher in Hinton's loss."""
    smoothing: Fraction = 0.1
    """Weight of the uniform distribution in label smoothing."""
    others: tuple[Other, ...] = get_args(Other)
    """The arms besides Hinton's loss."""


def permuted(split):
    """The split with DKPP's targets, by one permutation for all views of an image."""
    permute = partial(losses.permute_others, jax.random.key(0))
    logits = jax.vmap(permute, 1, 1)(split["teacher"].logits)  # [N, views, classes]
    return {**split, "teacher": split["teacher"]._replace(logits=np.asarray(logits))}


def at_shared_rate(settings, search, axes):
    """The settings to measure, all at the rate with the lowest median error."""
    return settings.assign(learning_rate=shared_rate(search))


def ends(values, count=3):
    """The least and the largest of some values, and of three the middle one too."""
    places = np.linspace(0, len(values) - 1, count).round().astype(int)
    return list(np.unique(np.sort(values)[places]))


def objectives(config):
    """The objective, the axes of the search, and the selection, of each arm."""
    axes = {"temperature": ends(config.temperatures), "alpha": ends(config.alphas, 2)}
    cells = grid({"temperature": config.temperatures, "alpha": config.alphas})
    yield "hinton", setup.HINTON, axes, partial(at_shared_rate, cells)
    values = {"temperature": [FIXED], "smoothing": [config.smoothing]}
    for name in config.others:
        objective = what_is_dark.PARTS[name]
        axes = {n: values[n] for n in step.takes(objective)}
        yield name, objective, axes, best_row


def arms(config, images):
    network = setup.model("plain-2", config.dataset)
    dkpp = images._replace(train=permuted(images.train))
    for name, objective, axes, choose in objectives(config):
        yield Arm(
            {"arm": name},
            setup.student(network, objective, epochs=config.epochs),
            dkpp if name == "dkpp" else images,
            config.seeds,
            axes | {"learning_rate": config.learning_rates},
            choose,
            extras=logits_of(network, "test"),
        )


def errors_of(predicted, labels):
    """Errors ``[runs]`` on the test images of `ALIKE`, and those between the two."""
    wrong = (predicted != labels) & np.isin(labels, ALIKE)
    between = wrong & np.isin(predicted, ALIKE)
    return {"errors": wrong.sum(-1), "between": between.sum(-1)}


def alike(outcome):
    """Errors of every run on the two classes `ALIKE`, and accuracy there."""
    runs, labels = outcome.tables["runs"], outcome.data.test["label"]
    count, found = np.isin(labels, ALIKE).sum(), []
    for arm, extras in outcome.extras:
        rows = runs[runs["arm"] == arm.columns["arm"]]  # in the same order
        rows = rows[["arm", "temperature", "alpha", "seed"]]
        own = errors_of(extras["test"].argmax(-1), labels)
        accuracy = (count - own["errors"]) / count
        found.append(rows.assign(**own, accuracy=accuracy))
    return pd.concat(found, ignore_index=True)


def by_arm(table, column=ERRORS):
    """One row per seed and one column per arm, without the cells of Hinton's loss."""
    rows = table[table["arm"] != "hinton"]
    return rows.pivot(index="seed", columns="arm", values=column)


def share(table, arm, column=ERRORS):
    """The share of the teacher's gain that an arm attains."""
    return what_is_dark.share_of_gain(by_arm(table, column), arm)


def usual_less_others(runs):
    """``[seeds]``, errors at the best T from 3 to 5 minus those at the best other."""
    rows = runs.query("arm == 'hinton' and alpha == 1")
    return range_less_others(rows, "temperature", *temperature_width.USUAL)


def typical_less_others(runs):
    """``[seeds]``, errors at the best typical alpha minus those at the best other."""
    hard = runs.query("arm == 'hard'").assign(alpha=0.0)
    rows = runs.query("arm == 'hinton' and temperature == @FIXED")
    return range_less_others(pd.concat([hard, rows]), "alpha", *alpha_teacher.TYPICAL)


def shares(outcome):
    """The share of the gain of each other arm, on all images and on those `ALIKE`."""
    found = {}
    for images, title, column in (
        ("all", "runs", ERRORS),
        ("alike", "alike", "errors"),
    ):
        table = outcome.tables[title]
        for arm in by_arm(table, column).columns.drop(["hard", "whole"]):
            found[images, arm] = share(table, arm, column)
    return estimates_table(found, ["images", "arm"], "share")


def show(tables, meta):
    runs = tables["runs"]
    hinton = runs[runs["arm"] == "hinton"]
    found = hinton.groupby(["temperature", "alpha"])[ERRORS].agg(format_mean)
    print_table(found.unstack(), "Test errors of Hinton's loss by alpha")
    found = runs[runs["arm"] != "hinton"].groupby("arm", sort=False)[ERRORS]
    print_table(found.agg(format_mean).to_frame("errors"), "Test errors")
    if "shares" in tables:
        gains = tables["shares"].pivot(index="arm", columns="images", values="share")
        print_table(gains.round(2), "Share of the teacher's gain")


CLAIMS = {
    "usual": Claim(
        "T of 3 to 5 is best",
        "test errors at the best T from 3 to 5 minus those at the best other T, both "
        "selected on the validation set",
        usual_less_others,
        below(0.0),
    ),
    "typical_alpha": Claim(
        "A teacher weight of 0.5 to 0.9 is best",
        "test errors at the best alpha from 0.5 to 0.9 minus those at the best other "
        "alpha, selected on the validation set; T = 4",
        typical_less_others,
        below(0.0),
    ),
}
for suffix, images, table, column in (
    ("", "all images", "runs", ERRORS),
    ("_alike", "images of cats and dogs alone", "alike", "errors"),
):
    for arm, words in (
        ("dkpp", "permuted (DKPP)"),
        ("even", "equal (DKPP's mean)"),
    ):
        CLAIMS[f"dark_knowledge_{arm}{suffix}"] = Claim(
            "What the teacher transfers is class similarity",
            "share of the teacher's gain that is left with all classes but its most "
            f"probable {words}, {images}",
            partial(share, arm=arm, column=column),
            below(0.5),
            table,
        )
STUDY = Study(
    "temperature_alpha_cifar10",
    __doc__,
    Config,
    arms_run(setup.prepare, arms),
    show,
    cost="4 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK
    | {"teacher": "plain-4", "temperatures": (FIXED,), "alphas": (1.0,)}
    | {"others": ("whole", "hard", "dkpp"), "learning_rates": (4e-3,)},
    derived={"alike": alike, "shares": shares},
    claims=CLAIMS,
    paper={"usual": temperature_width.USUAL, "typical": alpha_teacher.TYPICAL},
)

if __name__ == "__main__":
    main(STUDY)
