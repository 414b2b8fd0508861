"""Does the soft gradient fall as the square of the temperature?

Hinton weighs the soft loss by T^2, for its gradient "scales as 1/T^2". That holds only
far above the spread of the logits. Measured here is the gradient without the T^2:

- Of Gaussian logits (teacher sd 5, student sd 3, correlation 0.8) of N classes: the
  norm by the logits, mean over 2,000 draws, and then its local slope in log-log. Over
  5 sets of draws the known table is met within 0.024 in every slope and within 0.01 in
  T^2 times the norm: slopes of -1.2 to -2 at N = 10, but of -3.2 on the way at
  N = 1,000, where T^2 times the norm falls fivefold from T = 1 to T = 20.
- Of a teacher of MNIST and students at the start, in the middle and at the end of their
  training: the norm by the logits, mean over examples; the norm by the parameters, mean
  over batches; and both over those of the cross-entropy with the labels. Here T^2
  times the norm errs the other way: for students at the end of their training it grows
  68-fold from T = 1 to T = 100 by the logits, and 36-fold by the parameters.

The teacher takes 7 minutes on 2 busy cores unless it is kept, all else 1.5 minutes.

    python -m experiments.temperature_gradients                    # embedded digits
    python -m experiments.temperature_gradients --dataset mnist
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
import time
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from rich.table import Table as Printed
import tyro

from experiments import running, temperature_alpha
from kdjax import checks, data, losses, progress, results
from kdjax.results import Claim, Estimate, Table
from kdjax.train import Training

ENDS, MANY = (1, 20), 1000  # temperatures and classes that the claims are about


@dataclass(frozen=True)
class Students:
    """Who is looked at; of the teacher see `temperature_alpha`."""

    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""
    student_width: int = 300
    """Units of each of a student's two hidden layers."""
    temperature: float = 4.0
    """At which students learn from the teacher."""
    alpha: float = 0.9
    """The teacher's weight as they learn."""
    learning_rate: float = 1e-2
    """Adam's, at the first step, for a student: what `temperature_alpha` chose."""
    seeds: int = 5
    """How many students, and how many sets of draws."""
    epochs: int = 15
    """Passes over the training images, for a student."""
    batch_size: int = 128
    """Images a step, for students and teacher."""
    teacher_width: int = 1200
    """Units of each of the teacher's two hidden layers."""
    teacher_epochs: int = 60
    """Passes over the training images, for the teacher."""


@dataclass(frozen=True)
class Config(Students):
    temperatures: tuple[float, ...] = (0.5, 1, 2, 3, 4, 5, 8, 10, 20, 50, 100)
    """That soften teacher and student where gradients are measured."""
    classes: tuple[int, ...] = (10, 100, 1000)
    """Of Gaussian logits."""
    draws: int = 2000
    """Of teacher and student, a seed."""
    teacher_sd: float = 5.0
    """Of the teacher's Gaussian logits."""
    student_sd: float = 3.0
    """Of the student's Gaussian logits."""
    correlation: float = 0.8
    """Between the two."""


QUICK_STUDENTS = {
    "student_width": 30,
    "epochs": 6,
    "teacher_width": 300,
    "teacher_epochs": 20,
}
QUICK = QUICK_STUDENTS | {"draws": 200}


def gaussian_logits(config: Config, classes: int, seed: int) -> tuple:
    """Student's and teacher's ``[draws, classes]``."""
    key = jax.random.fold_in(jax.random.key(seed), classes)
    teacher, own = jax.random.normal(key, (2, config.draws, classes))
    independent = np.sqrt(1 - config.correlation**2)
    student = config.correlation * teacher + independent * own
    return config.student_sd * student, config.teacher_sd * teacher


@jax.jit
def by_logits(
    student_logits: jax.Array, teacher_logits: jax.Array, temperatures: jax.Array
) -> dict[str, jax.Array]:
    """At each temperature ``[T]``, means over examples.

    Returns:
      ``by_logits``, the norm of KL's gradient without the factor T^2, and
      ``linear_error``: how far it is from its limit ``(z - v) / (N T^2)``, of logits
      less their mean, over the norm of that limit.
    """

    def gradient(loss: Callable) -> jax.Array:
        return jax.grad(lambda z: jnp.sum(loss(z, teacher_logits)))(student_logits)

    limit = gradient(losses.centered_logit_mse)
    length = jnp.linalg.norm(limit, axis=-1)

    def at(temperature: jax.Array) -> dict[str, jax.Array]:
        soft = gradient(partial(losses.soft_kl, temperature=temperature))
        error = jnp.linalg.norm(soft - limit, axis=-1) / length
        norm = jnp.mean(jnp.linalg.norm(soft, axis=-1))
        return {"by_logits": norm / temperature**2, "linear_error": jnp.mean(error)}

    return jax.lax.map(at, temperatures)


@partial(jax.jit, static_argnums=0)
def by_parameters(
    training: Training, variables: Any, batches: data.Split, temperatures: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Norms of the gradients of a batch's mean loss, mean over ``batches`` [B, ...].

    Returns:
      Of KL without the factor T^2, ``[T]``; and of cross-entropy with the labels.
    """

    def norms(batch: data.Split) -> tuple[jax.Array, jax.Array]:
        def norm(loss: Callable) -> jax.Array:
            def objective(variables):
                return jnp.mean(loss(training.model.apply(variables, batch.x).logits))

            return optax.tree.norm(jax.grad(objective)(variables))

        def at(temperature: jax.Array) -> jax.Array:
            soft = partial(losses.soft_kl, temperature=temperature)
            return norm(lambda z: soft(z, batch.teacher_logits)) / temperature**2

        hard = norm(lambda z: losses.cross_entropy(z, batch.y))
        return jax.lax.map(at, temperatures), hard

    soft, hard = jax.lax.map(norms, batches)
    return jnp.mean(soft, 0), jnp.mean(hard)


def slopes(temperatures: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Of log norm by log T, from the temperature before; NaN at the first."""
    slope = np.diff(np.log(norms)) / np.diff(np.log(temperatures))
    return np.concatenate([[np.nan], slope])


def described(temperatures: np.ndarray, measures: Table, hard: Table) -> Table:
    """The rows of one student or set of draws: norms, and what follows from them.

    Args:
      temperatures: ``[T]``.
      measures: ``[T]`` each; norms are named as in ``hard``.
      hard: The norms of cross-entropy with the labels; NaN where there are none.
    """
    table = {"temperature": temperatures} | measures
    for name, value in hard.items():
        table[f"{name}_compensated"] = temperatures**2 * measures[name]
        table[f"{name}_slope"] = slopes(temperatures, measures[name])
        if not np.isnan(value):
            table[f"{name}_hard"] = np.full(len(temperatures), value)
            table[f"{name}_ratio"] = table[f"{name}_compensated"] / value
    return table


def with_teacher(config: Students, images: data.Data) -> tuple[data.Data, dict]:
    return temperature_alpha.with_teacher(_usual(config), images)


def _usual(config: Students) -> temperature_alpha.Config:
    names = ("dataset", "epochs", "batch_size", "teacher_width", "teacher_epochs")
    return temperature_alpha.Config(**{n: getattr(config, n) for n in names})


def students(
    config: Students, images: data.Data
) -> Iterator[tuple[int, str, Training, Any]]:
    """Each seed and stage, with the training and the variables there."""
    training = temperature_alpha.student(
        _usual(config), config.student_width, losses.hinton
    )
    images = jax.device_put(images._replace(test=None))
    init, epoch = jax.jit(training.init), jax.jit(training.epoch)
    names = ("temperature", "alpha", "learning_rate")
    hyperparameters = {n: np.float32(getattr(config, n)) for n in names}
    stages = {(config.epochs + 1) // 2: "middle", config.epochs: "end"}
    for seed in progress.track(range(config.seeds), "students"):
        init_key, key = jax.random.split(jax.random.key(seed))
        state = init(init_key, hyperparameters, images)
        yield seed, "start", training, state.variables
        for done in range(1, config.epochs + 1):
            state, _ = epoch(state, jax.random.fold_in(key, done), images)
            if done in stages:
                yield seed, stages[done], training, state.variables


def in_batches(split: data.Split, size: int) -> data.Split:
    """``[B, size, ...]``; the few left over are left out."""
    count = len(split.y) // size
    return jax.tree.map(
        lambda a: jnp.reshape(a[: count * size], (count, size, *a.shape[1:])), split
    )


def measure_gaussian(config: Config) -> Table:
    temperatures, parts = np.float32(config.temperatures), []
    for classes in config.classes:
        for seed in range(config.seeds):
            pair = gaussian_logits(config, classes, seed)
            measures = jax.device_get(by_logits(*pair, temperatures))
            table = described(temperatures, measures, {"by_logits": np.nan})
            same = {"classes": classes, "seed": seed}
            parts.append({n: np.full(len(temperatures), v) for n, v in same.items()})
            parts[-1] |= table
    return results.concatenate(parts)


def measure_students(config: Config, images: data.Data, info: data.Info) -> Table:
    """On the training images, in batches as in training."""
    temperatures, parts = np.float32(config.temperatures), []
    batches = in_batches(images.train, config.batch_size)
    flat = jax.tree.map(lambda a: jnp.reshape(a, (-1, *a.shape[2:])), batches)
    for seed, stage, training, variables in students(config, images):
        logits = training.model.apply(variables, flat.x).logits
        measures = by_logits(logits, flat.teacher_logits, temperatures)
        soft, hard = by_parameters(training, variables, batches, temperatures)
        measures = jax.device_get(measures | {"by_parameters": soft})
        gap = jax.grad(lambda z: jnp.sum(losses.cross_entropy(z, flat.y)))(logits)
        hard = {
            "by_logits": float(jnp.mean(jnp.linalg.norm(gap, axis=-1))),
            "by_parameters": float(hard),
        }
        same = info.columns() | {"stage": stage, "seed": seed}
        parts.append({n: np.full(len(temperatures), v) for n, v in same.items()})
        parts[-1] |= described(temperatures, measures, hard)
    return results.concatenate(parts)


def check_students(config: Students) -> None:
    """Raises ValueError if the config asks for students that cannot be."""
    temperature_alpha.check(_usual(config))
    for name in ("temperature", "alpha", "learning_rate"):
        checks.check_values(name, [getattr(config, name)])
    for name in ("student_width", "seeds"):
        checks.check_counts(name, getattr(config, name))


def check(config: Config) -> None:
    """Raises ValueError if the config asks for what cannot be."""
    check_students(config)
    checks.check_values("temperature", config.temperatures)
    if list(config.temperatures) != sorted(set(config.temperatures)):
        raise ValueError(f"temperatures are {config.temperatures}, but take an order")
    for name in ("classes", "draws"):
        checks.check_counts(name, getattr(config, name))
    if not -1 <= config.correlation <= 1:
        raise ValueError(f"correlation is {config.correlation}, but takes [-1, 1]")
    for name, needed in (("temperatures", set(ENDS)), ("classes", {MANY})):
        if not needed <= set(getattr(config, name)):
            raise ValueError(
                f"{name} are {getattr(config, name)}, but have {needed}, which the "
                f"claims are about"
            )


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints slopes, and T^2 times the norm, each a mean over seeds."""
    runs, gaussian = tables["runs"], tables["gaussian"]
    parts = [
        (f"N = {n:g}", results.select(gaussian, classes=n), "by_logits")
        for n in np.unique(gaussian["classes"])
    ]
    for stage in dict.fromkeys(runs["stage"]):
        rows = results.select(runs, stage=stage)
        parts += [(f"{stage}: {n}", rows, n) for n in ("by_logits", "by_parameters")]
    for kind, format in (("slope", "{:.2f}"), ("compensated", "{:.3g}")):
        title = {"slope": "slope from the T before", "compensated": "T² · norm"}[kind]
        printed = Printed("T", title=title)
        for name, _, _ in parts:
            printed.add_column(name.replace("by_", ""))
        for t in np.unique(gaussian["temperature"]):
            cells = (
                results.select(rows, temperature=t)[f"{name}_{kind}"].mean()
                for _, rows, name in parts
            )
            printed.add_row(f"{t:g}", *(format.format(c) for c in cells))
        rich.print(printed)


CLAIMS = {
    "square_on_mnist": Claim(
        says="The soft gradient falls as 1/T^2, and a factor T^2 cancels this out",
        statistic="doublings of T^2 times the norm by the logits from T = 1 to 20, up "
        "or down, of trained students of MNIST",
        supported=(None, 1),
        refuted=(1, None),
    ),
    "square_of_many_classes": Claim(
        says="The soft gradient falls as 1/T^2, and a factor T^2 cancels this out",
        statistic="doublings of T^2 times the norm by the logits from T = 1 to 20, up "
        "or down, of Gaussian logits of 1,000 classes",
        supported=(None, 1),
        refuted=(1, None),
    ),
}


def statistics(tables: dict[str, Table]) -> dict[str, Estimate]:
    """Of each claim."""

    def doublings(rows: Table) -> Estimate:
        low, high = (results.select(rows, temperature=t) for t in ENDS)
        growth = high["by_logits_compensated"] / low["by_logits_compensated"]
        return results.estimate(np.abs(np.log2(growth)))

    return {
        "square_on_mnist": doublings(results.select(tables["runs"], stage="end")),
        "square_of_many_classes": doublings(
            results.select(tables["gaussian"], classes=MANY)
        ),
    }


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    images, quality = with_teacher(config, images)
    began = time.monotonic()
    tables = {
        "runs": measure_students(config, images, info),
        "gaussian": measure_gaussian(config),
    }
    seconds = round(quality["seconds"] + time.monotonic() - began)
    return tables, {"teacher": quality, "seconds": seconds}


EXPERIMENT = running.Experiment(
    "temperature_gradients",
    QUICK,
    check,
    answer,
    show,
    CLAIMS,
    statistics,
    tables=("runs", "gaussian"),
)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
