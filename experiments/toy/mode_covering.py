"""Which divergences cover two modes, and which seek one?

The teacher is a mixture of two Gaussians on a fine grid, whose points are the classes.
One student is a single Gaussian on that grid, which cannot represent the mixture. The
other has a free logit per point, so it can. Each divergence is minimised for both from
several starting points, and each fit is measured early and at the end. There are no
data, so nothing is selected on a validation set. The start with the lowest final loss
is shown.

    python -m experiments.toy.mode_covering
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import itertools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from kdjax import losses
from kdjax.study import types
from kdjax.study.arms import labelled
from kdjax.study.command import main
from kdjax.study.study import Outcome, Study, print_table
from kdjax.study.types import Count, Fraction, Positive

FIT = ["student", "loss", "stage"]


@dataclass(frozen=True)
class Config(types.Config):
    weights: tuple[Positive, Positive] = (0.7, 0.3)
    """Weights of the teacher's left and right mode."""
    means: tuple[float, float] = (-2.0, 2.0)
    """Means of the teacher's modes."""
    scales: tuple[Positive, Positive] = (0.6, 0.6)
    """Standard deviations of the teacher's modes."""
    points: Count = 200
    """Number of points on the grid."""
    end: Positive = 6.0
    """End of the grid, which starts at its negative."""
    skew: Fraction = 0.1
    """Skew of both skewed KL divergences."""
    beta: Fraction = 0.5
    """Beta of the Jensen-Shannon divergence."""
    seeds: Count = 10
    """Number of seeds, each with one random start per fit."""
    steps: Count = 10_000
    """Number of steps of Adam."""
    early_steps: Count = 50
    """Number of steps after which fits are measured early."""
    learning_rate: Positive = 0.05
    """Peak learning rate (Adam, cosine decay)."""

    def __post_init__(self):
        super().__post_init__()
        if self.early_steps >= self.steps:
            takes = f"fewer than steps, {self.steps}"
            raise ValueError(f"early_steps is {self.early_steps}, but takes {takes}")


class Student(NamedTuple):
    init: Callable  # key -> parameters
    logits: Callable  # parameters -> [points]


def grid(config):
    return np.linspace(-config.end, config.end, config.points, dtype=np.float32)


def mixture(config):
    """The teacher's logits ``[points]``, its log density up to a constant."""
    modes = (config.weights, config.means, config.scales)
    weights, means, scales = map(np.float32, modes)
    z = (grid(config)[:, None] - means[None]) / scales[None]
    return jax.nn.logsumexp(np.log(weights / scales)[None] - z**2 / 2, -1)


def gaussian(config):
    """A Gaussian, initialised in the inner two thirds of the grid, scale 1/e to e."""
    x, reach = grid(config), 2 * config.end / 3

    def init(key):
        mean, log_scale = jax.random.uniform(key, (2,), minval=-1.0)
        return {"mean": reach * mean, "log_scale": log_scale}

    def logits(params):
        return -(((x - params["mean"]) * jnp.exp(-params["log_scale"])) ** 2) / 2

    return Student(init, logits)


def free(config):
    return Student(lambda key: jax.random.normal(key, (config.points,)), lambda z: z)


STUDENTS = {"gaussian": gaussian, "free": free}


def divergences(config):
    return {
        "forward_kl": losses.forward_kl,
        "reverse_kl": losses.reverse_kl,
        "skew_forward_kl": partial(losses.skew_forward_kl, skew=config.skew),
        "skew_reverse_kl": partial(losses.skew_reverse_kl, skew=config.skew),
        "jensen_shannon": partial(losses.jensen_shannon, beta=config.beta),
        "total_variation": losses.total_variation,
    }


def fit(config, student, loss, keys):
    """Parameters ``[starts, ...]`` after ``early_steps`` and after all steps."""
    teacher = mixture(config)
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adam(rate)

    def step(_, carry):
        params, state = carry
        gradients = jax.grad(lambda p: loss(student.logits(p), teacher))(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def advance(starts, steps):
        return jax.vmap(lambda one: jax.lax.fori_loop(0, steps, step, one))(starts)

    params = jax.vmap(student.init)(keys)
    early = advance((params, jax.vmap(optimizer.init)(params)), config.early_steps)
    last = advance(early, config.steps - config.early_steps)
    return {"early": early[0], "end": last[0]}


@partial(jax.jit, static_argnums=(0, 1))
def measure(config, loss, logits):
    """The metrics of a fit with ``logits`` ``[points]``.

    Left and right are divided halfway between the means of the modes. Head and tail are
    as in `adaptive_kl`: the teacher's most probable points with half of its mass, and
    the rest; their errors are means of ``|log(q / p)|``. Outside is where the teacher
    has less than a hundredth of its peak.
    """
    x, teacher = grid(config), mixture(config)
    log_p, log_q = jax.nn.log_softmax(teacher), jax.nn.log_softmax(logits)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    left = x < sum(config.means) / 2
    mean = jnp.sum(q * x)
    order = jnp.argsort(p, descending=True)
    head = jnp.zeros(len(x), bool).at[order].set(jnp.cumsum(p[order]) <= 0.5)
    return {
        "loss_value": loss(logits, teacher),
        "forward_kl": losses.forward_kl(logits, teacher),
        "reverse_kl": losses.reverse_kl(logits, teacher),
        "mass_left": jnp.sum(q, where=left),
        "mass_right": jnp.sum(q, where=~left),
        "mass_outside": jnp.sum(q, where=p < 0.01 * p.max()),
        "mean": mean,
        "deviation": jnp.sqrt(jnp.sum(q * (x - mean) ** 2)),
        "head_error": jnp.mean(jnp.abs(log_q - log_p), where=head),
        "tail_error": jnp.mean(jnp.abs(log_q - log_p), where=~head),
    }


def measured(config, student, loss, params):
    """A table with one row per start, and probabilities ``[starts, points]``."""
    logits = jax.vmap(student.logits)(params)
    found = jax.vmap(partial(measure, config, loss))(logits)
    rows = pd.DataFrame({"seed": range(config.seeds)} | jax.device_get(found))
    if isinstance(params, dict):
        rows["gaussian_mean"] = np.asarray(params["mean"])
        rows["gaussian_scale"] = np.exp(params["log_scale"])
    return rows, np.asarray(jax.nn.softmax(logits))


def run(config):
    began, rows, fits = time.monotonic(), [], {}
    keys = jax.random.split(jax.random.key(0), config.seeds)
    pairs = itertools.product(STUDENTS.items(), divergences(config).items())
    for (name, make), (title, loss) in pairs:
        student = make(config)
        for stage, params in fit(config, student, loss, keys).items():
            own, fits[name, title, stage] = measured(config, student, loss, params)
            columns = {"student": name, "loss": title, "stage": stage}
            rows.append(labelled(own, columns))
    facts = {"seconds": round(time.monotonic() - began)}
    teacher = np.asarray(jax.nn.softmax(mixture(config)))
    extras = {"x": grid(config), "teacher": teacher}, fits
    return Outcome({"runs": pd.concat(rows, ignore_index=True)}, facts, extras=extras)


def best_starts(runs):
    """The row with the lowest loss for every fit."""
    ranked = runs.sort_values(["loss_value", "seed"])
    return ranked.drop_duplicates(FIT).sort_index().set_index(FIT)


def densities(outcome):
    """The density of the best start of every fit, one column each."""
    columns, fits = outcome.extras
    best = best_starts(outcome.tables["runs"])["seed"]
    return pd.DataFrame(
        columns | {"_".join(key): fits[key][seed] for key, seed in best.items()}
    )


def show(tables, meta):
    """Prints the best start of every final fit, and how many starts agree with it."""
    final = tables["runs"].query("stage == 'end'").set_index(FIT)
    best = best_starts(final.reset_index())
    columns = {"loss_value": "value", "mean": "mean", "deviation": "sd"}
    columns |= {"mass_left": "left", "forward_kl": "forward", "reverse_kl": "reverse"}
    shown = best[list(columns)].rename(columns=columns).map("{:.3f}".format)
    near = abs(final["mean"] - best["mean"]) < 0.01
    shown["alike"] = near.groupby(FIT).sum()
    for student, rows in shown.groupby("student", sort=False):
        title = f"{student} student: the best start"
        print_table(rows.droplevel(["student", "stage"]), title)


STUDY = Study(
    "mode_covering",
    __doc__,
    Config,
    run,
    show,
    cost="16 seconds",
    published={},
    quick={"seeds": 5, "steps": 2_000},
    derived={"densities": densities},
)

if __name__ == "__main__":
    main(STUDY)
