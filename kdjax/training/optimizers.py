"""Optimizers whose learning rate, schedule and all are hyperparameters to sweep.

An optimizer is a function of its hyperparameters that gives a complete optax
transformation; a training tells it the number of ``steps`` if it asks. optax's own
work as they are: ``optax.adam`` has the axis ``learning_rate``, and ``optax.sgd(0.1)``,
with nothing left to choose, has none. To use another schedule, write such a function.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from kdjax.losses.ranges import Fraction, Positive, Scalar


def adam(*, learning_rate: Positive, steps: int) -> optax.GradientTransformation:
    """Adam; its learning rate falls to 0 along a cosine.

    Args:
      learning_rate: Peak learning rate, at the first step.
      steps: How many there will be.
    """
    return optax.chain(optax.scale_by_adam(), _cosine(steps), _descend(learning_rate))


def adamw(
    *,
    learning_rate: Positive,
    steps: int,
    weight_decay: Scalar = 1e-4,
    warmup: Fraction = 0.0,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay and warm-up.

    Args:
      learning_rate: Peak learning rate, after the warm-up.
      steps: How many there will be.
      weight_decay: Share of the weights, times the learning rate, taken off each step.
      warmup: Share of the steps in which the learning rate rises from 0.

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
    """Gradient descent with momentum, weight decay added to the gradient, and warm-up.

    Args:
      learning_rate: Peak learning rate, after the warm-up.
      steps: How many there will be.
      momentum: What stays of the velocity from step to step.
      weight_decay: Share of the weights that is added to their gradient.
      warmup: Share of the steps in which the learning rate rises from 0.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(momentum),
        _cosine(steps, warmup),
        _descend(learning_rate),
    )


def _descend(learning_rate: Positive) -> optax.GradientTransformation:
    # Last, and not as a schedule's peak: optax's schedules refuse a traced one.
    return optax.scale(-learning_rate)


def _cosine(steps: int, warmup: Fraction | None = None) -> optax.GradientTransformation:
    fall = optax.cosine_decay_schedule(1.0, steps)
    if warmup is None:
        return optax.scale_by_schedule(fall)

    def rise_and_fall(count: Any) -> jax.Array:
        rise = jnp.minimum(1, (count + 1) / jnp.maximum(warmup * steps, 1))
        return rise * fall(count)

    return optax.scale_by_schedule(rise_and_fall)
