"""A sweep in kdjax beside the plain PyTorch loop: the same students, in turns.

    make bench    # two minutes; wants an idle machine

Both train students of Hinton's loss on the embedded digits, in batches of 128, by
Adam, ten epochs a turn, with validation after each. PyTorch trains one student at a
time, kdjax as many as a sweep trains at once; times are a student's, the least of the
turns, for other work on the machine only adds. Also printed: what part of the machine's
own speed at multiplying large matrices the widest student reaches.
"""

from dataclasses import dataclass
import subprocess
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from rich.table import Table
import tyro

from kdjax import data, files, losses, models, progress, resume
from kdjax.sweep import fastest, grid
from kdjax.train import Training, make_training

BATCH = 128


@dataclass(frozen=True)
class Config:
    widths: tuple[int, ...] = (16, 64, 300, 800)
    """Units of each of a student's two hidden layers."""
    turns: int = 5
    """How often each is timed."""
    torch_python: str = ".venv-torch/bin/python"
    """A Python that has PyTorch."""


def digits() -> data.Data:
    """The embedded digits, with some logits for a teacher's."""
    images, _ = data.load("mnist5k")
    rng = np.random.default_rng(0)
    logits = 5 * np.eye(10)[images.train.y] + rng.normal(size=(len(images.train.y), 10))
    train = images.train._replace(teacher_logits=logits.astype(np.float32))
    return data.Data(train, images.validation, None)


def student(width: int) -> Training:
    return make_training(
        models.mlp((width, width), classes=10),
        losses.hinton,
        epochs=100,
        batch_size=BATCH,
        optimizer=optax.scale_by_adam(),
    )


class Kdjax:
    """A group of students, as a sweep trains them; each call goes on for an epoch."""

    def __init__(self, width: int, images: data.Data):
        training = student(width)
        self.at_once = fastest(training, images, jax.devices()[0])
        axes = {
            "temperature": np.linspace(1, 20, self.at_once).tolist(),
            "alpha": [0.9],
            "learning_rate": [1e-3],
        }
        columns = grid(axes, losses.hinton)
        self.data = jax.device_put(images)
        init = jax.jit(jax.vmap(training.init, in_axes=(None, 0, None)))
        self.state = init(jax.random.key(0), columns, self.data)
        epoch = jax.vmap(training.epoch, in_axes=(0, None, None))
        self.epoch = jax.jit(epoch, donate_argnums=0)
        self()

    def __call__(self) -> float:
        began = time.perf_counter()
        self.state, metrics = self.epoch(self.state, jax.random.key(0), self.data)
        jax.block_until_ready(metrics)
        return time.perf_counter() - began


def torch_server(config: Config, images: data.Data) -> subprocess.Popen:
    path = files.cache("bench") / "digits.npz"
    (x, y, teacher_logits), (validation_x, validation_y, _) = images[:2]
    files.save_arrays(
        path,
        x=x.reshape(len(x), -1),
        y=y,
        teacher_logits=teacher_logits,
        validation_x=validation_x.reshape(len(validation_x), -1),
        validation_y=validation_y,
    )
    return subprocess.Popen(
        [config.torch_python, "benchmarks/torch_loop.py", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def matmul_gflops(n: int = 2048) -> float:
    a = jnp.ones((n, n))
    product = jax.jit(jnp.dot)
    jax.block_until_ready(product(a, a))
    times = []
    for _ in range(10):
        began = time.perf_counter()
        jax.block_until_ready(product(a, a))
        times.append(time.perf_counter() - began)
    return 2 * n**3 / min(times) / 1e9


def step_gflops(width: int, seconds: float) -> float:
    """Of the three matrix products a layer; the first needs no gradient by inputs."""
    weights = 784 * width + width * width + width * 10
    return (6 * weights - 2 * 784 * width) * BATCH / seconds / 1e9


def main(config: Config) -> None:
    images = digits()
    steps = len(images.train.y) // BATCH
    resume.cache_compilations()
    server = torch_server(config, images)
    version, threads = server.stdout.readline().split()
    table = Table(title=f"ms a step and student; torch {version}, {threads} threads")
    for name in (
        "units",
        "at once",
        "torch",
        "kdjax",
        "ratio",
        "torch GFLOP/s",
        "kdjax GFLOP/s",
    ):
        table.add_column(name, justify="right")
    for width in progress.track(config.widths, "timing, in turns"):
        ours, theirs = [], []
        group = Kdjax(width, images)
        for _ in range(config.turns):
            server.stdin.write(f"{width} 10\n")
            server.stdin.flush()
            theirs.append(float(server.stdout.readline()) / (10 * steps))
            seconds = sum(group() for _ in range(10)) / group.at_once
            ours.append(seconds / (10 * steps))
        a, b = min(theirs), min(ours)
        speeds = (f"{step_gflops(width, s):.0f}" for s in (a, b))
        table.add_row(
            f"{width}",
            f"{group.at_once}",
            f"{1e3 * a:.3f}",
            f"{1e3 * b:.3f}",
            f"{a / b:.1f}",
            *speeds,
        )
    server.stdin.close()
    server.wait()
    rich.print(table)
    peak = matmul_gflops()
    reached = step_gflops(width, b)
    rich.print(
        f"jax {jax.__version__}. The machine "
        f"multiplies 2048 x 2048 matrices at {peak:.0f} GFLOP/s; students of {width} "
        f"units reach {reached:.0f}, {100 * reached / peak:.0f} % of that."
    )


if __name__ == "__main__":
    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,), description=__doc__)
