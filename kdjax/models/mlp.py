"""Multilayer perceptrons."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from kdjax.models.linen import from_linen
from kdjax.models.types import Model, Outputs


class _MLP(nn.Module):
    hidden: tuple[int, ...]
    classes: int
    dropout: float
    input_dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Outputs:
        x = x.reshape(x.shape[0], -1)
        x = nn.Dropout(self.input_dropout, deterministic=not train)(x)
        features = []
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
            features.append(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Outputs(nn.Dense(self.classes)(x), tuple(features))


def mlp(
    hidden: Sequence[int],
    *,
    classes: int,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> Model:
    """A multilayer perceptron with ReLU activations, on flattened images.

    Its features are the activations of each hidden layer, ``[B, units]``.

    Args:
      hidden: Number of units in each hidden layer.
      classes: Number of logits.
      dropout: Dropout rate of hidden units.
      input_dropout: Dropout rate of inputs.
    """
    return from_linen(_MLP(tuple(hidden), classes, dropout, input_dropout))


def max_norm(params: Any, limit: float) -> Any:
    """Rescales the incoming weights of each unit to a norm of at most ``limit``.

    Srivastava et al., `Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting <https://jmlr.org/papers/v15/srivastava14a.html>`_, 2014, section 5.1.
    """

    def shorten(leaf: jax.Array) -> jax.Array:
        if leaf.ndim != 2:
            return leaf
        length = jnp.linalg.norm(leaf, axis=0, keepdims=True)
        return leaf * jnp.minimum(1, limit / jnp.maximum(length, 1e-12))

    return jax.tree.map(shorten, params)
