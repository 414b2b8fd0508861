"""Training of convolutional networks in kdjax beside PyTorch's channels-last loop.

    make bench    # on an idle machine

Both train students with Hinton's loss on 32 x 32 colour images, in batches of 128, with
SGD and momentum. They take turns, and the fastest turn of each counts, because other
work on the machine can only add time.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import tyro

from benchmarks import turns
from benchmarks.sweep_beside_torch import serve
from kdjax import data, losses, models, objectives
from kdjax.training import Training, checkpoint, optimizers

BATCH = 128
STUDENTS = {
    "plain-2": partial(models.plain, 2),
    "resnet-8": partial(models.resnet, 8),
    "resnet-20": partial(models.resnet, 20),
}


@dataclass(frozen=True)
class Config(turns.Config):
    students: tuple[str, ...] = tuple(STUDENTS)
    """Networks to time."""


def images() -> data.Data:
    """5,000 digits in three colours, with a margin, and a teacher's logits."""
    digits, _ = data.load("mnist5k")
    image = np.pad(digits.train["image"], ((0, 0), (2, 2), (2, 2)))
    labels = digits.train["label"]
    train = {
        "image": np.repeat(image[..., None], 3, -1),
        "label": labels,
        "teacher": models.Outputs(turns.teacher_logits(labels, 10)),
    }
    return data.Data(train)


def student(name: str, examples: data.Data) -> turns.Students:
    training = Training(
        STUDENTS[name](classes=10),
        objectives.on_logits(losses.hinton),
        epochs=100,
        batch_size=BATCH,
        optimizer=optimizers.sgd,
        select=None,
    )
    settings = {"temperature": 4.0, "alpha": 0.9, "learning_rate": 0.1}
    return turns.Students(training, examples, **settings)


def main(config: Config) -> None:
    turns.limit(config.cores)
    checkpoint.cache_compilations()
    examples = images()
    arrays = examples.train
    server = serve(
        config.torch_python,
        "torch_images",
        x=arrays["image"],
        y=arrays["label"],
        teacher_logits=arrays["teacher"].logits,
    )
    turns.compare(
        server,
        config.students,
        partial(student, examples=examples),
        unit="images",
        per_step=lambda name: BATCH,
        steps=lambda name: 20 if name == "plain-2" else 8,
        turns=config.turns,
    )


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
