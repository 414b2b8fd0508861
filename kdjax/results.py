"""The format of ``results/<name>/``, and nothing else: no jax, nothing is drawn.

``runs.csv`` has one row a run, ``curves.csv`` one row an epoch of a run, and an
experiment may add tables of its own. ``meta.json`` is written last, and says what was
asked for (``config``), with what it was made, and on which data.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
from importlib import metadata
import json
import math
import os
from pathlib import Path
import platform
import subprocess
import tempfile
from typing import Any, NamedTuple

import numpy as np

from kdjax import files

Table = dict[str, np.ndarray]
ROOT = Path("results")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "tensorflow-datasets")


class Claim(NamedTuple):
    """What the article says, and the rule that decides it, written before the run."""

    says: str
    statistic: str  # what is measured of the rows, in words
    supported: tuple[float | None, float | None]  # where all of its interval must lie
    refuted: tuple[float | None, float | None]


class Estimate(NamedTuple):
    """Of a statistic: its value, and its 95 % interval."""

    value: float
    low: float
    high: float


def ready(name: str, config: Mapping[str, Any], *, force: bool = False) -> bool:
    """Whether ``config`` still has to be run, asked before anything is computed.

    Returns False if ``results/<name>`` holds what this very config gave.

    Raises:
      FileExistsError: if it holds what another config gave, and not ``force``.
      PermissionError: if it cannot be written.
    """
    directory = ROOT / name
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise PermissionError(f"results directory {directory}: {error}") from error
    if force or not (directory / "meta.json").exists():
        return True
    there, asked = meta(name)["config"], json.loads(json.dumps(config))
    differing = [
        f"{key} is {there.get(key)!r} there and {asked.get(key)!r} here"
        for key in sorted(there.keys() | asked.keys())
        if there.get(key) != asked.get(key)
    ]
    if differing:
        raise FileExistsError(
            f"{directory} holds results of another config: {'; '.join(differing)}. "
            f"Pass --force to replace them"
        )
    return False


def save(
    name: str, config: Mapping[str, Any], tables: Mapping[str, Table], **facts: Any
) -> Path:
    """Writes each table as ``results/<name>/<table>.csv``, then ``meta.json``.

    Args:
      name: A folder under ``results``.
      config: What was asked for, as JSON can hold it.
      tables: Columns ``[rows]`` by name, for each table.
      **facts: What else ``meta.json`` should say: the `commit` when the run began, the
        data set, the device, the seconds.
    """
    directory = ROOT / name
    (directory / "meta.json").unlink(missing_ok=True)
    for title, table in tables.items():
        with files.atomic(directory / f"{title}.csv") as path:
            _write(path, table)
    record = {
        "config": dict(config),
        "fingerprint": files.fingerprint(config),
        "versions": {p: metadata.version(p) for p in _PACKAGES}
        | {"python": platform.python_version()},
        **facts,
    }
    with files.atomic(directory / "meta.json") as path:
        path.write_text(json.dumps(record, indent=2) + "\n")
    return directory


def load(name: str, title: str = "runs") -> Table:
    """The columns of ``results/<name>/<title>.csv``; floats unless they are words."""
    with open(ROOT / name / f"{title}.csv", newline="") as file:
        header, *rows = csv.reader(file)
    columns = zip(*rows, strict=True)
    return {name: _parse(cells) for name, cells in zip(header, columns, strict=True)}


def meta(name: str) -> dict[str, Any]:
    """What ``results/<name>/meta.json`` says."""
    return json.loads((ROOT / name / "meta.json").read_text())


def select(table: Table, **values: Any) -> Table:
    """The rows whose columns have these values."""
    keep = np.ones(len(next(iter(table.values()))), bool)
    for column, value in values.items():
        keep &= table[column] == value
    return {column: cells[keep] for column, cells in table.items()}


def table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """The columns of ``rows``, which have a cell for each name."""
    return dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))


def concatenate(tables: list[Table]) -> Table:
    """One table under another; a column that one lacks is NaN there."""
    names = list(dict.fromkeys(name for table in tables for name in table))

    def column(table: Table, name: str) -> np.ndarray:
        rows = len(next(iter(table.values())))
        return table.get(name, np.full(rows, np.nan))

    return {name: np.concatenate([column(t, name) for t in tables]) for name in names}


def choose(table: Table, *names: str) -> Table:
    """The rows of the setting of ``names`` with the fewest validation errors."""
    settings = sorted(set(zip(*(table[n] for n in names), strict=True)))
    cells = [select(table, **dict(zip(names, s, strict=True))) for s in settings]
    return min(cells, key=lambda rows: rows["validation_errors_last"].sum())


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval by Student's t.

    Of a single value the width is not known: nan.
    """
    half = _students_t(len(values)) * np.std(values) / np.sqrt(max(1, len(values) - 1))
    return float(np.mean(values)), float(half)


def estimate(values: np.ndarray) -> Estimate:
    """Of the mean of one value a seed, by Student's t."""
    mean, half = interval(values)
    return Estimate(mean, mean - half, mean + half)


def ratio(part: np.ndarray, whole: np.ndarray) -> Estimate:
    """Of the mean of ``part`` over that of ``whole``, a pair a seed, by Fieller.

    Where the whole may be 0 the ratio may be anything: nan. A bootstrap of a handful of
    seeds would be too narrow.
    """
    p, w, t = np.mean(part), np.mean(whole), _students_t(len(part))
    (pp, pw), (_, ww) = t**2 * np.cov(part, whole, ddof=0) / max(1, len(part) - 1)
    # Where p - x w is not clearly other than 0: a x^2 - 2 b x + c <= 0.
    a, b, c = w**2 - ww, p * w - pw, p**2 - pp
    if not a > 0:
        return Estimate(math.nan, math.nan, math.nan)
    root = np.sqrt(max(0.0, b**2 - a * c))
    return Estimate(float(p / w), float((b - root) / a), float((b + root) / a))


def bootstrap(
    statistic: Callable[[Table], float], table: Table, *, draws: int = 2000
) -> Estimate:
    """Of a statistic of all rows, by drawing seeds with replacement.

    All rows of a seed stay together, so what they share is no noise between them.
    """
    by_seed = {seed: select(table, seed=seed) for seed in np.unique(table["seed"])}
    rng = np.random.default_rng(0)
    drawn = [
        statistic(
            concatenate([by_seed[s] for s in rng.choice(list(by_seed), len(by_seed))])
        )
        for _ in range(draws)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(statistic(table), float(low), float(high))


def _students_t(seeds: int) -> float:
    """How many standard errors a 95 % interval reaches; of one seed unknown: nan."""
    if seeds < 2:
        return math.nan
    from scipy.stats import t  # half a second to import: only where it is wanted

    return float(t.ppf(0.975, seeds - 1))


def verdict(claim: Claim, found: Estimate) -> str:
    """``supported``, ``refuted``, or ``undecided`` at this scale."""
    for name in ("supported", "refuted"):
        low, high = getattr(claim, name)
        low, high = (
            (-math.inf if low is None else low),
            (math.inf if high is None else high),
        )
        if low <= found.low and found.high <= high:
            return name
    return "undecided"


def commit() -> str | None:
    """Of the code that runs, with ``-dirty`` if it was changed since."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=os.path.dirname(__file__),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _write(path: Path, table: Table) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        for row in zip(*table.values(), strict=True):
            writer.writerow("" if cell != cell else cell for cell in row)


def _parse(column: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in column])
    except ValueError:
        return np.array(column)
