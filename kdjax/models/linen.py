"""Any flax.linen module as a kdjax model."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from kdjax.models.types import Batch, Model, Outputs, Variables


def from_linen(network: nn.Module, inputs: Sequence[str] = ("image",)) -> Model:
    """A model of ``network(*inputs, train=...)``, which gives `Outputs` or logits.

    Every collection that is not ``params`` (the running averages of batch
    normalisation, say) is the model's state: carried along, never differentiated.

    Args:
      network: A module whose call takes the inputs and the keyword ``train``.
      inputs: Names in a batch, in the order that the network takes them.
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
    apply: Any = network.apply  # with a state or without
    result = apply(
        {"params": variables["params"], **state},
        *(batch[n] for n in inputs),
        train=key is not None,
        rngs=None if key is None else {"dropout": key},
        mutable=list(state) if key is not None and state else False,
    )
    outputs, state = result if key is not None and state else (result, state)
    return outputs if isinstance(outputs, Outputs) else Outputs(outputs), dict(state)
