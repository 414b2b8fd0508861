"""Arms: groups of students with hyperparameters selected on the validation set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from kdjax.data import Data
from kdjax.models import Batch, Model, Variables
from kdjax.progress import console
from kdjax.study.selection import (
    best_rates,
    best_row,
    largest,
    shared_rate,
    smallest_rates,
    tried_at_all_rates,
)
from kdjax.sweep import SweepResult, grid, sweep
from kdjax.training import Training
from kdjax.units import Extras

SEARCH_SEED = 1000  # for the search, not among the seeds that are measured
_NUMBER = "number: "  # begins the names of extras that are columns
Choose = Callable[[pd.DataFrame, Sequence[str]], pd.DataFrame]


@dataclass(frozen=True)
class Arm:
    """Students that share a training, with hyperparameters selected on validation.

    Args:
      columns: Names and values that identify the arm, added to all of its rows.
      training: How the students are trained.
      data: What they are trained on.
      seeds: Number of students to measure for every selected setting.
      axes: Values of the hyperparameters to select from.
      choose: ``choose(search, axes)`` returns the rows of the search to measure. Their
        values take precedence over ``columns``, so one search may select for several
        arms.
      select_on: Examples to select on, instead of the validation split.
      extras: As in `kdjax.sweep.sweep`, for the students that are measured.
      numbers: ``numbers(variables, data)`` returns numbers by name, which become
        columns of the students' rows, also in the search, where settings can be
        selected by them.
      fixed: As in `kdjax.sweep.sweep`.
      only: A query for `pandas.DataFrame.query` that restricts the grid.
      vectorized: As in `kdjax.sweep.sweep`.
    """

    columns: Mapping[str, Any]
    training: Training
    data: Data
    seeds: int
    axes: Mapping[str, Sequence[float]]
    choose: Choose = best_rates
    select_on: Batch | None = None
    extras: Extras | None = None
    numbers: Extras | None = None
    fixed: Any = None
    only: str = ""
    vectorized: bool | None = None

    @property
    def name(self) -> str:
        """Label of the progress bar: words, then numbers with their names."""
        numbers = {n: v for n, v in self.columns.items() if isinstance(v, int | float)}
        words = [str(v) for n, v in self.columns.items() if n not in numbers]
        return ", ".join([*words, *(f"{n} {v:g}" for n, v in numbers.items())])

    @property
    def settings(self) -> pd.DataFrame:
        """The settings to search over, one per row."""
        settings = grid(self.axes)
        return settings.query(self.only, engine="python") if self.only else settings

    def without_data(self) -> "Arm":
        """The arm without its data, to save memory once it is trained."""
        return replace(self, data=Data(None), select_on=None)


class Tuned(NamedTuple):
    """The results of `tuned`."""

    runs: pd.DataFrame  # of all seeds, at the selected settings
    curves: pd.DataFrame
    search: pd.DataFrame  # of the search seed, at all settings
    seconds: float
    extras: dict[str, np.ndarray]  # of all seeds, one row per run


def all_tuned(
    arms: Callable[[], Iterable[Arm]], *, alike: Sequence[str] | None = None
) -> Iterator[tuple[Arm, Tuned]]:
    """Tunes and measures each arm; the progress bar shows its number.

    Args:
      arms: Returns an iterable of arms. It is called repeatedly, and should create the
        arms lazily, since the data of all of them may not fit in memory.
      alike: Columns of arms. Arms with equal values there share one learning rate, the
        `kdjax.study.selection.shared_rate` of the settings tried at all rates. By
        default, each arm has its own.
    """
    total = sum(1 for _ in arms())

    def numbered() -> Iterator[tuple[Arm, str]]:
        for number, arm in enumerate(arms(), 1):
            yield arm, f"arm {number} of {total}, "

    rates = {} if alike is None else _rates(numbered(), alike)
    for arm, place in numbered():
        rate = rates.get(_group(arm, alike)) if alike is not None else None
        yield arm, tuned(arm, place, rate)


def _group(arm: Arm, alike: Sequence[str]) -> tuple:
    return tuple(arm.columns[name] for name in alike)


def _rates(arms: Iterable[tuple[Arm, str]], alike: Sequence[str]) -> dict[tuple, float]:
    """The learning rate of each group of arms that are searched."""
    searches: dict[tuple, list[pd.DataFrame]] = {}
    for arm, place in arms:
        if len(arm.settings) > 1:
            rows = tried_at_all_rates(_search(arm, place).runs, list(arm.axes))
            searches.setdefault(_group(arm, alike), []).append(rows)
    return {group: shared_rate(pd.concat(rows)) for group, rows in searches.items()}


def tuned(arm: Arm, place: str = "", rate: float | None = None) -> Tuned:
    """Selects settings in a search with a separate seed, and measures the arm there.

    The search never sees the test images. An arm with a single setting, or with a
    single learning rate and no other choice to make, needs no search.

    Args:
      arm: The arm to measure.
      place: Prefix of the progress bar's label, such as the arm's number.
      rate: The learning rate, if other arms share it.
    """
    if _is_chosen(arm):
        chosen, searched, seconds = arm.settings, pd.DataFrame(), 0.0
    else:
        search = _search(arm, place)
        rows = search.runs
        rows = rows if rate is None else rows[rows["learning_rate"] == rate]
        chosen = arm.choose(rows, list(arm.axes))
        if rate is None:
            _say_at_an_end(arm, chosen)
        searched, seconds = search.runs, search.seconds
    seeds, name = range(arm.seeds), f"{place}{arm.name}"
    settings = chosen[list(arm.axes)]
    measured = _swept(arm, settings, arm.data, seeds, name, arm.extras)
    seconds += measured.seconds
    own = chosen[[name for name in arm.columns if name in chosen]]
    runs, curves = (_with_own(rows, own) for rows in (measured.runs, measured.curves))
    return Tuned(runs, curves, searched, seconds, measured.extras)


def _say_at_an_end(arm: Arm, chosen: pd.DataFrame) -> None:
    """Says that a better learning rate may lie outside of the three or more tried."""
    rates = arm.axes.get("learning_rate", ())
    for end, word in ((max, "largest"), (min, "smallest")):
        if len(rates) > 2 and np.isclose(chosen["learning_rate"], end(rates)).any():
            console.print(f"{arm.name}: the {word} learning rate of all was selected")


def _is_chosen(arm: Arm) -> bool:
    """Whether a search could only return all settings."""
    choose = getattr(arm.choose, "func", arm.choose)
    if len(arm.settings) == 1:
        return choose in (best_rates, best_row, largest, smallest_rates)
    of_rates = choose in (best_rates, smallest_rates)
    return of_rates and len(arm.axes.get("learning_rate", [0])) == 1


def _search(arm: Arm, place: str) -> SweepResult:
    select_on = arm.data.validation if arm.select_on is None else arm.select_on
    data = arm.data._replace(validation=select_on, test=None)
    return _swept(arm, arm.settings, data, [SEARCH_SEED], f"{place}{arm.name}: search")


def _swept(
    arm: Arm,
    settings: pd.DataFrame,
    data: Data,
    seeds: Sequence[int],
    name: str,
    extras: Extras | None = None,
) -> SweepResult:
    """A sweep over settings, with the arm's numbers as columns of its runs."""
    if arm.numbers is not None:
        extras = partial(_with_numbers, arm.numbers, extras)
    swept = sweep(
        arm.training,
        settings,
        data=data,
        seeds=seeds,
        name=name,
        fixed=arm.fixed,
        extras=extras,
        vectorized=arm.vectorized,
    )
    named = {
        n.removeprefix(_NUMBER): a for n, a in swept.extras.items() if _NUMBER in n
    }
    others = {n: array for n, array in swept.extras.items() if _NUMBER not in n}
    return swept._replace(runs=swept.runs.assign(**named), extras=others)


def _with_numbers(
    numbers: Extras, extras: Extras | None, variables: Variables, data: Data
) -> dict[str, jax.Array]:
    found = {_NUMBER + n: each for n, each in numbers(variables, data).items()}
    return found | (extras(variables, data) if extras else {})


def _with_own(rows: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Adds to each run the columns of its setting."""
    each = rows.groupby("seed").size().iloc[0] // len(own)  # rows per run
    cells = {str(n): np.resize(np.repeat(own[n], each), len(rows)) for n in own}
    return rows.assign(**cells)


def gather(
    found: Iterable[tuple[Arm, Tuned]],
) -> tuple[dict[str, pd.DataFrame], float]:
    """Concatenates the tables of all arms, and adds up their seconds."""
    tables: dict[str, list[pd.DataFrame]] = {"runs": [], "curves": [], "search": []}
    seconds = 0.0
    for arm, each in found:
        seconds += each.seconds
        for title, parts in tables.items():
            parts.append(labelled(getattr(each, title), arm.columns))
    together = {t: pd.concat(parts, ignore_index=True) for t, parts in tables.items()}
    return together, seconds


def logits_of(model: Model, *splits: str) -> Extras:
    """The ``extras`` of an arm that return the students' logits on some splits."""
    return partial(_logits, model, splits)


def _logits(
    model: Model, splits: Sequence[str], variables: Variables, data: Data
) -> dict[str, jax.Array]:
    return {s: model.apply(variables, getattr(data, s))[0].logits for s in splits}


def labelled(rows: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Adds constant columns in front of a table; columns it already has are kept."""
    own = [name for name in rows if name not in columns]
    cells = {name: rows.get(name, value) for name, value in columns.items()}
    return rows[own].assign(**cells)[[*columns, *own]]
