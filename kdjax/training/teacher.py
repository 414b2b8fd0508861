"""Teachers: outputs stored with the examples, or a model that runs in each step.

Stored outputs are of the inputs as they are, or of a finite set of views of them
(`kdjax.training.teacher_files`). A live teacher sees the same view as the student; its
variables are passed as ``fixed["teacher"]``.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdjax.data.types import Data
from kdjax.models import Batch, Model, Outputs
from kdjax.training import metrics


def stored(fixed: Any, batch: Batch) -> Outputs | None:
    """The teacher outputs stored in the batch, or None."""
    return batch.get("teacher")


def live(model: Model) -> Callable[[Any, Batch], Outputs]:
    """A teacher that applies a model with the variables ``fixed["teacher"]``."""
    return partial(_live, model)


def of_other_tokens(model: Model) -> Callable[[Any, Batch], Outputs]:
    """A live teacher with another tokenizer, for `kdjax.objectives.in_order`.

    It sees ``teacher_tokens`` and ``teacher_mask`` of the batch, as
    `kdjax.data.language.in_both` makes them, and not what a view makes of the
    student's.
    """
    return partial(_of_other_tokens, model)


def _of_other_tokens(model: Model, fixed: Mapping[str, Any], batch: Batch) -> Outputs:
    texts = {name: batch[f"teacher_{name}"] for name in ("tokens", "mask")}
    return _live(model, fixed, texts)


def _live(model: Model, fixed: Mapping[str, Any], batch: Batch) -> Outputs:
    if not isinstance(fixed, Mapping) or "teacher" not in fixed:
        raise ValueError(
            f"fixed is {jax.tree.structure(fixed)}, but a live teacher takes its "
            f"variables from fixed={{'teacher': variables}}"
        )
    return model.apply(fixed["teacher"], batch)[0]


def logits(model: Model, variables: Any) -> Callable[[Batch], jax.Array]:
    """A model as a function from a batch to logits, for `store`."""
    compiled = jax.jit(lambda variables, batch: model.apply(variables, batch)[0].logits)
    return partial(compiled, variables)


def store(apply: Callable[[Batch], Any], data: Data, *, batch_size: int = 1000) -> Data:
    """The data with a teacher's outputs for every example of every split.

    Args:
      apply: Any function from a batch to logits ``[B, ...]`` or `Outputs`, such as
        `logits` of a model.
      data: Splits of arrays. A split that is None stays None.
      batch_size: Number of examples per call of ``apply``.

    Raises:
      TypeError: if a split is not arrays by name, or ``apply`` returns anything else.
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
            f"apply returned {type(given).__name__}, but must return logits or "
            f"Outputs, as the function teacher.logits(model, variables) does"
        )
    for leaf in leaves:
        if np.shape(leaf)[:1] != (examples,):
            raise TypeError(
                f"apply returned shape {np.shape(leaf)} for {examples} examples, but "
                f"must return one row per example"
            )
    return jax.tree.map(np.asarray, outputs)


def measured(data: Data, *measures: metrics.Measure) -> dict[str, dict[str, float]]:
    """Metrics of a teacher's stored logits on held-out splits.

    Args:
      data: Splits with the outputs of a teacher, as by `store`. Those that are None are
        left out.
      *measures: Of the logits; those of classification by default.

    Returns:
      ``{"validation": metrics, "test": metrics}``, each by name.
    """
    found: dict[str, dict[str, float]] = {}
    for name in ("validation", "test"):
        if (split := getattr(data, name)) is None:
            continue
        outputs = Outputs(jnp.asarray(split["teacher"].logits, jnp.float32))
        batch = {n: array for n, array in split.items() if n != "teacher"}
        found[name] = {}
        for measure in measures or (metrics.classification(),):
            totals = measure.sums(outputs, None, batch)
            values = measure.finish(totals)
            found[name] |= {n: float(value) for n, value in values.items()}
    return found


class _Absent:
    """Placeholder for a missing teacher; raises an error when an output is read."""

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
    """The outputs, or a placeholder that raises an error when it is used."""
    return _Absent() if outputs is None else outputs
