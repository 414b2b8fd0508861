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


def tuned(
    training: Training,
    settings: Table,
    rates: Sequence[float],
    *,
    data: Data,
    seeds: Sequence[int],
    name: str,
    together: bool = False,
    choose_by: Split | None = None,
    keep: Callable[[Any, Data], dict[str, jax.Array]] | None = None,
) -> Tuned:
    """Runs each setting at its best rate.

    Args:
      training: From `kdjax.train.make_training`.
      settings: Hyperparameters but for the learning rate, ``[R]`` each; none for a
        loss that has none.
      rates: To choose from.
      data: As for `sweep`. The search does not see its test images.
      seeds: To measure.
      name: For the progress bar.
      together: Whether to choose one setting with its rate, instead of a rate for each.
      choose_by: To choose rates by, where it is not the validation split of the data.
      keep: As for `sweep`, of the seeds.
    """
    rows = len(next(iter(settings.values()), [0]))
    columns = {n: np.repeat(np.float32(c), len(rates)) for n, c in settings.items()}
    columns["learning_rate"] = np.tile(np.float32(rates), rows)
    search = sweep(
        training,
        columns,
        data=data._replace(
            validation=data.validation if choose_by is None else choose_by, test=None
        ),
        seeds=[SEARCH_SEED],
        name=f"{name}: learning rates",
    )
    each = rows * len(rates) if together else len(rates)
    chosen = choose(search.runs, columns, each)
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


def choose(search: Table, columns: Table, rates: int) -> Table:
    """Of every ``rates`` rows the one most accurate on validation, then likeliest."""
    order = np.lexsort(
        (search["validation_nll_last"], search["validation_errors_last"])
    )
    rank = np.argsort(order).reshape(-1, rates)
    best = rank.argmin(1) + rates * np.arange(len(rank))
    return {name: column[best] for name, column in columns.items()}
