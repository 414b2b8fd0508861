"""Ranges of hyperparameters, declared in the annotations of losses.

A sweep checks its axes against ``temperature: Positive`` before anything is traced.
Losses themselves do not check values, since these may be traced.
"""

from dataclasses import dataclass
import math
from typing import Annotated, Any

from kdjax.losses._numerics import Scalar


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``low`` to ``high``, without ``low`` itself if ``above``.

    If ``whole``, they are integers.
    """

    words: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    whole: bool = False

    def __contains__(self, value: Any) -> bool:
        inside = self.low < value if self.above else self.low <= value
        inside = math.isfinite(value) and inside and value <= self.high
        return inside and (not self.whole or value == round(value))


POSITIVE = Range("a positive number", 0, above=True)
FRACTION = Range("a number in [0, 1]", 0, 1)
SHARE = Range("a number in (0, 1]", 0, 1, above=True)
INDEX = Range("an integer from 0", 0, whole=True)
Positive = Annotated[Scalar, POSITIVE]
Fraction = Annotated[Scalar, FRACTION]


def require(name: str, value: Any, within: Range) -> None:
    """Raises ValueError if a Python number is out of range; others may be traced."""
    if isinstance(value, int | float) and value not in within:
        raise ValueError(f"{name} is {value!r}, but takes {within.words}")
