"""Shared by the experiments on MNIST: data, teachers, and plain students."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

from kdjax import data, losses, models, objectives
from kdjax.models import Batch
from kdjax.study.types import Config, Count, InvalidConfig, Positive, Positives
from kdjax.training import Training, step, teacher, train, views

CLASSES, BATCH_SIZE = 10, 128
HARD = objectives.on_logits(losses.cross_entropy)
HINTON = objectives.on_logits(losses.hinton)


@dataclass(frozen=True)
class Images(Config):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """Data set: mnist5k (5,000 digits from a package), or mnist (all 70,000)."""

    def check_data(self, info: data.Info) -> None:
        if (size := getattr(self, "batch_size", BATCH_SIZE)) > info.train:
            takes = f"at most {info.train}, the training images"
            raise InvalidConfig(f"batch_size is {size}, but takes {takes}")
        for fraction in getattr(self, "fractions", ()):
            if not round(fraction * info.train):
                takes = f"at least one of the {info.train} training images"
                raise InvalidConfig(f"fractions is {fraction:g}, but takes {takes}")


@dataclass(frozen=True)
class PlainTeacher(Images):
    teacher_width: Count = 1200
    """Hidden units in each of the teacher's two layers."""
    teacher_epochs: Count = 100
    """Epochs of the teacher's training."""
    teacher_learning_rate: Positive = 1e-3
    """Peak learning rate of the teacher (Adam, cosine decay)."""


@dataclass(frozen=True)
class Teacher(PlainTeacher):
    max_norm: Positive = 2.0
    """Maximum norm of the incoming weights of each hidden unit of the teacher."""


@dataclass(frozen=True)
class Learning(Images):
    learning_rates: Positives = (1e-3, 3e-3, 1e-2)
    """Peak learning rates (Adam, cosine decay) to select from for every setting."""
    epochs: Count = 15
    """Epochs of a student's training."""


@dataclass(frozen=True)
class Students(Teacher, Learning):
    """Students of Hinton's teacher."""


@dataclass(frozen=True)
class AlikeStudents(Students):
    student_width: Count = 300
    """Hidden units in each of a student's two layers."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


QUICK_TEACHER = {"teacher_width": 300, "teacher_epochs": 20}


class WithTeacher(NamedTuple):
    """Data with a teacher's outputs, and the metrics of the teacher."""

    data: data.Data
    quality: dict[str, Any]  # for meta.json

    def prepared(self) -> tuple[data.Data, dict[str, Any]]:
        """The data and facts, as `kdjax.study.study.arms_run` takes them."""
        return self.data, {"teacher": self.quality, "seconds": self.quality["seconds"]}


def student(
    width: int,
    objective: Callable,
    *,
    epochs: int,
    batch_size: int = BATCH_SIZE,
    **more,
) -> Training:
    """A student with two hidden layers of ``width`` units, without regularisation."""
    model = models.mlp((width, width), classes=CLASSES)
    return Training(model, objective, epochs, batch_size, **more)


def parameters(width: int) -> int:
    """Number of parameters of a student with ``width`` hidden units."""
    image = {"image": np.zeros((1, 28, 28))}
    init = student(width, HARD, epochs=1).model.init
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def hard_and_distilled(
    config: Students, width: int, soft: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, Training, dict]]:
    """Names, trainings and axes for hard labels and for Hinton's loss.

    Args:
      config: Provides the learning rates and epochs.
      width: Hidden units in each of a student's two layers.
      soft: Axes of Hinton's loss.
    """
    rates = {"learning_rate": config.learning_rates}
    for name, objective, axes in (("hard", HARD, {}), ("distilled", HINTON, soft)):
        yield name, student(width, objective, epochs=config.epochs), {**axes, **rates}


def search_grid(objective: Callable, config: Learning) -> dict[str, Sequence[float]]:
    """The axes of a search: learning rates, and the objective's hyperparameters.

    Values of ``temperature``, for example, are the config's ``temperatures``.
    """
    names = [*step.takes(objective), "learning_rate"]
    return {n: getattr(config, f"{n}s") for n in names if hasattr(config, f"{n}s")}


def regularized(
    width: int, *, epochs: int, batch_size: int = BATCH_SIZE, **more
) -> Training:
    """A network trained on hard labels, with dropout and jitter."""
    model = models.mlp((width, width), classes=CLASSES, dropout=0.5, input_dropout=0.2)
    jitter = views.augmented(data.jitter)
    return Training(model, HARD, epochs, batch_size, view=jitter, **more)


def fit(training: Training, images: data.Data, *, learning_rate: float) -> WithTeacher:
    """Trains a teacher, or loads it from the cache, and stores its logits."""
    key = jax.random.key(0)
    if images.validation is None:
        training = replace(training, select=None)
    rate = {"learning_rate": learning_rate}
    trained = train(training, rate, data=images, key=key, name="teacher")
    logits = teacher.logits(training.model, trained.variables)
    stored = teacher.store(logits, images)
    seconds = round(trained.curves["seconds"].sum())
    return WithTeacher(stored, teacher.measured(stored) | {"seconds": seconds})


def hinton_teacher(config: Teacher, images: data.Data) -> WithTeacher:
    """Hinton's teacher: dropout, max-norm weights, jitter of up to two pixels."""
    training = regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        constrain=partial(models.max_norm, limit=config.max_norm),
    )
    return fit(training, images, learning_rate=config.teacher_learning_rate)


def plain_teacher(
    config: Any, images: data.Data, *, learning_rate: float = 1e-3
) -> WithTeacher:
    """Hinton's teacher without the max-norm constraint."""
    training = regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        batch_size=config.batch_size,
    )
    return fit(training, images, learning_rate=learning_rate)


def prepare(
    config: Teacher, images: data.Data, info: data.Info
) -> tuple[data.Data, dict[str, Any]]:
    """Data with the outputs of Hinton's teacher, for `kdjax.study.study.arms_run`."""
    return hinton_teacher(config, images).prepared()


def image_table(split: Batch, rows: np.ndarray) -> pd.DataFrame:
    """A table of images with the teacher's logits, for figures."""
    logits = split["teacher"].logits[rows]
    pixels = np.round(255 * split["image"][rows].reshape(len(rows), -1)).astype(int)
    columns: Mapping[str, Any] = (
        {"label": split["label"][rows], "test_index": rows}
        | {f"logit{c}": column for c, column in enumerate(logits.T)}
        | {f"pixel{i}": column for i, column in enumerate(pixels.T)}
    )
    return pd.DataFrame(columns)


def order(labels: np.ndarray) -> np.ndarray:
    """A fixed random order in which every prefix is balanced over classes."""
    rng = np.random.default_rng(0)
    turn = np.zeros(len(labels), int)  # rank of an image within its class
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turn[here] = rng.permutation(len(here))
    return np.lexsort((labels, turn))


def subsample(split: Batch, fraction: float) -> Batch:
    """A fraction of the images, repeated up to the original number."""
    count = len(split["label"])
    if not (kept := round(fraction * count)):
        takes = f"at least 1 / {count}, one image"
        raise ValueError(f"fraction is {fraction}, but takes {takes}")
    rows = np.resize(order(split["label"])[:kept], count)
    return jax.tree.map(lambda column: column[rows], split)
