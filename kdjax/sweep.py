"""A grid of runs in one compiled program, over all devices, resumable to the bit.

A unit of work is a seed's group of runs. It is claimed by a lock of its own and leaves
a file (`kdjax.workers`), so that threads, processes and machines share a sweep.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from kdjax import checks, files, units, workers
from kdjax.data.source import feeder
from kdjax.data.types import Data
from kdjax.training import programs
from kdjax.training.step import Training


class SweepResult(NamedTuple):
    """What `sweep` gives."""

    runs: pd.DataFrame  # a row a run
    curves: pd.DataFrame  # a row an epoch of a run
    seconds: float  # of training and compiling, on all devices together
    extras: dict[str, np.ndarray]  # [seeds * R, ...], in the order of `runs`


def grid(axes: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """The Cartesian product of ``axes``, a column an axis; the last varies fastest.

    Raises:
      ValueError: if an axis is empty, or holds a value twice or one that is no number.
    """
    columns = {name: checks.axis(name, values) for name, values in axes.items()}
    for name, values in columns.items():
        if len(set(values.tolist())) < len(values):
            raise ValueError(f"axis {name!r} is {axes[name]!r}, but takes each once")
    rows = list(itertools.product(*columns.values()))
    return pd.DataFrame(rows, columns=list(columns), dtype=np.float32)


def sweep(
    trainings: Training | Sequence[Training],
    columns: pd.DataFrame | Mapping[str, Sequence[float]],
    *,
    data: Data | Sequence[Data],
    seeds: Sequence[int],
    name: str = "sweep",
    fixed: Any = None,
    extras: units.Extras | None = None,
    vectorized: bool | None = None,
    runs_per_program: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    executor: Executor | None = None,
    directory: Path | None = None,
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: int | None = None,
) -> SweepResult:
    """Trains a student for each row of ``columns`` and each seed.

    The runs of a seed share their initial weights and their batches of examples: two
    rows of a seed differ by their hyperparameters alone. Runs train together,
    vectorized, in one program that is traced once and compiled for each device; models
    with convolutions train one after another with one program. Which of the two, and
    how many runs make a group, changes a table in its last bits; the number of devices
    or of processes, or a run that was killed and started again, changes nothing.

    Args:
      trainings: What to train, or its phases one after another.
      columns: Hyperparameters, ``[R]`` each: a `grid`, or rows of one's choice. A new
        value is not a new trace.
      data: To train on, to select by, and to test on (once, at the end), for all phases
        or for each of them. Without a test split there are no test columns.
      seeds: Each stands for its own initial weights and order of batches.
      name: What to call it in the progress bar.
      fixed: What does not change, as view and teacher take it: a teacher's weights.
      extras: ``extras(variables, data)``, what else to have of the variables at the
        end: logits, say. The data is that of the last phase.
      vectorized: Whether runs train side by side; by default unless they convolve.
      runs_per_program: How many rows make a group, at the most; by default what the
        device trains fastest. Many devices want groups small enough that each has one.
      devices: Where to train; every device by default.
      executor: What has ``submit``, to train units in other processes or on other
        machines that see ``directory``; all parts of the trainings must be picklable:
        functions of a module and `functools.partial` of them.
      directory: For checkpoints and finished units; by default ``sweeps`` in the cache.
      checkpoint_seconds: At most about so long is lost when it is killed,
      checkpoint_steps: or, if given, so many steps.

    Returns:
      ``runs``, of ``len(seeds) * R`` rows: the columns, ``seed``, ``best_epoch`` as
      `Training.select` has it, whether the loss ``diverged``, and each metric of the
      best epoch (``_best``) and of the last (``_last``), NaN if it had diverged by
      then; ``curves``; the ``seconds``; and the ``extras``.

    Raises:
      TypeError, ValueError: naming what was asked for that cannot be done, before
        anything is computed.
    """
    trainings = [trainings] if isinstance(trainings, Training) else list(trainings)
    datas = [data] * len(trainings) if isinstance(data, Data) else list(data)
    seeds = checks.seeds(seeds)
    columns = checks.columns(dict(columns), trainings)
    datas = checks.prepared(trainings, columns, datas, fixed)
    devices = list(devices or jax.devices())
    rows = len(next(iter(columns.values()))) if columns else 1
    if vectorized is None:
        vectorized = not any(map(_convolves, trainings, datas))
    most = 1
    if vectorized:
        most = runs_per_program or min(
            programs.runs_per_program(t, _example(t, d), devices[0])
            for t, d in zip(trainings, datas, strict=True)
        )
    groups = -(-rows // most)
    shape = (groups, -(-rows // groups))  # the last group is filled with first rows
    job = units.Job(
        tuple(trainings),
        tuple(datas),
        fixed,
        {n: np.resize(c, shape) for n, c in columns.items()},
        shape[1],
        vectorized,
        extras,
        checkpoint_seconds,
        checkpoint_steps,
    )
    work = [(seed, group) for seed in seeds for group in range(groups)]
    finished = workers.finish(
        job,
        work,
        title=f"{name}: {rows} x {len(seeds)} runs",
        devices=devices,
        executor=executor,
        directory=directory or files.cache("sweeps"),
    )
    return _tables(trainings, columns, rows, seeds, finished)


def _example(training: Training, data: Data) -> Any:
    return feeder(data.train, training.batch_size).example()


def _convolves(training: Training, data: Data) -> bool:
    return programs.convolves(training, _example(training, data))


def _tables(
    trainings: Sequence[Training],
    columns: Mapping[str, np.ndarray],
    rows: int,
    seeds: Sequence[int],
    finished: Sequence[units.Finished],
) -> SweepResult:
    """The rows of all units, seed by seed, without the filling of the last group."""
    groups = len(finished) // len(seeds)

    def together(part: str, name: str) -> np.ndarray:
        """``[seeds * rows, ...]``, from arrays that begin with the rows of a group."""
        arrays = [getattr(unit, part)[name] for unit in finished]
        return np.concatenate(
            [
                np.concatenate(arrays[i : i + groups])[:rows]
                for i in range(0, len(arrays), groups)
            ]
        )

    first = finished[0]
    asked = {name: np.tile(column, len(seeds)) for name, column in columns.items()}
    asked["seed"] = np.repeat(np.array(seeds), rows)
    curves = {name: together("curves", name) for name in sorted(first.curves)}
    curves.pop("seconds")
    seconds = sum(unit.curves["seconds"][0].sum() for unit in finished)
    epochs = curves["train_loss"].shape[1]
    runs = pd.DataFrame(asked)
    finite = np.isfinite(curves["train_loss"]).cumprod(1).astype(bool)
    never = {"last": ~finite[:, -1]}
    if (select := trainings[-1].select) is not None:
        of_last = trainings[-1].epochs
        best, never["best"] = _best_epochs(select, of_last, curves, finite)
        runs["best_epoch"] = best
    runs["diverged"] = never["last"]
    for name in sorted(first.ends):
        values = together("ends", name)
        lacking = never[name.rpartition("_")[2]]
        runs[name] = np.where(lacking, np.nan, values) if lacking.any() else values
    long = {n: np.repeat(c, epochs) for n, c in asked.items()}
    long["epoch"] = np.tile(1 + np.arange(epochs), len(runs))
    long |= {name: values.reshape(-1) for name, values in curves.items()}
    kept = {name: together("extras", name) for name in first.extras}
    return SweepResult(runs, pd.DataFrame(long), float(seconds), kept)


def _best_epochs(
    select: tuple[str, str],
    epochs: int,
    curves: Mapping[str, np.ndarray],
    finite: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The selected epoch of each run, from 1, and for which runs there is none.

    As the program selects: an epoch of the last phase, before the run diverged.
    """
    metric, direction = select
    sign = 1 if direction == "max" else -1
    watched = sign * curves[f"validation_{metric}"].astype(np.float64)
    watched = np.where(finite & ~np.isnan(watched), watched, -np.inf)
    watched = watched[:, -epochs:]
    best = 1 + finite.shape[1] - epochs + watched.argmax(1)
    return best, (watched == -np.inf).all(1)
