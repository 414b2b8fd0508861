"""How much weight should a teacher get, and does it depend on how good it is?

The loss is alpha times the teacher's term plus 1 - alpha times that of the labels.
Students see 3 or 100 % of the training images; the smaller subset is repeated to fill
an epoch. Four teachers are trained on all images. ``full`` is Hinton's teacher, as in
hinton_mnist; ``early`` is the same network after few epochs; ``noisy`` is trained with
some wrong labels, which its students do not see; ``small`` is a narrow network without
regularisation, which is worse than its students. Students on hard labels (alpha = 0)
have no teacher and are trained once per subset. The learning rate is selected on the
validation set for every alpha, teacher and subset, with a separate seed.

    python -m experiments.mnist.alpha_teacher                    # 5,000 digits
    python -m experiments.mnist.alpha_teacher --dataset mnist    # 30 minutes, 2 cores
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import rich

from experiments.mnist import setup
from kdjax.study.arms import Arm
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import best_setting, range_less_others
from kdjax.study.statistics import bootstrap, format_mean
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Count, Positive, Share, Shares

FEW, ALL = 0.03, 1.0  # fractions of the images in claims
TYPICAL = [0.5, 0.9]  # alphas that are usually recommended, inclusive
NONE = "none"  # the teacher at alpha 0
ERRORS, SELECTED_BY = "test_errors_last", "validation_errors_last"


@dataclass(frozen=True)
class Config(setup.AlikeStudents):
    early_epochs: Count = 2
    """Epochs of the early teacher's training."""
    noisy_epochs: Count = 30
    """Epochs of the noisy teacher's training."""
    wrong_share: Share = 0.2
    """Fraction of the noisy teacher's training labels that are wrong."""
    small_width: Count = 7
    """Hidden units in each of the small teacher's two layers."""
    student_width: Count = 100
    """Hidden units in each of a student's two layers."""
    fractions: Shares = (FEW, ALL)
    """Fractions of the training images that students see."""
    temperature: Positive = 4.0
    """Temperature at which students match a teacher."""
    alphas: Shares = (0.25, 0.5, 0.75, 0.9, 1.0)
    """Weights of the teacher; hard labels (0) are always added."""
    seeds: Count = 10
    """Number of seeds, each with one student per setting."""


def wrong(labels, share):
    """The labels with a share of them replaced by random other classes."""
    rng = np.random.default_rng(1)  # independent of `setup.order`
    rows = rng.permutation(len(labels))[: round(share * len(labels))]
    off = np.zeros_like(labels)
    off[rows] = rng.integers(1, setup.CLASSES, len(rows))
    return (labels + off) % setup.CLASSES


def prepare(config, images, info):
    """The data with the outputs of each teacher by name, and without a teacher."""
    labels = images.train["label"]
    mislabelled = {**images.train, "label": wrong(labels, config.wrong_share)}
    early = replace(config, teacher_epochs=config.early_epochs)
    noisy = replace(config, teacher_epochs=config.noisy_epochs)
    small = setup.student(config.small_width, setup.HARD, epochs=config.epochs)
    trained = {
        "full": setup.hinton_teacher(config, images),
        "early": setup.hinton_teacher(early, images),
        "noisy": setup.hinton_teacher(noisy, images._replace(train=mislabelled)),
        "small": setup.fit(small, images, learning_rate=config.teacher_learning_rate),
    }
    teachers = {name: teacher.quality for name, teacher in trained.items()}
    seconds = sum(quality["seconds"] for quality in teachers.values())
    students = {NONE: images}
    for name, (data, _) in trained.items():
        students[name] = data._replace(train={**data.train, "label": labels})
    return students, {"teachers": teachers, "seconds": seconds}


def arms(config, students):
    width = config.student_width
    soft = {"temperature": [config.temperature], "alpha": config.alphas}
    (_, *hard), (_, *distilled) = setup.hard_and_distilled(config, width, soft)
    for fraction in config.fractions:
        for teacher, data in students.items():
            training, axes = hard if teacher == NONE else distilled
            alpha = {"alpha": 0.0} if teacher == NONE else {}
            columns = {"fraction": fraction, "teacher": teacher} | alpha
            subset = data._replace(train=setup.subsample(data.train, fraction))
            columns["student_width"] = width
            yield Arm(columns, training, subset, config.seeds, axes)


def of_teacher(runs, teacher):
    """The students of a teacher at all alphas, including hard labels at 0."""
    return runs[runs["teacher"].isin([NONE, teacher])]


def typical_less_others(runs, fraction):
    """``[seeds]``, errors at the best typical alpha minus those at the best other."""
    rows = of_teacher(runs.query("fraction == @fraction"), "full")
    return range_less_others(rows, "alpha", *TYPICAL)


def by_alpha(runs, teacher):
    """Validation errors on few images, one row per seed and one column per alpha."""
    rows = of_teacher(runs.query("fraction == @FEW"), teacher)
    return rows.pivot(index="seed", columns="alpha", values=SELECTED_BY)


def full_less_noisy(runs):
    """The difference of the best alphas, selected again in every bootstrap sample."""
    both = [by_alpha(runs, name) for name in ("full", "noisy")]
    alphas = both[0].columns

    def difference(drawn):
        errors = drawn.to_numpy().sum(0).reshape(2, -1)
        full, noisy = alphas[np.nanargmin(errors, 1)]
        return full - noisy

    return bootstrap(difference, pd.concat(both, axis=1))


def show(tables, meta):
    for fraction, runs in tables["runs"].groupby("fraction"):
        columns = {}
        for teacher, quality in meta["teachers"].items():
            rows = of_teacher(runs, teacher)
            cells = rows.groupby("alpha")[ERRORS].agg(format_mean)
            cells[best_setting(rows, "alpha")["alpha"].iloc[0]] += "*"
            columns[f"{teacher}\n{100 * quality['test']['accuracy']:.2f} %"] = cells
        print_table(
            pd.DataFrame(columns), f"Test errors, {100 * fraction:g} % of images"
        )
    rich.print("* the best alpha on the validation set")


CLAIMS = {}
for name, fraction, images in (("", ALL, "all"), ("_few", FEW, "3 % of the")):
    CLAIMS[f"typical_alpha{name}"] = Claim(
        "A teacher weight of 0.5 to 0.9 is best",
        "test errors at the best alpha from 0.5 to 0.9 minus those at the best other "
        f"alpha, selected on the validation set; full teacher, {images} images",
        partial(typical_less_others, fraction=fraction),
        below(0.0),
    )
# The bound is half of the smallest step between alphas. Ends of the interval are mostly
# differences of alphas, which never equal it.
CLAIMS["worse_teacher"] = Claim(
    "A worse teacher should get less weight",
    "best alpha with the full teacher minus the best with the noisy one, selected on "
    "the validation set; 3 % of the images",
    full_less_noisy,
    above(0.05),
)
STUDY = Study(
    "alpha_teacher",
    __doc__,
    Config,
    arms_run(prepare, arms),
    show,
    cost="30 minutes",
    quick=setup.QUICK_TEACHER
    | {"early_epochs": 5, "noisy_epochs": 20, "student_width": 50, "seeds": 3}
    | {"alphas": (0.5, 0.9), "learning_rates": (3e-3,), "epochs": 8},
    claims=CLAIMS,
    paper={"typical_alpha": TYPICAL},
)

if __name__ == "__main__":
    main(STUDY)
