"""Types of the fields of a study's config, which are validated before anything runs.

A field such as ``alphas: Fractions = (0.5, 0.9)`` is checked when the config is created
from flags or in code, and ``--help`` shows its range.
"""

from dataclasses import dataclass, fields
from numbers import Integral, Real
import typing
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from kdjax.data.types import Info
from kdjax.losses.ranges import FRACTION, POSITIVE, SHARE, Range

_COUNT = Range("a positive integer", 1)
_DIGIT = Range("a digit from 0 to 9", 0, 9)


def _problem(value: Any, kind: type, within: Range) -> str | None:
    """Describes what is wrong with a value, if anything."""
    wanted = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, wanted) or value not in within:
        return f"is {value!r}, but takes {within.words}"
    return None


def flag(kind: type, metavar: str) -> PrimitiveConstructorSpec:
    """How tyro parses and prints a value, which `Config` then checks."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: _parsed(kind, words[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [f"{value:g}"],
    )


def _parsed(kind: type, word: str) -> Any:
    """The value of a flag, or the word itself, which `Config` rejects."""
    try:
        return kind(word)
    except ValueError:
        return word


class InvalidConfig(ValueError):
    """A config does not fit its data."""


class _Distinct:
    """Marks a list without repeated values."""


Count = Annotated[int, _COUNT, flag(int, "COUNT")]
Positive = Annotated[float, POSITIVE, flag(float, "POSITIVE")]
Fraction = Annotated[float, FRACTION, flag(float, "0..1")]
Share = Annotated[float, SHARE, flag(float, "0..1")]  # of a whole, not 0
Digit = Annotated[int, _DIGIT, flag(int, "0..9")]
Counts = Annotated[tuple[Count, ...], _Distinct]
Positives = Annotated[tuple[Positive, ...], _Distinct]
Fractions = Annotated[tuple[Fraction, ...], _Distinct]
Shares = Annotated[tuple[Share, ...], _Distinct]
Digits = Annotated[tuple[Digit, ...], _Distinct]


@dataclass(frozen=True)
class Config:
    """A config that checks its values against their types."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            check(field.name, getattr(self, field.name), hints[field.name])

    def check_data(self, info: Info) -> None:
        """Raises InvalidConfig unless the config fits the data."""


def check(name: str, value: Any, hint: Any) -> None:
    """Raises ValueError unless the value fits a type of this module."""
    kind, *marks = _parts(hint)
    if typing.get_origin(kind) is tuple:
        _check_list(name, value, kind, distinct=_Distinct in marks)
        return
    for within in marks:
        if isinstance(within, Range) and (problem := _problem(value, kind, within)):
            raise ValueError(f"{name} {problem}")


def _check_list(name: str, values: Any, kind: Any, *, distinct: bool) -> None:
    element, *others = typing.get_args(kind)
    if not isinstance(values, tuple | list) or not values:
        raise ValueError(f"{name} is {values!r}, but takes at least one value")
    if ... not in others and len(values) != 1 + len(others):
        raise ValueError(f"{name} is {values!r}, but takes {1 + len(others)} values")
    if distinct and len(set(values)) < len(values):
        raise ValueError(f"{name} is {values!r}, but takes each value only once")
    for value in values:
        check(name, value, element)


def _parts(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is Annotated:
        kind, *marks = typing.get_args(hint)
        return (kind, *marks)
    return (hint,)
