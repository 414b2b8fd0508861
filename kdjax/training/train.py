"""One run from its first step to its last, on one device or sharded over several."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
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
from kdjax.training import checkpoint, programs
from kdjax.training.loop import Loop
from kdjax.training.step import Training


class Trained(NamedTuple):
    """What `train` gives."""

    variables: Variables  # the student's, of the last step
    best: Variables  # and of the selected epoch; the last ones if none is selected
    curves: pd.DataFrame  # a row an epoch


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
    """Trains one student, or returns it from the cache; goes on where it was stopped.

    Killed at any moment and started again, it ends with the same bits. On several
    devices each batch is divided among them, and the result is that of one device up to
    rounding; on as many devices as before it is the same to the bit.

    Args:
      trainings: What to train, or its phases one after another: the student goes on,
        optimizer and projector begin anew.
      hyperparameters: Of objective, optimizer and projector, by name, for all phases.
      data: To train on and to validate on, for all phases or for each of them.
      key: Draws initial parameters, the order of examples, dropout and views.
      fixed: What does not change, as view and teacher take it: a teacher's weights.
      name: What to call it in the progress bar.
      devices: Over which to divide the batch; by default only one.
      directory: For checkpoints; by default ``runs`` in the cache.
      checkpoint_seconds: At most about so long is lost when it is killed,
      checkpoint_steps: or, if given, so many steps.
      on_epoch: Called with the metrics of every epoch, its number (``epoch``) first.

    Raises:
      TypeError, ValueError: naming what was asked for that cannot be done, before
        anything is computed.
    """
    trainings = [trainings] if isinstance(trainings, Training) else list(trainings)
    datas = [data] * len(trainings) if isinstance(data, Data) else list(data)
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
    progress.console.print(f"{name}: kept in {directory}")
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
    return Trained(last, run.best if trainings[-1].select else last, table)


def _phases(
    trainings: Sequence[Training],
    datas: Sequence[Data],
    devices: Sequence[jax.Device],
    steps_a_call: int | None,
) -> tuple[list[programs.Phase], Sharding, Sharding]:
    """The phases, and where their state and what they are fed lie."""
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
            scanned=programs.scans_well(training, one, devices[0]),
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
    """The function, its results where the state lies, whatever XLA would prefer."""
    if isinstance(sharding, SingleDeviceSharding):
        return function
    return lambda *arguments: jax.lax.with_sharding_constraint(
        function(*arguments), sharding
    )


def _shardings(
    feeds: Sequence[ResidentFeed | StreamFeed], devices: Sequence[jax.Device]
) -> tuple[Sharding, Sharding]:
    """Where the state lies; and what a call is fed, whose second axis is the batch."""
    if len(devices) == 1:
        return (SingleDeviceSharding(devices[0]),) * 2
    for feed in feeds:
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
