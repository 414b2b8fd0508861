"""How do temperature and alpha trade off in Hinton's loss?

Students learn from one teacher on a grid of temperatures and teacher weights alpha.
Three baselines have the same budget: hard labels (alpha = 0), label smoothing, and the
teacher's most probable class as the label. The learning rate of every cell is selected
on the validation set with a separate seed.

    python -m experiments.mnist.temperature_alpha                    # 5,000 digits
    python -m experiments.mnist.temperature_alpha --dataset mnist    # 1 hour, 2 cores
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from experiments.mnist import setup
from kdjax import losses, objectives
from kdjax.study.arms import Arm
from kdjax.study.command import main
from kdjax.study.selection import best_setting
from kdjax.study.statistics import format_mean
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Count, Counts, Fractions, Positives

LOSSES = ("hinton", "label_smoothing", "teacher_argmax")
ONCE = "alpha > 0 or temperature == temperature.min()"  # at alpha = 0, T has no effect
SETTING = ["temperature", "alpha", "smoothing"]
PICTURED = {"plain": 0.5, "doubtful": 0.99}  # quantiles of the teacher's entropy
ACCURACY = "test_accuracy_last"


@dataclass(frozen=True)
class Config(setup.PlainTeacher, setup.Learning):
    student_widths: Counts = (30, 300)
    """Hidden units in each of a student's two layers."""
    temperatures: Positives = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 12.0, 20.0, 40.0)
    """Temperatures of teacher and student."""
    alphas: Fractions = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
    """Weights of the teacher; 0 means hard labels."""
    smoothings: Fractions = (0.05, 0.1, 0.2)
    """Strengths of label smoothing, a baseline."""
    learning_rates: Positives = (3e-4, 1e-3, 3e-3, 1e-2)
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""
    batch_size: Count = 128
    """Images per step, for students and teacher."""
    teacher_epochs: Count = 60


def prepare(config, images, info):
    rate = config.teacher_learning_rate
    return setup.plain_teacher(config, images, learning_rate=rate).prepared()


def arms(config, images):
    sizes = {"epochs": config.epochs, "batch_size": config.batch_size}
    for width in config.student_widths:
        for loss in LOSSES:
            objective = objectives.on_logits(getattr(losses, loss))
            columns = {"student_width": width, "loss": loss}
            training = setup.student(width, objective, **sizes)
            axes = setup.search_grid(objective, config)
            only = ONCE if "alpha" in axes else ""
            yield Arm(columns, training, images, config.seeds, axes, only=only)


def digits(outcome):
    """Correctly classified test images of each class, plain and doubtful."""
    test = outcome.data.test
    logits = test["teacher"].logits
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    entropy = -np.sum(np.exp(log_p) * log_p, -1)
    images = pd.DataFrame({"label": test["label"], "entropy": entropy})
    right = images[logits.argmax(-1) == test["label"]].sort_values("entropy")
    classes = [of.index for _, of in right.groupby("label")]
    rows = [of[int(q * (len(of) - 1))] for of in classes for q in PICTURED.values()]
    table = setup.image_table(test, np.array(rows))
    table.insert(1, "kind", np.resize(list(PICTURED), len(rows)))
    return table


def summary(runs):
    """Test accuracy of each width and arm at the setting selected on validation."""
    arms = runs["loss"].mask(runs["alpha"] == 0, "hard labels").rename("arm")
    table = []
    for (width, arm), rows in runs.groupby(["student_width", arms]):
        best = best_setting(rows, *SETTING)
        accuracy = format_mean(100 * best[ACCURACY], 2)
        setting = dict(best[SETTING].iloc[0])
        table.append({"arm": arm, "units": width, "accuracy": accuracy, **setting})
    return pd.DataFrame(table).set_index("arm")


def show(tables, meta):
    for width, of in tables["runs"].groupby("student_width"):
        means = 100 * of.pivot_table(ACCURACY, "temperature", "alpha")
        print_table(means.round(2), f"Test accuracy (%) by alpha, {width} hidden units")
    print_table(summary(tables["runs"]), "Test accuracy (%), selected on validation")


STUDY = Study(
    "temperature_alpha",
    __doc__,
    Config,
    arms_run(prepare, arms),
    show,
    cost="1 hour",
    quick=setup.QUICK_TEACHER
    | {"student_widths": (30,), "temperatures": (1.0, 4.0, 20.0), "alphas": (0.0, 0.9)}
    | {"smoothings": (0.1,), "learning_rates": (3e-3,), "seeds": 3, "epochs": 12},
    derived={"digits": digits},
)

if __name__ == "__main__":
    main(STUDY)
