"""What a model is, and what it gives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Outputs(NamedTuple):
    """All that a loss may look at; what it does not use, XLA removes."""

    logits: jax.Array  # [N, classes]
    features: tuple[jax.Array, ...] = ()  # hidden activations, first layer first
    attention: tuple[jax.Array, ...] = ()  # attention maps, first layer first


class Model(NamedTuple):
    """``init(key, x) -> variables``; ``apply(variables, x, key=None) -> Outputs``.

    With a key the model is in training: dropout draws from it.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[..., Outputs]
