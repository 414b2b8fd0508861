"""Which part of a teacher's prediction helps, and does it help more with few images?

Students learn from the full prediction, from parts of it, or without a teacher. They
see 1, 3, 10 and 100 % of the training images. The teacher is trained on all images, as
in table 5 of Hinton's paper, so it may know what students cannot. Small subsets of the
images are repeated to fill an epoch, so all students take the same number of steps.
Other divergences from the full prediction are tested on 3 and 100 %. Learning rate,
temperature and smoothing are selected on the validation set for every arm and subset,
with a separate seed: 708 runs, of which 408 are for selection.

DKPP permutes the probabilities of all classes but the largest. The permutation is drawn
once per example, so that the targets are fixed, as those of a teacher are. Since a
student may memorise false similarities, there is also an arm with the mean over all
permutations: the same confidence, with all other classes equal.

    python -m experiments.mnist.what_is_dark                    # 5,000 digits
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

FEW, ALL = 0.03, 1.0  # fractions of the images in claims
COMPARED = ("hard", "whole")  # arms whose test predictions are saved
PICTURED = 12  # test images that only the second gets right, for a figure
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(setup.AlikeStudents):
    fractions: Shares = (0.01, FEW, 0.1, ALL)
    """Fractions of the training images that students see."""
    distance_fractions: Shares = (FEW, ALL)
    """Fractions on which other distances to the teacher are tested."""
    temperatures: Positives = (2.0, 5.0, 20.0)
    """Temperatures to select from for every arm that has one."""
    smoothings: Fractions = (0.05, 0.1)
    """Strengths of label smoothing to select from."""


def even_others(student, teacher, batch, *, temperature):
    """The full prediction with all classes but the largest equal, the mean of DKPP.

    Its gradient is also the mean of DKPP's, with a new permutation in every step.
    """
    logits = teacher.logits
    count = logits.shape[-1]
    top = jax.nn.one_hot(jnp.argmax(logits, -1), count, dtype=bool)
    others = jax.nn.logsumexp(logits / temperature, -1, where=~top, keepdims=True)
    even = temperature * (others - math.log(count - 1))
    targets = jnp.where(top, logits, even)
    return losses.soft_kl(student.logits, targets, temperature=temperature)


def labels_and_others(student, teacher, batch, *, temperature):
    """NCKD plus hard labels, since NCKD does not use the label's class."""
    others = on_logits(losses.nckd)(student, teacher, batch, temperature=temperature)
    return setup.HARD(student, teacher, batch) + others


def most_probable(k, student, teacher, batch, *, temperature):
    """KL to the teacher's ``k`` most probable classes, renormalised."""
    kept = losses.top_k(teacher.logits, k=k)
    targets = jnp.where(kept, teacher.logits, -jnp.inf)
    return losses.soft_kl(student.logits, targets, temperature=temperature)


def softened(divergence, student, teacher, batch, *, temperature):
    """A divergence at a temperature, with the factor T^2 as in `losses.soft_kl`."""
    logits = (outputs.logits / temperature for outputs in (student, teacher))
    return temperature**2 * divergence(*logits)


PARTS = {  # parts of the prediction, and baselines
    "hard": setup.HARD,
    "jitter": setup.HARD,
    "smoothing": on_logits(losses.label_smoothing),
    "argmax": on_logits(losses.teacher_argmax),
    "cwtm": on_logits(losses.confidence_weighted),
    "dkpp": on_logits(losses.soft_kl),  # on permuted outputs
    "even": even_others,
    "tckd": on_logits(losses.tckd),
    "nckd": labels_and_others,
    "top2": partial(most_probable, 2),
    "top3": partial(most_probable, 3),
    "whole": on_logits(losses.soft_kl),
}
DISTANCES = {  # other distances to the full prediction
    "mse": on_logits(losses.logit_mse),
    "centered_mse": on_logits(losses.centered_logit_mse),
    "reverse_kl": partial(softened, losses.reverse_kl),
    "skew_forward_kl": partial(softened, losses.skew_forward_kl),
    "jensen_shannon": partial(softened, losses.normalized_jensen_shannon),
    "total_variation": partial(softened, losses.total_variation),
}
VIEWS = {"jitter": views.augmented(data.jitter)}


def permuted(split):
    """The split with DKPP's permuted targets as the teacher's outputs."""
    logits = losses.permute_others(jax.random.key(0), split["teacher"].logits)
    return {**split, "teacher": split["teacher"]._replace(logits=np.asarray(logits))}


def arms(config, images):
    dkpp, width = permuted(images.train), config.student_width
    for fraction in config.fractions:
        distances = DISTANCES if fraction in config.distance_fractions else {}
        for arm, objective in (PARTS | distances).items():
            train = dkpp if arm == "dkpp" else images.train
            subset = images._replace(train=setup.subsample(train, fraction))
            view = VIEWS.get(arm, views.unchanged)
            training = setup.student(width, objective, epochs=config.epochs, view=view)
            columns = {"fraction": fraction, "arm": arm, "student_width": width}
            axes = setup.search_grid(objective, config)
            kept = arm in COMPARED and fraction == ALL
            extras = logits_of(training.model, "test") if kept else None
            yield Arm(
                columns, training, subset, config.seeds, axes, best_row, extras=extras
            )


def predictions(found):
    """Test predictions ``[seeds, N]`` of the arms `COMPARED`, trained on all images."""
    return {arm.columns["arm"]: z["test"].argmax(-1) for arm, z in found.extras}


def each_way(predicted, labels):
    """For each of `COMPARED`, the number of images only most of its seeds get right."""
    hard, whole = (np.mean(predicted[arm] == labels, 0) > 0.5 for arm in COMPARED)
    return {"hard": int(sum(hard & ~whole)), "whole": int(sum(whole & ~hard))}


def telling(predicted, split):
    """The test images on which distilled students gain most over hard labels."""
    right = {f"{a}_right": np.mean(predicted[a] == split["label"], 0) for a in COMPARED}
    rows = np.argsort(right["hard_right"] - right["whole_right"], kind="stable")
    rows = rows[:PICTURED]
    table = pd.DataFrame({name: share[rows] for name, share in right.items()})
    table["hard_answer"] = stats.mode(predicted["hard"][:, rows]).mode
    return table.join(setup.image_table(split, rows))


def run(config, images, info):
    found = arms_run(setup.prepare, arms)(config, images, info)
    if predicted := predictions(found):
        found.facts["alone_right"] = each_way(predicted, found.data.test["label"])
    return found


def by_arm(runs, fraction, column=ERRORS):
    """One row per seed and one column per arm; a seed shares weights and batches."""
    rows = runs.query("fraction == @fraction")
    return rows.pivot(index="seed", columns="arm", values=column)


def share_of_gain(errors, arm):
    """The share of the teacher's gain that an arm attains; NaN if there is no gain.

    Args:
      errors: One row per seed and one column per arm, as from `by_arm`.
      arm: Name of its column.
    """
    gain = errors["hard"] - errors["whole"]
    if not gain.mean() > 0:
        return Estimate(math.nan, math.nan, math.nan)
    return ratio(errors["hard"] - errors[arm], gain)


def share(runs, arm, fraction=ALL):
    """The share of the teacher's gain that an arm attains on a fraction of images."""
    return share_of_gain(by_arm(runs, fraction), arm)


def shares(runs):
    """The share of the gain for each arm except `COMPARED`, and each fraction."""
    cells = runs.loc[~runs["arm"].isin(COMPARED), ["fraction", "arm"]].drop_duplicates()
    found = {(f, arm): share(runs, arm, f) for f, arm in cells.itertuples(index=False)}
    return estimates_table(found, ["fraction", "arm"], "share")


def points(runs):
    """``[seeds]``, the percentage-point gain over hard labels on few images."""
    accuracy = by_arm(runs, FEW, "test_accuracy_last")
    return 100 * (accuracy["whole"] - accuracy["hard"])


def excess(errors, arm):
    """``[seeds]``, the relative increase in errors of an arm over KL."""
    return (errors[arm] - errors["whole"]) / errors["whole"].mean()


def show(tables, meta):
    runs, arms = tables["runs"], [*PARTS, *DISTANCES]
    rich.print(f"teacher: {meta['teacher']['test']['errors']:.0f} test errors")
    errors = runs.groupby(["arm", "fraction"])[ERRORS].agg(format_mean)
    print_table(errors.unstack().reindex(arms), "Test errors by fraction of the images")
    gains = shares(runs).pivot(index="arm", columns="fraction", values="share")
    print_table(gains.reindex(arms).round(2), "Share of the teacher's gain")


CLAIMS = {}
for name, words, arm in (
    ("dark_knowledge", "permuted (DKPP)", "dkpp"),
    ("dark_knowledge_even", "equal (DKPP's mean)", "even"),
):
    CLAIMS[name] = Claim(
        "What the teacher transfers is class similarity",
        "share of the teacher's gain that is left with all classes but its most "
        f"probable {words}, all images",
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
        lambda runs, arm=arm: excess(by_arm(runs, ALL), arm),
        above(0.05),  # an increase of less than 5 % does not count
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
