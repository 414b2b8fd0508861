"""What experiments on MNIST share: Hinton's teacher, and students without tricks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from kdjax import checks, data, losses, models, teacher
from kdjax.results import Table
from kdjax.sweep import grid
from kdjax.train import Training, make_training


@dataclass(frozen=True)
class TeacherConfig:
    teacher_width: int = 1200
    """Units of each of the teacher's two hidden layers."""
    teacher_epochs: int = 100
    """Passes over the training images, for the teacher."""
    teacher_learning_rate: float = 1e-3
    """Adam's, at the first step, for the teacher."""
    max_norm: float = 2.0
    """Greatest length of the weights into a unit of the teacher."""


QUICK_TEACHER = {"teacher_width": 300, "teacher_epochs": 20}
BATCH_SIZE = 128


class Taught(NamedTuple):
    """Data with a teacher's logits, and the teacher."""

    data: data.Data
    training: Training
    variables: Any
    quality: dict[str, Any]  # for meta.json


def cross_entropy(logits, _, labels):
    """`losses.cross_entropy`, of what a training gives a loss."""
    return losses.cross_entropy(logits, labels)


def label_smoothing(logits, _, labels, *, smoothing):
    """`losses.label_smoothing`, of what a training gives a loss."""
    return losses.label_smoothing(logits, labels, smoothing=smoothing)


def hard_and_distilled(
    teacher: Mapping[str, Sequence[float]], rates: Sequence[float]
) -> dict[str, tuple[Callable, Table]]:
    """Two arms, labels alone and Hinton's loss: each loss, and what to try it at.

    Args:
      teacher: Axes of Hinton's loss.
      rates: To choose from, for either.
    """
    axes = {"learning_rate": rates}
    return {
        "hard": (cross_entropy, grid(axes, cross_entropy)),
        "distilled": (losses.hinton, grid({**teacher, **axes}, losses.hinton)),
    }


def check_teacher(config: TeacherConfig) -> None:
    """Raises ValueError if the config asks for a teacher that cannot be."""
    checks.check_values("teacher_learning_rate", [config.teacher_learning_rate])
    checks.check_counts("teacher_width", config.teacher_width)
    checks.check_counts("teacher_epochs", config.teacher_epochs)
    if not config.max_norm > 0:
        raise ValueError(f"max_norm is {config.max_norm}, but takes a positive number")


def taught(config: TeacherConfig, images: data.Data) -> Taught:
    """As Hinton's: dropout, weights of bounded length, jitter of up to two pixels."""
    training = regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        constrain=partial(models.max_norm, limit=config.max_norm),
    )
    return fit(training, images, learning_rate=config.teacher_learning_rate)


def fit(training: Training, images: data.Data, *, learning_rate: float) -> Taught:
    """A teacher, kept, and what it says of the images."""
    variables, curves = teacher.fit(training, images, learning_rate=learning_rate)
    labelled = teacher.label(training, variables, images)
    quality = {
        name: {k: float(v) for k, v in jax.jit(training.evaluate)(variables, s).items()}
        for name, s in (("validation", images.validation), ("test", images.test))
    }
    quality["seconds"] = round(curves["seconds"].sum())
    return Taught(labelled, training, variables, quality)


def regularized(
    width: int,
    *,
    epochs: int,
    batch_size: int = BATCH_SIZE,
    constrain: Callable | None = None,
) -> Training:
    """A net of labels, with dropout and jitter."""
    return make_training(
        models.mlp((width, width), classes=10, dropout=0.5, input_dropout=0.2),
        cross_entropy,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optax.scale_by_adam(),
        augment=data.jitter,
        constrain=constrain,
    )


def pictured(split: data.Split, rows: np.ndarray) -> Table:
    """Test images with the teacher's logits: all that it takes to draw them."""
    logits = split.teacher_logits[rows]
    pixels = np.round(255 * split.x[rows].reshape(len(rows), -1)).astype(int)
    return (
        {"label": split.y[rows], "test_index": rows}
        | {f"logit{c}": column for c, column in enumerate(logits.T)}
        | {f"pixel{i}": column for i, column in enumerate(pixels.T)}
    )


def student(
    width: int,
    loss: Callable,
    *,
    epochs: int,
    batch_size: int = BATCH_SIZE,
    augment: Callable | None = None,
) -> Training:
    """Two hidden layers of so many units, without regularisation."""
    return make_training(
        models.mlp((width, width), classes=10),
        loss,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optax.scale_by_adam(),
        augment=augment,
    )


def order(labels: np.ndarray) -> np.ndarray:
    """An order, drawn once for all, whose first images are of all classes alike."""
    rng = np.random.default_rng(0)
    turn = np.zeros(len(labels), int)  # of an image, among those of its class
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turn[here] = rng.permutation(len(here))
    return np.lexsort((labels, turn))


def few(split: data.Split, fraction: float) -> data.Split:
    """A share of the images, repeated until there are as many as before."""
    count = len(split.y)
    rows = np.resize(order(split.y)[: round(fraction * count)], count)
    return jax.tree.map(lambda column: column[rows], split)
