"""Arms: students that are trained alike, at what is best on validation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdjax.data import Data
from kdjax.models import Batch
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
      choose: ``choose(search, axes)``, the rows of the search to measure.
      select_on: Examples to choose by, where not the validation split.
      extras: As `kdjax.sweep.sweep` takes them, of those measured.
      fixed: As `kdjax.sweep.sweep` takes it.
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

    @property
    def name(self) -> str:
        """For the progress bar."""
        return ", ".join(f"{n} {v}" for n, v in self.columns.items())

    @property
    def settings(self) -> pd.DataFrame:
        """All that is tried, a row each."""
        return grid(self.axes)


class Tuned(NamedTuple):
    """What `tuned` gives."""

    runs: pd.DataFrame  # of the seeds, at the chosen settings
    curves: pd.DataFrame
    search: pd.DataFrame  # of the search seed, at all settings
    seconds: float
    extras: dict[str, np.ndarray]  # of the seeds, a row a run


def tuned(arm: Arm) -> Tuned:
    """Measures an arm at what a search, by a seed of its own, finds best.

    The search never sees the test images.
    """
    select_on = arm.data.validation if arm.select_on is None else arm.select_on
    search = sweep(
        arm.training,
        arm.settings,
        data=arm.data._replace(validation=select_on, test=None),
        seeds=[SEARCH_SEED],
        name=f"{arm.name}: search",
        fixed=arm.fixed,
    )
    chosen = arm.choose(search.runs, list(arm.axes))[list(arm.axes)]
    measured = sweep(
        arm.training,
        chosen,
        data=arm.data,
        seeds=range(arm.seeds),
        name=arm.name,
        fixed=arm.fixed,
        extras=arm.extras,
    )
    seconds = search.seconds + measured.seconds
    return Tuned(measured.runs, measured.curves, search.runs, seconds, measured.extras)


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


def labelled(rows: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Rows with cells before them that are the same in all; their own stay."""
    own = [name for name in rows if name not in columns]
    cells = {name: rows.get(name, value) for name, value in columns.items()}
    return rows[own].assign(**cells)[[*columns, *own]]


def refit(arm: Arm, found: Tuned, data: Data) -> Tuned:
    """Measures an arm again at the settings found, on other examples.

    On all of them, say, those among which it was selected too: there is no epoch left
    to be selected, and only the last counts.
    """
    axes = list(arm.axes)
    measured = sweep(
        replace(arm.training, select=None),
        found.runs.query("seed == 0")[axes],
        data=data,
        seeds=range(arm.seeds),
        name=f"{arm.name}: refit",
        fixed=arm.fixed,
        extras=arm.extras,
    )
    return Tuned(
        measured.runs,
        measured.curves,
        found.search.head(0),
        measured.seconds,
        measured.extras,
    )
