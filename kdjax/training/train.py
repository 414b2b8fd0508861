"""Trains a single run, on one device or data-parallel on several."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import (
    Mesh,
    NamedSharding,
    PartitionSpec,
    Sharding,
    SingleDeviceSharding,
)
import numpy as np
import pandas as pd

from kdjax import checks, files, progress
from kdjax.data.source import ResidentFeed, StreamFeed, feeder
from kdjax.data.types import Data
from kdjax.models import Variables
from kdjax.training import checkpoint, programs, strategy
from kdjax.training.loop import Loop
from kdjax.training.step import Training


class Trained(NamedTuple):
    """The results of `train`."""

    variables: Variables  # of the student, after the last step
    best: Variables  # at the best epoch, NaN if none has a finite loss and metric; or
    # the last ones if none is selected
    curves: pd.DataFrame  # one row per epoch


def train(
    trainings: Training | Sequence[Training],
    hyperparameters: Mapping[str, float],
    *,
    data: Data | Sequence[Data],
    key: jax.Array,
    fixed: Any = None,
    name: str = "train",
    devices: Sequence[jax.Device] | None = None,
    directory: Path | None = None,
    checkpoint_seconds: float = 60.0,
    checkpoint_steps: int | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> Trained:
    """Trains one student, resumes an interrupted run, or returns a cached result.

    A run that was killed and started again gives bitwise identical results. On several
    devices, each batch is split among them. The number of devices affects results by
    rounding only.

    Args:
      trainings: What to train, or a sequence of phases to train in turn. The student is
        kept between phases; optimizer and projector are initialised again.
      hyperparameters: Those of objective, optimizer and projector by name, for all
        phases.
      data: Splits for training and validation, either shared or one per phase.
      key: Random key for initial parameters, order of examples, dropout and views.
      fixed: Constants passed to view, teacher and start, such as the teacher's weights.
      name: Label of the progress bar.
      devices: Devices to split each batch over; by default only one.
      directory: Folder of checkpoints; ``runs`` in the cache by default.
      checkpoint_seconds: Time between checkpoints.
      checkpoint_steps: If given, the number of steps between checkpoints instead.
      on_epoch: Called after each epoch with its number (``epoch``) and metrics.

    Raises:
      TypeError, ValueError: if an argument is invalid, before anything is computed.
    """
    trainings = [trainings] if isinstance(trainings, Training) else list(trainings)
    datas = [data] * len(trainings) if isinstance(data, Data) else list(data)
    checks.optional_count("checkpoint_steps", checkpoint_steps)
    columns = checks.columns({n: [v] for n, v in hyperparameters.items()}, trainings)
    datas = checks.prepared(trainings, columns, datas, fixed)
    hyperparameters = {n: column[0] for n, column in columns.items()}
    devices = list(devices or jax.devices()[:1])
    phases, state, fed = _phases(trainings, datas, devices, checkpoint_steps)
    splits = [(p.feed.arrays, d.validation) for p, d in zip(phases, datas, strict=True)]
    directory = (directory or files.cache("runs")) / checkpoint.fingerprint(
        programs.lowered(phases, hyperparameters, splits, fixed),
        (hyperparameters, splits, fixed, jax.random.key_data(key), len(devices)),
        [each.beside() for each in phases],
    )
    progress.console.print(f"{name}: checkpoints in {directory}")
    loop = Loop(
        phases,
        key,
        hyperparameters,
        jax.device_put(splits, state),
        jax.device_put(fixed, state),
        sharding=state,
        feed_sharding=fed,
    )
    with (
        files.lock(directory, wait=True),
        progress.epochs_done(name, loop.epochs) as show,
    ):
        run, curves = loop.to_the_end(
            directory=directory,
            checkpoint_seconds=checkpoint_seconds,
            checkpoint_steps=checkpoint_steps,
            keep_last=True,
            on_epoch=partial(_tell, show, on_epoch),
        )
    table = pd.DataFrame({"epoch": 1 + np.arange(loop.epochs), **curves})
    last = programs.student_of(run.state)
    best = run.best if trainings[-1].select else last
    if trainings[-1].select and not np.isfinite(run.best_value):
        metric = trainings[-1].select[0]
        progress.console.print(f"{name}: no epoch has a finite loss and {metric}")
        best = jax.tree.map(partial(jnp.full_like, fill_value=jnp.nan), best)
    return Trained(last, best, table)


def _phases(
    trainings: Sequence[Training],
    datas: Sequence[Data],
    devices: Sequence[jax.Device],
    steps_a_call: int | None,
) -> tuple[list[programs.Phase], Sharding, Sharding]:
    """The phases, and the shardings of their state and their inputs."""
    feeds = [
        feeder(one.train, training.batch_size)
        for training, one in zip(trainings, datas, strict=True)
    ]
    state, fed = _shardings(feeds, devices)
    phases = [
        programs.phase(
            training,
            feed,
            lift=partial(_placed, state),
            scanned=strategy.scans_well(training, one, devices[0]),
            steps_a_call=steps_a_call,
        )
        for training, feed, one in zip(trainings, feeds, datas, strict=True)
    ]
    return phases, state, fed


def _tell(
    show: Callable[[int], None],
    on_epoch: Callable[[dict[str, float]], None] | None,
    done: int,
    metrics: Mapping[str, np.ndarray],
) -> None:
    show(done)
    if on_epoch is not None:
        on_epoch({"epoch": done, **{name: float(v) for name, v in metrics.items()}})


def _placed(sharding: Sharding, function: Callable, in_axes: Any) -> Callable:
    """The function, with its results constrained to the sharding of the state."""
    if isinstance(sharding, SingleDeviceSharding):
        return function
    return lambda *arguments: jax.lax.with_sharding_constraint(
        function(*arguments), sharding
    )


def _shardings(
    feeds: Sequence[ResidentFeed | StreamFeed], devices: Sequence[jax.Device]
) -> tuple[Sharding, Sharding]:
    """Shardings of the state, and of the inputs of a call ``[steps, batch, ...]``."""
    if len(devices) == 1:
        return (SingleDeviceSharding(devices[0]),) * 2
    for feed in feeds:
        if isinstance(feed, StreamFeed) and feed.stream.ragged:
            raise ValueError(
                f"train is a ragged stream, which takes one device, not {len(devices)}"
            )
        size = len(jax.tree.leaves(feed.example())[0])
        if size % len(devices):
            raise ValueError(
                f"batch_size is {size}, but takes a multiple of the {len(devices)} "
                f"devices"
            )
    mesh = Mesh(np.array(devices), ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(
        mesh, PartitionSpec(None, "data")
    )
