"""A small task for tests of training and sweeps: three classes in eight dimensions.

Its network and its measure compile fast.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from kdjax import losses, objectives
from kdjax.data import Data
from kdjax.models import Batch, Model, Outputs, Variables, projectors
from kdjax.progress import console
from kdjax.sweep import SweepResult, grid, sweep
from kdjax.training import Measure, Training, checkpoint

HINTON = objectives.on_logits(losses.hinton)
AXES = {"temperature": [1.0, 4.0], "alpha": [0.0, 0.9], "learning_rate": [0.03, 0.1]}
ONE = {"temperature": 4.0, "alpha": 0.9, "learning_rate": 0.1}

console.width = 1000  # do not wrap log lines, so that tests can search them


def data() -> Data:
    """Splits with 200 training examples; the teacher has one feature of width six."""
    rng = np.random.default_rng(0)
    return Data(*(_split(rng, examples) for examples in (200, 60, 70)))


def _split(rng: np.random.Generator, examples: int) -> Batch:
    inputs = rng.normal(size=(examples, 8)).astype(np.float32)
    logits = np.float32(2 * inputs[:, :3] + rng.normal(size=(examples, 3)))
    teacher = Outputs(logits, (np.tanh(inputs[:, :6]),))
    label = inputs[:, :3].argmax(-1).astype(np.int32)
    return {"image": inputs, "label": label, "teacher": teacher}


def _sums(student: Outputs, teacher: Outputs | None, batch: Batch) -> dict:
    right = student.logits.argmax(-1) == batch["label"]
    nll = losses.cross_entropy(student.logits, batch["label"])
    return {"of": jnp.float32(nll.size), "right": jnp.sum(right), "nll": jnp.sum(nll)}


def _finish(totals: dict) -> dict:
    named = {"accuracy": "right", "nll": "nll"}
    return {name: totals[sum_] / totals["of"] for name, sum_ in named.items()}


MEASURE = QUICK = Measure(_sums, _finish)
SOFT = objectives.on_logits(losses.soft_kl)


def _init(key: jax.Array, batch: Batch) -> Variables:
    hidden, out = jax.random.split(key)
    params = {
        "hidden": jax.random.normal(hidden, (8, 8)) / 3,
        "out": jax.random.normal(out, (8, 3)) / 3,
        "bias": jnp.zeros((1, 3)),
    }
    return {"params": params, "state": {}}


def _apply(variables: Variables, batch: Batch, key=None) -> tuple[Outputs, dict]:
    params = variables["params"]
    hidden = jnp.tanh(batch["image"] @ params["hidden"])
    logits = hidden @ params["out"] + params["bias"]
    return Outputs(logits, (hidden,)), variables["state"]


NETWORK = Model(_init, _apply)


def training(objective=HINTON, **options) -> Training:
    options = {
        "model": NETWORK,
        "measures": (MEASURE,),
        "epochs": 3,
        "batch_size": 40,
    } | options
    return Training(objective=objective, **options)


def hint(student: Outputs, teacher: Outputs, batch: Batch) -> jax.Array:
    return losses.hint(student.features[-1], teacher.features[-1])


def phases() -> list[Training]:
    """Two phases: a hint through a regressor, then distillation.

    Two epochs each, of four steps.
    """
    both = {"epochs": 2, "batch_size": 48}
    linear = projectors.linear()
    first = training(hint, projector=linear, measures=(), select=None, **both)
    return [first, training(**both)]


def swept(directory: Path, columns=None, what=None, **options) -> SweepResult:
    options = {"data": data(), "seeds": [0, 1], "devices": jax.devices()[:1]} | options
    columns = grid(AXES) if columns is None else columns
    return sweep(what or training(), columns, directory=directory, **options)


def assert_same(one: SweepResult, other: SweepResult) -> None:
    """Bitwise equality, except for the seconds."""
    pd.testing.assert_frame_equal(one.runs, other.runs, check_exact=True)
    pd.testing.assert_frame_equal(one.curves, other.curves, check_exact=True)


def assert_close(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Equality up to rounding, as between programs of different shapes."""
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


class Stopped(BaseException):
    """Simulates a killed process."""


@contextmanager
def stopped_after(saves: int) -> Iterator[None]:
    """Stops a training after a number of checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "save", _stopping(checkpoint.save, saves))
        with pytest.raises(Stopped):
            yield


def _stopping(save, saves: int):
    written = []

    def saving(*arguments):
        assert save(*arguments)
        written.append(arguments)
        if len(written) >= saves:
            raise Stopped
        return True

    return saving
