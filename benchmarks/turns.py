"""Students of kdjax and of PyTorch, trained in turns and compared.

As in an experiment, kdjax trains a student on each core at once. PyTorch trains one
after another with all cores.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
import os
import subprocess
import time
from typing import Any

import jax
import numpy as np
import rich
from rich.table import Table

from kdjax import data, progress
from kdjax.data.language import next_tokens
from kdjax.data.source import feeder
from kdjax.study import command
from kdjax.training import Training, programs, strategy


@dataclass(frozen=True)
class Timing:
    turns: int = 4
    """Number of turns of each."""
    cores: int = os.cpu_count() or 1
    """Number of CPU cores for each."""


@dataclass(frozen=True)
class Config(Timing):
    torch_python: str = ".venv-torch/bin/python"
    """A Python with PyTorch."""


class Students:
    """A student in training on each device; a call trains all for some steps."""

    def __init__(
        self,
        training: Training,
        examples: data.Data,
        fixed: Any = None,
        **settings: float,
    ):
        feed = feeder(examples.train, training.batch_size)
        devices = jax.devices()
        scanned = strategy.scans_well(training, examples, devices[0])
        self.phase = programs.phase(training, feed, scanned=scanned)
        begun = self.phase.begin(
            jax.random.key(0), settings, feed.example(), fixed, None
        )
        held = begun, feed.arrays, fixed
        self.each = [jax.device_put(held, own) for own in devices]
        self(3)

    def __call__(self, steps: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(len(self.each)) as pool:
            trained = pool.map(lambda one: self._train(steps, *one), self.each)
            self.each = list(trained)
        return time.perf_counter() - began

    def _train(self, steps: int, run: programs.Run, arrays: Any, fixed: Any) -> tuple:
        keys = jax.random.split(jax.random.key(0), steps)
        fed = self.phase.feed.feed(jax.random.key(1), 0, steps)
        run, loss = self.phase.advance(run, fed, keys, arrays, fixed)
        jax.block_until_ready((run, loss))
        return run, arrays, fixed


def compare(
    server: subprocess.Popen,
    students: Iterable[str],
    make: Callable[[str], Students],
    *,
    unit: str,
    per_step: Callable[[str], int],
    steps: Callable[[str], int],
    turns: int,
) -> None:
    """Prints the speed of each student, in units a second, the fastest turn of each.

    Args:
      server: PyTorch's process, which takes a line ``student steps`` and answers with
        seconds.
      students: Their names.
      make: Builds a student of kdjax.
      unit: What a step trains on, for the title.
      per_step: Number of these units of a step, by name.
      steps: Number of steps of a turn, by name.
      turns: Number of turns of each.
    """
    table = Table(title=f"{unit} a second; {greeting(server)}")
    for name in ("student", "torch", "kdjax", "kdjax / torch"):
        table.add_column(name, justify="right")
    for name in progress.track(list(students), "timing, in turns"):
        student, ours, theirs = make(name), [], []
        for _ in range(turns):
            theirs.append(asked(server, name, steps(name)))
            ours.append(student(steps(name)) / len(jax.devices()))
        a, b = (per_step(name) * steps(name) / min(each) for each in (theirs, ours))
        table.add_row(name, f"{a:.0f}", f"{b:.0f}", f"{b / a:.2f}")
    server.communicate()
    rich.print(table)
    rich.print(f"jax {jax.__version__}")


def greeting(server: subprocess.Popen) -> str:
    """PyTorch's version and number of threads, the first that its process says."""
    assert server.stdout
    version, threads = server.stdout.readline().split()
    return f"torch {version}, {threads} threads"


def asked(server: subprocess.Popen, name: str, steps: int) -> float:
    """The seconds that PyTorch's process takes for a request."""
    assert server.stdin and server.stdout
    print(name, steps, file=server.stdin, flush=True)
    return float(server.stdout.readline())


def teacher_logits(labels: np.ndarray, classes: int) -> np.ndarray:
    """Logits that are mostly right, with noise."""
    noise = np.random.default_rng(0).normal(size=(len(labels), classes))
    return (5 * np.eye(classes)[labels] + noise).astype(np.float32)


def rows(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens ``[B, L]`` as texts of a decoder, all of which it is to predict."""
    mask = np.ones_like(tokens)
    label = np.asarray(next_tokens(tokens, mask))
    return {"tokens": tokens, "mask": mask, "label": label}


def limit(cores: int) -> None:
    """Keeps this process, and those that it starts, on some cores, each a device."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
    command.one_device_per_core()
