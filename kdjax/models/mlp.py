"""Multilayer perceptrons."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

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


def max_norm(variables: Any, limit: float) -> Any:
    """Variables in which the weights into a unit have no length beyond ``limit``.

    Srivastava et al., `Dropout: A Simple Way to Prevent Neural Networks from
    Overfitting <https://jmlr.org/papers/v15/srivastava14a.html>`_, 2014, section 5.1.
    """

    def shorten(leaf: jax.Array) -> jax.Array:
        if leaf.ndim != 2:
            return leaf
        length = jnp.linalg.norm(leaf, axis=0, keepdims=True)
        return leaf * jnp.minimum(1, limit / jnp.maximum(length, 1e-12))

    return jax.tree.map(shorten, variables)


def mlp(
    hidden: Sequence[int],
    *,
    classes: int,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
) -> Model:
    """Dense layers with ReLU between; inputs ``[N, ...]`` are flattened.

    Args:
      hidden: Units of each hidden layer.
      classes: Number of logits.
      dropout: Share of hidden units dropped in training.
      input_dropout: Share of inputs dropped in training.
    """
    network = _MLP(tuple(hidden), classes, dropout, input_dropout)

    def init(key: jax.Array, x: jax.Array):
        return network.init(key, x, train=False)

    def apply(variables, x: jax.Array, key: jax.Array | None = None) -> Outputs:
        rngs = None if key is None else {"dropout": key}
        return network.apply(variables, x, train=key is not None, rngs=rngs)

    return Model(init, apply)
