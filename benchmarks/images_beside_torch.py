"""Training of convolutional networks in kdjax beside PyTorch's channels-last loop.

    make bench    # on an idle machine

Both train one student at a time with Hinton's loss on 32 x 32 colour images, in batches
of 128, with SGD and momentum. They take turns, and the fastest turn of each counts,
because other work on the machine can only add time.
"""

from dataclasses import dataclass
from functools import partial
import os
import time

import jax
import numpy as np
import rich
from rich.table import Table
import tyro

from benchmarks.sweep_beside_torch import serve
from kdjax import data, losses, models, objectives, progress
from kdjax.data.source import feeder
from kdjax.training import Training, checkpoint, optimizers, programs

BATCH = 128
STUDENTS = {
    "plain-2": partial(models.plain, 2),
    "resnet-8": partial(models.resnet, 8),
    "resnet-20": partial(models.resnet, 20),
}


@dataclass(frozen=True)
class Config:
    students: tuple[str, ...] = tuple(STUDENTS)
    """Networks to time."""
    turns: int = 4
    """Number of turns of each."""
    cores: int = os.cpu_count() or 1
    """Number of CPU cores for each; 1 as in one of several processes."""
    torch_python: str = ".venv-torch/bin/python"
    """A Python with PyTorch."""


def images() -> data.Data:
    """The embedded digits in three colours, with a margin, and a teacher's logits."""
    digits, _ = data.load("mnist5k")
    rng = np.random.default_rng(0)
    image = np.pad(digits.train["image"], ((0, 0), (2, 2), (2, 2)))
    labels = digits.train["label"]
    logits = 5 * np.eye(10)[labels] + rng.normal(size=(len(labels), 10))
    train = {
        "image": np.repeat(image[..., None], 3, -1),
        "label": labels,
        "teacher": models.Outputs(logits.astype(np.float32)),
    }
    return data.Data(train)


class Student:
    """A student in training; each call trains it for some steps."""

    def __init__(self, name: str, examples: data.Data):
        training = Training(
            STUDENTS[name](classes=10),
            objectives.on_logits(losses.hinton),
            epochs=100,
            batch_size=BATCH,
            optimizer=optimizers.sgd,
            select=None,
        )
        feed = feeder(examples.train, BATCH)
        scanned = programs.scans_well(training, examples, jax.devices()[0])
        self.phase = programs.phase(training, feed, scanned=scanned)
        hyperparameters = {"temperature": 4.0, "alpha": 0.9, "learning_rate": 0.1}
        self.arrays = jax.device_put(feed.arrays)
        self.run = self.phase.begin(
            jax.random.key(0), hyperparameters, feed.example(), None, None
        )
        self(3)

    def __call__(self, steps: int) -> float:
        began = time.perf_counter()
        keys = jax.random.split(jax.random.key(0), steps)
        fed = self.phase.feed.feed(jax.random.key(1), 0, steps)
        self.run, loss = self.phase.advance(self.run, fed, keys, self.arrays, None)
        jax.block_until_ready((self.run, loss))
        return time.perf_counter() - began


def main(config: Config) -> None:
    os.sched_setaffinity(0, range(config.cores))  # of this process and of PyTorch's
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
    version, threads = server.stdout.readline().split()
    table = Table(title=f"images a second; torch {version}, {threads} threads")
    for name in ("student", "torch", "kdjax", "kdjax / torch"):
        table.add_column(name, justify="right")
    for name in progress.track(config.students, "timing, in turns"):
        student, steps = Student(name, examples), 20 if name == "plain-2" else 8
        ours, theirs = [], []
        for _ in range(config.turns):
            print(name, steps, file=server.stdin, flush=True)
            theirs.append(float(server.stdout.readline()))
            ours.append(student(steps))
        a, b = (BATCH * steps / min(seconds) for seconds in (theirs, ours))
        table.add_row(name, f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}")
    server.stdin.close()
    server.wait()
    rich.print(table)
    rich.print(f"jax {jax.__version__}")


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
