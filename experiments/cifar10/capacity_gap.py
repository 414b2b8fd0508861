"""Does a teacher too large for its student hurt on images, and what cures it?

A plain network with two convolutions learns CIFAR-10 from published residual networks,
and from plain networks of four to ten convolutions that are trained on the same images
as the student. The losses are Hinton's at T = 4, Hinton's at a temperature selected for
each teacher, and, with plain-4 and ResNet-56, DIST and KL between standardised
logits, with the default weights of their authors' code. Controls without a teacher are
hard labels, label smoothing, and hard labels with twice the epochs. ResNet-56 also
teaches for twice the epochs.

Learning rates and temperatures are selected on the validation set with a separate seed:
one rate for each loss, by the median over teachers at T = 4, and then a temperature for
each teacher. Teacher and student see the same view of each image, one of six. The
published networks were trained on all 50,000 images, including those held out here, so
only their students are compared. Each teacher was trained once, which favours the best
of them: a gap must exceed 0.2 percentage points.

    python -m experiments.cifar10.capacity_gap    # 6.5 hours of one core
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import special, stats

from experiments.cifar10 import setup
from experiments.mnist.capacity_gap import FIXED, SWEET_SPOT, dist, standardized
from kdjax import losses, objectives
from kdjax.study import selection
from kdjax.study.arms import Arm, all_tuned, gather, labelled
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Fraction, Positive, Positives

WEIGHED = ("temperature", "weight")  # of DIST and of standardised logits
TEST, ERRORS = "test_accuracy_last", "validation_errors_last"


@dataclass(frozen=True)
class Config(setup.SelectedRates):
    student: setup.Name = "plain-2"
    """The student."""
    teachers: tuple[setup.Name, ...] = (
        "plain-4",
        "plain-6",
        "plain-8",
        "plain-10",
        "resnet-20",
        "resnet-32",
        "resnet-44",
        "resnet-56",
    )
    """The teachers, each family by ascending size; resnet-20 to resnet-56 are
    published."""
    temperatures: Positives = (1.0, 2.0, FIXED, 8.0)
    """Temperatures to select from for every teacher."""
    alpha: Fraction = 0.9
    """Weight of the teacher in Hinton's loss."""
    smoothing: Fraction = 0.1
    """Weight of the uniform distribution in label smoothing."""
    dist_temperature: Positive = 1.0
    """Temperature of DIST."""
    dist_weight: Positive = 1.0
    """Weight of each part of DIST; labels have weight 1."""
    standardized_temperature: Positive = 2.0
    """Temperature of KL between standardised logits."""
    standardized_weight: Positive = 9.0
    """Weight of KL between standardised logits; labels have weight 1."""


def fixed_and_tuned(search, axes):
    """The best rows at T = 4 and at any temperature; ``tuned`` marks the latter."""
    any_temperature = selection.best_row(search, axes)
    at_fixed = selection.best_row(search.query("temperature == @FIXED"), axes)
    chosen = pd.concat([any_temperature, at_fixed]).drop_duplicates(axes)
    return chosen.assign(tuned=chosen.index.isin(any_temperature.index))


def arms(config, teachers, network):
    """The controls, whose teacher is only measured against, and the losses of each."""
    rates = {"learning_rate": config.learning_rates}
    smoothed = objectives.on_logits(losses.label_smoothing)
    smoothing = {"smoothing": [config.smoothing]}
    hinton = {"temperature": config.temperatures, "alpha": [config.alpha]}
    fixed = hinton | {"temperature": [FIXED]}
    other = {
        loss.__name__: (
            loss,
            {n: [getattr(config, f"{loss.__name__}_{n}")] for n in WEIGHED},
        )
        for loss in (dist, standardized)
    }
    # Other temperatures are searched at one rate, to halve the search.
    fewer = f"temperature == {FIXED} or learning_rate == {max(config.learning_rates)}"
    last = teachers[-1]
    cells = [
        ("hard", "none", last, setup.HARD, 1, {}),
        ("hard_long", "none", last, setup.HARD, 2, {}),
        ("smoothing", "none", last, smoothed, 1, smoothing),
    ]
    for teacher in teachers:
        cells.append(("kl", teacher.name, teacher, setup.HINTON, 1, hinton))
        if teacher.name in (teachers[0].name, last.name):
            for name, (loss, axes) in other.items():
                cells.append((name, teacher.name, teacher, loss, 1, axes))
    cells.append(("kl_long", last.name, last, setup.HINTON, 2, fixed))
    for name, source, teacher, objective, times, axes in cells:
        epochs = times * config.epochs
        columns = {"arm": name, "teacher": source, "tuned": False}
        yield Arm(
            columns,
            setup.student(network, objective, epochs=epochs),
            teacher.data,
            config.seeds,
            axes | rates,
            fixed_and_tuned if name == "kl" else selection.best_row,
            only=fewer if name == "kl" else "",
        )


def traits(teacher):
    """A row of the table of teachers."""
    train = teacher.data.train
    logits = np.asarray(train["teacher"].logits[:, 0], float)  # of the image itself
    p = special.softmax(logits, axis=-1)
    quality = pd.json_normalize(teacher.quality, sep="_").iloc[0].to_dict()
    return {
        "teacher": teacher.name,
        "family": teacher.name.partition("-")[0],
        "teacher_parameters": teacher.parameters,
        "train_accuracy": np.mean(logits.argmax(-1) == train["label"]),
        "train_entropy": stats.entropy(p, axis=-1).mean(),
        **{n: v for n, v in quality.items() if n.startswith(("validation", "test"))},
        "seconds": quality["seconds"],
    }


def run(config, images, info):
    images = setup.in_colour(images)
    teachers = [setup.teacher(n, config, images, info) for n in config.teachers]
    rows = pd.DataFrame([traits(each) for each in teachers])
    network = setup.model(config.student, info.name)
    arms_of = partial(arms, config, teachers, network)
    found, seconds = gather(all_tuned(arms_of, alike=["arm"]))
    tables, own = {"teachers": rows}, rows[["teacher", "family", "teacher_parameters"]]
    for title in ("runs", "search"):
        table = found[title].merge(own, on="teacher", how="left")
        table["ratio"] = setup.parameters(network) / table.pop("teacher_parameters")
        columns = info.columns() | {"student": config.student}
        tables[title] = labelled(table.fillna({"family": "none"}), columns)
    facts = {each.name: each.quality["stored"] for each in teachers}
    return Outcome(
        tables, {"stored": facts, "seconds": round(rows["seconds"].sum() + seconds)}
    )


def of_arm(runs, arm):
    """The runs of an arm; ``kl_tuned`` are those of the selected temperature."""
    if arm == "kl_tuned":
        return runs.query("arm == 'kl' and tuned")
    if arm == "kl":
        return runs.query("arm == 'kl' and temperature == @FIXED")
    return runs[runs["arm"] == arm]


def cells(runs, arm, family):
    """Ratios ``[teachers]`` from the smallest teacher, accuracies and errors."""
    own = of_arm(runs, arm).query("family == @family")
    table = own.pivot(index="ratio", columns="seed").sort_index(ascending=False)
    ratios, accuracies = table.index.to_numpy(), 100 * table[TEST].to_numpy()
    return ratios, accuracies, table[ERRORS].to_numpy()


def gap(runs, arm, family):
    """``[seeds]``, percentage-point gain of the best teacher over the largest."""
    _, accuracies, errors = cells(runs, arm, family)
    return selection.best_by_others(accuracies, errors) - accuracies[-1]


def sweet_spot(runs, arm):
    """``[seeds]``, gain of the best plain teacher inside the range over outside."""
    ratios, accuracies, errors = cells(runs, arm, "plain")
    inside = (SWEET_SPOT[0] <= ratios) & (ratios <= SWEET_SPOT[1])
    return selection.inside_less_outside(inside, accuracies, errors)


def cure(runs, arm):
    """``[seeds]``, percentage points that a loss adds over KL with resnet-56."""
    largest = [cells(runs, name, "resnet")[1][-1] for name in (arm, "kl")]
    return largest[0] - largest[1]


def scores(runs, arm):
    """``[seeds]``, test accuracies in percent of an arm with one teacher or none."""
    return 100 * runs[runs["arm"] == arm].sort_values("seed")[TEST].to_numpy()


def gain_long(runs):
    """``[seeds]``, percentage points of the last teacher for twice the epochs."""
    return scores(runs, "kl_long") - scores(runs, "hard_long")


def gain(runs, control):
    """``[seeds]``, percentage points of KL with the best teacher over a control."""
    both = [cells(runs, "kl_tuned", family) for family in ("plain", "resnet")]
    accuracies, errors = (np.concatenate([b[i] for b in both]) for i in (1, 2))
    best = selection.best_by_others(accuracies, errors)
    return best - scores(runs, control)


def show(tables, meta):
    runs = tables["runs"]
    found = {}
    for arm in ("hard", "smoothing", "kl", "kl_tuned", *NEW, "hard_long", "kl_long"):
        own = of_arm(runs, arm).groupby("teacher", sort=False)[TEST]
        found[arm] = (100 * own.mean()).round(2)
    table = pd.DataFrame(found).reindex(runs["teacher"].unique())
    print_table(table, "Test accuracy (%), mean over seeds")
    columns = ["teacher_parameters", "test_accuracy", "test_nll", "train_entropy"]
    print_table(tables["teachers"].set_index("teacher")[columns].round(3), "Teachers")


NEW = {"dist": "DIST", "standardized": "KL between standardised logits"}
ADDS = "percentage points of accuracy that the best teacher"
FAMILIES = {"plain": "trained on the same images", "resnet": "published"}
CLAIMS = {}
for arm, way in {"kl": "T = 4", "kl_tuned": "T tuned for each teacher"}.items():
    for family, kind in FAMILIES.items():
        CLAIMS[f"gap_{family}_{arm}"] = Claim(
            "A teacher too large for its student hurts",
            f"{ADDS} adds over the largest, {family} teachers {kind}, {way}",
            partial(gap, arm=arm, family=family),
            above(0.2),
        )
    CLAIMS[f"sweet_spot_{arm}"] = Claim(
        "A student should have 10 to 30 % of its teacher's parameters",
        f"{ADDS} in this range adds over the best outside it, plain teachers, {way}",
        partial(sweet_spot, arm=arm),
        above(0.1),
    )
for arm, loss in NEW.items():
    CLAIMS[arm] = Claim(
        f"With a large teacher, {loss} is better than KL",
        "percentage points of accuracy that it adds over KL at T = 4, ResNet-56",
        partial(cure, arm=arm),
        above(0.0),
    )
for control, (says, words) in setup.WORTH.items():
    CLAIMS[f"gain_{control}"] = Claim(
        f"A teacher {says}",
        f"{ADDS} adds over {words}, KL, T tuned",
        partial(gain, control=control),
        above(0.0),
    )
CLAIMS["gain_long"] = Claim(
    "A teacher makes a small network better",
    "percentage points of accuracy that ResNet-56 adds over hard labels, both for "
    "twice the epochs, KL, T = 4",
    gain_long,
    above(0.0),
)
STUDY = Study(
    "capacity_gap_cifar10",
    __doc__,
    Config,
    run,
    show,
    cost="6.5 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK
    | {"teachers": ("plain-4",), "temperatures": (1.0, FIXED)}
    | {"learning_rates": (4e-3,)},
    claims=CLAIMS,
    paper={"sweet_spot": SWEET_SPOT},
)

if __name__ == "__main__":
    main(STUDY)
