"""Sweeps in processes that are killed and restarted, or run concurrently."""

from contextlib import ExitStack
from pathlib import Path
import pickle
import signal
import subprocess
import sys

import pytest

from tests import small, sweep_to_kill

ROOT = Path(__file__).parents[1]
UNITS = {"seed0-0", "seed0-1", "seed1-0", "seed1-1"}


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    return sweep_to_kill.run(tmp_path_factory.mktemp("never_killed"))


@pytest.fixture
def start():
    command = [sys.executable, "-m", "tests.sweep_to_kill"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as processes:

        def start(*arguments):
            process = subprocess.Popen([*command, *arguments], cwd=ROOT, **pipes)
            processes.enter_context(process)
            processes.callback(process.kill)  # if the test fails
            return process

        yield start


def begun(process, returncode=0):
    """The units that a process trained, with their first steps."""
    told, errors = process.communicate(timeout=300)
    assert process.returncode == returncode, errors
    return {unit: int(step) for unit, step in map(str.split, told.splitlines())}


def test_killed_at_every_moment_in_turn_it_ends_with_the_same_bits(
    start, tmp_path, never_killed
):
    tables = tmp_path / "tables"
    found = {}
    for moment in list(sweep_to_kill.MOMENTS)[1:]:
        process = start(tmp_path, tables, "--moment", moment)
        found[moment] = begun(process, returncode=-signal.SIGKILL)
        assert not tables.exists()
    last = begun(start(tmp_path, tables))
    small.assert_same(pickle.loads(tables.read_bytes()), never_killed)
    # Each process resumes what the previous one left.
    assert set(found["in a checkpoint"].values()) == {0}
    assert set(found["in an epoch"].values()) == {0}
    assert 2 in found["between phases"].values()  # of the four steps of an epoch
    assert 8 in found["after a unit"].values()  # of which the first phase has eight
    assert len(UNITS - set(last)) == 1


def test_processes_share_a_sweep_and_finish_what_a_killed_one_began(
    start, tmp_path, never_killed
):
    tables = [tmp_path / f"tables{i}" for i in range(3)]
    processes = [
        start(tmp_path, path, "--beside", "3", "--moment", moment)
        for path, moment in zip(tables, ("in an epoch", "never", "never"), strict=True)
    ]
    (unit,) = begun(processes[0], returncode=-signal.SIGKILL)
    one, other = map(begun, processes[1:])
    assert one and other and not set(one) & set(other)
    assert {**one, **other} == {**dict.fromkeys(UNITS, 0), unit: 2}
    for path in tables[1:]:
        small.assert_same(pickle.loads(path.read_bytes()), never_killed)
