"""A teacher: trained once, kept, and asked what it believes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import files, progress, resume
from kdjax.checks import check_data, check_values
from kdjax.data.types import Data
from kdjax.train import Training


def fit(
    training: Training,
    data: Data,
    *,
    learning_rate: float,
    seed: int = 0,
    directory: Path | None = None,
    checkpoint_seconds: float = 60.0,
) -> tuple[Any, dict[str, np.ndarray]]:
    """The variables of a trained teacher, and its curves, from the cache if there.

    Args:
      training: From `kdjax.train.make_training`.
      data: To train on, and to watch the validation accuracy of.
      learning_rate: At the first step; see `make_training`.
      seed: Stands for initial weights, order of batches, dropout and views.
      directory: For checkpoints; by default ``teachers`` in the cache.
      checkpoint_seconds: See `kdjax.resume.run_epochs`.
    """
    check_data(data, training.model)
    check_values("learning_rate", [learning_rate])
    init_key, key = jax.random.split(jax.random.key(seed))
    hyperparameters = {"learning_rate": np.float32(learning_rate)}
    data = jax.device_put(data)
    init = jax.jit(training.init)
    state = init(init_key, hyperparameters, data)
    epoch = jax.jit(training.epoch).lower(state, key, data)
    programs = (init.lower(init_key, hyperparameters, data), epoch)
    numbers = (hyperparameters, data, jax.random.key_data(key))
    directory = directory or files.cache("teachers")
    directory /= resume.identity(programs, *numbers)
    progress.console.print(f"teacher: kept in {directory}")
    with (
        files.alone_in(directory),
        progress.epochs_done("teacher", training.epochs) as advance,
    ):
        state, curves = resume.run_epochs(
            epoch.compile(),
            state,
            key,
            data,
            curves=resume.blank(epoch.out_info[1], training.epochs),
            directory=directory,
            checkpoint_seconds=checkpoint_seconds,
            on_epoch=advance,
            keep_last=True,
        )
    return state.variables, curves


def label(training: Training, variables: Any, data: Data) -> Data:
    """``data`` with the teacher's logits for every example, on the host.

    A thousand examples are asked about at a time.
    """
    apply = jax.jit(lambda variables, x: training.model.apply(variables, x).logits)

    def logits(x) -> np.ndarray:
        parts = [x[i : i + 1000] for i in range(0, len(x), 1000)]
        return np.concatenate([np.asarray(apply(variables, part)) for part in parts])

    return Data(
        *(
            None if split is None else split._replace(teacher_logits=logits(split.x))
            for split in data
        )
    )
