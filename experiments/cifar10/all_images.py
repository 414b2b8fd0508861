"""Do teachers still help with all images, and help a residual student as well?

A plain network with two convolutions and a residual one with eight layers learn all of
CIFAR-10 from a small and a large published residual network, in nearly as many steps as
`experiments.cifar10.capacity_gap` takes with 10,000 images. The losses are Hinton's at
T = 4 and, with the large teacher, DIST with the default weights of its code. Controls
without a teacher are hard labels, label smoothing, and hard labels with twice the
epochs. Each student's learning rate is selected on the validation set with hard labels
and a separate seed, which favours hard labels. A gap must exceed 0.2 percentage points,
since there is one teacher of each size.

    python -m experiments.cifar10.all_images    # 8 hours of one core
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd

from experiments.cifar10 import setup
from experiments.mnist.capacity_gap import dist
from kdjax import losses, objectives
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather, labelled, tuned
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fraction, Positive

TEST = "test_accuracy_last"


@dataclass(frozen=True)
class Config(setup.SelectedRates):
    dataset: Literal["mnist5k", "cifar10_10k", "cifar10"] = "cifar10"
    """Data set: cifar10 (all of CIFAR-10), cifar10_10k (10,000 of its training images),
    or mnist5k (5,000 digits from a package, in colour)."""
    students: tuple[setup.Name, ...] = ("plain-2", "resnet-8")
    """The students."""
    teachers: tuple[setup.Name, setup.Name] = ("resnet-20", "resnet-56")
    """The small and the large teacher."""
    smoothing: Fraction = 0.1
    """Weight of the uniform distribution in label smoothing."""
    dist_temperature: Positive = 1.0
    """Temperature of DIST."""
    dist_weight: Positive = 1.0
    """Weight of each part of DIST; labels have weight 1."""
    epochs: Count = 3
    """Epochs of a student's training: with all images, nearly as many steps as
    fifteen epochs of 10,000."""
    residual_seeds: Count = 3
    """Number of seeds of residual students, which take longer."""


def hard(config, name, teacher, info):
    """Students with hard labels, for which the learning rate is selected."""
    network = setup.model(name, info.name)
    training = setup.student(network, setup.HARD, epochs=config.epochs)
    columns = {"student": name, "arm": "hard", "teacher": "none"}
    axes = {"learning_rate": config.learning_rates}
    seeds = seeds_of(config, name)
    return Arm(columns, training, teacher.data, seeds, axes, selection.best_row)


def seeds_of(config, name):
    """The number of seeds of a student."""
    return config.residual_seeds if name.startswith("resnet") else config.seeds


def others(config, rates, teachers, info):
    """All other arms of all students, at their learning rates."""
    hinton = {"temperature": [setup.TEMPERATURE], "alpha": [setup.ALPHA]}
    stronger = {n: [getattr(config, f"dist_{n}")] for n in ("temperature", "weight")}
    smoothed = objectives.on_logits(losses.label_smoothing)
    smoothing = {"smoothing": [config.smoothing]}
    small, large = teachers
    cells = (
        ("smoothing", "none", smoothed, 1, large, smoothing),
        ("hard_long", "none", setup.HARD, 2, large, {}),
        ("kl", small.name, setup.HINTON, 1, small, hinton),
        ("kl", large.name, setup.HINTON, 1, large, hinton),
        ("dist", large.name, dist, 1, large, stronger),
    )
    for name, rate in rates.items():
        network, seeds = setup.model(name, info.name), seeds_of(config, name)
        for arm, source, objective, times, teacher, axes in cells:
            epochs = times * config.epochs
            training = setup.student(network, objective, epochs=epochs)
            columns = {"student": name, "arm": arm, "teacher": source}
            axes = axes | {"learning_rate": [rate]}
            yield Arm(columns, training, teacher.data, seeds, axes)


def run(config, images, info):
    images = setup.in_colour(images)
    teachers = [setup.teacher(n, config, images, info) for n in config.teachers]
    found = []
    for name in config.students:
        arm = hard(config, name, teachers[-1], info)
        found.append((arm, tuned(arm)))
    rates = {
        arm.columns["student"]: each.runs["learning_rate"].iloc[0]
        for arm, each in found
    }
    found += all_tuned(partial(others, config, rates, teachers, info))
    tables, seconds = gather(found)
    tables = {t: labelled(tables[t], info.columns()) for t in ("runs", "search")}
    tables["teachers"] = pd.DataFrame(
        [{"teacher": each.name, **each.quality["test"]} for each in teachers]
    )
    seconds += sum(each.quality["seconds"] for each in teachers)
    return Outcome(tables, {"seconds": round(seconds)})


def scores(runs, student, arm, teacher="none"):
    """``[seeds]``, test accuracies in percent."""
    rows = runs.query("student == @student and arm == @arm and teacher == @teacher")
    return 100 * rows.sort_values("seed")[TEST].to_numpy()


def gap(runs, student):
    """``[seeds]``, points that the small teacher adds over the large one."""
    small, large = Config.teachers
    return scores(runs, student, "kl", small) - scores(runs, student, "kl", large)


def cure(runs, student):
    """``[seeds]``, points that DIST adds over KL with the large teacher."""
    _, large = Config.teachers
    return scores(runs, student, "dist", large) - scores(runs, student, "kl", large)


def gain(runs, student, control):
    """``[seeds]``, points that the small teacher adds over a control."""
    small, _ = Config.teachers
    return scores(runs, student, "kl", small) - scores(runs, student, control)


def show(tables, meta):
    runs = tables["runs"]
    keys = ["arm", "teacher", "student"]
    means = (100 * runs[TEST]).groupby([runs[k] for k in keys], sort=False)
    print_table(means.agg(format_mean).unstack().fillna("-"), "Test accuracy (%)")


CLAIMS = {}
for student, words in {"plain-2": "plain-2", "resnet-8": "ResNet-8"}.items():
    name, adds = student.replace("-", "_"), "percentage points of accuracy that"
    CLAIMS[f"gap_{name}"] = Claim(
        "A teacher too large for its student hurts",
        f"{adds} ResNet-20 adds over ResNet-56 as a teacher, {words}, T = 4",
        partial(gap, student=student),
        above(0.2),
    )
    CLAIMS[f"dist_{name}"] = Claim(
        "With a large teacher, DIST is better than KL",
        f"{adds} it adds over KL at T = 4, ResNet-56, {words}",
        partial(cure, student=student),
        above(0.0),
    )
    for control, (says, over) in setup.WORTH.items():
        CLAIMS[f"gain_{control}_{name}"] = Claim(
            f"A teacher {says}",
            f"{adds} KL from ResNet-20 adds over {over}, {words}, T = 4",
            partial(gain, student=student, control=control),
            above(0.0),
        )
STUDY = Study(
    "all_images",
    __doc__,
    Config,
    run,
    show,
    cost="8 hours of one core",
    published={"dataset": "cifar10"},
    quick=setup.QUICK
    | {"students": ("plain-2",), "teachers": ("plain-2", "plain-4")}
    | {"learning_rates": (4e-3,)},
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
