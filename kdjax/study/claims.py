"""Claims about distillation, the statistics that test them, and decision rules."""

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
    """A claim and its decision rule, written before the run.

    ``measure`` takes a table of the results, usually ``runs``, and returns one value
    per seed, for an interval of the mean by Student's t, or an `Estimate`. The claim is
    supported if the whole interval lies within the bounds, and refuted if it lies
    entirely outside.
    """

    says: str
    statistic: str  # description of what is measured
    measure: Callable[[pd.DataFrame], Any]
    supported: Bounds
    table: str = "runs"

    def record(self) -> dict[str, Any]:
        """The rule for ``meta.json``; results under another rule are not the same."""
        return {"supported": self.supported}

    @property
    def refuted(self) -> Bounds:
        """Bounds of an interval that refutes the claim."""
        low, high = self.supported
        return (high, None) if low is None else (None, low)

    @property
    def rule(self) -> str:
        """The bound for support, in words."""
        low, high = self.supported
        return f"below {high:g}" if low is None else f"above {low:g}"


def below(bound: float) -> Bounds:
    """Supported if the whole interval is at most ``bound``."""
    return (None, bound)


def above(bound: float) -> Bounds:
    """Supported if the whole interval is at least ``bound``."""
    return (bound, None)


def measured(claim: Claim, tables: Tables) -> Estimate:
    """The statistic of a claim with its interval; NaN if a run diverged."""
    if diverged(tables):
        return Estimate(math.nan, math.nan, math.nan)
    found = claim.measure(tables[claim.table])
    return found if isinstance(found, Estimate) else estimate(np.asarray(found, float))


def diverged(tables: Tables) -> int:
    """The number of runs that diverged."""
    runs = tables.get("runs", pd.DataFrame())
    return int(runs.get("diverged", pd.Series(dtype=bool)).sum())


def verdict(claim: Claim, found: Estimate) -> str:
    """``supported``, ``refuted``, ``undecided`` or ``not evaluated``."""
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return NOT_EVALUATED
    held = [
        name
        for name in ("supported", "refuted")
        if _within(found, getattr(claim, name))
    ]
    # Both hold where all seeds are exactly at the bound, which decides nothing.
    return held[0] if len(held) == 1 else "undecided"


def _within(found: Estimate, bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or low <= found.low) and (high is None or found.high <= high)


def report(claim: Claim, tables: Tables, *, decides: bool) -> str:
    """Two lines about a claim: its verdict, and what was measured.

    Args:
      claim: The claim.
      tables: The tables of results.
      decides: Whether they are of the published config, which alone decides a claim.
        Otherwise, what the claim needs may be missing.
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
