"""Does a teacher halve the errors of a small network, as in Hinton's section 3?

In the paper, a teacher with 1,200 hidden units makes 67 test errors. A network with 800
makes 146 when trained on hard labels and 74 when it matches the teacher at T = 20.
Here, ten students of each kind are trained without augmentation. The learning rate and
the teacher's weight are selected on 5,000 held-out images, with a seed that is not
measured. `hinton_refit` then trains on all 60,000 images, as the paper does.

    python -m experiments.mnist.hinton                    # 5,000 digits
    python -m experiments.mnist.hinton --dataset mnist    # 70 minutes on 2 cores
"""

from dataclasses import dataclass

import pandas as pd

from experiments.mnist import setup
from kdjax.study.arms import Arm
from kdjax.study.claims import Claim, above
from kdjax.study.command import main
from kdjax.study.selection import best_row
from kdjax.study.statistics import interval
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Count, Fractions, Positive, Positives

PAPER = {"teacher": 67, "hard": 146, "distilled": 74}  # test errors
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(setup.Students):
    student_width: Count = 800
    """Hidden units in each of a student's two layers."""
    temperature: Positive = 20.0
    """Temperature at which students match the teacher."""
    alphas: Fractions = (0.5, 1.0)
    """Weights of the teacher to select from."""
    learning_rates: Positives = (3e-4, 1e-3, 3e-3, 1e-2)
    seeds: Count = 10
    """Number of seeds, each with one student per setting."""
    epochs: Count = 40


def arms(config, images):
    soft = {"temperature": [config.temperature], "alpha": config.alphas}
    width = config.student_width
    for arm, training, axes in setup.hard_and_distilled(config, width, soft):
        columns = {"arm": arm, "student_width": width}
        yield Arm(columns, training, images, config.seeds, axes, best_row)


def share_taken(runs):
    """``[seeds]``, the relative reduction in test errors due to the teacher.

    It is paired: students with the same seed share initial weights and batches.
    """
    errors = runs.pivot(index="seed", columns="arm", values=ERRORS)
    return 1 - errors["distilled"] / errors["hard"]


def show(tables, meta):
    """Prints test errors beside those of the paper."""
    rows = {"teacher": [f"{meta['teacher']['test']['errors']:.0f}"]}
    for arm, errors in tables["runs"].groupby("arm")[ERRORS]:
        rows[arm] = ["{:.1f} ± {:.1f}".format(*interval(errors))]
    table = pd.DataFrame(rows, ["here"]).T.assign(paper=pd.Series(PAPER))
    print_table(table, "Test errors, mean over seeds")


CLAIMS = {
    "dark_knowledge": Claim(
        "A teacher halves a small network's errors: 146 become 74",
        "relative reduction in a student's test errors due to the teacher",
        share_taken,
        above(0.4),
    ),
}
QUICK = setup.QUICK_TEACHER | {"student_width": 100, "seeds": 3, "epochs": 15}
STUDY = Study(
    "hinton_mnist",
    __doc__,
    Config,
    arms_run(setup.prepare, arms),
    show,
    cost="70 minutes",
    quick=QUICK | {"learning_rates": (1e-3, 3e-3)},
    claims=CLAIMS,
    paper=PAPER,
)

if __name__ == "__main__":
    main(STUDY)
