"""What happens at both ends of beta in the Jensen-Shannon divergence?

The divergence vanishes at both ends. A common convention returns forward KL at beta = 0
and reverse KL at beta = 1 instead. That is a discontinuity: at a beta of one millionth
the divergence is one millionth of forward KL. Divided by beta (1 - beta), it is
continuous, but approaches reverse KL slowly if the student is far from a confident
teacher, as at the start of training.

This experiment measures the values of all three and the norms of their gradients with
respect to the logits, as means over MNIST's validation images. Betas are 0, 1, and 2^-k
and 1 - 2^-k, which float32 represents exactly. Nothing is selected here: students use
the settings that `temperature_alpha` selected on the validation set.

    python -m experiments.mnist.jensen_shannon_ends    # or with --dataset mnist
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from experiments.mnist import stages
from kdjax import losses
from kdjax.losses.ranges import Range
from kdjax.study.command import main
from kdjax.study.study import Study, print_table
from kdjax.study.types import flag

UP_TO_24 = Range("an integer from 1 to 24", 1, 24)  # 1 - 2^-25 is 1 in float32


@dataclass(frozen=True)
class Config(stages.Students):
    halvings: Annotated[int, UP_TO_24, flag(int, "1..24")] = 20
    """Largest k of the betas 2^-k and 1 - 2^-k."""


def special_cased(student_logits, teacher_logits, *, beta):
    """Jensen-Shannon, but forward KL at beta = 0 and reverse KL at beta = 1."""
    inner = losses.jensen_shannon(student_logits, teacher_logits, beta=beta)
    forward = losses.forward_kl(student_logits, teacher_logits)
    reverse = losses.reverse_kl(student_logits, teacher_logits)
    return jnp.where(beta == 0, forward, jnp.where(beta == 1, reverse, inner))


CONVENTIONS = {
    "jensen_shannon": losses.jensen_shannon,
    "special_cased": special_cased,
    "normalized": losses.normalized_jensen_shannon,
}


def betas(config):
    near = 2.0 ** -np.arange(1, config.halvings + 1)
    return np.unique(np.float32([0, *near, *(1 - near), 1]))


@jax.jit
def measures(student_logits, teacher_logits, betas):
    """Values ``[betas]`` and gradient norms ``[betas]`` of each convention."""

    def both(loss):
        value, pull = jax.vjp(lambda z: loss(z, teacher_logits), student_logits)
        (gradient,) = pull(jnp.ones_like(value))
        return jnp.mean(value), jnp.mean(jnp.linalg.norm(gradient, axis=-1))

    def at(beta):
        found = {}
        for name, loss in CONVENTIONS.items():
            found[name], found[f"{name}_gradient"] = both(partial(loss, beta=beta))
        return found

    return jax.lax.map(at, betas)


def measure(config, images, model, variables):
    """Measures a student on the validation images."""
    logits = model.apply(variables, images.validation)[0].logits
    at = betas(config)
    found = measures(logits, images.validation["teacher"].logits, at)
    return pd.DataFrame({"beta": at} | jax.device_get(found))


def show(tables, meta):
    """Prints mean values near the ends and in the middle."""
    for stage, rows in tables["runs"].groupby("stage", sort=False):
        means = rows.groupby("beta")[list(CONVENTIONS)].mean()
        shown = means.iloc[[0, 1, 2, len(means) // 2, -3, -2, -1]]
        shown = shown.map("{:.4g}".format).set_axis([f"{b:.9g}" for b in shown.index])
        print_table(shown, f"students: {stage}", "beta")


STUDY = Study(
    "jensen_shannon_ends",
    __doc__,
    Config,
    partial(stages.run, measure),
    show,
    cost="8 minutes",
    quick=stages.QUICK,
)

if __name__ == "__main__":
    main(STUDY)
