"""Optimizers with learning rates, schedules and more that can be swept.

An optimizer is a function of its hyperparameters that returns a complete optax
transformation. If it has an argument ``steps``, it is given the total number of steps.
Those of optax work unchanged: ``optax.adam`` has the axis ``learning_rate``, and the
transformation ``optax.sgd(0.1)`` has none. For another schedule, write such a function.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.losses.ranges import Fraction, Positive, Scalar


def adam(*, learning_rate: Positive, steps: int) -> optax.GradientTransformation:
    """Adam with a cosine learning-rate decay to 0.

    Args:
      learning_rate: Peak learning rate, at the first step.
      steps: Total number of steps.
    """
    return optax.chain(optax.scale_by_adam(), _cosine(steps), _descend(learning_rate))


def adamw(
    *,
    learning_rate: Positive,
    steps: int,
    weight_decay: Scalar = 1e-4,
    warmup: Fraction = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay, warm-up and cosine decay to 0.

    Args:
      learning_rate: Factor of the schedule; the peak is lower with a long warm-up,
        because the cosine decay begins at the first step.
      steps: Total number of steps.
      weight_decay: Fraction of the weights, times the learning rate, subtracted in each
        step.
      warmup: Fraction of the steps over which the learning rate rises.

    References:
      Loshchilov and Hutter, `Decoupled Weight Decay Regularization
      <https://arxiv.org/abs/1711.05101>`_, 2019.
    """
    return optax.chain(
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay),
        _cosine(steps, warmup),
        _descend(learning_rate),
    )


def sgd(
    *,
    learning_rate: Positive,
    steps: int,
    momentum: Fraction = 0.9,
    weight_decay: Scalar = 0.0,
    warmup: Fraction = 0.0,
) -> optax.GradientTransformation:
    """SGD with momentum, L2 weight decay, warm-up and cosine decay to 0.

    Args:
      learning_rate: Factor of the schedule; the peak is lower with a long warm-up,
        because the cosine decay begins at the first step.
      steps: Total number of steps.
      momentum: Decay rate of the velocity.
      weight_decay: Factor of the weights that is added to their gradient.
      warmup: Fraction of the steps over which the learning rate rises.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(momentum),
        _cosine(steps, warmup),
        _descend(learning_rate),
    )


def _descend(learning_rate: Positive) -> optax.GradientTransformation:
    # A separate last step, because optax's schedules reject a traced peak value.
    return optax.scale(-learning_rate)


def _cosine(steps: int, warmup: Fraction | None = None) -> optax.GradientTransformation:
    fall = optax.cosine_decay_schedule(1.0, steps)
    if warmup is None:
        return optax.scale_by_schedule(fall)

    def rise_and_fall(count: Any) -> jax.Array:
        rise = jnp.minimum(1, (count + 1) / jnp.maximum(warmup * steps, 1))
        return rise * fall(count)

    return optax.scale_by_schedule(rise_and_fall)
