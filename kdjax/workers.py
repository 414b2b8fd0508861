"""Who trains the units of a sweep: each is trained once, by whoever claims it first.

A unit is claimed by a lock that ends with the process that holds it, so one whose
process was killed goes on elsewhere from its last checkpoint.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
import pickle
import shutil
import threading

import jax

from kdjax import files, progress
from kdjax.units import Finished, Job, Unit, Worker, compiled, read, unit_path

_POLL_SECONDS = 0.2  # how often to look whether another process's unit is done


def finish(
    job: Job,
    units: Sequence[Unit],
    *,
    title: str,
    devices: Sequence[jax.Device],
    executor: Executor | None,
    directory: Path,
) -> list[Finished]:
    """Trains the units that are left, here or by an executor, and reads all of them."""
    own = compiled(job, devices[0])
    directory = directory / own.fingerprint(job)
    epochs = sum(training.epochs for training in job.trainings)
    with progress.epochs_done(title, epochs * len(units)) as show:
        board = _Board(units, epochs, show)
        if executor is None:
            workers = [partial(Worker, job, own, device) for device in devices]
            _by_threads(workers, board, directory)
        else:
            _by_executor(executor, job, board, directory)
    return [read(unit_path(directory, unit)) for unit in units]


class _Board:
    """Who has come how far; shown as one bar. The first error stops everyone."""

    def __init__(self, units: Sequence[Unit], epochs: int, show: Callable[[int], None]):
        self.units, self.epochs, self.show = units, epochs, show
        self.done = dict.fromkeys(units, 0)
        self.failed = threading.Event()

    def advance(self, unit: Unit, epochs: int) -> None:
        if self.failed.is_set():
            raise RuntimeError("stopped, for another device failed")
        self.done[unit] = epochs
        self.show(sum(self.done.values()))

    def left(self) -> list[Unit]:
        return [unit for unit in self.units if self.done[unit] < self.epochs]


def _by_threads(
    workers: Sequence[Callable[[], Worker]], board: _Board, directory: Path
) -> None:
    with ThreadPoolExecutor(len(workers)) as pool:
        try:
            futures = [
                pool.submit(_work, worker, board, directory, turn)
                for turn, worker in enumerate(workers)
            ]
            for future in as_completed(futures):
                future.result()
        except BaseException:  # an interrupt too
            board.failed.set()
            raise


def _work(
    make: Callable[[], Worker], board: _Board, directory: Path, turn: int
) -> None:
    """Claims units until none is left, also none that others have claimed."""
    make = cache(make)  # only if there is anything to train
    while not board.failed.is_set() and (left := board.left()):
        first = turn % len(left)
        for unit in left[first:] + left[:first]:
            advance = partial(board.advance, unit)
            if _claim(make, unit, directory, advance, wait=False):
                advance(board.epochs)
                break
        else:
            board.failed.wait(_POLL_SECONDS)


def _claim(
    make: Callable[[], Worker],
    unit: Unit,
    directory: Path,
    advance: Callable[[int], None],
    *,
    wait: bool,
) -> bool:
    """Trains a unit unless that is done; False if someone else is about it.

    The file is whole before the lock is let go, and is only read with the lock.
    """
    path = unit_path(directory, unit)
    with files.lock(path.with_suffix(""), wait=wait) as held:
        if held:
            if files.load_arrays(path) is None:
                make().train(unit, directory, advance)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # checkpoints
    return held


def _by_executor(executor: Executor, job: Job, board: _Board, directory: Path) -> None:
    try:
        content = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"executor: the trainings must be picklable, of functions of a module "
            f"and functools.partial, not of lambdas or inner functions ({error})"
        ) from error
    with files.atomic(directory / "job.pickle") as path:
        path.write_bytes(content)
    place, futures = str(directory.resolve()), {}
    try:
        for unit in board.left():
            if files.load_arrays(unit_path(directory, unit)) is None:
                futures[executor.submit(train_elsewhere, place, unit)] = unit
            else:
                board.advance(unit, board.epochs)
        for future in as_completed(futures):
            future.result()
            board.advance(futures[future], board.epochs)
    finally:
        for future in futures:
            future.cancel()  # those that have not begun when one fails


def train_elsewhere(directory: str, unit: Unit) -> None:
    """Trains a unit of the job that lies in ``directory``, in a process of its own."""
    make = partial(_worker_of, directory)
    _claim(make, unit, Path(directory), lambda done: None, wait=True)


@cache
def _worker_of(directory: str) -> Worker:
    job = pickle.loads((Path(directory) / "job.pickle").read_bytes())
    device = jax.devices()[0]
    return Worker(job, compiled(job, device), device)
