"""Claims: what the article says, the rule that decides, and what measures it."""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdjax.study.statistics import Estimate, estimate, format_estimate

Tables = Mapping[str, pd.DataFrame]
Bounds = tuple[float | None, float | None]
NOT_EVALUATED = "not evaluated"


class Claim(NamedTuple):
    """A claim, with its rule, written before the run.

    ``measure`` takes a table of the results, ``runs`` as a rule, and gives one value a
    seed, whose mean has an interval by Student's t, or an `Estimate` of its own. The
    claim is supported where the whole interval lies within its bounds, refuted where it
    lies outside.
    """

    says: str
    statistic: str  # what is measured, in words
    measure: Callable[[pd.DataFrame], Any]
    supported: Bounds
    table: str = "runs"

    def record(self) -> dict[str, Any]:
        """For ``meta.json``: a verdict under another rule is another result."""
        return {"supported": self.supported}

    @property
    def refuted(self) -> Bounds:
        """Beyond the bound of what supports the claim."""
        low, high = self.supported
        return (high, None) if low is None else (None, low)

    @property
    def rule(self) -> str:
        """Where an interval must lie to support the claim, in words."""
        low, high = self.supported
        return f"below {high:g}" if low is None else f"above {low:g}"


def below(bound: float) -> Bounds:
    """Supported if the whole interval is at most so much."""
    return (None, bound)


def above(bound: float) -> Bounds:
    """Supported if the whole interval is at least so much."""
    return (bound, None)


def measured(claim: Claim, tables: Tables) -> Estimate:
    """The claim's statistic, with its interval."""
    found = claim.measure(tables[claim.table])
    return found if isinstance(found, Estimate) else estimate(np.asarray(found, float))


def verdict(claim: Claim, found: Estimate) -> str:
    """``supported``, ``refuted``, ``undecided`` at this scale, or not evaluated."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return NOT_EVALUATED
    for name in ("supported", "refuted"):
        low, high = getattr(claim, name)
        low, high = (
            -math.inf if low is None else low,
            math.inf if high is None else high,
        )
        if low <= found.low and found.high <= high:
            return name
    return "undecided"


def report(claim: Claim, tables: Tables, *, decides: bool) -> str:
    """Two lines on a claim: its verdict, and what was measured.

    Args:
      claim: What is claimed.
      tables: The tables of the results.
      decides: Whether they are of the published config, which alone decides. Of
        another, what the claim is about may be missing.
    """
    try:
        found = measured(claim, tables)
    except (KeyError, IndexError, ValueError):
        if decides:
            raise
        found = Estimate(math.nan, math.nan, math.nan)
    decided = verdict(claim, found) if decides else NOT_EVALUATED
    shown = "" if math.isnan(found.value) else f": {format_estimate(found)}"
    return f"{claim.says}: {decided}\n  {claim.statistic}{shown}"
