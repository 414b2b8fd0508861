"""What experiments share: rates chosen on validation, by a seed of their own."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.data import Data, Split
from kdjax.results import Table, concatenate
from kdjax.sweep import sweep
from kdjax.train import Training

SEARCH_SEED = 1000  # chooses learning rates, and is none of those measured


class Tuned(NamedTuple):
    runs: Table  # of the seeds, at the chosen rates
    curves: Table
    search: Table  # of the search seed, at all rates
    seconds: float
    kept: dict[str, np.ndarray]  # of the seeds, a row a run


def best_rates(search: Table, columns: Table) -> Table:
    """Of every setting the row at its best rate. A setting's rows are neighbours."""
    return _best_of_every(len(np.unique(columns["learning_rate"])), search, columns)


def best_row(search: Table, columns: Table) -> Table:
    """Of all rows the best."""
    return _best_of_every(len(columns["learning_rate"]), search, columns)


def tuned(
    training: Training,
    columns: Table,
    *,
    data: Data,
    seeds: Sequence[int],
    name: str,
    choose: Callable[[Table, Table], Table] = best_rates,
    choose_by: Split | None = None,
    keep: Callable[[Any, Data], dict[str, jax.Array]] | None = None,
) -> Tuned:
    """Runs what a search, by a seed that is not measured, finds best.

    Args:
      training: From `kdjax.train.make_training`.
      columns: What to try, ``[R]`` each: a `grid` whose last axis is the learning rate.
      data: As for `sweep`. The search does not see its test images.
      seeds: To measure.
      name: For the progress bar.
      choose: ``choose(search, columns)``, the rows to measure, of what was tried.
      choose_by: To choose by, where it is not the validation split of the data.
      keep: As for `sweep`, of the seeds.
    """
    search = sweep(
        training,
        columns,
        data=data._replace(
            validation=data.validation if choose_by is None else choose_by, test=None
        ),
        seeds=[SEARCH_SEED],
        name=f"{name}: search",
    )
    chosen = choose(search.runs, columns)
    measured = sweep(training, chosen, data=data, seeds=seeds, name=name, keep=keep)
    seconds = search.seconds + measured.seconds
    return Tuned(measured.runs, measured.curves, search.runs, seconds, measured.kept)


def gather(found: Iterable[tuple[Table, Tuned]]) -> tuple[dict[str, Table], float]:
    """The tables ``runs``, ``curves`` and ``search`` of all, and the seconds they took.

    Args:
      found: What each is, as cells of all of its rows, and what it came to.
    """
    tables: dict[str, list[Table]] = {"runs": [], "curves": [], "search": []}
    seconds = 0.0
    for same, each in found:
        seconds += each.seconds
        for title, table in zip(tables, each[:3], strict=True):
            rows = len(table["seed"])
            tables[title].append({n: np.full(rows, v) for n, v in same.items()} | table)
    return {t: concatenate(parts) for t, parts in tables.items()}, seconds


def best_by_others(judged: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Of each seed, what of the one that the OTHER seeds find best by their errors.

    What a seed's own validation errors choose has luck that its test errors share.

    Args:
      judged: ``[..., candidates, seeds]``, two seeds or more.
      errors: On validation, as many.

    Returns:
      Of ``judged``, ``[..., seeds]``.
    """
    others = errors.sum(-1, keepdims=True) - errors
    chosen = others.argmin(-2, keepdims=True)
    return np.take_along_axis(judged, chosen, -2)[..., 0, :]


def inside_less_outside(
    inside: np.ndarray, judged: np.ndarray, errors: np.ndarray
) -> np.ndarray:
    """Of each seed the best of some candidates, less the best of the others.

    Args:
      inside: Which candidates, ``[candidates]``.
      judged: As for `best_by_others`, by which the best of either are found.
      errors: On validation, as many.
    """
    here, there = (
        best_by_others(judged[..., among, :], errors[..., among, :])
        for among in (inside, ~inside)
    )
    return here - there


def _best_of_every(count: int, search: Table, columns: Table) -> Table:
    """Of every ``count`` rows the most accurate on validation, then the likeliest."""
    order = np.lexsort(
        (search["validation_nll_last"], search["validation_errors_last"])
    )
    rank = np.argsort(order).reshape(-1, count)
    best = rank.argmin(1) + count * np.arange(len(rank))
    return {name: column[best] for name, column in columns.items()}
