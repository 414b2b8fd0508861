import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import resume

ROOT = Path(__file__).parents[1]


def start(directory):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sweep_to_kill", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def finish(process):
    told, _ = process.communicate()
    assert process.returncode == 0
    return told


def table(directory):
    with np.load(directory / "table.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("never_killed")
    finish(start(directory))
    return table(directory)


# When to kill it; and what the second process must then find: of each group the epoch
# that it begins with, and the groups that it does not train at all.
MOMENTS = {
    "when the first group begins": ("*/.lock", {}, ()),
    "while a checkpoint is written": ("*/*/*.orbax-checkpoint-tmp*", {}, ()),
    "after the first checkpoint": ("*/seed0-0/1.sha256", {"seed0-0": 1}, ()),
    "after the third, on a second device": ("*/seed0-1/3.sha256", {"seed0-1": 3}, ()),
    "after a group has ended": ("*/seed0-0.npz", {}, ("seed0-0",)),
}


@pytest.mark.parametrize("moment, begins, done", MOMENTS.values(), ids=MOMENTS.keys())
def test_killed_and_started_again_ends_with_the_same_bits(
    moment, begins, done, tmp_path, never_killed
):
    process = start(tmp_path)
    while not list(tmp_path.glob(moment)):
        assert process.poll() is None, "it ended before the moment came"
        time.sleep(0.0005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "table.npz").exists()
    told = finish(start(tmp_path))
    chex.assert_trees_all_equal(table(tmp_path), never_killed)
    found = dict(line.split() for line in told.splitlines())
    for group, epoch in begins.items():
        assert int(found[group]) >= epoch
    assert not set(done) & set(found)


@pytest.fixture
def tree():
    half = jnp.ones(3, jnp.bfloat16)
    return {"weights": jnp.arange(5000.0), "half": half, "step": jnp.int32(7)}


def test_the_last_two_checkpoints_are_kept(tree, tmp_path):
    for epoch in (1, 2, 3):
        resume.save(tmp_path, epoch, tree | {"step": jnp.int32(epoch)})
    names = ["2", "2.sha256", "3", "3.sha256"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    epoch, restored = resume.restore(tmp_path, tree)
    assert epoch == 3
    chex.assert_trees_all_equal(restored, tree | {"step": jnp.int32(3)})


def damage(path: Path, how: str) -> None:
    largest = max(
        (p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size
    )
    content = bytearray(largest.read_bytes())
    if how == "truncated":
        largest.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 255
        largest.write_bytes(content)
    else:
        largest.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_said_and_passed_over(how, tree, tmp_path, capsys):
    resume.save(tmp_path, 1, tree)
    resume.save(tmp_path, 2, tree | {"step": jnp.int32(8)})
    damage(tmp_path / "2", how)
    epoch, restored = resume.restore(tmp_path, tree)
    assert epoch == 1
    chex.assert_trees_all_equal(restored, tree)
    assert "damaged checkpoint" in capsys.readouterr().err.replace("\n", " ")
    damage(tmp_path / "1", how)
    assert resume.restore(tmp_path, tree) is None


def test_a_checkpoint_that_was_not_sealed_is_not_read(tree, tmp_path):
    resume.save(tmp_path, 1, tree)
    resume.save(tmp_path, 2, tree)
    (tmp_path / "2.sha256").unlink()  # as if killed just before
    assert resume.restore(tmp_path, tree)[0] == 1
    resume.save(tmp_path, 2, tree)
    assert resume.restore(tmp_path, tree)[0] == 2


def test_a_checkpoint_cut_off_while_written_is_cleared_away(tree, tmp_path):
    resume.save(tmp_path, 1, tree)
    (tmp_path / "2.orbax-checkpoint-tmp-17").mkdir()
    assert resume.restore(tmp_path, tree)[0] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "1.sha256"]


def counting(state, key, data):
    draw = jax.random.uniform(key)
    return state + draw, {"draw": draw, "sum": state + draw + data}


def run(tmp_path, epochs=6, stop_after=None, **options):
    calls = []

    def epoch(*arguments):
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        calls.append(arguments)
        return counting(*arguments)

    metrics = jax.eval_shape(counting, jnp.zeros(()), jax.random.key(0), jnp.ones(()))
    state, curves = resume.run_epochs(
        epoch,
        jnp.zeros(()),
        jax.random.key(0),
        jnp.ones(()),
        curves=resume.blank(metrics[1], epochs),
        directory=tmp_path,
        on_epoch=lambda _: None,
        **{"checkpoint_seconds": 0, "keep_last": True} | options,
    )
    seconds = curves.pop("seconds")
    assert (seconds > 0).all()
    return state, curves, len(calls)


def test_only_what_is_left_is_run_and_the_curves_are_whole(tmp_path):
    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=4)
    rest = run(tmp_path / "cut")
    assert (whole[2], rest[2]) == (6, 2)
    chex.assert_trees_all_equal(whole[:2], rest[:2])
    assert run(tmp_path / "cut")[2] == 0


def test_between_checkpoints_time_passes(tmp_path):
    run(tmp_path, checkpoint_seconds=1000, keep_last=False)
    assert not tmp_path.exists() or not list(tmp_path.iterdir())


def test_identity_changes_with_program_and_numbers():
    def lowered(factor):
        return jax.jit(lambda x: factor * x).lower(jnp.ones(3))

    two, three = lowered(2.0), lowered(3.0)
    ones = {"a": np.ones(1)}
    assert resume.identity([two], ones) == resume.identity([lowered(2.0)], ones)
    others = [
        resume.identity([three], ones),
        resume.identity([two, three], ones),
        resume.identity([two], {"a": np.zeros(1)}),
        resume.identity([two], {"b": np.ones(1)}),
        resume.identity([two], {"a": np.ones(())}),
        resume.identity([two], {"a": np.ones(1, np.float32)}),
    ]
    assert len({*others, resume.identity([two], ones)}) == 7
