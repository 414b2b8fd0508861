"""A unit of a sweep: the runs of one group and seed, trained and saved together."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding
from jax.stages import Wrapped
import numpy as np

from kdjax import files
from kdjax.data.source import feeder
from kdjax.data.types import Data
from kdjax.models import Variables
from kdjax.progress import console
from kdjax.training import checkpoint, programs, strategy
from kdjax.training.loop import Loop
from kdjax.training.programs import Phase, Run
from kdjax.training.step import Training

Unit = tuple[int, int]  # seed and group
Extras = Callable[[Variables, Data], dict[str, jax.Array]]


@dataclass(frozen=True)
class Job:
    """Everything a process needs to train any unit of a sweep."""

    trainings: tuple[Training, ...]
    datas: tuple[Data, ...]
    fixed: Any
    columns: dict[str, np.ndarray]  # [groups, rows] each
    rows: int  # per group
    vectorized: bool
    extras: Extras | None
    checkpoint_seconds: float
    checkpoint_steps: int | None

    def hyperparameters(self, group: int) -> dict[str, np.ndarray]:
        """Arrays of shape ``[rows]``, or scalars if runs train one after another."""
        own = {name: column[group] for name, column in self.columns.items()}
        return own if self.vectorized else {n: column[0] for n, column in own.items()}


class Finished(NamedTuple):
    """The results of a unit; the first axis of each array is its rows."""

    final_metrics: dict[str, np.ndarray]  # ``[rows]``
    curves: dict[str, np.ndarray]  # ``[rows, epochs]``; ``seconds`` is shared
    extras: dict[str, np.ndarray]


class Worker:
    """Trains units of a job on one device; compiles each program once."""

    def __init__(self, job: Job, compiled: "Compiled", device: jax.Device):
        self.job, self.compiled, self.device = job, compiled, device
        self.datas, self.fixed = jax.device_put((compiled.splits, job.fixed), device)

    def train(
        self, unit: Unit, directory: Path, advance: Callable[[int], None]
    ) -> None:
        """Trains and saves a unit; calls ``advance`` with the number of epochs done."""
        seed, group = unit
        loop = Loop(
            self.compiled.phases,
            jax.random.fold_in(jax.random.key(0), seed),
            self.job.hyperparameters(group),
            [(data.train, data.validation) for data in self.datas],
            self.fixed,
            sharding=SingleDeviceSharding(self.device),
        )
        path = unit_path(directory, unit)
        run, curves = loop.to_the_end(
            directory=path.with_suffix(""),
            checkpoint_seconds=self.job.checkpoint_seconds,
            checkpoint_steps=self.job.checkpoint_steps,
            on_call=advance,
        )
        metrics, extras = self.compiled.final_metrics(run, self.datas[-1], self.fixed)
        seconds = np.tile(curves.pop("seconds"), (1, 1))
        curves = {name: np.asarray(values) for name, values in curves.items()}
        if self.job.vectorized:
            curves = {name: np.moveaxis(v, 0, -1) for name, v in curves.items()}
        else:
            metrics, extras, curves = jax.tree.map(
                lambda a: np.asarray(a)[None], (metrics, extras, curves)
            )
        write(path, Finished(metrics, {**curves, "seconds": seconds}, extras))


class Compiled(NamedTuple):
    """The programs of a job, shared by all workers of a process."""

    phases: list[Phase]
    splits: tuple[Data, ...]  # resident arrays only
    final_metrics: Wrapped  # (Run, Data, fixed) -> metrics, extras

    def fingerprint(self, job: Job) -> str:
        """A fingerprint of the programs and their inputs."""
        hyperparameters = job.hyperparameters(0)
        splits = [(data.train, data.validation) for data in self.splits]
        lowered = programs.lowered(self.phases, hyperparameters, splits, job.fixed)
        states = programs.first_states(
            self.phases, jax.random.key(0), hyperparameters, job.fixed
        )
        lowered.append(self.final_metrics.lower(states[-1], self.splits[-1], job.fixed))
        beside = [phase.beside() for phase in self.phases]
        numbers = (job.columns, self.splits, job.fixed, beside)
        return checkpoint.fingerprint(lowered, *numbers)


def compiled(job: Job, device: jax.Device) -> Compiled:
    """The programs of a job for this kind of device, compiled when first called."""

    def lift(function: Callable, in_axes: Any) -> Callable:
        if not job.vectorized:
            return function
        return jax.vmap(function, in_axes=in_axes, axis_size=job.rows)

    phases = [
        programs.phase(
            training,
            feeder(data.train, training.batch_size),
            lift=lift,
            scanned=strategy.scans_well(training, data, device),
            steps_a_call=job.checkpoint_steps,
        )
        for training, data in zip(job.trainings, job.datas, strict=True)
    ]
    splits = tuple(
        data._replace(train=phase.feed.arrays)
        for data, phase in zip(job.datas, phases, strict=True)
    )
    last = partial(_final_metrics, job.trainings[-1], job.extras)
    final_metrics = checkpoint.distinct(lift(last, (0, None, None)))
    return Compiled(phases, splits, final_metrics)


def unit_path(directory: Path, unit: Unit) -> Path:
    """The file that holds the results of a unit."""
    return directory / "seed{}-{}.npz".format(*unit)


def _final_metrics(
    training: Training, extras: Extras | None, run: Run, data: Data, fixed: Any
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Metrics of the last and the best epoch on each split, and the extras."""
    students = {"last": programs.student_of(run.state)}
    if training.select is not None:
        students["best"] = run.best
    splits = {"validation": data.validation, "test": data.test}
    named = {}
    for (split, examples), (epoch, variables) in itertools.product(
        splits.items(), students.items()
    ):
        if examples is not None:
            metrics = programs.measure(training, variables, examples, fixed)
            named |= {f"{split}_{name}_{epoch}": v for name, v in metrics.items()}
    return named, extras(students["last"], data) if extras else {}


def write(path: Path, finished: Finished) -> None:
    """Saves the results of a unit."""
    named = {
        f"{part}/{name}": np.asarray(array)
        for part, arrays in finished._asdict().items()
        for name, array in arrays.items()
    }
    files.save_arrays(path, **named)


def read(path: Path) -> Finished | None:
    """What `write` saved; None if missing or, with a log line, not readable."""
    arrays = files.load_arrays(path)
    if arrays is None:
        return None
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in Finished._fields}
    for name, array in arrays.items():
        part, _, own = name.partition("/")
        if part not in parts:
            console.print(f"file {path} of another version of kdjax skipped")
            return None
        parts[part][own] = array
    return Finished(**parts)
