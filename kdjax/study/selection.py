"""Choosing settings by validation errors, never by test errors."""

from collections.abc import Sequence
import math

import numpy as np
import pandas as pd

_SCORES = ("validation_errors_last", "validation_nll_last")  # the second breaks ties


def best_setting(runs: pd.DataFrame, *names: str) -> pd.DataFrame:
    """The rows of the setting of ``names`` with the fewest validation errors a run.

    Ties go to the lower validation NLL, where there is such a column, and then to the
    smallest setting, so that the order of the rows never matters. A setting with a NaN
    among its scores comes last.
    """
    scores = [score for score in _SCORES if score in runs]
    settings = runs.groupby(list(names), dropna=False)
    means = settings[scores].agg(lambda x: math.fsum(x) / len(x))  # exact in any order
    means["setting"] = range(len(means))  # from the smallest
    best = means.sort_values([*scores, "setting"])["setting"].iloc[0]
    return runs[settings.ngroup() == best]


def best_rates(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The row with the best learning rate for every setting of the other axes."""
    others = [name for name in axes if name != "learning_rate"]
    if not others:
        return best_row(search, axes)
    return _ranked(search, axes).drop_duplicates(others).sort_index()


def shared_rates(
    search: pd.DataFrame, axes: Sequence[str], alike: Sequence[str]
) -> pd.DataFrame:
    """Rows as of `best_rates`, but at one learning rate for all that are alike.

    It has the fewest validation errors, median over these rows; between equals it is
    the smallest. A run that diverged counts as worse than any other.

    Args:
      search: A row a run.
      axes: What was tried.
      alike: Columns in which rows agree that share a learning rate.
    """
    others = [name for name in axes if name != "learning_rate"]
    errors = search.assign(errors=search[_SCORES[0]].fillna(math.inf))
    rates = errors.groupby([*alike, "learning_rate"])["errors"]
    ranked = search.assign(median=rates.transform("median"))
    ranked = ranked.sort_values(["median", "learning_rate"])
    return search.loc[ranked.drop_duplicates(others).index].sort_index()


def best_row(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The best row of all."""
    return _ranked(search, axes).head(1)


def _ranked(search: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The best first; between equals the smallest setting, whatever their order."""
    return search.sort_values([*_SCORES, *axes])


def best_by_others(judged: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """For each seed, the candidate that the OTHER seeds find best by their errors.

    What a seed's own validation errors choose has luck that its test errors share.

    Args:
      judged: ``[..., candidates, seeds]``, two seeds or more.
      errors: On validation, of the same shape.

    Returns:
      Of ``judged``, ``[..., seeds]``.
    """
    others = errors.sum(-1, keepdims=True) - errors
    chosen = others.argmin(-2, keepdims=True)
    return np.take_along_axis(judged, chosen, -2)[..., 0, :]


def inside_less_outside(
    inside: np.ndarray, judged: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    """For each seed the best of some candidates, less the best of the others.

    Args:
      inside: Which candidates, ``[candidates]``.
      judged: As for `best_by_others`, by which the best of either are found.
      errors: On validation, of the same shape.
    """
    here, there = (
        best_by_others(judged[..., among, :], errors[..., among, :])
        for among in (inside, ~inside)
    )
    return here - there
