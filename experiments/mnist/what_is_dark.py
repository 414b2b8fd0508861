"""Which part of a teacher's answer teaches, and does it teach more with few images?

Students learn from all of the answer, from parts of it, and from controls without it,
on 1, 3, 10 and 100 % of the training images. The teacher saw all images whatever the
student sees, as in table 5 of Hinton's paper: what a student lacks, its teacher may
know. The few images are repeated until they fill an epoch, so every student takes the
same steps, is validated as often, and is the same program.

Learning rate, temperature and smoothing are chosen on validation for every arm and
share of the images, by a seed that is not measured. Other distances to the whole
answer are tried on 3 and 100 %. That is 708 runs, 408 of them to choose: two hours at
1.4 ms a step and student, on one core.

DKPP's permutation is drawn once an example: fixed targets, as a teacher's are. A
student may then learn false likenesses by heart, so its mean over all permutations is
an arm, too, with the same confidence and nothing of which class is like which.

    python -m experiments.what_is_dark                    # embedded digits
    python -m experiments.what_is_dark --dataset mnist    # 2 hours on one core
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import mnist, running, tuning
from kdjax import checks, data, losses, models, results
from kdjax.results import Claim, Estimate, Table
from kdjax.sweep import grid

FEW, ALL = 0.03, 1.0  # shares of the images that the claims are about
COMPARED = ("hard", "whole")  # arms whose answers to the test images are kept
PICTURED = 12  # test images that the second gets right and the first does not
ERRORS = "test_errors_last"


@dataclass(frozen=True)
class Config(mnist.TeacherConfig):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_width: int = 300
    """Units of each of a student's two hidden layers."""
    fractions: tuple[float, ...] = (0.01, FEW, 0.1, ALL)
    """Shares of the training images that a student sees."""
    distance_fractions: tuple[float, ...] = (FEW, ALL)
    """Those of them on which other distances to the teacher are tried."""
    temperatures: tuple[float, ...] = (2.0, 5.0, 20.0)
    """To choose from for every arm that softens the teacher."""
    smoothings: tuple[float, ...] = (0.05, 0.1)
    """To choose from for label smoothing."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Adam's, at the first step, to choose from for every arm."""
    seeds: int = 5
    """How many students are measured, for every arm and share."""
    epochs: int = 15
    """Of as many images as there are, for a student, however few it sees."""


QUICK = mnist.QUICK_TEACHER | {
    "student_width": 100,
    "fractions": (FEW, ALL),
    "temperatures": (5.0,),
    "smoothings": (0.1,),
    "learning_rates": (3e-3,),
    "seeds": 3,
    "epochs": 8,
}
CLAIMS = {
    "dark_knowledge": Claim(
        says="What teaches is which classes are alike",
        statistic="share of the teacher's gain that DKPP keeps, on all images",
        supported=(None, 0.5),
        refuted=(0.5, None),
    ),
    "dark_knowledge_even": Claim(
        says="What teaches is which classes are alike",
        statistic="share of the teacher's gain that DKPP's mean keeps, on all images",
        supported=(None, 0.5),
        refuted=(0.5, None),
    ),
    "few_images": Claim(
        says="Soft labels teach more than labels where data are few",
        statistic="points of accuracy that the teacher adds on 3 % of the images",
        supported=(0.0, None),
        refuted=(None, 0.0),
    ),
    # Worse by less than a twentieth is no worse fit.
    "mse_raw": Claim(
        says="Mean squared error on logits is a worse fit than KL",
        statistic="its test errors over those of KL, less 1, on all images",
        supported=(0.05, None),
        refuted=(None, 0.05),
    ),
    "mse_centered": Claim(
        says="Mean squared error on logits is a worse fit than KL",
        statistic="its test errors, logits centred, over those of KL, less 1",
        supported=(0.05, None),
        refuted=(None, 0.05),
    ),
}


class Arm(NamedTuple):
    loss: Callable  # as a training calls it
    axes: Mapping[str, Sequence[float]]  # to choose from, learning rates apart
    augment: Callable | None = None
    permuted: bool = False  # whether the teacher's other classes are


def whole(logits, teacher_logits, _, *, temperature):
    return losses.soft_kl(logits, teacher_logits, temperature=temperature)


def even_others(logits, teacher_logits, _, *, temperature):
    """`whole` with what DKPP's targets are on average over all permutations.

    So is its gradient that of DKPP with a new permutation every step, on average.
    """
    count = teacher_logits.shape[-1]
    top = jax.nn.one_hot(jnp.argmax(teacher_logits, -1), count, dtype=bool)
    others = jax.nn.logsumexp(
        teacher_logits / temperature, -1, where=~top, keepdims=True
    )
    even = temperature * (others - math.log(count - 1))
    targets = jnp.where(top, teacher_logits, even)
    return losses.soft_kl(logits, targets, temperature=temperature)


def label_and_others(logits, teacher_logits, labels, *, temperature):
    """NCKD beside the labels: alone it says nothing of the label's class."""
    others = losses.nckd(logits, teacher_logits, labels, temperature=temperature)
    return losses.cross_entropy(logits, labels) + others


def likeliest(k: int) -> Callable:
    """`whole` with a teacher of ``k`` classes; the student has all of them."""

    def loss(logits, teacher_logits, _, *, temperature):
        kept = losses.top_k(teacher_logits, k=k)
        teacher_logits = jnp.where(kept, teacher_logits, -jnp.inf)
        return losses.soft_kl(logits, teacher_logits, temperature=temperature)

    return loss


def unlabelled(of_logits: Callable) -> Callable:
    """A loss of both logits, as a training calls it."""

    def loss(logits, teacher_logits, _):
        return of_logits(logits, teacher_logits)

    return loss


def softened(divergence: Callable) -> Callable:
    """A divergence at a temperature, as `losses.soft_kl` is forward KL at one."""

    def loss(logits, teacher_logits, _, *, temperature):
        soft = divergence(logits / temperature, teacher_logits / temperature)
        return temperature**2 * soft

    return loss


def parts(config: Config) -> dict[str, Arm]:
    """Students with the teacher, with a part of its answer, and without it."""
    soft = {"temperature": config.temperatures}
    return {
        "hard": Arm(mnist.cross_entropy, {}),
        "jitter": Arm(mnist.cross_entropy, {}, augment=data.jitter),
        "smoothing": Arm(mnist.label_smoothing, {"smoothing": config.smoothings}),
        "argmax": Arm(unlabelled(losses.teacher_argmax), {}),
        "cwtm": Arm(losses.confidence_weighted, {}),
        "dkpp": Arm(whole, soft, permuted=True),
        "even": Arm(even_others, soft),
        "tckd": Arm(losses.tckd, soft),
        "nckd": Arm(label_and_others, soft),
        "top2": Arm(likeliest(2), soft),
        "top3": Arm(likeliest(3), soft),
        "whole": Arm(whole, soft),
    }


def distances(config: Config) -> dict[str, Arm]:
    """Students with all of the teacher's answer, at another distance than KL."""
    soft = {"temperature": config.temperatures}
    divergences = {
        "reverse_kl": losses.reverse_kl,
        "skew_forward_kl": losses.skew_forward_kl,
        "jensen_shannon": losses.normalized_jensen_shannon,
        "total_variation": losses.total_variation,
    }
    return {
        "mse": Arm(unlabelled(losses.logit_mse), {}),
        "centered_mse": Arm(unlabelled(losses.centered_logit_mse), {}),
    } | {name: Arm(softened(loss), soft) for name, loss in divergences.items()}


def arms(config: Config, fraction: float) -> dict[str, Arm]:
    here = fraction in config.distance_fractions
    return parts(config) | (distances(config) if here else {})


def settings(config: Config, arm: Arm) -> Table:
    """To choose from."""
    return grid({**arm.axes, "learning_rate": config.learning_rates}, arm.loss)


def runs(config: Config) -> int:
    """How many runs there will be, those to choose by among them."""
    rates = len(config.learning_rates)
    return sum(
        math.prod(map(len, arm.axes.values())) * rates + config.seeds
        for fraction in config.fractions
        for arm in arms(config, fraction).values()
    )


def permuted(split: data.Split) -> data.Split:
    """The split with DKPP's targets for the teacher's answers."""
    logits = losses.permute_others(jax.random.key(0), split.teacher_logits)
    return split._replace(teacher_logits=np.asarray(logits))


def run(config: Config, images: data.Data, info: data.Info) -> Iterator[tuple]:
    """What each arm is on each share of the images, and what it came to."""
    dkpp = permuted(images.train)
    for fraction in config.fractions:
        for name, arm in arms(config, fraction).items():
            train = mnist.few(dkpp if arm.permuted else images.train, fraction)
            training = mnist.student(
                config.student_width,
                arm.loss,
                epochs=config.epochs,
                augment=arm.augment,
            )
            kept = name in COMPARED and fraction == ALL
            what = {"fraction": fraction, "arm": name}
            yield (
                info.columns() | what | {"student_width": config.student_width},
                tuning.tuned(
                    training,
                    settings(config, arm),
                    data=images._replace(train=train),
                    seeds=range(config.seeds),
                    name=f"{name}, {100 * fraction:g} %",
                    choose=tuning.best_row,
                    keep=partial(answers, training.model) if kept else None,
                ),
            )


def answers(model: models.Model, variables: Any, images: data.Data) -> dict:
    """The likeliest class of every test image."""
    return {"answers": jnp.argmax(model.apply(variables, images.test.x).logits, -1)}


def telling(answers: Mapping[str, np.ndarray], split: data.Split) -> Table:
    """Test images that students of the whole answer get right, and others do not.

    Those on which the most seeds differ; of equals, those that come first. Extremes,
    picked for it: how many there are, and of the contrary, `each_way` says.

    Args:
      answers: Of each of `COMPARED`, ``[seeds, N]``.
      split: The test images, with the teacher's logits.
    """
    right = {arm: np.mean(a == split.y, 0) for arm, a in answers.items()}
    rows = np.argsort(right["hard"] - right["whole"], kind="stable")[:PICTURED]
    usual = [np.bincount(column).argmax() for column in answers["hard"][:, rows].T]
    table = {f"{arm}_right": right[arm][rows] for arm in COMPARED}
    return table | {"hard_answer": np.array(usual)} | mnist.pictured(split, rows)


def each_way(answers: Mapping[str, np.ndarray], labels: np.ndarray) -> dict[str, int]:
    """Of each of `COMPARED`: images that most of its seeds alone get right."""
    hard, full = (np.mean(answers[arm] == labels, 0) > 0.5 for arm in COMPARED)
    return {"hard": int((hard & ~full).sum()), "whole": int((full & ~hard).sum())}


def errors(table: Table, arm: str, fraction: float) -> np.ndarray:
    """On the test images, of each seed."""
    return results.select(table, arm=arm, fraction=fraction)[ERRORS]


def share(table: Table, arm: str, fraction: float) -> Estimate:
    """Of the errors that the whole answer takes from a student, those the arm takes.

    Where the whole answer may take none, a share of them means nothing: NaN.
    """

    hard, part, full = (
        errors(table, name, fraction) for name in ("hard", arm, "whole")
    )
    if full.mean() >= hard.mean():
        return Estimate(math.nan, math.nan, math.nan)
    return results.ratio(hard - part, hard - full)


def shares(table: Table) -> Table:
    """Of each arm on each share of the images, a row for each."""
    pairs = zip(table["fraction"], table["arm"], strict=True)
    rows = [
        (fraction, arm, *share(table, arm, fraction))
        for fraction, arm in dict.fromkeys(pairs)
        if arm not in ("hard", "whole")  # 0 and 1
    ]
    names = ("fraction", "arm", "share", "share_low", "share_high")
    return results.table(names, rows)


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim. Students of a seed share initial weights and batches."""
    table = tables["runs"]
    hard, full = (
        results.select(table, arm=arm, fraction=FEW)["test_accuracy_last"]
        for arm in ("hard", "whole")
    )
    kl = errors(table, "whole", ALL)
    raw, centered = (errors(table, arm, ALL) for arm in ("mse", "centered_mse"))
    return {
        "dark_knowledge": share(table, "dkpp", ALL),
        "dark_knowledge_even": share(table, "even", ALL),
        "few_images": results.estimate(100 * (full - hard)),
        "mse_raw": results.estimate((raw - kl) / kl.mean()),
        "mse_centered": results.estimate((centered - kl) / kl.mean()),
    }


def check(config: Config) -> None:
    """Raises TypeError or ValueError if the config asks for what cannot be."""
    mnist.check_teacher(config)
    for name in ("student_width", "seeds", "epochs"):
        checks.check_counts(name, getattr(config, name))
    fractions = config.fractions
    if not all(0 < f <= 1 for f in fractions) or len(set(fractions)) < len(fractions):
        raise ValueError(f"fractions are {fractions}, but lie in (0, 1], each once")
    for name in ("fractions", "distance_fractions"):
        if not {FEW, ALL} <= set(getattr(config, name)) <= set(fractions):
            raise ValueError(
                f"{name} are {getattr(config, name)}, but have {FEW} and {ALL}, which "
                f"the claims are about, and none but those of {fractions}"
            )
    for arm in arms(config, ALL).values():
        settings(config, arm)


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints test errors, and shares of the gain."""
    table, gains = tables["runs"], tables["shares"]
    rich.print(f"teacher: {meta['teacher']['test']['errors']:.0f} test errors")
    printed = Printed("arm", title="Test errors, and share of the teacher's gain")
    fractions = np.unique(table["fraction"])
    for fraction in fractions:
        printed.add_column(f"{100 * fraction:g} % of the images")
    for arm in dict.fromkeys(table["arm"]):
        printed.add_row(arm, *(cell(table, gains, arm, f) for f in fractions))
    rich.print(printed)


def cell(table: Table, gains: Table, arm: str, fraction: float) -> str:
    here = errors(table, arm, fraction)
    if not len(here):
        return "-"
    text = "{:.1f} ± {:.1f}".format(*results.interval(here))
    gain = results.select(gains, arm=arm, fraction=fraction)["share"]
    return f"{text} ({gain[0]:.2f})" if np.isfinite(gain).any() else text


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    rich.print(f"{runs(config)} runs")
    taught = mnist.taught(config, images)
    found = list(run(config, taught.data, info))
    tables, seconds = tuning.gather(found)
    tables["shares"] = shares(tables["runs"])
    kept = {same["arm"]: t.kept["answers"] for same, t in found if t.kept}
    tables["digits"] = telling(kept, taught.data.test)
    seconds = round(taught.quality["seconds"] + seconds)
    alone = each_way(kept, taught.data.test.y)
    facts = {"teacher": taught.quality, "alone_right": alone, "seconds": seconds}
    return tables, facts


EXPERIMENT = running.Experiment(
    "what_is_dark",
    QUICK,
    check,
    answer,
    show,
    CLAIMS,
    statistics,
    tables=("runs", "shares"),
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
