"""Distribution of units over threads and executors, and failures."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
import multiprocessing
import os
import signal
import threading
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kdjax import files, losses, objectives, units, workers
from kdjax.training import checkpoint
from tests import small
from tests.small import assert_same, swept

COLUMNS = {"temperature": [4.0], "alpha": [0.9], "learning_rate": [0.03]}


@pytest.fixture(scope="module")
def two_units(tmp_path_factory):
    return swept(tmp_path_factory.mktemp("two"), COLUMNS)


def held_elsewhere(path):
    with files.lock(path, wait=False) as free:
        return not free


def test_a_unit_is_locked_until_its_file_is_whole_and_no_checkpoint_left(
    two_units, tmp_path, monkeypatch
):
    seen = []

    def watched(function):
        def watching(path, *arguments, **options):
            seen.append(held_elsewhere(path.with_suffix("")))
            function(path, *arguments, **options)
            seen.append(held_elsewhere(path.with_suffix("")))

        return watching

    monkeypatch.setattr(units, "write", watched(units.write))
    monkeypatch.setattr(workers.shutil, "rmtree", watched(workers.shutil.rmtree))
    assert_same(swept(tmp_path, COLUMNS), two_units)
    assert seen == [True] * 8
    assert not held_elsewhere(next(tmp_path.glob("*/seed0-0.npz")).with_suffix(""))


def test_others_begin_once_the_first_has_trained_for_as_long_as_it_compiled(
    monkeypatch,
):
    now = 10.0
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now))
    at_once = workers._Board([(0, 0)], 9, lambda done: None, patient=False)
    board = workers._Board([(0, 0)], 9, lambda done: None, patient=True)
    assert at_once.takes_more() and not board.takes_more()
    now = 15.0
    board.advance((0, 0), 0)
    now = 19.9
    board.advance((0, 0), 1)
    assert not board.takes_more()
    now = 20.0
    assert board.takes_more()


@pytest.mark.parametrize("more, used", [(False, 1), (True, 2)])
def test_by_default_other_cores_wait(two_units, tmp_path, monkeypatch, more, used):
    devices = set()
    train = units.Worker.train

    def watched(self, unit, *arguments):
        devices.add(self.device)
        others.wait(60)  # until each worker has a unit
        train(self, unit, *arguments)

    others = threading.Barrier(used)
    monkeypatch.setattr(workers._Board, "takes_more", lambda board: more)
    monkeypatch.setattr(units.Worker, "train", watched)
    assert_same(swept(tmp_path, COLUMNS, devices=None), two_units)
    assert len(devices) == used


def test_an_executor_trains_the_units_that_are_left(two_units, tmp_path):
    swept(tmp_path, COLUMNS, seeds=[0])
    (done,) = tmp_path.glob("*/*.npz")
    kept = done.stat().st_mtime_ns
    with ThreadPoolExecutor(2) as executor:
        assert_same(swept(tmp_path, COLUMNS, executor=executor), two_units)
    assert done.stat().st_mtime_ns == kept


def test_an_executor_of_processes_gives_the_same_table(
    two_units, tmp_path, monkeypatch
):
    for option in ("disable_most_optimizations", "num_cpu_devices"):
        value = {"num_cpu_devices": 4}.get(option, 1)
        monkeypatch.setenv(f"JAX_{option.upper()}", str(value))
    here = tmp_path.parent
    monkeypatch.chdir(here)  # the directory is relative, and workers start elsewhere
    spawn = multiprocessing.get_context("spawn")
    elsewhere = {"initializer": os.chdir, "initargs": (tmp_path,)}
    with ProcessPoolExecutor(1, spawn, **elsewhere) as executor:
        result = swept(tmp_path.relative_to(here), COLUMNS, executor=executor)
    assert_same(result, two_units)


def test_what_cannot_be_pickled_is_refused_by_name(tmp_path):
    own = objectives.on_logits(
        lambda logits, labels: losses.cross_entropy(logits, labels)
    )
    with pytest.raises(TypeError, match="executor.*picklable.*lambda"):
        swept(
            tmp_path, {"learning_rate": [0.1]}, small.training(own), executor=object()
        )


def test_an_error_in_an_executor_cancels_what_has_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(units.Worker, "train", fails := Failing())
    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="boom"):
        swept(tmp_path, COLUMNS, seeds=range(9), executor=executor)
    assert len(fails.units) < 9


class Failing:
    def __init__(self):
        self.units = []

    def __call__(self, unit, *arguments):
        self.units.append(unit)
        time.sleep(0.3)  # the others have not started by then
        raise RuntimeError("boom")


def fails():
    raise RuntimeError("boom")


def interrupts():
    """As the system may, it hands the interrupt to this thread, not to the main one."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)
    time.sleep(0.1)


@pytest.mark.parametrize(
    "fail, error", [(fails, RuntimeError), (interrupts, KeyboardInterrupt)]
)
def test_one_that_fails_stops_the_others_within_an_epoch(
    fail, error, tmp_path, monkeypatch
):
    at_work, steps = threading.Event(), []

    def save(directory, step, *_):
        if directory.name == "seed0-0":
            steps.append(step)
            at_work.set()
            time.sleep(0.05)
        else:
            at_work.wait()
            fail()

    monkeypatch.setattr(checkpoint, "save", save)
    long = small.training(batch_size=1)  # 200 steps per epoch take ten seconds
    with pytest.raises(error):
        swept(tmp_path, COLUMNS, long, devices=jax.devices()[:2], checkpoint_steps=1)
    assert max(steps) < 150


def test_who_waits_for_another_process_can_be_interrupted(tmp_path, monkeypatch):
    waiting, times = threading.Event(), []
    lock = files.lock

    @contextmanager
    def elsewhere(path, *, wait):
        waiting.set()
        times.append(time.monotonic())
        if times[-1] < times[0] + 60:
            yield False
        else:
            with lock(path, wait=wait) as held:
                yield held

    def interrupt():
        waiting.wait()
        interrupts()

    monkeypatch.setattr(files, "lock", elsewhere)
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path, COLUMNS)
    assert time.monotonic() < times[0] + 60 and not list(tmp_path.glob("*/*.npz"))


def test_a_full_disk_at_a_units_end_names_the_file_and_loses_no_other(
    two_units, tmp_path, monkeypatch
):
    def full(file, **arrays):
        if "seed1" in file.name:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        np.savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(files, "np", type("", (), {"savez": full, "load": np.load}))
        with pytest.raises(OSError, match=r"No space left.*seed1-0\.npz"):
            swept(tmp_path, COLUMNS)
    assert [p.name for p in tmp_path.glob("*/*.npz")] == ["seed0-0.npz"]
    assert not list(tmp_path.glob("*/.seed*"))  # no temporary files
    assert_same(swept(tmp_path, COLUMNS), two_units)


def test_a_full_disk_at_a_checkpoint_is_no_end(two_units, tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.StandardCheckpointer, "save", full)
    assert_same(swept(tmp_path, COLUMNS, checkpoint_seconds=0), two_units)
