"""Means, ratios and other statistics over seeds, each with its 95 % interval.

A NaN among the values gives NaN; it is never skipped.
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
    """The value of a statistic, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def interval(values: ArrayLike) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t.

    The width is NaN for a single value, and both are for none.
    """
    values = np.asarray(values, float)  # the mean of a pandas column would skip NaN
    if not len(values):
        return math.nan, math.nan
    error = np.std(values) / np.sqrt(max(1, len(values) - 1))
    return float(np.mean(values)), float(_students_t(len(values)) * error)


def estimate(values: ArrayLike) -> Estimate:
    """The mean of one value a seed, by Student's t."""
    mean, half = interval(values)
    return Estimate(mean, mean - half, mean + half)


def ratio(part: ArrayLike, whole: ArrayLike) -> Estimate:
    """The mean of ``part`` over that of ``whole``, a pair a seed, by Fieller.

    NaN where the mean of ``whole`` may be 0, since the ratio may then be anything. A
    bootstrap of a handful of seeds would be too narrow.
    """
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    p, w, t = np.mean(part), np.mean(whole), _students_t(len(part))
    (pp, pw), (_, ww) = t**2 * np.cov(part, whole, ddof=0) / max(1, len(part) - 1)
    # Where p - x w is not clearly other than 0: a x^2 - 2 b x + c <= 0.
    a, b, c = w**2 - ww, p * w - pw, p**2 - pp
    if not a > 0:
        return Estimate(math.nan, math.nan, math.nan)
    root = np.sqrt(max(0.0, b**2 - a * c))
    return Estimate(float(p / w), float((b - root) / a), float((b + root) / a))


def rank_correlation(values: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Spearman's, along the last axis; NaN where all values are alike.

    That of `scipy.stats.spearmanr`, but of many pairs, and fast enough for `bootstrap`.
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
    """A statistic of all rows, with percentiles from drawing seeds with replacement.

    All rows of a seed stay together, so what they share is no noise between them. A
    seed that is drawn twice becomes two seeds. The interval is NaN for a single seed.

    Args:
      statistic: ``statistic(frame)``, from the rows of the seeds that were drawn.
      frame: With a column ``seed``, or a row a seed and an index of that name. The
        fewer other columns, the faster.
      draws: How often as many seeds are drawn as there are.
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
        # Of draws that are NaN, and so is the interval then.
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
    """As text: the value, and its interval in brackets."""
    value, low, high = (f"{number:.3g}" for number in found)
    return f"{value} ({low} to {high})"


def format_mean(values: ArrayLike, digits: int = 1) -> str:
    """As text: the mean and half its interval; "-" if there are no values."""
    mean, half = interval(values)
    if len(np.asarray(values)) < 2:
        return "-" if math.isnan(mean) else f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _students_t(count: int) -> float:
    """How many standard errors a 95 % interval reaches; NaN for a single value."""
    return float(stats.t.ppf(0.975, count - 1)) if count > 1 else math.nan


def estimates_table(
    found: Mapping[tuple, Estimate], keys: Sequence[str], name: str = ""
) -> pd.DataFrame:
    """A row for each estimate, by what it is of.

    Args:
      found: Estimates by the cells of ``keys``.
      keys: Names of these columns.
      name: Of the value; its ends are ``<name>_low`` and ``<name>_high``. Without one
        they are ``value``, ``low`` and ``high``.
    """
    columns = [name, f"{name}_low", f"{name}_high"] if name else Estimate._fields
    rows = [(*key, *estimate) for key, estimate in found.items()]
    return pd.DataFrame(rows, columns=[*keys, *columns])
