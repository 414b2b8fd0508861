"""What a model is, and what it gives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
Batch = Mapping[str, Any]  # arrays by name; the leading axis is that of the examples
Variables = dict[str, Any]  # {"params": trained, "state": carried along, e.g. averages}


class Outputs(NamedTuple):
    """Everything that a loss may look at; XLA removes what no loss uses."""

    logits: Array  # [B, classes], or [B, tokens, vocabulary]
    features: tuple[Array, ...] = ()  # hidden activations, first layer first
    attention: tuple[Array, ...] = ()  # attention maps, first layer first
    extras: Mapping[str, Any] = {}  # what a projector adds: a memory, variances


class Model(NamedTuple):
    """Two pure functions; `kdjax.models.from_linen` makes them of a flax module.

    ``init(key, batch) -> variables``, and ``apply(variables, batch, key=None) ->
    (outputs, state)``. With a key the model is in training: dropout draws from it, and
    batch normalisation uses the batch and returns its updated running averages.
    """

    init: Callable[[Array, Batch], Variables]
    apply: Callable[..., tuple[Outputs, Any]]
