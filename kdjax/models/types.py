"""Types of models and their outputs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

Array = jax.Array
Batch = Mapping[str, Any]  # arrays by name; the leading axis is over examples
Variables = dict[str, Any]  # {"params": learned, "state": e.g. running averages}


class Outputs(NamedTuple):
    """The outputs of a model that losses may use; XLA removes unused ones."""

    logits: Array  # [B, classes], or [B, tokens, vocabulary]
    features: tuple[Array, ...] = ()  # hidden activations, from the first layer
    attention: tuple[Array, ...] = ()  # scores before the softmax, from the first layer
    extras: Mapping[str, Any] = {}  # added by projectors: a memory, variances


class Model(NamedTuple):
    """Two pure functions; `kdjax.models.from_linen` makes them of a flax module.

    They are ``init(key, batch) -> variables`` and ``apply(variables, batch, key=None)
    -> (outputs, state)``. A key puts the model in training mode: dropout uses the key,
    and batch normalisation uses batch statistics and updates its running averages.
    """

    init: Callable[[Array, Batch], Variables]
    apply: Callable[..., tuple[Outputs, Any]]
