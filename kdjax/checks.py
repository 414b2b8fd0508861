"""What can be wrong with what a user asked for, found before anything is run."""

from collections.abc import Callable, Mapping, Sequence
import inspect
import math
from numbers import Real

import jax
import numpy as np

from kdjax.data.types import Data
from kdjax.models import Model

_UNIT = (lambda v: 0 <= v <= 1, "a number in [0, 1]")
_POSITIVE = (lambda v: v > 0, "a positive number")
_FINITE = (lambda v: True, "a finite number")
RANGES = {
    "temperature": _POSITIVE,
    "learning_rate": _POSITIVE,
    "teacher_learning_rate": _POSITIVE,
    "alpha": _UNIT,
    "beta": _UNIT,
    "skew": _UNIT,
    "smoothing": _UNIT,
}


def check_axes(axes: Mapping[str, Sequence[float]], loss: Callable) -> None:
    """Raises unless every axis is named as the loss names it, full and in range.

    Raises:
      TypeError: if an axis is neither ``learning_rate`` nor an argument of the loss,
        or the loss has one that no axis gives.
      ValueError: if an axis is empty or a value is none that it takes.
    """
    takes, needs = {"learning_rate"}, {"learning_rate"}
    for parameter in inspect.signature(loss).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name != "where":
            takes.add(parameter.name)
            needs |= {parameter.name} if parameter.default is parameter.empty else set()
    name_of_loss = getattr(loss, "__name__", repr(loss))
    listed = ", ".join(sorted(takes))
    for name in axes.keys() - takes:
        raise TypeError(f"axis {name!r}: {name_of_loss} takes the axes {listed}")
    for name in needs - axes.keys():
        raise TypeError(f"axis {name!r} is missing: {name_of_loss} takes {listed}")
    for name, values in axes.items():
        check_values(name, values)


def check_values(name: str, values: Sequence[float]) -> None:
    """Raises ValueError unless there are values and ``name`` takes each of them."""
    if len(values) == 0:
        raise ValueError(f"axis {name!r} is empty, but takes at least one value")
    within, description = RANGES.get(name, _FINITE)
    for value in values:
        number = isinstance(value, Real) and not isinstance(value, bool)
        with np.errstate(over="ignore"):
            single = np.float32(value) if number else math.nan  # as it will be used
        if not (math.isfinite(single) and within(single)):
            raise ValueError(f"{name} is {value!r}, but takes {description}")


def check_data(data: Data, model: Model) -> None:
    """Raises ValueError unless labels and teacher fit the classes of the model."""
    x = data.train.x[:1]
    outputs = jax.eval_shape(lambda: model.apply(model.init(jax.random.key(0), x), x))
    classes = outputs.logits.shape[-1]
    for name, split in zip(data._fields, data, strict=True):
        if split is None:
            continue
        labels, logits = np.asarray(split.y), split.teacher_logits
        if len(labels) != len(split.x):
            raise ValueError(f"{name}: {len(split.x)} inputs but {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= classes:
            raise ValueError(
                f"{name} labels lie in [{labels.min()}, {labels.max()}], "
                f"but a student of {classes} classes takes [0, {classes - 1}]"
            )
        shape = () if logits is None else logits.shape
        if name == "train" and len(shape) == 3:  # of several teachers: the loss picks
            shape = (shape[0], shape[2])
        if logits is not None and shape != (len(labels), classes):
            raise ValueError(
                f"{name} teacher_logits have shape {logits.shape}, but a student of "
                f"{classes} classes and {len(labels)} labels takes "
                f"{(len(labels), classes)}"
            )


def check_counts(name: str, counts: int | Sequence[int]) -> None:
    """Raises ValueError unless ``counts`` is a whole number from 1 up, or some."""
    several = counts if isinstance(counts, Sequence) else [counts]
    if not several or any(not isinstance(n, int) or n < 1 for n in several):
        raise ValueError(f"{name} is {counts!r}, but takes whole numbers from 1 up")
    if len(set(several)) < len(several):
        raise ValueError(f"{name} is {counts!r}, but takes each number once")


def check_rows(columns: Mapping[str, Sequence[float]], seeds: Sequence[int]) -> None:
    """Raises ValueError unless columns are of one length and seeds are distinct."""
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"columns are of lengths {lengths}, but takes one for all")
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"seeds are {seeds!r}, but takes distinct numbers from 0 up")
