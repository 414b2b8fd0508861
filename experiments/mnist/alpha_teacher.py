"""How much should a teacher weigh, and does it depend on how good the teacher is?

Students learn from alpha times the teacher and 1 - alpha times the labels, on 3 and on
100 % of the training images. The few images are repeated until they fill an epoch. Four
teachers, which saw all images whatever the student sees:

- full: Hinton's, as in hinton_mnist;
- early: the same net and recipe, for few passes;
- noisy: the same again, for fewer passes and with some wrong training labels. Its
  students learn from true labels, and are chosen and tested by them;
- small: a net of few units without regularisation, so few that students are better.

At alpha = 0 there is no teacher, so its students are trained once for each share of
the images. The learning rate is chosen on validation for every alpha, teacher and
share, by a seed that is not measured. That is 546 runs, 126 of them to choose.

    python -m experiments.alpha_teacher                    # embedded digits
    python -m experiments.alpha_teacher --dataset mnist    # half an hour on 2 cores
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, results
from kdjax.results import Claim, Estimate, Table

FEW, ALL = 0.03, 1.0  # shares of the images that the claims are about
TYPICAL = (0.5, 0.9)  # the article's alphas, both ends among them
NONE = "none"  # the teacher at alpha 0
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(mnist.TeacherConfig):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    early_epochs: int = 2
    """Passes over the training images, for the teacher of few."""
    noisy_epochs: int = 30
    """Passes over the training images, for the teacher of wrong labels."""
    wrong_share: float = 0.2
    """Of that teacher's training labels, those that are any other class."""
    small_width: int = 7
    """Units of each of the small teacher's two hidden layers."""
    student_width: int = 100
    """Units of each of a student's two hidden layers."""
    fractions: tuple[float, ...] = (FEW, ALL)
    """Shares of the training images that a student sees."""
    temperature: float = 4.0
    """At which students match a teacher."""
    alphas: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.0)
    """Weights of a teacher; 0, without one, is always tried beside them."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Adam's, at the first step, to choose from for every alpha."""
    seeds: int = 10
    """How many students are measured, for every alpha, teacher and share."""
    epochs: int = 15
    """Of as many images as there are, for a student and for the small teacher."""


QUICK = mnist.QUICK_TEACHER | {
    "early_epochs": 5,
    "noisy_epochs": 20,
    "student_width": 50,
    "seeds": 3,
}
CLAIMS = {
    "typical_alpha": Claim(
        says="The teacher's weight is best between 0.5 and 0.9",
        statistic="test errors at the best alpha from 0.5 to 0.9 less those at the "
        "best of the others, chosen on validation; full teacher, all images",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    "typical_alpha_few": Claim(
        says="The teacher's weight is best between 0.5 and 0.9",
        statistic="test errors at the best alpha from 0.5 to 0.9 less those at the "
        "best of the others, chosen on validation; full teacher, 3 % of the images",
        supported=(None, 0.0),
        refuted=(0.0, None),
    ),
    # Half of the least step between two alphas: the bounds of an interval are mostly
    # alphas less alphas, and no such difference lies there.
    "worse_teacher": Claim(
        says="A worse teacher should weigh less",
        statistic="best alpha with the full teacher less the best with the noisy one, "
        "chosen on validation; 3 % of the images",
        supported=(0.05, None),
        refuted=(None, 0.05),
    ),
}


def wrong(labels: np.ndarray, share: float, classes: int) -> np.ndarray:
    """The labels, a share of them each replaced by any other class."""
    rng = np.random.default_rng(1)  # not the draws of `mnist.order`
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    labels = labels.copy()
    labels[rows] = (labels[rows] + rng.integers(1, classes, len(rows))) % classes
    return labels


def teachers(
    config: Config, images: data.Data, info: data.Info
) -> dict[str, mnist.Taught]:
    """By name; what one says of the images comes with the labels that it saw."""
    early = replace(config, teacher_epochs=config.early_epochs)
    noisy = replace(config, teacher_epochs=config.noisy_epochs)
    small = mnist.student(config.small_width, mnist.cross_entropy, epochs=config.epochs)
    labels = wrong(images.train.y, config.wrong_share, info.classes)
    mislabelled = images._replace(train=images.train._replace(y=labels))
    return {
        "full": mnist.taught(config, images),
        "early": mnist.taught(early, images),
        "noisy": mnist.taught(noisy, mislabelled),
        "small": mnist.fit(small, images, learning_rate=config.teacher_learning_rate),
    }


def arms(config: Config) -> dict[str, tuple]:
    """A loss without a teacher and one with it, and what to try each at."""
    teacher = {"temperature": [config.temperature], "alpha": config.alphas}
    return mnist.hard_and_distilled(teacher, config.learning_rates)


def run(
    config: Config,
    taught: Mapping[str, mnist.Taught],
    images: data.Data,
    info: data.Info,
) -> Iterator[tuple]:
    """What students of each teacher are on each share, and what they came to."""
    hard, distilled = arms(config).values()
    students = {NONE: (images, {"alpha": 0.0}, *hard)}
    for name, teacher in taught.items():
        answers = teacher.data
        true = answers._replace(train=answers.train._replace(y=images.train.y))
        students[name] = (true, {}, *distilled)
    for fraction in config.fractions:
        for name, (labelled, alpha, loss, columns) in students.items():
            what = {"fraction": fraction, "teacher": name} | alpha
            yield (
                info.columns() | what | {"student_width": config.student_width},
                tuning.tuned(
                    mnist.student(config.student_width, loss, epochs=config.epochs),
                    columns,
                    data=labelled._replace(train=mnist.few(labelled.train, fraction)),
                    seeds=range(config.seeds),
                    name=f"teacher {name}, {100 * fraction:g} %",
                ),
            )


def of_teacher(rows: Table, teacher: str) -> Table:
    """Of its students at all alphas: at 0, those without a teacher."""
    return results.concatenate(
        [results.select(rows, teacher=name) for name in (NONE, teacher)]
    )


def best_alpha(rows: Table) -> float:
    """By validation errors."""
    return results.choose(rows, "alpha")["alpha"][0]


def typical_less_others(rows: Table) -> np.ndarray:
    """Of each seed, test errors at the best typical alpha less at the best other."""
    low, high = TYPICAL
    alphas = np.unique(rows["alpha"])
    order = np.lexsort((rows["seed"], rows["alpha"]))
    judged, errors = (
        rows[name][order].reshape(len(alphas), -1)
        for name in (ERRORS, "validation_errors_last")
    )
    typical = (low <= alphas) & (alphas <= high)
    return tuning.inside_less_outside(typical, judged, errors)


def full_less_noisy(rows: Table) -> float:
    full, noisy = (best_alpha(of_teacher(rows, name)) for name in ("full", "noisy"))
    return float(full - noisy)


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim: a seed's alphas are chosen by the others, or every draw anew."""
    names = ("seed", "fraction", "teacher", "alpha", "validation_errors_last", ERRORS)
    table = {name: tables["runs"][name] for name in names}
    few, whole = (results.select(table, fraction=fraction) for fraction in (FEW, ALL))
    full_few, full_whole = (of_teacher(rows, "full") for rows in (few, whole))
    return {
        "typical_alpha": results.estimate(typical_less_others(full_whole)),
        "typical_alpha_few": results.estimate(typical_less_others(full_few)),
        "worse_teacher": results.bootstrap(full_less_noisy, few),
    }


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    mnist.check_teacher(config)
    names = ("early_epochs", "noisy_epochs", "small_width", "student_width", "seeds")
    for name in (*names, "epochs"):
        checks.check_counts(name, getattr(config, name))
    if not 0 < config.wrong_share <= 1:
        raise ValueError(
            f"wrong_share is {config.wrong_share}, but takes a number in (0, 1]"
        )
    fractions = config.fractions
    within = all(0 < f <= 1 for f in fractions) and {FEW, ALL} <= set(fractions)
    if not within or len(set(fractions)) < len(fractions):
        raise ValueError(
            f"fractions are {fractions}, but lie in (0, 1], each once, {FEW} and {ALL} "
            f"among them, which the claims are about"
        )
    arms(config)
    low, high = TYPICAL
    typical = [low <= alpha <= high for alpha in config.alphas]
    if 0 in config.alphas or not any(typical):
        raise ValueError(
            f"alphas are {config.alphas}, but lie above 0, which is always tried, and "
            f"have some from {low} to {high}, which the claims are about"
        )


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints test errors at every alpha."""
    table = tables["runs"]
    for fraction in np.unique(table["fraction"]):
        rows = results.select(table, fraction=fraction)
        printed = Printed("alpha", title=f"Test errors, {100 * fraction:g} % of images")
        columns = [cells(of_teacher(rows, name)) for name in meta["teachers"]]
        for name, quality in meta["teachers"].items():
            printed.add_column(f"{name}\n{100 * quality['test']['accuracy']:.2f} %")
        for alpha, *row in zip(np.unique(rows["alpha"]), *columns, strict=True):
            printed.add_row(f"{alpha:g}", *row)
        rich.print(printed)
    rich.print("* the best alpha by validation errors")


def cells(rows: Table) -> list[str]:
    """Of each alpha in turn."""
    best, texts = best_alpha(rows), []
    for alpha in np.unique(rows["alpha"]):
        errors = results.select(rows, alpha=alpha)[ERRORS]
        mark = "*" if alpha == best else ""
        texts.append("{:.1f} ± {:.1f}".format(*results.interval(errors)) + mark)
    return texts


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    taught = teachers(config, images, info)
    tables, seconds = tuning.gather(run(config, taught, images, info))
    qualities = {name: teacher.quality for name, teacher in taught.items()}
    seconds += sum(quality["seconds"] for quality in qualities.values())
    return tables, {"teachers": qualities, "seconds": round(seconds)}


EXPERIMENT = running.Experiment(
    "alpha_teacher", QUICK, check, answer, show, CLAIMS, statistics
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
