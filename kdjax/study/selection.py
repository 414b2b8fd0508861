"""Selection of settings by validation errors, never by test errors."""

from collections.abc import Sequence
import math

import numpy as np
import pandas as pd

_SCORES = ("validation_errors_last", "validation_nll_last")  # the second is for ties
_LOSSES = ("validation_nll_last", "validation_mse_last")


def best_setting(runs: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The rows of the setting of ``names`` with the fewest mean validation errors.

    Ties are broken by the lower validation NLL, if there is such a column, and then by
    the smaller setting, so the order of rows does not matter. Settings with NaN scores
    rank last.
    """
    scores = [score for score in _SCORES if score in runs]
    settings = runs.groupby(list(names), dropna=False)
    means = settings[scores].agg(lambda x: math.fsum(x) / len(x))  # exact in any order
    means["setting"] = range(len(means))  # in ascending order
    best = means.sort_values([*scores, "setting"])["setting"].iloc[0]
    return runs[settings.ngroup() == best]


def best_rates(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """For each setting of the other axes, the row with the best learning rate."""
    others = [name for name in axes if name != "learning_rate"]
    if not others:
        return best_row(search, axes)
    return _ranked(search, axes).drop_duplicates(others).sort_index()


def shared_rates(search: pd.DataFrame, alike: Sequence[str]) -> pd.DataFrame:
    """Rows as in `best_rates`, but with one `shared_rate` per group of settings.

    Args:
      search: One row per run.
      alike: Columns that define the groups.
    """
    best = pd.Series(math.nan, search.index)
    for _, rows in search.groupby(list(alike), dropna=False):
        best[rows.index] = shared_rate(rows)
    return search[search["learning_rate"] == best]


def shared_rate(search: pd.DataFrame) -> float:
    """The learning rate with the lowest median of validation errors.

    Ties go to the smaller rate. Runs that diverged rank last.
    """
    rates = search["learning_rate"].to_numpy()
    errors = search[_SCORES[0]].fillna(math.inf).to_numpy()
    return min(np.unique(rates), key=lambda rate: np.median(errors[rates == rate]))


def tried_at_all_rates(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The rows whose other axes have values that were tried at every learning rate."""
    others = [name for name in axes if name != "learning_rate"]
    if not others:
        return search
    rates = search.groupby(others)["learning_rate"].transform("nunique")
    return search[rates == search["learning_rate"].nunique()]


def best_row(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The row with the fewest validation errors; ties go to the lower NLL."""
    return _ranked(search, axes).head(1)


def largest(search: pd.DataFrame, axes: Sequence[str], *, score: str) -> pd.DataFrame:
    """The row with the largest score.

    Ties are broken by the lower validation loss, if there is one, and then by the
    smaller setting: where no network does better than chance, all have the same score.
    """
    losses = [name for name in _LOSSES if name in search]
    first = [False, *[True] * (len(losses) + len(axes))]
    return search.sort_values([score, *losses, *axes], ascending=first).head(1)


def smallest_rates(
    search: pd.DataFrame, axes: Sequence[str], *, score: str
) -> pd.DataFrame:
    """For each setting of the other axes, the row with the smallest score.

    Ties go to the smaller learning rate.
    """
    others = [name for name in axes if name != "learning_rate"]
    ranked = search.sort_values([score, *axes])
    return ranked.drop_duplicates(others).sort_index() if others else ranked.head(1)


def _ranked(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Rows from the best to the worst; ties are ordered by setting."""
    return search.sort_values([*_SCORES, *axes])


def best_by_others(judged: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """For each seed, the value of the candidate that is best for the *other* seeds.

    A selection by a seed's own validation errors would be biased, because they are
    correlated with its test errors.

    Args:
      judged: Values ``[..., candidates, seeds]``, of at least two seeds.
      errors: Validation errors of the same shape. A candidate with NaN for any seed is
        selected only if there is no other.

    Returns:
      Selected values ``[..., seeds]``.
    """
    others = errors.sum(-1, keepdims=True) - errors
    others = np.where(np.isnan(others), np.inf, others)
    chosen = others.argmin(-2, keepdims=True)
    return np.take_along_axis(judged, chosen, -2)[..., 0, :]


def inside_less_outside(
    inside: np.ndarray, judged: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    """For each seed, the best of some candidates minus the best of the others.

    Both are selected by `best_by_others`.

    Args:
      inside: Mask ``[candidates]`` of the former.
      judged: Values ``[..., candidates, seeds]``.
      errors: Validation errors of the same shape.
    """
    here, there = (
        best_by_others(judged[..., among, :], errors[..., among, :])
        for among in (inside, ~inside)
    )
    return here - there


def best_less_best(
    runs: pd.DataFrame,
    ones: Sequence[str],
    others: Sequence[str],
    *,
    score: str,
    by: str,
    worst: float,
) -> np.ndarray:
    """``[seeds]``, the score of the best of some arms minus that of the best of others.

    Both are selected by `best_by_others`.

    Args:
      runs: One row per seed and ``arm``.
      ones: Names of arms.
      others: Names of the arms to compare with.
      score: Column to compare.
      by: Column to select by, of which the largest is best.
      worst: What a NaN there counts as: a correlation has none if nothing varies.
    """
    scores, selected = (
        runs.pivot(index="arm", columns="seed", values=n) for n in (score, by)
    )
    here, there = (
        best_by_others(
            scores.loc[list(arms)].to_numpy(),
            -selected.loc[list(arms)].fillna(worst).to_numpy(),
        )
        for arms in (ones, others)
    )
    return here - there


def range_less_others(
    runs: pd.DataFrame, axis: str, low: float, high: float, score: str = "errors"
) -> np.ndarray:
    """``[seeds]``, test errors at the best value in a range minus those at others.

    Both values are selected by `best_by_others`.

    Args:
      runs: One row per seed and value.
      axis: Column of the values.
      low: Least value of the range, included.
      high: Largest value of the range, included.
      score: Another metric than the errors, of which less is better.
    """
    cells = runs.pivot(index=axis, columns="seed")
    inside = (cells.index >= low) & (cells.index <= high)
    names = (f"{split}_{score}_last" for split in ("test", "validation"))
    judged, errors = (cells[name].to_numpy() for name in names)
    return inside_less_outside(inside, judged, errors)
