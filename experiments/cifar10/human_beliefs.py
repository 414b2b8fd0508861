"""Do a teacher's soft labels say what people believe, and do students learn it?

CIFAR-10H has the answers of about 50 people for each test image of CIFAR-10. They are
compared with the softened outputs of two published teachers, and of students distilled
from each at T = 1 and T = 4. Controls are students trained on hard labels, on label
smoothing, and on the teacher's most probable class, and a larger, more accurate student
trained on hard labels.

A network may be nearer to people at another temperature, without any change in what it
has learned. So each is also measured at its own best one, which is fitted to people on
the half of the test images that it is not measured on. It cannot be fitted on
validation images, because the published teachers were trained on them. Learning rates
are selected on the validation set with a separate seed. Intervals are over seeds; those
of teachers, which were trained once, are over test images.

The digits have no such answers. With them, networks are compared with the
first teacher at T = 1 instead, and no claim is evaluated. The file
experiments/cifar10/people.py says where CIFAR-10H comes from.

    python -m experiments.cifar10.human_beliefs --quick    # 5,000 digits
    python -m experiments.cifar10.human_beliefs    # 2 hours of one core
"""

from dataclasses import dataclass
from functools import partial

import rich

from experiments.cifar10 import belief_tables, beliefs, people, setup
from experiments.cifar10.belief_tables import FIXED
from kdjax import losses
from kdjax.objectives import on_logits
from kdjax.study.arms import Arm, all_tuned, gather, labelled, logits_of
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.statistics import Estimate
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Fraction, Positives

TEACHERS = ("resnet-20", "resnet-56")
PICTURED = 12
CAT, DOG, TRUCK = 3, 5, 9
ARM = ["arm", "teacher", "temperature"]
MEASURES = ["T", "accuracy", "kl", "entropy", "confusions", "second"]


@dataclass(frozen=True)
class Config(setup.SelectedRates):
    student: setup.Name = "plain-2"
    """The student."""
    larger: setup.Name = "plain-4"
    """A larger student, on hard labels only."""
    teachers: tuple[setup.Name, ...] = TEACHERS
    """The teachers; resnet-20 to resnet-56 are published."""
    temperatures: Positives = (1.0, FIXED)
    """Temperatures of distillation."""
    alpha: Fraction = 0.9
    """Weight of the teacher in Hinton's loss."""
    smoothing: Fraction = 0.1
    """Weight of the uniform distribution in label smoothing."""
    evaluated_at: Positives = (0.5, 0.7, 1, 1.4, 2, 2.8, 4, 5.6, 8, 12, 20)
    """Temperatures at which outputs are compared with people's answers."""


def arms(config, teachers, info):
    smoothing = {"smoothing": [config.smoothing]}
    soft = {"temperature": config.temperatures, "alpha": [config.alpha]}
    for arm, student, objective, axes in (
        ("hard", config.student, setup.HARD, {}),
        ("larger", config.larger, setup.HARD, {}),
        ("smoothing", config.student, on_logits(losses.label_smoothing), smoothing),
        ("argmax", config.student, on_logits(losses.teacher_argmax), {}),
        ("kl", config.student, setup.HINTON, soft),
    ):
        network = setup.model(student, info.name)
        taught = arm in ("argmax", "kl")
        # Without a teacher, the last one's outputs are only measured against.
        for teacher in teachers if taught else teachers[-1:]:
            name = teacher.name if taught else "none"
            yield Arm(
                {"arm": arm, "student": student, "teacher": name},
                setup.student(network, objective, epochs=config.epochs),
                teacher.data,
                config.seeds,
                axes | {"learning_rate": config.learning_rates},
                extras=logits_of(network, "test"),
            )


def networks(teachers, found):
    """The columns and the test logits of every network."""
    for each in teachers:
        columns = {"arm": "teacher", "teacher": each.name, "seed": 0}
        yield columns, each.data.test["teacher"].logits
    for arm, each in found:
        rows = labelled(each.runs, arm.columns).to_dict("records")
        yield from zip(rows, each.extras["test"], strict=True)


def run(config, images, info):
    images = setup.in_colour(images)
    labels, reference = images.test["label"], "people"
    human = info.name != "mnist5k"
    shares = people.shares(labels) if human else None  # missing: known before training
    teachers = [setup.teacher(n, config, images, info) for n in config.teachers]
    if shares is None:
        reference = teachers[0].name
        shares = beliefs.softened(teachers[0].data.test["teacher"].logits, 1.0)
    found = [
        (arm.without_data(), each)
        for arm, each in all_tuned(partial(arms, config, teachers, info))
    ]
    tables, seconds = gather(found)
    tables = {t: labelled(tables[t], info.columns()) for t in ("runs", "search")}
    all_of = belief_tables.compare(
        reference, shares, labels, config.evaluated_at, networks(teachers, found)
    )
    facts = {
        "reference": reference,
        "nearer": belief_tables.nearer(all_of),
        "teachers": {each.name: each.quality for each in teachers},
        "seconds": round(seconds + sum(each.quality["seconds"] for each in teachers)),
    }
    return Outcome(tables, facts, images, all_of)


def by_seed(table, column, arm):
    """The mean over teachers for each seed; distilled students are those of T = 4."""
    rows = table[(table["arm"] == arm) & (table["reference"] == "people")]
    if arm == "kl":
        rows = rows[rows["temperature"] == FIXED]
    return rows.groupby("seed")[column].mean(skipna=False)


def gain(table, column, arm):
    """``[seeds]``, what distilled students have more than those of another arm."""
    own = table[table["fitted"]]
    return by_seed(own, column, "kl") - by_seed(own, column, arm)


def gain_where_right(table, column):
    """`gain` over hard labels, on the images that both students get right."""
    return by_seed(table, column, "kl") - by_seed(table, f"{column}_hard", "kl")


def of_teacher(table, teacher, statistic):
    own = (table["teacher"] == teacher) & (table["statistic"] == statistic)
    found = table[own & (table["reference"] == "people")]
    return Estimate(*found[list(Estimate._fields)].iloc[0])


def dog_less_truck(table, arm="kl"):
    """``[seeds]``, mean probabilities for images of cats, the students of an arm."""
    cats = table[table["label"] == CAT]
    dog, truck = (by_seed(cats, f"class{c}", arm) for c in (DOG, TRUCK))
    return dog - truck


def show(tables, meta):
    rich.print(f"compared with {meta['reference']}, each at its own best temperature")
    fitted = tables["beliefs"].query("fitted").rename(columns={"evaluated_at": "T"})
    means = fitted.groupby(ARM, dropna=False)[MEASURES].mean()
    print_table(means.round(3), "Beliefs")
    if meta["reference"] == "people":
        cats = tables["confusions"].query("label == @CAT").groupby(ARM, dropna=False)
        taken = cats[[f"class{c}" for c in (DOG, TRUCK)]].mean().round(4)
        taken.columns = ["dog", "truck"]
        print_table(taken, "Mean probabilities for images of cats")


CLAIMS = {}
for teacher in TEACHERS:
    CLAIMS[f"soft_labels_{teacher}"] = Claim(
        "A teacher's soft labels say what people would",
        f"rank correlation of its mean probabilities of wrong classes with people's, "
        f"{teacher}",
        partial(of_teacher, teacher=teacher, statistic="confusions"),
        above(0.5),
        "teachers",
    )
    CLAIMS[f"softened_{teacher}"] = Claim(
        "Softened by T > 1, a teacher is nearer to people than at T = 1",
        f"nats of KL from people that the best T > 1 saves over T = 1, {teacher}",
        partial(of_teacher, teacher=teacher, statistic="softening"),
        above(0.0),
        "teachers",
    )
LEARNS = "A distilled student learns people's confusions"
MORE = "that distillation at T = 4 adds over"
CORRELATION = f"rank correlation with people's confusions {MORE}"
SECOND = f"share of images whose second class is the same as people's {MORE}"
for arm, words in {
    "hard": "hard labels",
    "smoothing": "label smoothing",
    "argmax": "the teacher's most probable class as label",
    "larger": "a larger, more accurate student of hard labels",
}.items():
    CLAIMS[f"confusions_{arm}"] = Claim(
        LEARNS,
        f"{CORRELATION} {words}",
        partial(gain, column="confusions", arm=arm),
        above(0.0),
        "beliefs",
    )
CLAIMS["second"] = Claim(
    LEARNS,
    f"{SECOND} hard labels, images on which people disagree",
    partial(gain, column="second", arm="hard"),
    above(0.0),
    "beliefs",
)
for column, words in {"confusions": CORRELATION, "second": SECOND}.items():
    CLAIMS[f"{column}_where_right"] = Claim(
        f"{LEARNS}, even where it is as right as before",
        f"{words} hard labels, images that both students get right",
        partial(gain_where_right, column=column),
        above(0.0),
        "both_right",
    )
CLAIMS["kl"] = Claim(
    "A distilled student is nearer to people",
    "nats of KL from people with distillation at T = 4, less those with hard labels; "
    "predictions of each at their best T",
    partial(gain, column="kl", arm="hard"),
    below(0.0),
    "beliefs",
)
CLAIMS["cat"] = Claim(
    "A cat is taken for a dog more than for a truck",
    "mean probability of dog less that of truck for images of cats, T = 4",
    dog_less_truck,
    above(0.0),
    "confusions",
)
STUDY = Study(
    "human_beliefs",
    __doc__,
    Config,
    run,
    show,
    cost="2 hours of one core",
    published={"dataset": "cifar10_10k"},
    quick=setup.QUICK | {"teachers": ("plain-4",), "learning_rates": (4e-3,)},
    derived={
        "beliefs": lambda found: belief_tables.by_temperature(found.extras),
        "both_right": lambda found: belief_tables.both_right(found.extras),
        "confusions": lambda found: belief_tables.confusions(found.extras),
        "teachers": lambda found: belief_tables.of_teachers(found.extras),
        "images": lambda found: belief_tables.pictures(
            found.extras, found.data.test, PICTURED
        ),
    },
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
