"""What the questions on MNIST share: Hinton's teacher, and students without tricks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

from kdjax import data, losses, models, objectives
from kdjax.models import Batch
from kdjax.study.types import Config, Count, Positive, Positives
from kdjax.training import Training, programs, step, teacher, train, views

CLASSES, BATCH_SIZE = 10, 128
HARD = objectives.on_logits(losses.cross_entropy)
HINTON = objectives.on_logits(losses.hinton)


@dataclass(frozen=True)
class Images(Config):
    dataset: Literal["mnist5k", "mnist"] = "mnist5k"
    """mnist5k, 5,000 embedded digits; or mnist, all 70,000 (see --data-dir)."""


@dataclass(frozen=True)
class PlainTeacher(Images):
    teacher_width: Count = 1200
    """Hidden units in each of the teacher's two layers."""
    teacher_epochs: Count = 100
    """Passes over the training images, for the teacher."""
    teacher_learning_rate: Positive = 1e-3
    """Peak learning rate of the teacher (Adam, cosine decay)."""


@dataclass(frozen=True)
class Teacher(PlainTeacher):
    max_norm: Positive = 2.0
    """Largest length of the weights into a hidden unit of the teacher."""


@dataclass(frozen=True)
class Learning(Images):
    learning_rates: Positives = (1e-3, 3e-3, 1e-2)
    """Peak learning rates (Adam, cosine decay) to choose from for every setting."""
    epochs: Count = 15
    """Passes over the training images, for a student."""


@dataclass(frozen=True)
class Students(Teacher, Learning):
    """Of Hinton's teacher."""


@dataclass(frozen=True)
class AlikeStudents(Students):
    student_width: Count = 300
    """Hidden units in each of a student's two layers."""
    seeds: Count = 5
    """How many students are measured for every arm."""


QUICK_TEACHER = {"teacher_width": 300, "teacher_epochs": 20}


class Taught(NamedTuple):
    """Data with a teacher's outputs, and how good the teacher is."""

    data: data.Data
    quality: dict[str, Any]  # for meta.json

    def prepared(self) -> tuple[data.Data, dict[str, Any]]:
        """Data and facts, as `kdjax.study.study.arms_run` takes them."""
        return self.data, {"teacher": self.quality, "seconds": self.quality["seconds"]}


def student(
    width: int,
    objective: Callable,
    *,
    epochs: int,
    batch_size: int = BATCH_SIZE,
    **more,
) -> Training:
    """Two hidden layers of so many units, without regularisation."""
    model = models.mlp((width, width), classes=CLASSES)
    return Training(model, objective, epochs, batch_size, **more)


def parameters(width: int) -> int:
    """How many parameters a student of so many hidden units has."""
    image = {"image": np.zeros((1, 28, 28))}
    init = student(width, HARD, epochs=1).model.init
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def hard_and_distilled(
    config: Students, width: int, soft: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, Training, dict]]:
    """Hard labels and Hinton's loss: name, training, and axes to choose from.

    Args:
      config: Has the learning rates and the epochs.
      width: Hidden units in each of the students' two layers.
      soft: Axes of Hinton's loss.
    """
    rates = {"learning_rate": config.learning_rates}
    for name, objective, axes in (("hard", HARD, {}), ("distilled", HINTON, soft)):
        yield name, student(width, objective, epochs=config.epochs), {**axes, **rates}


def choices(objective: Callable, config: Learning) -> dict[str, Sequence[float]]:
    """Axes to choose from: learning rates, and what the objective takes.

    Its ``temperature``, say, is chosen from the config's ``temperatures``.
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


def fit(training: Training, images: data.Data, *, learning_rate: float) -> Taught:
    """Trains a teacher, or takes it from the cache, and stores its logits."""
    key = jax.random.key(0)
    if images.validation is None:
        training = replace(training, select=None)
    rate = {"learning_rate": learning_rate}
    trained = train(training, rate, data=images, key=key, name="teacher")
    logits = teacher.logits(training.model, trained.variables)
    measure = jax.jit(partial(programs.measure, training, fixed=None))
    quality: dict[str, Any] = {}
    for name in ("validation", "test"):
        if (split := getattr(images, name)) is not None:
            found = measure(trained.variables, split=split)
            quality[name] = {n: float(value) for n, value in found.items()}
    quality["seconds"] = round(trained.curves["seconds"].sum())
    return Taught(teacher.store(logits, images), quality)


def hinton_teacher(config: Teacher, images: data.Data) -> Taught:
    """Hinton's: dropout, weights of bounded length, jitter of up to two pixels."""
    training = regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        constrain=partial(models.max_norm, limit=config.max_norm),
    )
    return fit(training, images, learning_rate=config.teacher_learning_rate)


def plain_teacher(
    config: Any, images: data.Data, *, learning_rate: float = 1e-3
) -> Taught:
    """As Hinton's, but its weights may be of any length: `temperature_alpha`'s."""
    training = regularized(
        config.teacher_width,
        epochs=config.teacher_epochs,
        batch_size=config.batch_size,
    )
    return fit(training, images, learning_rate=learning_rate)


def prepare(
    config: Teacher, images: data.Data, info: data.Info
) -> tuple[data.Data, dict[str, Any]]:
    """The data with Hinton's teacher's outputs, for `kdjax.study.study.arms_run`."""
    return hinton_teacher(config, images).prepared()


def image_table(split: Batch, rows: np.ndarray) -> pd.DataFrame:
    """Images with the teacher's logits: all that it takes to draw them."""
    logits = split["teacher"].logits[rows]
    pixels = np.round(255 * split["image"][rows].reshape(len(rows), -1)).astype(int)
    columns: Mapping[str, Any] = (
        {"label": split["label"][rows], "test_index": rows}
        | {f"logit{c}": column for c, column in enumerate(logits.T)}
        | {f"pixel{i}": column for i, column in enumerate(pixels.T)}
    )
    return pd.DataFrame(columns)


def order(labels: np.ndarray) -> np.ndarray:
    """An order, drawn once for all, whose first images are of all classes alike."""
    rng = np.random.default_rng(0)
    turn = np.zeros(len(labels), int)  # of an image, among those of its class
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turn[here] = rng.permutation(len(here))
    return np.lexsort((labels, turn))


def subsample(split: Batch, fraction: float) -> Batch:
    """A share of the images, repeated until there are as many as before."""
    count = len(split["label"])
    if not (kept := round(fraction * count)):
        raise ValueError(f"fraction is {fraction}, which is none of {count} images")
    rows = np.resize(order(split["label"])[:kept], count)
    return jax.tree.map(lambda column: column[rows], split)
