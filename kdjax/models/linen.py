"""Conversion of flax.linen modules to models."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from kdjax.models.types import Batch, Model, Outputs, Variables


def from_linen(network: nn.Module, inputs: Sequence[str] = ("image",)) -> Model:
    """Makes a model of a module that returns `Outputs` or logits.

    All collections except ``params``, such as the running averages of batch
    normalisation, become the model's state, which is not differentiated.

    Args:
      network: A module called as ``network(*inputs, train=...)``.
      inputs: Names of arrays in a batch, in the order of the module's arguments.
    """
    inputs = tuple(inputs)
    return Model(partial(_init, network, inputs), partial(_apply, network, inputs))


def _init(
    network: nn.Module, inputs: tuple[str, ...], key: jax.Array, batch: Batch
) -> Variables:
    variables = dict(network.init(key, *(batch[n] for n in inputs), train=False))
    return {"params": variables.pop("params", {}), "state": variables}


def _apply(
    network: nn.Module,
    inputs: tuple[str, ...],
    variables: Variables,
    batch: Batch,
    key: jax.Array | None = None,
) -> tuple[Outputs, Variables]:
    state = variables["state"]
    apply: Any = network.apply  # the return type depends on mutable
    result = apply(
        {"params": variables["params"], **state},
        *(batch[n] for n in inputs),
        train=key is not None,
        rngs=None if key is None else {"dropout": key},
        mutable=list(state) if key is not None and state else False,
    )
    outputs, state = result if key is not None and state else (result, state)
    return outputs if isinstance(outputs, Outputs) else Outputs(outputs), dict(state)
