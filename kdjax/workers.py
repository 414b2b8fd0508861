"""Distributes the units of a sweep: each is trained once, by whoever claims it first.

A claim is a lock, which is released when its process ends. If a process is killed,
another can claim its unit and resume from the last checkpoint.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import cache, partial
from pathlib import Path
import pickle
import shutil
import threading
import time

import jax

from kdjax import files, progress
from kdjax.units import Finished, Job, Unit, Worker, compiled, read, unit_path

_POLL_SECONDS = 0.2  # between checks of units claimed by other processes


def finish(
    job: Job,
    units: Sequence[Unit],
    *,
    title: str,
    devices: Sequence[jax.Device],
    patient: bool = False,
    executor: Executor | None,
    directory: Path,
) -> list[Finished]:
    """Trains the remaining units, here or with an executor, and reads them all.

    If ``patient``, the other devices begin once the first has trained for as long as
    its programs took to compile: they are compiled again for each.
    """
    own = compiled(job, devices[0])
    directory = directory / own.fingerprint(job)
    epochs = sum(training.epochs for training in job.trainings)
    with progress.epochs_done(title, epochs * len(units)) as show:
        board = _Board(units, epochs, show, patient)
        if executor is None:
            workers = [partial(Worker, job, own, device) for device in devices]
            _by_threads(workers, board, directory)
        else:
            _by_executor(executor, job, board, directory)
    return [_results(unit_path(directory, unit)) for unit in units]


def _results(path: Path) -> Finished:
    finished = read(path)
    if finished is None:
        raise OSError(f"{path} was removed or damaged while the sweep ran")
    return finished


class _Board:
    """Progress of all units, shown as one bar. The first error stops all workers."""

    def __init__(
        self,
        units: Sequence[Unit],
        epochs: int,
        show: Callable[[int], None],
        patient: bool,
    ):
        self.units, self.epochs, self.show = units, epochs, show
        self.done = dict.fromkeys(units, 0)
        self.failed = threading.Event()
        self.created = time.monotonic()
        self.began = None if patient else self.created  # to train

    def takes_more(self) -> bool:
        """Whether other workers may begin."""
        if self.began is None:
            return False
        return time.monotonic() - self.began >= self.began - self.created

    def advance(self, unit: Unit, epochs: int) -> None:
        if self.failed.is_set():
            raise RuntimeError("stopped because another worker failed")
        self.began = self.began or time.monotonic()
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
            for future in _ended(futures):
                future.result()
        except BaseException:  # including interrupts
            board.failed.set()
            raise


def _ended(futures: Iterable[Future]) -> Iterator[Future]:
    """The futures as they end.

    It wakes regularly, because an interrupt that the system hands to another thread is
    only seen by the main one when that wakes.
    """
    left = set(futures)
    while left:
        done, left = wait_for(left, _POLL_SECONDS, FIRST_COMPLETED)
        yield from done


def _work(
    make: Callable[[], Worker], board: _Board, directory: Path, turn: int
) -> None:
    """Claims units until all are finished, including those claimed by others."""
    make = cache(make)  # created only if there is something to train
    while turn and board.left() and not board.takes_more():
        if board.failed.wait(_POLL_SECONDS):
            return
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
    """Trains a unit unless it is finished; False if another worker has claimed it.

    The file is complete before the lock is released, and is read only under the lock.
    """
    path = unit_path(directory, unit)
    with files.lock(path.with_suffix(""), wait=wait) as held:
        if held:
            if read(path) is None:
                make().train(unit, directory, advance)
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)  # checkpoints
    return held


def _by_executor(executor: Executor, job: Job, board: _Board, directory: Path) -> None:
    try:
        content = pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise TypeError(
            f"executor: the trainings must be picklable, with module-level functions "
            f"and functools.partial, not lambdas or nested functions ({error})"
        ) from error
    with files.atomic(directory / "job.pickle") as path:
        path.write_bytes(content)
    place, futures = str(directory.resolve()), {}
    try:
        for unit in board.left():
            if read(unit_path(directory, unit)) is None:
                futures[executor.submit(train_elsewhere, place, unit)] = unit
            else:
                board.advance(unit, board.epochs)
        for future in _ended(futures):
            future.result()
            board.advance(futures[future], board.epochs)
    finally:
        for future in futures:
            future.cancel()  # only those not yet started, after a failure


def train_elsewhere(directory: str, unit: Unit) -> None:
    """Trains a unit of the job in ``directory``; runs in a worker process."""
    make = partial(_worker_of, directory)
    _claim(make, unit, Path(directory), lambda done: None, wait=True)


@cache
def _worker_of(directory: str) -> Worker:
    job = pickle.loads((Path(directory) / "job.pickle").read_bytes())
    device = jax.devices()[0]
    return Worker(job, compiled(job, device), device)
