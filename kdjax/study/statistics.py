"""Statistics over seeds with 95 % confidence intervals.

NaN values are never skipped: the result is then NaN.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import NamedTuple
import warnings

import numpy as np
from numpy.typing import ArrayLike
import pandas as pd
from scipy import stats


class Estimate(NamedTuple):
    """A statistic and its 95 % interval."""

    value: float
    low: float
    high: float


def interval(values: ArrayLike) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t.

    The width is NaN for a single value. Both are NaN if there are no values.
    """
    values = np.asarray(values, float)  # a mean in pandas would skip NaN
    if not len(values):
        return math.nan, math.nan
    error = np.std(values) / np.sqrt(max(1, len(values) - 1))
    return float(np.mean(values)), float(_students_t(len(values)) * error)


def estimate(values: ArrayLike) -> Estimate:
    """The mean of one value per seed, with an interval by Student's t."""
    mean, half = interval(values)
    return Estimate(mean, mean - half, mean + half)


def ratio(part: ArrayLike, whole: ArrayLike) -> Estimate:
    """The mean of ``part`` over that of ``whole``, with Fieller's interval.

    There is one pair of values per seed. The result is NaN if the interval of the mean
    of ``whole`` includes 0, since the ratio is then unbounded. With few seeds, a
    bootstrap interval would be too narrow.
    """
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    p, w, t = np.mean(part), np.mean(whole), _students_t(len(part))
    (pp, pw), (_, ww) = t**2 * np.cov(part, whole, ddof=0) / max(1, len(part) - 1)
    # p - x w does not differ significantly from 0 if a x^2 - 2 b x + c <= 0.
    a, b, c = w**2 - ww, p * w - pw, p**2 - pp
    if not a > 0:
        return Estimate(math.nan, math.nan, math.nan)
    root = np.sqrt(max(0.0, b**2 - a * c))
    return Estimate(float(p / w), float((b - root) / a), float((b + root) / a))


def magnitude(values: ArrayLike) -> Estimate:
    """How far the mean of one value per seed is from 0, in either direction."""
    value, low, high = estimate(values)
    near, far = sorted([abs(low), abs(high)])
    return Estimate(abs(value), 0.0 if low <= 0 <= high else near, far)


def rank_correlation(values: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Spearman's rank correlation along the last axis; NaN if all values are equal.

    Equals `scipy.stats.spearmanr`, but is vectorized, and fast enough for `bootstrap`.
    """
    both = [stats.rankdata(each, axis=-1) for each in (values, others)]
    centred = [ranks - ranks.mean(-1, keepdims=True) for ranks in both]
    with np.errstate(invalid="ignore"):
        a, b = (c / np.linalg.norm(c, axis=-1, keepdims=True) for c in centred)
    return np.sum(a * b, -1)


def bootstrap(
    statistic: Callable[[pd.DataFrame], float],
    frame: pd.DataFrame,
    *,
    draws: int = 2000,
) -> Estimate:
    """A statistic with a percentile bootstrap interval over seeds.

    Seeds are resampled with replacement, with all of their rows. A seed that is drawn
    twice counts as two seeds. The interval is NaN for a single seed.

    Args:
      statistic: ``statistic(frame)``, computed from the rows of the resampled seeds.
      frame: A table with a column ``seed``, or with one row per seed and an index of
        that name. Fewer columns are faster.
      draws: Number of resamples.
    """
    places = list(frame.groupby("seed", dropna=False).indices.values())

    def of_drawn(seeds: np.ndarray) -> float:
        rows = [places[seed] for seed in seeds.astype(int)]
        numbers = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
        drawn = frame.iloc[np.concatenate(rows)]
        if "seed" in frame:
            return statistic(drawn.assign(seed=numbers))
        return statistic(drawn.set_axis(pd.Index(numbers, name="seed")))

    value = float(statistic(frame))
    if len(places) < 2:
        return Estimate(value, math.nan, math.nan)
    with warnings.catch_warnings():
        # Raised if a resample is NaN; the interval is NaN then, too.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (np.arange(len(places)),),
            of_drawn,
            vectorized=False,
            n_resamples=draws,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    low, high = found.confidence_interval
    return Estimate(value, float(low), float(high))


def format_estimate(found: Estimate) -> str:
    """Formats the value, with its interval in brackets."""
    value, low, high = (f"{number:.3g}" for number in found)
    return f"{value} ({low} to {high})"


def strict_mean(values: pd.Series) -> float:
    """The mean; NaN if there is one among the values."""
    return float(values.mean(skipna=False))


def format_mean(values: ArrayLike, digits: int = 1) -> str:
    """Formats the mean and half of its interval; "-" if there are no values."""
    mean, half = interval(values)
    if len(np.asarray(values)) < 2:
        return "-" if math.isnan(mean) else f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _students_t(count: int) -> float:
    """The half width of a 95 % interval in standard errors; NaN for a single value."""
    return float(stats.t.ppf(0.975, count - 1)) if count > 1 else math.nan


def estimates_table(
    found: Mapping[tuple, Estimate], keys: Sequence[str], name: str = ""
) -> pd.DataFrame:
    """A table with one row per estimate.

    Args:
      found: Estimates by the values of ``keys``.
      keys: Names of the key columns.
      name: Name of the estimate, for columns ``<name>``, ``<name>_low`` and
        ``<name>_high``. By default they are ``value``, ``low`` and ``high``.
    """
    columns = [name, f"{name}_low", f"{name}_high"] if name else Estimate._fields
    rows = [(*key, *estimate) for key, estimate in found.items()]
    return pd.DataFrame(rows, columns=[*keys, *columns])
