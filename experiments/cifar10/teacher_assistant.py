"""Does a teacher assistant between a large teacher and a small student help?

A plain network with two convolutions learns CIFAR-10 from one with ten, directly or
through assistants with eight, six or four, each of which has learned from the one
before. All learn by Hinton's loss at T = 4, the best temperature for each of these
teachers on the validation images of capacity_gap, and at one learning rate.

Assistants differ from the teacher in size and in being distilled. To tell these apart,
students also learn from networks of these sizes that were trained on labels alone. An
assistant costs its own training, too. So there are controls that train as many epochs
as a student and one assistant together: a student of the large teacher, and one with
hard labels. An epoch of an assistant takes longer, which favours assistants. Each
teacher was trained once, so a gain must exceed 0.2 percentage points.

    python -m experiments.cifar10.teacher_assistant    # 7 hours of one core
"""

from dataclasses import dataclass
from functools import partial

import pandas as pd

from experiments.cifar10 import setup
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather, labelled
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.statistics import format_mean
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Fraction, Positive

TEST, ERRORS = "test_accuracy_last", "validation_errors_last"
# The paths from ten convolutions to two, by the assistants between them.
PATHS = {
    "direct": (),
    "8": (8,),
    "6": (6,),
    "4": (4,),
    "6, 4": (6, 4),
    "8, 6, 4": (8, 6, 4),
}
# Test accuracy in Mirzadeh et al., tables 1 and 2, on all of CIFAR-10.
PAPER = {"hard": 70.16, "direct": 72.57, "8": 72.75, "6": 73.15, "4": 73.51}


@dataclass(frozen=True)
class Config(setup.OneRate):
    teacher: setup.Name = "plain-10"
    """The teacher at the head of every path."""
    student: setup.Name = "plain-2"
    """The student."""
    paths: tuple[str, ...] = tuple(PATHS)
    """Numbers of convolutions of the assistants, in turn."""
    temperature: Positive = setup.TEMPERATURE
    """Temperature of Hinton's loss."""
    alpha: Fraction = 0.9
    """Weight of the teacher in Hinton's loss."""


def last_teachers(config, images, info):
    """All teachers by the assistants up to them, of which paths share some."""
    train = partial(setup.teacher, config=config, images=images, info=info)
    found = {(): train(config.teacher)}
    for path in config.paths:
        for length, layers in enumerate(PATHS[path]):
            before, own = PATHS[path][:length], PATHS[path][: length + 1]
            if own not in found:
                found[own] = train(f"plain-{layers}", of=found[before])
    return found


def alone(config, images, info):
    """Networks of the sizes of single assistants, trained on labels alone."""
    return {
        f"{path} alone": setup.teacher(f"plain-{path}", config, images, info)
        for path in config.paths
        if len(PATHS[path]) == 1
    }


def arms(config, teachers, network):
    """A student of each teacher, and controls with as many epochs as one path has."""
    long = config.epochs + config.teacher_epochs
    rate = {"learning_rate": [config.learning_rate]}
    soft = {"temperature": [config.temperature], "alpha": [config.alpha], **rate}
    direct = teachers["direct"]
    cells = [("hard", direct, config.epochs), ("hard_long", direct, long)]
    cells += [(path, last, config.epochs) for path, last in teachers.items()]
    cells += [("direct_long", direct, long)]
    for name, teacher, epochs in cells:
        hard = name.startswith("hard")
        objective = setup.HARD if hard else setup.HINTON
        training = setup.student(network, objective, epochs=epochs)
        columns = {"arm": name, "teacher": "none" if hard else teacher.name}
        axes = rate if hard else soft
        yield Arm(columns, training, teacher.data, config.seeds, axes)


def run(config, images, info):
    images = setup.in_colour(images)
    trained = last_teachers(config, images, info)
    teachers = {path: trained[PATHS[path]] for path in config.paths}
    own_size = alone(config, images, info)
    teachers |= own_size
    network = setup.model(config.student, info.name)
    found, seconds = gather(all_tuned(partial(arms, config, teachers, network)))
    own = info.columns() | {"student": config.student}
    tables = {"runs": labelled(found["runs"], own)}
    rows = [
        {"path": path, "teacher": last.name, **last.quality["test"]}
        for path, last in teachers.items()
    ]
    tables["teachers"] = pd.DataFrame(rows)
    every = (*trained.values(), *own_size.values())
    seconds += sum(each.quality["seconds"] for each in every)
    return Outcome(tables, {"seconds": round(seconds)})


def by_arm(runs, column=TEST):
    """One row per seed and one column per arm."""
    return runs.pivot(index="seed", columns="arm", values=column)


def gain(runs, over, paths):
    """``[seeds]``, percentage points of the best of some paths over another arm."""
    accuracy, errors = by_arm(runs), by_arm(runs, ERRORS)
    both = (table[list(paths)].to_numpy().T for table in (accuracy, errors))
    best = selection.best_by_others(*both)
    return 100 * (best - accuracy[over].to_numpy())


def show(tables, meta):
    runs = tables["runs"]
    scores = (100 * runs[TEST]).groupby(runs["arm"], sort=False).agg(format_mean)
    shown = scores.to_frame("student").join(
        (100 * tables["teachers"].set_index("path")["accuracy"]).round(1)
    )
    print_table(shown.rename(columns={"accuracy": "its last teacher"}), "Accuracy (%)")


def over_alone(runs):
    """``[seeds]``, points of the best single assistant over the best plain teacher."""
    accuracy, errors = 100 * by_arm(runs), by_arm(runs, ERRORS)
    own, others = (
        selection.best_by_others(*(t[names].to_numpy().T for t in (accuracy, errors)))
        for names in ([*ONE], [f"{path} alone" for path in ONE])
    )
    return own - others


ONE, FULL = ("8", "6", "4"), "8, 6, 4"
POINTS = "percentage points of accuracy that the best path"
CLAIMS = {
    "assistant": Claim(
        "A teacher assistant helps if the teacher is too large",
        f"{POINTS} with assistants adds over the direct one, equally trained students",
        partial(gain, over="direct", paths=[p for p in PATHS if p != "direct"]),
        above(0.2),
    ),
    "assistant_alone": Claim(
        "An assistant should itself be distilled",
        f"{POINTS} with one assistant adds over the best teacher of these sizes that "
        "learned from labels alone",
        over_alone,
        above(0.2),
    ),
    "assistant_budget": Claim(
        "A teacher assistant is worth its own training",
        f"{POINTS} with one assistant adds over the direct one, equal epochs in all",
        partial(gain, over="direct_long", paths=ONE),
        above(0.2),
    ),
    "assistant_full": Claim(
        "More teacher assistants are better",
        "percentage points of accuracy that all three add over the best single one",
        lambda runs: -gain(runs, FULL, ONE),
        above(0.2),
    ),
}
STUDY = Study(
    "teacher_assistant",
    __doc__,
    Config,
    run,
    show,
    cost="7 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK | {"teacher": "plain-6", "paths": ("direct", "4")},
    claims=CLAIMS,
    paper=PAPER,
)

if __name__ == "__main__":
    main(STUDY)
