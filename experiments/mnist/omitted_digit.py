"""Can a student learn a digit it never saw from the teacher's view of the others?

In section 3 of Hinton's paper, all threes are removed from the transfer set. The
student makes 206 test errors, 133 of them on the 1,010 threes. When the bias of class 3
is raised by 3.5, they fall to 109 and 14. A student that sees only sevens and eights
gets 47.3 % of the test images wrong, and 13.2 % when the biases of these two classes
are lowered by 7.6.

Here, each digit is omitted in turn. Besides students that match the teacher at T = 20,
there are two baselines that cannot know the digit: students trained on hard labels, and
students of a naive teacher, which was trained without the digit. A bias is then added
to the logit of the omitted digit (or to those of 7 and 8, if only these are seen). It
is selected on held-out images of all digits or, as in the paper, on the test images,
which makes those errors optimistic. The learning rate is selected on validation images
without the digit. All students take about as many steps as in ``epochs`` passes over
all images.

    python -m experiments.mnist.omitted_digit                    # 5,000 digits
    python -m experiments.mnist.omitted_digit --dataset mnist    # 90 minutes, 2 cores
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
import pandas as pd

from experiments.mnist import setup
from kdjax.study.arms import Arm, gather, labelled, logits_of, tuned
from kdjax.study.biases import best_bias, predicted
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Digits, Positive, Positives

ONLY = "only 7 and 8"
STAGES = ("unbiased", "bias_held_out", "bias_test")  # which bias is added to the logits
PAPER = {
    "without 3": {
        "bias": 3.5,
        "errors_percent": [2.06, 1.09],
        "omitted_errors_percent": [100 * 133 / 1010, 100 * 14 / 1010],
    },
    ONLY: {
        "bias": -7.6,
        "errors_percent": [47.3, 13.2],
        "omitted_errors_percent": None,
    },
}


@dataclass(frozen=True)
class Config(setup.AlikeStudents):
    omitted: Digits = tuple(range(10))
    """Digits to omit, one at a time."""
    naive_teachers: Digits = tuple(range(10))
    """Omitted digits for which a naive teacher, without the digit, is trained."""
    naive_teacher_epochs: Count = 30
    """Epochs of a naive teacher's training."""
    temperature: Positive = 20.0
    """Temperature at which students match the teacher."""
    learning_rates: Positives = (3e-4, 1e-3, 3e-3)

    def __post_init__(self):
        super().__post_init__()
        if not set(self.naive_teachers) & set(self.omitted):
            raise ValueError(
                f"naive_teachers is {self.naive_teachers!r}, but takes at least one of "
                f"omitted, {self.omitted!r}"
            )


def transfers(config):
    """Transfer sets by name: the omitted digits, and those whose bias is changed."""
    each = {f"without {d}": ((d,), (d,)) for d in config.omitted}
    return each | {ONLY: ((0, 1, 2, 3, 4, 5, 6, 9), (7, 8))}


def seen(split, omitted):
    rows = ~np.isin(split["label"], omitted)
    return jax.tree.map(lambda column: column[rows], split)


def passes(epochs, images, seen):
    """Epochs over ``seen`` images with about the steps of ``epochs`` over all."""
    steps = epochs * (images // setup.BATCH_SIZE)
    return max(1, round(steps / max(1, seen // setup.BATCH_SIZE)))


def arms(config, name, omitted, data_by_arm):
    """The arms of a transfer set, each with the data of its teacher."""
    images = len(data_by_arm["hard"].train["label"])
    soft = {"temperature": [config.temperature], "alpha": [1.0]}
    for arm, data in data_by_arm.items():
        data = data._replace(train=seen(data.train, omitted))
        size = len(data.train["label"])
        epochs = passes(config.epochs, images, size)
        objective, axes = (setup.HARD, {}) if arm == "hard" else (setup.HINTON, soft)
        training = setup.student(config.student_width, objective, epochs=epochs)
        columns = {"transfer": name, "arm": arm, "transfer_size": size}
        yield Arm(
            columns | {"student_width": config.student_width, "epochs": epochs},
            training,
            data,
            config.seeds,
            axes | {"learning_rate": config.learning_rates},
            select_on=seen(data.validation, omitted),
            extras=logits_of(training.model, "validation", "test"),
        )


def judge(logits, images, omitted, moved):
    """The biases and test errors of a run at each stage, and accuracies by class."""
    splits = ("validation", "test")
    labels = {split: getattr(images, split)["label"] for split in splits}
    held_out, by_test = (best_bias(logits[s], labels[s], moved) for s in splits)
    counts = np.bincount(labels["test"], minlength=setup.CLASSES)
    run = {"bias_held_out": held_out, "bias_test": by_test}
    run["omitted_images"] = counts[[*omitted]].sum()
    classes = {"class": range(setup.CLASSES), "images": counts}
    for stage, bias in zip(STAGES, (0.0, held_out, by_test), strict=True):
        right = predicted(logits["test"], moved, bias) == labels["test"]
        wrong = np.bincount(labels["test"][~right], minlength=setup.CLASSES)
        run[f"errors_{stage}"] = wrong.sum()
        run[f"omitted_errors_{stage}"] = wrong[[*omitted]].sum()
        classes[f"accuracy_{stage}"] = (counts - wrong) / counts
    return run, pd.DataFrame(classes)


def judged(arm, found, *digits):
    """The runs of an arm and the results by class, for runs that did not diverge."""
    runs, classes = {}, []
    for i, seed in found.runs.query("not diverged")["seed"].items():
        logits = {split: kept[i] for split, kept in found.extras.items()}
        runs[i], by_class = judge(logits, arm.data, *digits)
        cells = {name: arm.columns[name] for name in ("transfer", "arm")}
        classes.append(labelled(by_class, {**cells, "seed": seed}))
    # Drop the best epoch: its selection has used validation images of all digits.
    last = found.runs[[name for name in found.runs if "best" not in name]]
    return last.join(pd.DataFrame(list(runs.values()), index=list(runs))), classes


def run(config, images, info):
    teacher = setup.hinton_teacher(config, images)
    naive_config = replace(config, teacher_epochs=config.naive_teacher_epochs)
    found, classes, naive_teachers = [], [], {}
    for name, (omitted, moved) in transfers(config).items():
        data_by_arm = {"distilled": teacher.data, "hard": teacher.data}
        if name != ONLY and omitted[0] in config.naive_teachers:
            part = images._replace(train=seen(images.train, omitted))
            naive = setup.hinton_teacher(naive_config, part)
            data_by_arm["naive_teacher"], naive_teachers[name] = naive
        for arm in arms(config, name, omitted, data_by_arm):
            each = tuned(arm)
            runs, by_class = judged(arm, each, omitted, moved)
            found.append((arm.without_data(), each._replace(runs=runs)))
            classes += by_class
    tables, seconds = gather(found)
    tables = {t: labelled(rows, info.columns()) for t, rows in tables.items()}
    facts = {"teacher": teacher.quality, "naive_teachers": naive_teachers}
    seconds += sum(q["seconds"] for q in (teacher.quality, *naive_teachers.values()))
    return Outcome(tables, facts | {"seconds": round(seconds)}, extras=classes)


def threes_right(runs):
    """``[seeds]``, accuracy on threes of distilled students that saw none."""
    rows = runs.query("transfer == 'without 3' and arm == 'distilled'")
    return 1 - rows["omitted_errors_bias_held_out"] / rows["omitted_images"]


def spared(runs, baseline):
    """``[seeds]``, errors of a baseline minus those of distilled students.

    The mean is over omitted digits with this baseline, without the set of 7 and 8.
    """
    errors = runs.query("transfer != @ONLY").pivot(
        index="seed", columns=["arm", "transfer"], values="errors_bias_held_out"
    )
    there = errors[baseline]
    return (there - errors["distilled"][there.columns]).mean(axis=1, skipna=False)


def show(tables, meta):
    """Prints error rates beside those of the paper."""
    runs = tables["runs"]
    students = runs["transfer"] + ", " + runs["arm"]
    images = {
        "errors": meta["dataset"]["test"],
        "omitted_errors": runs["omitted_images"],
    }
    for of, count in images.items():
        wrong = 100 * runs[[f"{of}_{stage}" for stage in STAGES]].div(count, axis=0)
        means = wrong.set_axis(STAGES, axis=1).groupby(students).mean()
        for transfer, known in meta["paper"].items():
            before, after = known[f"{of}_percent"] or (np.nan, np.nan)
            means.loc[f"{transfer}, paper"] = [before, np.nan, after]
        print_table(means.sort_index().round(2), f"{of}, % of test images")


CLAIMS = {
    "unseen_class": Claim(
        "An unseen class can be learned from soft targets: 98.6 % of threes",
        "accuracy on threes of distilled students that never saw one, with a bias "
        "selected on held-out images",
        threes_right,
        above(0.95),
    ),
    "beyond_hard_labels": Claim(
        "Hard labels with a bias cannot recover the unseen class",
        "test errors with hard labels minus those of distilled students, both with a "
        "bias selected on held-out images, mean over omitted digits",
        partial(spared, baseline="hard"),
        above(0.0),
    ),
    "beyond_naive_teacher": Claim(
        "Nor can soft targets from a teacher that never saw the class",
        "test errors of a naive teacher's students minus those of distilled students, "
        "both with a bias selected on held-out images, mean over omitted digits",
        partial(spared, baseline="naive_teacher"),
        above(0.0),
    ),
}
STUDY = Study(
    "omitted_digit",
    __doc__,
    Config,
    run,
    show,
    cost="90 minutes",
    quick=setup.QUICK_TEACHER
    | {"omitted": (3, 8), "naive_teachers": (3,), "naive_teacher_epochs": 20}
    | {"student_width": 100, "learning_rates": (1e-3, 3e-3), "seeds": 3},
    derived={"classes": lambda outcome: pd.concat(outcome.extras, ignore_index=True)},
    claims=CLAIMS,
    paper=PAPER,
)

if __name__ == "__main__":
    main(STUDY)
