"""Arms: students that are trained alike, at what is best on validation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from kdjax.data import Data
from kdjax.models import Batch, Model, Variables
from kdjax.study.selection import best_rates
from kdjax.sweep import grid, sweep
from kdjax.training import Training
from kdjax.units import Extras

SEARCH_SEED = 1000  # selects learning rates, and is none of those measured
Choose = Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame]


@dataclass(frozen=True)
class Arm:
    """Students that are trained alike, at what is best on validation.

    Args:
      columns: What they are, as cells of all of their rows.
      training: How they are trained.
      data: On what.
      seeds: How many are measured for every setting that is chosen.
      axes: Hyperparameters to choose from, by name.
      choose: ``choose(search, axes)``, the rows of the search to measure. They may have
        cells of ``columns`` of their own: of one search there may be several arms.
      select_on: Examples to choose by, where not the validation split.
      extras: As `kdjax.sweep.sweep` takes them, of those measured.
      fixed: As `kdjax.sweep.sweep` takes it.
      only: A query of `pandas.DataFrame.query`: which settings of the grid are tried.
    """

    columns: Mapping[str, Any]
    training: Training
    data: Data
    seeds: int
    axes: Mapping[str, Sequence[float]]
    choose: Choose = best_rates
    select_on: Batch | None = None
    extras: Extras | None = None
    fixed: Any = None
    only: str = ""

    @property
    def name(self) -> str:
        """For the progress bar."""
        return ", ".join(f"{n} {v}" for n, v in self.columns.items())

    @property
    def settings(self) -> pd.DataFrame:
        """All that is tried, a row each."""
        settings = grid(self.axes)
        return settings.query(self.only, engine="python") if self.only else settings

    def without_data(self) -> "Arm":
        """As it is kept once trained: the data of many arms would fill the memory."""
        return replace(self, data=Data(None), select_on=None)


class Tuned(NamedTuple):
    """What `tuned` gives."""

    runs: pd.DataFrame  # of the seeds, at the chosen settings
    curves: pd.DataFrame
    search: pd.DataFrame  # of the search seed, at all settings
    seconds: float
    extras: dict[str, np.ndarray]  # of the seeds, a row a run


def all_tuned(arms: Callable[[], Iterable[Arm]]) -> Iterator[tuple[Arm, Tuned]]:
    """Each of the arms, measured; progress says which of how many it is.

    Args:
      arms: Makes the arms, one at a time: their data together may not fit in memory.
    """
    total = sum(1 for _ in arms())
    for number, arm in enumerate(arms(), 1):
        yield arm, tuned(arm, f"arm {number} of {total}, ")


def tuned(arm: Arm, place: str = "") -> Tuned:
    """Measures an arm at the settings that a search with a seed of its own selects.

    The search never sees the test images.

    Args:
      arm: What to measure.
      place: Which arm of how many, for the progress bar.
    """
    select_on = arm.data.validation if arm.select_on is None else arm.select_on
    search = sweep(
        arm.training,
        arm.settings,
        data=arm.data._replace(validation=select_on, test=None),
        seeds=[SEARCH_SEED],
        name=f"{place}{arm.name}: search",
        fixed=arm.fixed,
    )
    chosen = arm.choose(search.runs, list(arm.axes))
    measured = sweep(
        arm.training,
        chosen[list(arm.axes)],
        data=arm.data,
        seeds=range(arm.seeds),
        name=f"{place}{arm.name}",
        fixed=arm.fixed,
        extras=arm.extras,
    )
    seconds = search.seconds + measured.seconds
    own = chosen[[name for name in arm.columns if name in chosen]]
    runs, curves = (_with_own(rows, own) for rows in (measured.runs, measured.curves))
    return Tuned(runs, curves, search.runs, seconds, measured.extras)


def _with_own(rows: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """With the cells of every setting, of which there is one row a run and seed."""
    each = rows.groupby("seed").size().iloc[0] // len(own)  # rows of a run
    cells = {str(n): np.resize(np.repeat(own[n], each), len(rows)) for n in own}
    return rows.assign(**cells)


def gather(
    found: Iterable[tuple[Arm, Tuned]],
) -> tuple[dict[str, pd.DataFrame], float]:
    """The tables ``runs``, ``curves`` and ``search`` of all arms, and their seconds."""
    tables: dict[str, list[pd.DataFrame]] = {"runs": [], "curves": [], "search": []}
    seconds = 0.0
    for arm, each in found:
        seconds += each.seconds
        for title, parts in tables.items():
            parts.append(labelled(getattr(each, title), arm.columns))
    together = {t: pd.concat(parts, ignore_index=True) for t, parts in tables.items()}
    return together, seconds


def logits_of(model: Model, *splits: str) -> Extras:
    """The ``extras`` of an arm that are its students' logits on some of the splits."""
    return partial(_logits, model, splits)


def _logits(
    model: Model, splits: Sequence[str], variables: Variables, data: Data
) -> dict[str, jax.Array]:
    return {s: model.apply(variables, getattr(data, s))[0].logits for s in splits}


def labelled(rows: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Rows with cells before them that are the same in all; their own stay."""
    own = [name for name in rows if name not in columns]
    cells = {name: rows.get(name, value) for name, value in columns.items()}
    return rows[own].assign(**cells)[[*columns, *own]]
