"""Speed of a sweep in kdjax and of a plain PyTorch loop with the same students.

    make bench    # on an idle machine

Both train students with Hinton's loss on 5,000 digits, with Adam and batches of
128, for ten epochs per turn, with validation after each. PyTorch trains one student at
a time, kdjax as many as a sweep vectorizes. Times are per student, and the minimum over
turns, since other load on the machine can only increase them.

The roofline is a lower bound for the time of a step: its matrix products, each timed
separately at its shape, plus the memory traffic of Adam (parameters, both moments and
the gradient: 36 MB for 800 units) at the measured bandwidth for that size. The share is
its fraction of the time that kdjax takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import rich
from rich.table import Table
import tyro

from kdjax import data, files, losses, models, objectives, progress
from kdjax.data.source import feeder
from kdjax.study import flags
from kdjax.training import Training, checkpoint, programs, strategy

BATCH, EPOCHS = 128, 10


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (16, 64, 300, 800)
    """Hidden units in each of a student's two layers."""
    turns: int = 5
    """How often each is timed."""
    torch_python: str = ".venv-torch/bin/python"
    """A Python interpreter with PyTorch."""


def digits() -> data.Data:
    """5,000 digits, with random teacher logits."""
    images, _ = data.load("mnist5k")
    labels = images.train["label"]
    rng = np.random.default_rng(0)
    logits = 5 * np.eye(10)[labels] + rng.normal(size=(len(labels), 10))
    teacher = models.Outputs(logits.astype(np.float32))
    return data.Data({**images.train, "teacher": teacher}, images.validation)


class Kdjax:
    """A group of students as in a sweep; each call trains for one epoch."""

    def __init__(self, width: int, images: data.Data):
        training = Training(
            models.mlp((width, width), classes=10),
            objectives.on_logits(losses.hinton),
            epochs=100,
            batch_size=BATCH,
        )
        feed, device = feeder(images.train, BATCH), jax.devices()[0]
        self.runs = strategy.runs_per_program(training, feed.example(), device)
        lift = partial(_side_by_side, self.runs)
        self.phase = programs.phase(training, feed, lift=lift)
        hyperparameters = {
            "temperature": np.linspace(1, 20, self.runs, dtype=np.float32),
            "alpha": np.full(self.runs, 0.9, np.float32),
            "learning_rate": np.full(self.runs, 1e-3, np.float32),
        }
        self.arrays, self.validation = jax.device_put((feed.arrays, images.validation))
        self.run = self.phase.begin(
            jax.random.key(0), hyperparameters, feed.example(), None, None
        )
        self()

    def __call__(self) -> float:
        began = time.perf_counter()
        keys = jax.random.split(jax.random.key(0), self.phase.feed.steps)
        fed = self.phase.feed.feed(jax.random.key(1), 0, len(keys))
        self.run, loss = self.phase.advance(self.run, fed, keys, self.arrays, None)
        self.run, metrics = self.phase.finish(self.run, self.validation, None)
        jax.block_until_ready((loss, metrics))
        return time.perf_counter() - began


def _side_by_side(runs: int, function: Callable, in_axes: tuple) -> Callable:
    return jax.vmap(function, in_axes=in_axes, axis_size=runs)


def serve(torch_python: str, script: str, **arrays: np.ndarray) -> subprocess.Popen:
    """Starts a script of this folder in PyTorch's environment, with these arrays."""
    if not Path(torch_python).exists():
        flags.fail(f"torch_python is {torch_python!r}, but takes an interpreter")
    path = files.cache("bench") / f"{script}.npz"
    files.save_arrays(path, **arrays)
    return subprocess.Popen(
        [torch_python, f"benchmarks/{script}.py", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def least(function: Callable, *arguments: jax.Array, repeats: int = 10) -> float:
    """The minimum time of a call in seconds."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        times.append(time.perf_counter() - began)
    return min(times)


def product_seconds(runs: int, rows: int, inner: int, columns: int) -> float:
    """The time per run of a matrix product that is batched over runs."""
    a, b = jnp.ones((runs, rows, inner)), jnp.ones((runs, inner, columns))
    many = max(1, int(2e9 / (2 * runs * rows * inner * columns)))

    def repeated(a: jax.Array, b: jax.Array) -> jax.Array:
        # The input changes each time, so that the product is not hoisted.
        def once(a: jax.Array, _: None) -> tuple[jax.Array, None]:
            return a.at[:, 0, 0].add((a @ b)[:, 0, 0] * 0), None

        return jax.lax.scan(once, a, length=many)[0]

    return least(repeated, a, b) / many / runs


def roofline_seconds(width: int, runs: int) -> float:
    """A lower bound for the time of a step per student, for ``runs`` students.

    There are three products per layer, but two in the first, which needs no gradient
    with respect to its inputs.
    """
    layers = [(784, width), (width, width), (width, 10)]
    seconds = 0.0
    for i, (inputs, outputs) in enumerate(layers):
        seconds += product_seconds(runs, BATCH, inputs, outputs)  # forward
        seconds += product_seconds(runs, inputs, BATCH, outputs)  # weight gradient
        if i:
            seconds += product_seconds(runs, BATCH, outputs, inputs)  # input gradient
    weights = sum((inputs + 1) * outputs for inputs, outputs in layers)
    return seconds + 7 * 4 * weights / bandwidth(4 * weights * runs)


def bandwidth(numbers: int) -> float:
    """Bytes per second, read and written, for updates of an array in place."""
    passes = max(2, int(2e8 / numbers))

    def repeated(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, passes, lambda _, x: x * 1.0001, x)

    x = jnp.ones(numbers)
    return 2 * x.nbytes * passes / least(repeated, x)


def main(config: Config) -> None:
    images = digits()
    steps = len(images.train["label"]) // BATCH
    checkpoint.cache_compilations()
    train, validation = images.train, images.validation
    server = serve(
        config.torch_python,
        "torch_loop",
        x=train["image"].reshape(len(train["image"]), -1),
        y=train["label"],
        teacher_logits=train["teacher"].logits,
        validation_x=validation["image"].reshape(len(validation["image"]), -1),
        validation_y=validation["label"],
    )
    version, threads = server.stdout.readline().split()
    table = Table(title=f"ms a step and student; torch {version}, {threads} threads")
    names = ("units", "at once", "torch", "kdjax", "torch / kdjax", "roofline", "share")
    for name in names:
        table.add_column(name, justify="right")
    for width in progress.track(config.widths, "timing, in turns"):
        ours, theirs = [], []
        group = Kdjax(width, images)
        for _ in range(config.turns):
            server.stdin.write(f"{width} {EPOCHS}\n")
            server.stdin.flush()
            theirs.append(float(server.stdout.readline()) / (EPOCHS * steps))
            seconds = sum(group() for _ in range(EPOCHS)) / group.runs
            ours.append(seconds / (EPOCHS * steps))
        a, b = min(theirs), min(ours)
        bound = roofline_seconds(width, group.runs)
        table.add_row(
            f"{width}",
            f"{group.runs}",
            *(f"{1e3 * seconds:.3f}" for seconds in (a, b)),
            f"{a / b:.1f}",
            f"{1e3 * bound:.3f}",
            f"{100 * bound / b:.0f} %",
        )
    server.stdin.close()
    server.wait()
    rich.print(table)
    rich.print(f"jax {jax.__version__}")


if __name__ == "__main__":
    options = {"config": (tyro.conf.OmitArgPrefixes,), "description": __doc__}
    flags.run(main, **options)
