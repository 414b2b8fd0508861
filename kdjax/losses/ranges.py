"""Which values a hyperparameter of a loss takes, declared where it is named.

``temperature: Positive`` says so to a reader, and to whatever checks the axes of a
sweep before it is traced. A loss itself checks no values: they may be traced.
"""

from dataclasses import dataclass
import math
from typing import Annotated, Any

from kdjax.losses._numerics import Scalar


@dataclass(frozen=True)
class Range:
    """Finite numbers from ``low`` to ``high``, ``low`` itself left out if ``above``."""

    words: str
    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, value: Any) -> bool:
        inside = self.low < value if self.above else self.low <= value
        return math.isfinite(value) and inside and value <= self.high


Positive = Annotated[Scalar, Range("a positive number", 0, above=True)]
Fraction = Annotated[Scalar, Range("a number in [0, 1]", 0, 1)]
