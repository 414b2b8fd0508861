"""Hyperparameter sweeps: many runs in one compiled program, over all devices.

The unit of work is a group of runs with the same seed. Each unit has its own lock and
its own file (`kdjax.workers`), so threads, processes and machines can share a sweep,
and a sweep that was interrupted resumes with bitwise identical results.
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
from kdjax.training import strategy
from kdjax.training.step import Training


class SweepResult(NamedTuple):
    """The results of `sweep`."""

    runs: pd.DataFrame  # one row per run
    curves: pd.DataFrame  # one row per run and epoch
    seconds: float  # spent on training and compiling, summed over devices
    extras: dict[str, np.ndarray]  # [seeds * R, ...], in the order of `runs`


def grid(axes: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """The Cartesian product of ``axes``, one column per axis; the last varies fastest.

    Raises:
      ValueError: if an axis is empty, repeats a value, or has a value that is not a
        finite number.
    """
    columns = {name: checks.axis(name, values) for name, values in axes.items()}
    for name, values in columns.items():
        if len(set(values.tolist())) < len(values):
            raise ValueError(
                f"axis {name!r} is {axes[name]!r}, but takes each value only once"
            )
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

    Runs with the same seed share initial weights and batches, so they differ in their
    hyperparameters only. Runs are vectorized in one program, traced once and compiled
    once per device; models with convolutions train one after another with one program.
    Vectorization and the size of a group affect results by rounding only. The number
    of devices or processes, and interruptions, do not affect them at all.

    Args:
      trainings: What to train, or a sequence of phases to train in turn.
      columns: Hyperparameters, ``[R]`` each: a `grid`, or any other table. New values
        do not cause retracing.
      data: Splits for training, selection and testing (once, at the end), either shared
        by all phases or one per phase. Without a test split there are no test columns.
      seeds: Each determines the initial weights and the order of batches.
      name: Label of the progress bar.
      fixed: Constants passed to view, teacher and start, such as the teacher's weights.
      extras: ``extras(variables, data)`` returns further arrays to compute from the
        final variables, such as logits. The data are those of the last phase.
      vectorized: Whether to vectorize runs; by default, unless they have convolutions.
      runs_per_program: Maximum number of rows per group; by default, what is fastest on
        the device. With many devices, choose it so that each has a group.
      devices: Devices to train on. By default all; those of a CPU begin once the first
        has trained for as long as its programs took to compile.
      executor: An object with ``submit``, to train units in other processes or on other
        machines with access to ``directory``. All parts of the trainings must then be
        picklable: module-level functions, and `functools.partial` of them.
      directory: Folder of checkpoints and finished units; ``sweeps`` in the cache by
        default.
      checkpoint_seconds: Time between checkpoints.
      checkpoint_steps: If given, the number of steps between checkpoints instead.

    Returns:
      A `SweepResult`. Its ``runs`` has ``len(seeds) * R`` rows: the columns, ``seed``,
      ``best_epoch`` according to `Training.select` (0 if there is none), whether the
      loss ``diverged``, and each metric at the best epoch (``_best``) and at the last
      (``_last``), which is NaN if the run had diverged by then.

    Raises:
      TypeError, ValueError: if an argument is invalid, before anything is computed.
    """
    trainings = [trainings] if isinstance(trainings, Training) else list(trainings)
    datas = [data] * len(trainings) if isinstance(data, Data) else list(data)
    seeds = checks.seeds(seeds)
    checks.optional_count("runs_per_program", runs_per_program)
    checks.optional_count("checkpoint_steps", checkpoint_steps)
    columns = checks.columns(dict(columns), trainings)
    datas = checks.prepared(trainings, columns, datas, fixed)
    patient = devices is None and jax.default_backend() == "cpu"
    devices = list(devices or jax.devices())
    rows = len(next(iter(columns.values()))) if columns else 1
    if vectorized is None:
        vectorized = not any(map(_convolves, trainings, datas))
    most = 1
    if vectorized:
        most = runs_per_program or min(
            strategy.runs_per_program(t, _example(t, d), devices[0])
            for t, d in zip(trainings, datas, strict=True)
        )
    groups = -(-rows // most)
    shape = (groups, -(-rows // groups))  # the last group is padded with the first rows
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
        patient=patient,
        executor=executor,
        directory=directory or files.cache("sweeps"),
    )
    return _tables(trainings, columns, rows, seeds, finished)


def _example(training: Training, data: Data) -> Any:
    return feeder(data.train, training.batch_size).example()


def _convolves(training: Training, data: Data) -> bool:
    return strategy.convolves(training, _example(training, data))


def _tables(
    trainings: Sequence[Training],
    columns: Mapping[str, np.ndarray],
    rows: int,
    seeds: Sequence[int],
    finished: Sequence[units.Finished],
) -> SweepResult:
    """Concatenates the units in order of seeds, without the padding of groups."""
    groups = len(finished) // len(seeds)

    def together(part: str, name: str) -> np.ndarray:
        """Concatenates arrays ``[rows of a group, ...]`` to ``[seeds * rows, ...]``."""
        arrays = [getattr(unit, part)[name] for unit in finished]
        return np.concatenate(
            [
                np.concatenate(arrays[i : i + groups])[:rows]
                for i in range(0, len(arrays), groups)
            ]
        )

    first = finished[0]
    settings = {name: np.tile(column, len(seeds)) for name, column in columns.items()}
    settings["seed"] = np.repeat(np.array(seeds), rows)
    curves = {name: together("curves", name) for name in sorted(first.curves)}
    curves.pop("seconds")
    seconds = sum(unit.curves["seconds"][0].sum() for unit in finished)
    epochs = curves["train_loss"].shape[1]
    runs = pd.DataFrame(settings)
    finite = np.isfinite(curves["train_loss"]).cumprod(1).astype(bool)
    never = {"last": ~finite[:, -1]}
    if (select := trainings[-1].select) is not None:
        of_last = trainings[-1].epochs
        best, never["best"] = _best_epochs(select, of_last, curves, finite)
        runs["best_epoch"] = best
    runs["diverged"] = never["last"]
    for name in sorted(first.final_metrics):
        values = together("final_metrics", name)
        lacking = never[name.rpartition("_")[2]]
        runs[name] = np.where(lacking, np.nan, values) if lacking.any() else values
    long = {n: np.repeat(c, epochs) for n, c in settings.items()}
    long["epoch"] = np.tile(1 + np.arange(epochs), len(runs))
    long |= {name: values.reshape(-1) for name, values in curves.items()}
    extras = {name: together("extras", name) for name in first.extras}
    return SweepResult(runs, pd.DataFrame(long), float(seconds), extras)


def _best_epochs(
    select: tuple[str, str],
    epochs: int,
    curves: Mapping[str, np.ndarray],
    finite: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The selected epoch of each run, from 1, or 0 for those in the mask, without one.

    Matches the selection in the program: epochs of the last phase before divergence.
    """
    metric, direction = select
    sign = 1 if direction == "max" else -1
    watched = sign * curves[f"validation_{metric}"].astype(np.float64)
    watched = np.where(finite & ~np.isnan(watched), watched, -np.inf)
    watched = watched[:, -epochs:]
    best = 1 + finite.shape[1] - epochs + watched.argmax(1)
    never = (watched == -np.inf).all(1)
    return np.where(never, 0, best), never
