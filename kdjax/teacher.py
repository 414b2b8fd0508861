"""A teacher: trained once, kept, and asked what it believes."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from kdjax import files, resume
from kdjax.checks import check_data
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
      checkpoint_seconds: How long to go without a checkpoint at the most.
    """
    check_data(data, training.model)
    init_key, key = jax.random.split(jax.random.key(seed))
    hparams = {"learning_rate": np.float32(learning_rate)}
    data = jax.device_put(data)
    state = jax.jit(training.init)(init_key, hparams, data)
    lowered = jax.jit(training.epoch).lower(state, key, data)
    mine = resume.identity(lowered, hparams, data, jax.random.key_data(key))
    place = (directory or files.cache("teachers")) / mine
    files.console.print(f"teacher: kept in {place}")
    with files.progress("teacher", training.epochs) as advance:
        state, curves = resume.run_epochs(
            lowered.compile(),
            state,
            key,
            data,
            curves=resume.blank(lowered.out_info[1], training.epochs),
            directory=place,
            checkpoint_seconds=checkpoint_seconds,
            on_epoch=advance,
            keep_last=True,
        )
    return state.variables, curves


def label(training: Training, variables: Any, data: Data) -> Data:
    """``data`` with the teacher's logits for every example, on the host.

    A thousand examples are asked about at a time.
    """
    apply = jax.jit(lambda x: training.model.apply(variables, x).logits)

    def logits(x) -> np.ndarray:
        parts = [x[i : i + 1000] for i in range(0, len(x), 1000)]
        return np.concatenate([np.asarray(apply(part)) for part in parts])

    return Data(
        *(
            None if split is None else split._replace(teacher_logits=logits(split.x))
            for split in data
        )
    )
