"""Does the soft gradient scale as one over the square of the temperature?

Hinton multiplies the soft loss by T^2 because its gradient "scales as 1/T^2". That
holds only if T is far above the spread of the logits. This experiment measures the
gradient without the factor. First, its norm with respect to Gaussian logits of N
classes (standard deviation 5 for the teacher and 3 for the student, correlation 0.8),
as a mean over draws. Second, for an MNIST teacher and students at the start, middle and
end of training, its norm with respect to the logits (mean over training images) and to
the parameters (mean over batches), beside that of hard labels. Nothing is selected
here: students use the settings that `temperature_alpha` selected on the validation set.

    python -m experiments.mnist.temperature_gradients    # or with --dataset mnist
"""

from dataclasses import dataclass
from functools import partial
import itertools
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from experiments.mnist import stages
from kdjax import losses
from kdjax.losses.ranges import Range
from kdjax.study.arms import labelled
from kdjax.study.claims import Claim, below
from kdjax.study.command import main
from kdjax.study.study import Study, print_table
from kdjax.study.types import Count, Counts, Positive, Positives, flag

CORRELATION = Range("a number in [-1, 1]", -1, 1)


@dataclass(frozen=True)
class Config(stages.Students):
    temperatures: Positives = (0.5, 1, 2, 3, 4, 5, 8, 10, 20, 50, 100)
    """Temperatures at which gradients are measured."""
    classes: Counts = (10, 100, 1000)
    """Numbers of classes of Gaussian logits."""
    draws: Count = 2000
    """Draws of teacher and student logits per seed."""
    teacher_sd: Positive = 5.0
    """Standard deviation of the teacher's Gaussian logits."""
    student_sd: Positive = 3.0
    """Standard deviation of the student's Gaussian logits."""
    correlation: Annotated[float, CORRELATION, flag(float, "-1..1")] = 0.8
    """Correlation between the teacher's and the student's Gaussian logits."""


def gaussian_logits(config, classes, seed):
    """Logits of student and teacher, ``[draws, classes]`` each."""
    key = jax.random.fold_in(jax.random.key(seed), classes)
    teacher, own = jax.random.normal(key, (2, config.draws, classes))
    independent = np.sqrt(1 - config.correlation**2)
    student = config.correlation * teacher + independent * own
    return config.student_sd * student, config.teacher_sd * teacher


def by_logits(loss, logits, *targets):
    """The gradient of a loss with respect to the logits, ``[B, classes]``."""
    return jax.grad(lambda z: jnp.sum(loss(z, *targets)))(logits)


def by_parameters(model, variables, batch, loss, *targets):
    """The norm of the gradient of a mean loss with respect to the parameters."""

    def mean(params):
        outputs, _ = model.apply({**variables, "params": params}, batch)
        return jnp.mean(loss(outputs.logits, *targets))

    return optax.tree.norm(jax.grad(mean)(variables["params"]))


@jax.jit
def logit_norms(student, teacher, temperatures):
    """Means over examples of gradients of KL without the factor T^2, each ``[T]``.

    ``by_logits`` is the norm, and ``linear_error`` the relative distance of the
    gradient from its limit ``(z - v) / (N T^2)``.
    """
    limit = by_logits(losses.centered_logit_mse, student, teacher)
    length = jnp.linalg.norm(limit, axis=-1)

    def at(t):
        soft = by_logits(partial(losses.soft_kl, temperature=t), student, teacher)
        errors = jnp.linalg.norm(soft - limit, axis=-1) / length
        norm = jnp.linalg.norm(soft, axis=-1).mean() / t**2
        return {"by_logits": norm, "linear_error": errors.mean()}

    return jax.lax.map(at, temperatures)


@partial(jax.jit, static_argnums=0)
def parameter_norms(model, variables, batches, temperatures):
    """Mean norms over batches of KL without the factor T^2 ``[T]`` and hard labels."""

    def of(batch):
        norm = partial(by_parameters, model, variables, batch)
        teacher = batch["teacher"].logits

        def soft(t):
            return norm(partial(losses.soft_kl, temperature=t), teacher) / t**2

        hard = norm(losses.cross_entropy, batch["label"])
        return jax.lax.map(soft, temperatures), hard

    return jax.tree.map(partial(jnp.mean, axis=0), jax.lax.map(of, batches))


def described(temperatures, norms, hard):
    """One row per temperature: norms, log-log slopes and ratios to hard labels."""
    rows = pd.DataFrame({"temperature": temperatures} | jax.device_get(norms))
    for name, norm in hard.items():
        steps = np.log(rows[["temperature", name]]).diff()
        rows[f"{name}_compensated"] = rows["temperature"] ** 2 * rows[name]
        rows[f"{name}_slope"] = steps[name] / steps["temperature"]
        if norm is not None:
            rows[f"{name}_hard"] = float(norm)
            rows[f"{name}_ratio"] = rows[f"{name}_compensated"] / float(norm)
    return rows


def measure(config, images, model, variables):
    """Measures a student on the training images, in batches as in training."""
    size, temperatures = config.batch_size, np.sort(np.float32(config.temperatures))
    count = len(images.train["label"]) // size
    flat = jax.tree.map(lambda a: a[: count * size], images.train)
    batches = jax.tree.map(lambda a: a.reshape(count, size, *a.shape[1:]), flat)
    soft, hard = parameter_norms(model, variables, batches, temperatures)
    logits = model.apply(variables, flat)[0].logits
    norms = logit_norms(logits, flat["teacher"].logits, temperatures)
    gap = jnp.linalg.norm(
        by_logits(losses.cross_entropy, logits, flat["label"]), axis=-1
    )
    hard = {"by_logits": gap.mean(), "by_parameters": hard}
    return described(temperatures, norms | {"by_parameters": soft}, hard)


def run(config, images, info):
    outcome = stages.run(measure, config, images, info)
    temperatures, rows = np.sort(np.float32(config.temperatures)), []
    for classes, seed in itertools.product(config.classes, range(config.seeds)):
        norms = logit_norms(*gaussian_logits(config, classes, seed), temperatures)
        own = described(temperatures, norms, {"by_logits": None})
        rows.append(labelled(own, {"classes": classes, "seed": seed}))
    outcome.tables["gaussian"] = pd.concat(rows, ignore_index=True)
    return outcome


def show(tables, meta):
    """Prints log-log slopes, and T^2 times the norm, as means over seeds."""
    for kind in ("slope", "compensated"):
        for title, by in {"gaussian": "classes", "runs": "stage"}.items():
            rows = tables[title].groupby(["temperature", by], sort=False)
            means = rows.mean(numeric_only=True).filter(like=kind).unstack(sort=False)
            means.columns = [f"{n.split('_')[1]}, {value}" for n, value in means]
            print_table(means.map("{:.3g}".format), f"{title}: {kind}")


def doublings(rows, of):
    """``[seeds]``, absolute log2 change of T^2 times the norm from T = 1 to 20."""
    norms = rows.query(of).set_index(["temperature", "seed"])["by_logits_compensated"]
    return np.abs(np.log2(norms.loc[20] / norms.loc[1]))


SAYS = "The soft gradient scales as 1/T^2, and a factor of T^2 compensates"
GROWTH = "absolute log2 of the change in T^2 times the gradient norm from T = 1 to 20"
TRAINED = f"{GROWTH}, students trained on MNIST"
MANY = f"{GROWTH}, Gaussian logits of 1,000 classes"
at_end = partial(doublings, of="stage == 'end'")
of_many = partial(doublings, of="classes == 1000")
CLAIMS = {
    "square_on_mnist": Claim(SAYS, TRAINED, at_end, below(1)),
    "square_of_many_classes": Claim(SAYS, MANY, of_many, below(1), "gaussian"),
}
STUDY = Study(
    "temperature_gradients",
    __doc__,
    Config,
    run,
    show,
    cost="10 minutes",
    quick=stages.QUICK | {"draws": 200},
    claims=CLAIMS,
)

if __name__ == "__main__":
    main(STUDY)
