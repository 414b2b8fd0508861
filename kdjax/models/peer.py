"""Two networks that learn together, without a trained teacher."""

from functools import partial
from typing import Any

import jax

from kdjax.models.types import Batch, Model, Outputs, Variables


def with_peer(student: Model, peer: Model) -> Model:
    """A student, and a peer that learns beside it.

    The outputs are those of the student, with those of the peer as ``extras["peer"]``,
    for `kdjax.objectives.mutual`. The parameters and the state are ``{"student": ...,
    "peer": ...}``, which views that write texts do not take. Metrics are those of the
    student.

    Args:
      student: The network that is measured.
      peer: Any network with logits of the same classes.
    """
    return Model(partial(_init, student, peer), partial(_apply, student, peer))


def _init(student: Model, peer: Model, key: jax.Array, batch: Batch) -> Variables:
    keys = jax.random.split(key)
    both = {"student": student.init(keys[0], batch), "peer": peer.init(keys[1], batch)}
    return {
        kind: {name: variables[kind] for name, variables in both.items()}
        for kind in ("params", "state")
    }


def _apply(
    student: Model,
    peer: Model,
    variables: Variables,
    batch: Batch,
    key: jax.Array | None = None,
) -> tuple[Outputs, Any]:
    keys = (None, None) if key is None else jax.random.split(key)
    found, states = {}, {}
    for name, model, own in (("student", student, keys[0]), ("peer", peer, keys[1])):
        given = {kind: variables[kind][name] for kind in ("params", "state")}
        found[name], states[name] = model.apply(given, batch, own)
    extras = {**found["student"].extras, "peer": found["peer"]}
    return found["student"]._replace(extras=extras), states
