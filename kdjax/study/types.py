"""Types of a study's config: a flag's values are refused before anything is run.

``alphas: Fractions = (0.5, 0.9)`` reads as it is meant, is shown by ``--help``, and is
checked where the config is made, by flags or by a program.
"""

from dataclasses import dataclass, fields
from numbers import Integral, Real
import typing
from typing import Annotated, Any

from tyro.constructors import PrimitiveConstructorSpec

from kdjax.losses.ranges import Range

_COUNT = Range("a whole number from 1 up", 1)
_POSITIVE = Range("a positive number", 0, above=True)
_FRACTION = Range("a number in [0, 1]", 0, 1)
_SHARE = Range("a number in (0, 1]", 0, 1, above=True)
_DIGIT = Range("a digit, 0 to 9", 0, 9)


def _problem(value: Any, kind: type, within: Range) -> str | None:
    """What is wrong with a value, if anything is."""
    wanted = Integral if kind is int else Real
    if isinstance(value, bool) or not isinstance(value, wanted) or value not in within:
        return f"is {value!r}, but takes {within.words}"
    return None


def _spec(kind: type, metavar: str) -> PrimitiveConstructorSpec:
    """How tyro reads and shows such a value; `Config` checks it."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: kind(words[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [f"{value:g}"],
    )


class _Distinct:
    """Marks a list that holds each value once."""


Count = Annotated[int, _COUNT, _spec(int, "COUNT")]
Positive = Annotated[float, _POSITIVE, _spec(float, "POSITIVE")]
Fraction = Annotated[float, _FRACTION, _spec(float, "0..1")]
Share = Annotated[float, _SHARE, _spec(float, "0..1")]  # of something, so not 0
Digit = Annotated[int, _DIGIT, _spec(int, "0..9")]
Counts = Annotated[tuple[Count, ...], _Distinct]
Positives = Annotated[tuple[Positive, ...], _Distinct]
Fractions = Annotated[tuple[Fraction, ...], _Distinct]
Shares = Annotated[tuple[Share, ...], _Distinct]
Digits = Annotated[tuple[Digit, ...], _Distinct]


@dataclass(frozen=True)
class Config:
    """A config whose values are those that its types take."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            check(field.name, getattr(self, field.name), hints[field.name])


def check(name: str, value: Any, hint: Any) -> None:
    """Raises ValueError, naming the value, unless a type of this module takes it."""
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
        raise ValueError(f"{name} is {values!r}, but takes one value or more")
    if ... not in others and len(values) != 1 + len(others):
        raise ValueError(f"{name} is {values!r}, but takes {1 + len(others)} values")
    if distinct and len(set(values)) < len(values):
        raise ValueError(f"{name} is {values!r}, but takes each value once")
    for value in values:
        check(name, value, element)


def _parts(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is Annotated:
        kind, *marks = typing.get_args(hint)
        return (kind, *marks)
    return (hint,)
