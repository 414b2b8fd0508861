"""Which part of a teacher's prediction helps, and does it help more with few images?

Students learn from the full prediction, from parts of it, and from baselines without a
teacher, on 1, 3, 10 and 100 % of the training images. The teacher was trained on all
images, as in table 5 of Hinton's paper, so it may know what a student cannot. A small
share of the images is repeated until it fills an epoch, so all students take the same
number of steps. Other divergences from the full prediction are tried on 3 and 100 %.
Learning rate, temperature and smoothing are selected on the validation set for every
arm and share, with a seed that is not measured: 708 runs, of which 408 are for
selection.

DKPP permutes the probabilities of the non-target classes. Its permutation is drawn once
for each example, so that the targets are fixed, as a teacher's are. Since a student may
then memorise false similarities, the mean over all permutations is an arm of its own:
the same confidence, with all other classes equally probable.

    python -m experiments.mnist.what_is_dark                    # embedded digits
    python -m experiments.mnist.what_is_dark --dataset mnist    # 2 hours, 2 cores
"""

from dataclasses import dataclass
from functools import partial
import math

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import rich
from scipy import stats

from experiments.mnist import setup
from kdjax import data, losses
from kdjax.objectives import on_logits
from kdjax.study.arms import Arm, logits_of
from kdjax.study.claims import Claim, above, below
from kdjax.study.command import main
from kdjax.study.selection import best_row
from kdjax.study.statistics import Estimate, estimates_table, format_mean, ratio
from kdjax.study.study import Study, arms_run, print_table
from kdjax.study.types import Fractions, Positives, Shares
from kdjax.training import views

FEW, ALL = 0.03, 1.0  # shares of the images that claims are about
COMPARED = ("hard", "whole")  # arms whose predictions on the test images are kept
PICTURED = 12  # test images that the second gets right and the first does not
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(setup.AlikeStudents):
    fractions: Shares = (0.01, FEW, 0.1, ALL)
    """Shares of the training images that a student sees."""
    distance_fractions: Shares = (FEW, ALL)
    """Those of them on which other distances to the teacher are tried."""
    temperatures: Positives = (2.0, 5.0, 20.0)
    """To choose from for every arm that softens the teacher."""
    smoothings: Fractions = (0.05, 0.1)
    """To choose from for label smoothing."""


def even_others(student, teacher, batch, *, temperature):
    """The whole prediction, its other classes as DKPP has them on average.

    Its gradient, too, is that of DKPP with a new permutation every step, on average.
    """
    logits = teacher.logits
    count = logits.shape[-1]
    top = jax.nn.one_hot(jnp.argmax(logits, -1), count, dtype=bool)
    others = jax.nn.logsumexp(logits / temperature, -1, where=~top, keepdims=True)
    even = temperature * (others - math.log(count - 1))
    targets = jnp.where(top, logits, even)
    return losses.soft_kl(student.logits, targets, temperature=temperature)


def labels_and_others(student, teacher, batch, *, temperature):
    """NCKD beside hard labels: alone it says nothing of the label's class."""
    others = on_logits(losses.nckd)(student, teacher, batch, temperature=temperature)
    return setup.HARD(student, teacher, batch) + others


def most_probable(k, student, teacher, batch, *, temperature):
    """The teacher's ``k`` most probable classes; the student has all of them."""
    kept = losses.top_k(teacher.logits, k=k)
    targets = jnp.where(kept, teacher.logits, -jnp.inf)
    return losses.soft_kl(student.logits, targets, temperature=temperature)


def softened(divergence, student, teacher, batch, *, temperature):
    """A divergence at a temperature, as `losses.soft_kl` is forward KL at one."""
    logits = (outputs.logits / temperature for outputs in (student, teacher))
    return temperature**2 * divergence(*logits)


PARTS = {  # of the prediction, and baselines
    "hard": setup.HARD,
    "jitter": setup.HARD,
    "smoothing": on_logits(losses.label_smoothing),
    "argmax": on_logits(losses.teacher_argmax),
    "cwtm": on_logits(losses.confidence_weighted),
    "dkpp": on_logits(losses.soft_kl),  # of permuted outputs
    "even": even_others,
    "tckd": on_logits(losses.tckd),
    "nckd": labels_and_others,
    "top2": partial(most_probable, 2),
    "top3": partial(most_probable, 3),
    "whole": on_logits(losses.soft_kl),
}
DISTANCES = {  # to the whole prediction
    "mse": on_logits(losses.logit_mse),
    "centered_mse": on_logits(losses.centered_logit_mse),
    "reverse_kl": partial(softened, losses.reverse_kl),
    "skew_forward_kl": partial(softened, losses.skew_forward_kl),
    "jensen_shannon": partial(softened, losses.normalized_jensen_shannon),
    "total_variation": partial(softened, losses.total_variation),
}
VIEWS = {"jitter": views.augmented(data.jitter)}


def permuted(split):
    """The split with DKPP's targets as the teacher's outputs."""
    logits = losses.permute_others(jax.random.key(0), split["teacher"].logits)
    return {**split, "teacher": split["teacher"]._replace(logits=np.asarray(logits))}


def arms(config, images):
    dkpp, width = permuted(images.train), config.student_width
    for fraction in config.fractions:
        distances = DISTANCES if fraction in config.distance_fractions else {}
        for arm, objective in (PARTS | distances).items():
            train = dkpp if arm == "dkpp" else images.train
            few = images._replace(train=setup.subsample(train, fraction))
            view = VIEWS.get(arm, views.unchanged)
            training = setup.student(width, objective, epochs=config.epochs, view=view)
            columns = {"fraction": fraction, "arm": arm, "student_width": width}
            axes = setup.choices(objective, config)
            kept = arm in COMPARED and fraction == ALL
            extras = logits_of(training.model, "test") if kept else None
            yield Arm(
                columns, training, few, config.seeds, axes, best_row, extras=extras
            )


def predictions(found):
    """``[seeds, N]`` of `COMPARED` on the test images, if they were trained on all."""
    return {arm.columns["arm"]: z["test"].argmax(-1) for arm, z in found.extras}


def each_way(answers, labels):
    """For either of `COMPARED`, images that most seeds of it alone get right."""
    hard, whole = (np.mean(answers[arm] == labels, 0) > 0.5 for arm in COMPARED)
    return {"hard": int(sum(hard & ~whole)), "whole": int(sum(whole & ~hard))}


def telling(answers, split):
    """The test images on which most seeds are right with the teacher alone."""
    right = {f"{a}_right": np.mean(answers[a] == split["label"], 0) for a in COMPARED}
    rows = np.argsort(right["hard_right"] - right["whole_right"], kind="stable")
    rows = rows[:PICTURED]
    table = pd.DataFrame({name: share[rows] for name, share in right.items()})
    table["hard_answer"] = stats.mode(answers["hard"][:, rows]).mode
    return table.join(setup.image_table(split, rows))


def run(config, images, info):
    found = arms_run(setup.prepare, arms)(config, images, info)
    if answers := predictions(found):
        found.facts["alone_right"] = each_way(answers, found.data.test["label"])
    return found


def by_arm(runs, fraction, column=ERRORS):
    """A row a seed, a column an arm. Students of a seed share weights and batches."""
    rows = runs.query("fraction == @fraction")
    return rows.pivot(index="seed", columns="arm", values=column)


def share(runs, arm, fraction=ALL):
    """Share of the teacher's gain on hard labels that an arm has, NaN if none is."""
    errors = by_arm(runs, fraction)
    gain = errors["hard"] - errors["whole"]
    if not gain.mean() > 0:
        return Estimate(math.nan, math.nan, math.nan)
    return ratio(errors["hard"] - errors[arm], gain)


def shares(runs):
    """A row for each arm but the ends, and each share of the images."""
    cells = runs.loc[~runs["arm"].isin(COMPARED), ["fraction", "arm"]].drop_duplicates()
    found = {(f, arm): share(runs, arm, f) for f, arm in cells.itertuples(index=False)}
    return estimates_table(found, ["fraction", "arm"], "share")


def points(runs):
    """``[seeds]``, the percentage-point gain on hard labels, of few images."""
    accuracy = by_arm(runs, FEW, "test_accuracy_last")
    return 100 * (accuracy["whole"] - accuracy["hard"])


def excess(runs, arm):
    """``[seeds]``, errors of an arm over those of KL, less 1."""
    errors = by_arm(runs, ALL)
    return (errors[arm] - errors["whole"]) / errors["whole"].mean()


def show(tables, meta):
    runs, arms = tables["runs"], [*PARTS, *DISTANCES]
    rich.print(f"teacher: {meta['teacher']['test']['errors']:.0f} test errors")
    errors = runs.groupby(["arm", "fraction"])[ERRORS].agg(format_mean)
    print_table(errors.unstack().reindex(arms), "Test errors by share of the images")
    gains = shares(runs).pivot(index="arm", columns="fraction", values="share")
    print_table(gains.reindex(arms).round(2), "Share of the teacher's gain")


CLAIMS = {}
for name, words, arm in (
    ("dark_knowledge", "permuted (DKPP)", "dkpp"),
    ("dark_knowledge_even", "uniform (DKPP's mean)", "even"),
):
    CLAIMS[name] = Claim(
        "What the teacher transfers is class similarity",
        f"share of the teacher's gain that is left with non-target classes {words}, "
        "all images",
        partial(share, arm=arm),
        below(0.5),
    )
CLAIMS["few_images"] = Claim(
    "Soft labels teach more than hard labels when data are scarce",
    "percentage points of accuracy that the teacher adds, 3 % of the images",
    points,
    above(0.0),
)
for name, words, arm in (
    ("mse_raw", "relative increase in test errors over KL, all images", "mse"),
    (
        "mse_centered",
        "relative increase in test errors over KL, centred logits, all images",
        "centered_mse",
    ),
):
    CLAIMS[name] = Claim(
        "Mean squared error on logits is a worse fit than KL",
        words,
        partial(excess, arm=arm),
        above(0.05),  # worse by less than a twentieth is no worse fit
    )
STUDY = Study(
    "what_is_dark",
    __doc__,
    Config,
    run,
    show,
    cost="2 hours",
    quick=setup.QUICK_TEACHER
    | {"student_width": 100, "fractions": (FEW, ALL), "temperatures": (5.0,)}
    | {"smoothings": (0.1,), "learning_rates": (3e-3,), "seeds": 3, "epochs": 8},
    derived={
        "shares": lambda found: shares(found.tables["runs"]),
        "digits": lambda found: telling(predictions(found), found.data.test),
    },
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
