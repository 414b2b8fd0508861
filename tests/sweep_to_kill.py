"""A sweep of two phases in a separate process, which may kill itself.

    python -m tests.sweep_to_kill DIRECTORY TABLES [--moment MOMENT] [--beside N]

Prints the first step of each unit that it trains, and pickles its tables. It writes a
checkpoint every two of the four steps of an epoch. With --beside, it waits until N
processes are ready in the directory before it claims its first unit.
"""

import os
from pathlib import Path
import pickle
import signal
import sys
import threading
import time

import jax
import tyro

from kdjax import units, workers
from kdjax.sweep import SweepResult, grid
from kdjax.training import checkpoint
from tests import small

AXES = {"temperature": [1, 4], "alpha": [0.9], "learning_rate": [0.03, 0.1]}


def run(directory: Path, devices: int = 2) -> SweepResult:
    """Trains two seeds by two groups of two runs, with 16 steps each."""
    return small.swept(
        directory,
        grid(AXES),
        small.phases(),
        devices=jax.devices()[:devices],
        runs_per_program=2,
        checkpoint_steps=2,
    )


def main(
    directory: Path, tables: Path, /, *, moment: str = "never", beside: int = 1
) -> None:
    jax.config.update("jax_num_cpu_devices", 4)
    checkpoint.cache_compilations()
    checkpoint.restore = telling(checkpoint.restore)
    MOMENTS[moment](directory)
    if beside > 1:
        workers._by_threads = waiting(workers._by_threads, directory, beside)
    result = run(directory, devices=2 if beside == 1 else 1)
    tables.write_bytes(pickle.dumps(result))


def telling(restore):
    def told(directory, like):
        found = restore(directory, like)
        sys.stdout.write(f"{directory.name} {found[0]['steps'] if found else 0}\n")
        sys.stdout.flush()
        return found

    return told


def waiting(by_threads, directory: Path, many: int):
    def wait(*arguments):
        (directory / f"{os.getpid()}.ready").touch()
        while len(list(directory.glob("*.ready"))) < many:
            time.sleep(0.01)
        by_threads(*arguments)

    return wait


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # wait for SIGKILL


def after(function, *, when=lambda *arguments: True):
    def killing(*arguments):
        result = function(*arguments)
        if when(*arguments):
            kill()
        return result

    return killing


def at_the_beginning(directory: Path) -> None:
    checkpoint.restore = after(checkpoint.restore)


def in_a_checkpoint(directory: Path) -> None:
    def watch():
        while not list(directory.glob("*/*/*.orbax-checkpoint-tmp*")):
            time.sleep(0.0005)
        kill()

    threading.Thread(target=watch, daemon=True).start()


def in_an_epoch(directory: Path) -> None:
    checkpoint.save = after(checkpoint.save, when=lambda _, step, *__: step == 2)


def between_phases(directory: Path) -> None:
    checkpoint.save = after(checkpoint.save, when=lambda _, step, *__: step == 8)


def after_a_unit(directory: Path) -> None:
    units.write = after(units.write)


MOMENTS = {
    "never": lambda directory: None,
    "at the beginning": at_the_beginning,
    "in a checkpoint": in_a_checkpoint,
    "in an epoch": in_an_epoch,
    "between phases": between_phases,
    "after a unit": after_a_unit,
}


if __name__ == "__main__":
    tyro.cli(main)
