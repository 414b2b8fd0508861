"""Checks of user input, all made before anything runs."""

from collections.abc import Mapping, Sequence
import inspect
import math
from numbers import Integral
import typing
from typing import Any

import numpy as np
import optax

from kdjax.data import checks as of_data
from kdjax.data.types import Data
from kdjax.losses.ranges import Range
from kdjax.objectives import name_of
from kdjax.training import checks as of_training
from kdjax.training import step as stepping
from kdjax.training.step import Training

_FINITE = Range("a finite number")


def count(name: str, value: Any) -> None:
    """Raises ValueError unless ``value`` is a positive integer."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(f"{name} is {value!r}, but takes a positive integer")


def optional_count(name: str, value: Any) -> None:
    """As `count`, but ``value`` may also be None."""
    if value is not None:
        count(name, value)


def seeds(values: Any) -> list[int]:
    """The seeds as ints.

    Raises:
      ValueError: unless they are a list of distinct non-negative integers.
    """
    says = f"seeds is {values!r}, but takes a list of distinct non-negative integers"
    try:
        listed = list(values)
    except TypeError as error:
        raise ValueError(says) from error
    whole = all(isinstance(s, Integral) and not isinstance(s, bool) for s in listed)
    if not whole or not listed or len(set(listed)) < len(listed) or min(listed) < 0:
        raise ValueError(says)
    return [int(seed) for seed in listed]


def axis(name: str, values: Any, within: Range = _FINITE) -> np.ndarray:
    """The values of an axis as a float32 vector.

    Raises:
      ValueError: if there are none, or one is not a number in the range of the axis.
    """
    try:
        listed = None if isinstance(values, str | bytes | Mapping) else list(values)
    except TypeError:  # a scalar or a zero-dimensional array
        listed = None
    if listed is None:
        raise ValueError(
            f"axis {name!r} is {_plain(values)!r}, but takes a list of values, "
            f"even for a single one"
        )
    if not listed:
        raise ValueError(f"axis {name!r} is empty, but takes at least one value")
    return np.array([_number(name, value, within) for value in listed], np.float32)


def _plain(value: Any) -> Any:
    """A scalar of any array library as a Python number."""
    return value.item() if np.ndim(value) == 0 and hasattr(value, "item") else value


def _number(name: str, value: Any, within: Range) -> np.float32:
    plain = _plain(value)
    number = isinstance(plain, int | float) and not isinstance(plain, bool)
    with np.errstate(over="ignore"):
        single = np.float32(plain if number else math.nan)  # the precision in use
    if single not in within:
        lost = " in float32" if number and plain in within else ""
        raise ValueError(f"{name} is {plain!r}, but takes {within.words}{lost}")
    return single


def axes_of(trainings: Sequence[Training]) -> dict[str, tuple[Range, bool]]:
    """The range of every hyperparameter of the trainings, and whether it is required.

    Ranges are those of the annotations; see `kdjax.losses.ranges`.
    """
    found: dict[str, tuple[Range, bool]] = {}
    for training in trainings:
        for function, by_keyword in (
            (training.objective, False),
            (training.projector.apply, False),
            (training.optimizer, True),
        ):
            if isinstance(function, optax.GradientTransformation):
                continue
            for name, parameter in stepping.takes(
                function, by_keyword=by_keyword
            ).items():
                within = _range(parameter.annotation)
                needed = parameter.default is inspect.Parameter.empty
                known, was_needed = found.get(name, (_FINITE, False))
                within = known if within is _FINITE else within
                found[name] = (within, needed or was_needed)
    return found


def _range(annotation: Any) -> Range:
    parts = typing.get_args(annotation)
    return next((part for part in parts if isinstance(part, Range)), _FINITE)


def columns(values: Mapping[str, Any], trainings: Sequence[Training]) -> dict:
    """Hyperparameters as float32 columns of one length.

    Raises:
      TypeError: if a part of a training has the wrong type, if no part takes a given
        hyperparameter, or if a required one is missing.
      ValueError: if a value is out of range, or the lengths differ.
    """
    for training in trainings:
        of_training.check_parts(training)
    takes = axes_of(trainings)
    names = dict.fromkeys(name_of(t.objective) for t in trainings)
    whose = (
        f"{', '.join(names)}, the projector and the optimizer take "
        f"{', '.join(sorted(takes)) or 'none'}"
    )
    for name in values:
        if name not in takes:
            raise TypeError(f"axis {name!r} is unknown: {whose}")
    for name, (_, needed) in takes.items():
        if needed and name not in values:
            raise TypeError(f"axis {name!r} is missing: {whose}")
    checked = {n: axis(n, values[n], takes[n][0]) for n in values}
    lengths = {name: len(column) for name, column in checked.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns have lengths {lengths}, but must have equal lengths")
    return checked


def prepared(
    trainings: Sequence[Training],
    hyperparameters: Mapping[str, np.ndarray],
    datas: Sequence[Data],
    fixed: Any,
) -> list[Data]:
    """The data of each phase, with all arrays of types that jax keeps.

    Raises:
      TypeError, ValueError: if a setting of a training or an array of the data is
        invalid, or the two do not fit together.
    """
    if not trainings:
        raise ValueError("trainings is empty, but takes at least one")
    if len(datas) != len(trainings):
        raise ValueError(
            f"data has {len(datas)} parts, but takes one for each of the "
            f"{len(trainings)} phases"
        )
    ready = []
    for training, data in zip(trainings, datas, strict=True):
        for name in ("epochs", "batch_size", "measure_batch"):
            count(name, getattr(training, name))
        data = of_data.with_arrays(data)
        if training.select is not None and data.validation is None:
            raise ValueError(
                f"validation is None, but is needed to select the epoch with the best "
                f"{training.select[0]}; pass select=None to select none"
            )
        of_training.check_fit(training, data, hyperparameters, fixed)
        ready.append(data)
    return ready
