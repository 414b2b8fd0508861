"""Shared by the experiments on CIFAR-10: data, views, teachers and students."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.cifar10 import published
from kdjax import data, losses, models, objectives
from kdjax.models import Batch, Model, Variables
from kdjax.study.types import Config, Count, InvalidConfig, Positive, Positives
from kdjax.training import Training, train, views
from kdjax.training.teacher import measured
from kdjax.training.teacher_files import store_on_disk

CLASSES, BATCH_SIZE = 10, 128
TEACHER_RATE = 2e-3  # of plain teachers: peak, Adam
TEMPERATURE, ALPHA = 4.0, 0.9  # of Hinton's loss, where they are not selected
HARD = objectives.on_logits(losses.cross_entropy)
HINTON = objectives.on_logits(losses.hinton)
Name = Literal[
    "plain-2",
    "plain-4",
    "plain-6",
    "plain-8",
    "plain-10",
    "resnet-8",
    "resnet-14",
    "resnet-20",
    "resnet-32",
    "resnet-44",
    "resnet-56",
]


@dataclass(frozen=True)
class Images(Config):
    dataset: Literal["mnist5k", "cifar10_10k", "cifar10"] = "cifar10_10k"
    """Data set: cifar10_10k (10,000 of CIFAR-10's training images), cifar10 (all), or
    mnist5k (5,000 digits from a package, in colour)."""

    def check_data(self, info: data.Info) -> None:
        if info.name != "mnist5k":
            return
        takes = "takes plain teachers alone for mnist5k"
        for name in getattr(self, "teachers", ()):
            if name in PUBLISHED:
                raise InvalidConfig(f"teachers has {name}, but {takes}")
        if (name := getattr(self, "teacher", None)) in PUBLISHED:
            raise InvalidConfig(f"teacher is {name}, but {takes}")


@dataclass(frozen=True)
class Students(Images):
    epochs: Count = 15
    """Epochs of a student's training."""
    teacher_epochs: Count = 30
    """Epochs of the training of each plain teacher."""
    seeds: Count = 5
    """Number of seeds, each with one student per setting."""


@dataclass(frozen=True)
class OneRate(Students):
    learning_rate: Positive = 8e-3
    """Peak learning rate (Adam, cosine decay) of all students: better than 4e-3 on
    validation images for hard labels, and for KL by the median over eight teachers."""


@dataclass(frozen=True)
class SelectedRates(Students):
    learning_rates: Positives = (4e-3, 8e-3)
    """Peak learning rates (Adam, cosine decay) to select from. For hard labels, 1e-3
    and 1.6e-2 were worse on validation images."""


@dataclass(frozen=True)
class OneTeacher(SelectedRates):
    teacher: Name = "resnet-20"
    """The teacher; resnet-20 to resnet-56 are published."""


PUBLISHED = {f"resnet-{depth}": depth for depth in published.DEPTHS}
DIGITS = models.Pixels((0.13,) * 3, (0.31,) * 3)


def _shifted(flip: bool, down: int, right: int, images: jax.Array) -> jax.Array:
    """Images moved by some pixels, zeros moving in, and mirrored or not."""
    images = images[:, :, ::-1] if flip else images
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)))
    return padded[:, 4 + down : 4 + down + height, 4 + right : 4 + right + width]


# Of the usual augmentation, a flip and a crop from a margin of four pixels, a finite
# set, so that a teacher's outputs for each can be stored.
VIEWS = tuple(
    partial(_shifted, flip, down, right)
    for flip, down, right in [
        (False, 0, 0),
        (True, 0, 0),
        (False, -3, 2),
        (True, 2, 3),
        (False, 3, -2),
        (True, -2, -3),
    ]
)


def in_colour(images: data.Data) -> data.Data:
    """Digits as colour images of 32 x 32 pixels; others as they are."""

    def convert(split: Batch) -> Batch:
        if split["image"].ndim == 4:
            return split
        image = np.pad(split["image"], ((0, 0), (2, 2), (2, 2)))
        return {**split, "image": np.repeat(image[..., None], 3, axis=-1)}

    return data.Data(*map(convert, images))


def model(name: str, dataset: str, **more: Any) -> Model:
    """A network by its name: ``plain-`` and its convolutions, or ``resnet-``."""
    kind, _, size = name.partition("-")
    make = {"plain": models.plain, "resnet": models.resnet}[kind]
    if dataset == "mnist5k":
        more["pixels"] = DIGITS
    return make(int(size), classes=CLASSES, **more)


def parameters(network: Model) -> int:
    """Number of trained parameters."""
    image = {"image": np.zeros((1, 32, 32, 3), np.float32)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), image)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def student(
    network: Model, objective: Callable, *, epochs: int, **more: Any
) -> Training:
    """A student trained on `VIEWS`, from a teacher's stored outputs.

    It is measured once: in each epoch, 5,000 validation images would take a seventh of
    the time.
    """
    settings = {"select": None, "measure_epochs": epochs} | more
    view = views.of_stored(VIEWS)
    return Training(network, objective, epochs, BATCH_SIZE, view=view, **settings)


# What a gain over a control says of a teacher, and the control in words.
WORTH = {
    "hard": ("makes a small network better", "hard labels"),
    "hard_long": ("is worth more than twice the epochs", "twice the epochs"),
}
# A run of about a minute on 5,000 digits, for ``quick`` of every experiment.
QUICK = {"dataset": "mnist5k", "teacher_epochs": 1, "epochs": 1, "seeds": 1}


class Teacher(NamedTuple):
    """A teacher, the data with its outputs, and its metrics."""

    name: str
    parameters: int
    data: data.Data
    quality: dict[str, Any]


def teacher(
    name: str,
    config: Any,
    images: data.Data,
    info: data.Info,
    of: Teacher | None = None,
    **keep: Any,
) -> Teacher:
    """A published network, or a plain one that is trained on the same images.

    Its logits, or what ``keep`` says, are stored for `VIEWS` of the training images.
    A plain one learns from labels, or ``of`` another teacher, as an assistant.
    """
    if name in PUBLISHED:
        network, variables = published.load(PUBLISHED[name])
        seconds = 0.0
    else:
        network = model(name, info.name)
        variables, seconds = _trained(network, config, images, of)
    stored, facts = store_on_disk(network, variables, images, views=VIEWS, **keep)
    quality = measured(stored) | {"stored": facts, "seconds": round(seconds)}
    return Teacher(name, parameters(network), stored, quality)


def untrained(name: str, images: data.Data, info: data.Info, **keep: Any) -> data.Data:
    """The training images with the outputs of a network's first weights."""
    network = model(name, info.name)
    variables = network.init(jax.random.key(0), {"image": images.train["image"][:1]})
    train = data.Data(images.train)
    return store_on_disk(network, variables, train, views=VIEWS, **keep).data


def prepare(
    config: OneTeacher, images: data.Data, info: data.Info
) -> tuple[data.Data, dict[str, Any]]:
    """Data with the outputs of one teacher, for `kdjax.study.study.arms_run`."""
    found = teacher(config.teacher, config, in_colour(images), info)
    facts = {"parameters": found.parameters, **found.quality}
    return found.data, {"teacher": facts, "seconds": found.quality["seconds"]}


def _trained(
    network: Model, config: Any, images: data.Data, of: Teacher | None
) -> tuple[Variables, float]:
    settings = {"learning_rate": TEACHER_RATE}
    if of is None:
        objective, view = HARD, views.augmented(data.flip, data.crop)
    else:
        objective, view = HINTON, views.of_stored(VIEWS)
        settings |= {"temperature": TEMPERATURE, "alpha": ALPHA}
        images = of.data
    training = Training(
        network, objective, config.teacher_epochs, BATCH_SIZE, view=view
    )
    key = jax.random.key(0)
    trained = train(training, settings, data=images, key=key, name="teacher")
    return trained.variables, float(trained.curves["seconds"].sum())
