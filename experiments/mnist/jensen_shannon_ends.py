"""What does a sweep over beta meet at the ends of Jensen-Shannon's divergence?

The divergence vanishes at both ends. A common convention puts forward KL in the place
of its value at beta = 0 and reverse KL at beta = 1: a cliff, for at a beta of a
millionth it is a millionth of forward KL. Over beta (1 - beta) it is continuous.
Where the student is far from a sure teacher, though, it is slow to reach reverse KL: at
a millionth from beta = 1, students at the start of their training have 10.7 of 14.1.

Each of the three is measured on a teacher's and students' logits of MNIST's validation
images, means over examples of the value and of the norm of its gradient by the logits.
Students are those of `temperature_gradients`. Betas are 2^-k and 1 - 2^-k, which
float32 holds exactly, and 0 and 1.

The teacher takes 7 minutes on 2 busy cores unless it is kept, all else 40 seconds.

    python -m experiments.jensen_shannon_ends                    # embedded digits
    python -m experiments.jensen_shannon_ends --dataset mnist
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.table import Table as Printed
import tyro

from experiments import running, temperature_gradients
from kdjax import checks, data, losses, results
from kdjax.results import Table


@dataclass(frozen=True)
class Config(temperature_gradients.Students):
    halvings: int = 20
    """Of beta, from one half down, and of 1 - beta."""


QUICK = temperature_gradients.QUICK_STUDENTS


def special_cased(
    student_logits: jax.Array, teacher_logits: jax.Array, *, beta: jax.Array
) -> jax.Array:
    """Jensen-Shannon between the ends, forward and reverse KL at them."""
    inner = losses.jensen_shannon(student_logits, teacher_logits, beta=beta)
    forward = losses.forward_kl(student_logits, teacher_logits)
    reverse = losses.reverse_kl(student_logits, teacher_logits)
    return jnp.where(beta == 0, forward, jnp.where(beta == 1, reverse, inner))


CONVENTIONS: dict[str, Callable[..., jax.Array]] = {
    "jensen_shannon": losses.jensen_shannon,
    "special_cased": special_cased,
    "normalized": losses.normalized_jensen_shannon,
}


def betas(config: Config) -> np.ndarray:
    near = 2.0 ** -np.arange(1, config.halvings + 1)
    return np.unique(np.float32([0, *near, *(1 - near), 1]))


@jax.jit
def measure(
    student_logits: jax.Array, teacher_logits: jax.Array, betas: jax.Array
) -> dict[str, jax.Array]:
    """Of each convention the value and the norm of its gradient, ``[betas]``."""

    def both(loss: Callable) -> tuple[jax.Array, jax.Array]:
        value, pull = jax.vjp(lambda z: loss(z, teacher_logits), student_logits)
        (gradient,) = pull(jnp.ones_like(value))
        return jnp.mean(value), jnp.mean(jnp.linalg.norm(gradient, axis=-1))

    def at(beta: jax.Array) -> dict[str, jax.Array]:
        measures = {}
        for name, loss in CONVENTIONS.items():
            value, norm = both(partial(loss, beta=beta))
            measures |= {name: value, f"{name}_gradient": norm}
        return measures

    return jax.lax.map(at, betas)


def run(config: Config, images: data.Data, info: data.Info) -> Table:
    parts, (x, _, teacher_logits) = [], images.validation
    for seed, stage, training, variables in temperature_gradients.students(
        config, images
    ):
        logits = training.model.apply(variables, x).logits
        table = {"beta": betas(config)}
        table |= jax.device_get(measure(logits, teacher_logits, table["beta"]))
        same = info.columns() | {"stage": stage, "seed": seed}
        asked = {n: np.full(len(table["beta"]), v) for n, v in same.items()}
        parts.append(asked | table)
    return results.concatenate(parts)


def check(config: Config) -> None:
    """Raises ValueError if the config asks for what cannot be."""
    temperature_gradients.check_students(config)
    checks.check_counts("halvings", config.halvings)
    if config.halvings > 24:  # or 1 - beta would be 1 in float32
        raise ValueError(f"halvings is {config.halvings}, but takes up to 24")


def show(tables: dict[str, Table], meta: dict) -> None:
    """Prints values near the ends, a mean over seeds."""
    table = tables["runs"]
    for stage in dict.fromkeys(table["stage"]):
        printed = Printed("beta", title=f"students: {stage}")
        for name in CONVENTIONS:
            printed.add_column(name)
        every = np.unique(table["beta"])
        for beta in every[[0, 1, 2, len(every) // 2, -3, -2, -1]]:
            rows = results.select(table, stage=stage, beta=beta)
            cells = (f"{rows[name].mean():.4g}" for name in CONVENTIONS)
            printed.add_row(f"{beta:.9g}", *cells)
        rich.print(printed)


def answer(config: Config, images: data.Data, info: data.Info) -> tuple[dict, dict]:
    images, quality = temperature_gradients.with_teacher(config, images)
    began = time.monotonic()
    table = run(config, images, info)
    seconds = round(quality["seconds"] + time.monotonic() - began)
    return {"runs": table}, {"teacher": quality, "seconds": seconds}


EXPERIMENT = running.Experiment("jensen_shannon_ends", QUICK, check, answer, show)
main = running.command(EXPERIMENT, Config)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
