"""A teacher: outputs stored with the examples, or a model that runs beside the student.

Stored outputs are those of the inputs as they are. A live teacher is asked about the
very view that the student sees; its variables are passed as ``fixed["teacher"]``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from kdjax.data.types import Data
from kdjax.models import Batch, Model, Outputs


def stored(fixed: Any, batch: Batch) -> Outputs | None:
    """The outputs that lie in the batch, or None."""
    return batch.get("teacher")


def live(model: Model) -> Callable[[Any, Batch], Outputs]:
    """The outputs of a model whose variables are ``fixed["teacher"]``."""
    return partial(_live, model)


def _live(model: Model, fixed: Mapping[str, Any], batch: Batch) -> Outputs:
    if not isinstance(fixed, Mapping) or "teacher" not in fixed:
        raise ValueError(
            f"fixed is {jax.tree.structure(fixed)}, but a live teacher takes its "
            f"variables there: fixed={{'teacher': variables}}"
        )
    return model.apply(fixed["teacher"], batch)[0]


def logits(model: Model, variables: Any) -> Callable[[Batch], jax.Array]:
    """A model as a function from a batch to logits, for `store`."""
    compiled = jax.jit(lambda variables, batch: model.apply(variables, batch)[0].logits)
    return partial(compiled, variables)


def store(apply: Callable[[Batch], Any], data: Data, *, batch_size: int = 1000) -> Data:
    """The data with a teacher's outputs for every example of every split.

    Args:
      apply: Any function from a batch, as the splits have it, to logits ``[B, ...]`` or
        to `Outputs`: `logits` of a model, or one of your own.
      data: Splits of arrays; one that is None stays None.
      batch_size: How many examples the teacher is asked about at a time.

    Raises:
      TypeError: if a split holds no arrays, or ``apply`` gives something else.
    """
    named = zip(Data._fields, data, strict=True)
    return Data(*(_with_outputs(apply, *split, batch_size) for split in named))


def _with_outputs(
    apply: Callable[[Batch], Any], name: str, split: Batch | None, batch_size: int
) -> Batch | None:
    if split is None:
        return None
    if not isinstance(split, Mapping):
        raise TypeError(f"{name} is {type(split).__name__}, but takes arrays by name")
    inputs = {name: array for name, array in split.items() if name != "teacher"}
    count = len(jax.tree.leaves(inputs)[0])
    parts = []
    for first in range(0, count, batch_size):
        rows = {n: array[first : first + batch_size] for n, array in inputs.items()}
        parts.append(_outputs(apply(rows), min(batch_size, count - first)))
    together = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    return {**split, "teacher": together}


def _outputs(given: Any, examples: int) -> Outputs:
    outputs = given if isinstance(given, Outputs) else Outputs(given)
    leaves = jax.tree.leaves(outputs)
    if isinstance(given, dict | list) or type(given) is tuple or not leaves:
        raise TypeError(
            f"apply gives {type(given).__name__}, but takes to give logits or Outputs; "
            f"teacher.logits(model, variables) makes it of a model"
        )
    for leaf in leaves:
        if np.shape(leaf)[:1] != (examples,):
            raise TypeError(
                f"apply gives shape {np.shape(leaf)} for {examples} examples, but "
                f"takes to give arrays of as many"
            )
    return jax.tree.map(np.asarray, outputs)


class _Absent:
    """Stands where a teacher's outputs would be, and says so when it is asked."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError(
            f"the objective or the projector takes the teacher's {name}, but there is "
            f"no teacher: store its outputs in the data (kdjax.training.teacher.store) "
            f"or train with a live one (teacher=teacher.live(model), "
            f"fixed={{'teacher': variables}})"
        )


def present(outputs: Outputs | None) -> Any:
    """The outputs, or what says that there are none as soon as it is asked for any."""
    return _Absent() if outputs is None else outputs
