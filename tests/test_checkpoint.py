from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from kdjax.training import checkpoint

PLACE = {"step": 7, "source": '{"next_index": 3}'}


@pytest.fixture
def tree():
    half = jnp.ones(3, jnp.bfloat16)
    sums = np.float64(1e-12) + np.ones(())  # not representable in float32
    return {"weights": jnp.arange(5000.0), "half": half, "sums": sums}


def restore(directory, tree):
    return checkpoint.restore(directory, lambda position: tree)


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


def test_what_is_saved_is_restored_where_and_as_it_was(tree, tmp_path):
    there = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    placed = {**tree, "half": jax.device_put(tree["half"], there)}
    assert checkpoint.save(tmp_path, 7, placed, PLACE)
    positions = []

    def like(position):
        positions.append(position)
        return placed

    position, restored = checkpoint.restore(tmp_path, like)
    assert positions == [position] == [PLACE]
    chex.assert_trees_all_equal(restored, tree)
    chex.assert_trees_all_equal_dtypes(restored, tree)
    assert restored["half"].sharding == there


def test_the_last_two_checkpoints_are_kept(tree, tmp_path):
    for step in (8, 9, 10):  # not in lexicographic order
        checkpoint.save(tmp_path, step, {**tree, "half": tree["half"] * step}, PLACE)
    assert {p.name for p in tmp_path.iterdir()} == {"9", "9.json", "10", "10.json"}
    _, restored = restore(tmp_path, tree)
    chex.assert_trees_all_equal(restored["half"], tree["half"] * 10)


def test_later_ones_that_are_damaged_do_not_push_out_good_ones(tree, tmp_path):
    for step in (290, 300):
        checkpoint.save(tmp_path, step, tree, {"step": step})
        (tmp_path / f"{step}.json").unlink()
    for step in (250, 270):
        assert checkpoint.save(tmp_path, step, tree, {"step": step})
    assert restore(tmp_path, tree)[0] == {"step": 270}
    checkpoint.save(tmp_path, 310, tree, {"step": 310})
    assert restore(tmp_path, tree)[0] == {"step": 310}


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_a_damaged_checkpoint_is_logged_and_skipped(how, tree, tmp_path, capsys):
    checkpoint.save(tmp_path, 1, tree, {"step": 1})
    checkpoint.save(tmp_path, 2, {**tree, "half": 2 * tree["half"]}, {"step": 2})
    damage(tmp_path / "2", how)
    position, restored = restore(tmp_path, tree)
    assert position == {"step": 1}
    chex.assert_trees_all_equal(restored, tree)
    assert f"damaged checkpoint {tmp_path / '2'} skipped" in said(capsys)
    damage(tmp_path / "1", how)
    assert restore(tmp_path, tree) is None


def test_a_checkpoint_that_was_not_sealed_is_not_read(tree, tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, tree, {"step": step})
    seal = tmp_path / "2.json"
    whole = seal.read_text()
    seal.unlink()  # as if killed just before
    assert restore(tmp_path, tree)[0] == {"step": 1}
    for text in ("", whole[:-5], "[]", "{}", whole.replace('"step": 2', '"step": 3')):
        seal.write_text(text)
        assert restore(tmp_path, tree)[0] == {"step": 1}
    checkpoint.save(tmp_path, 2, tree, {"step": 2})
    assert restore(tmp_path, tree)[0] == {"step": 2}


def test_a_checkpoint_cut_off_while_written_is_cleared_away(tree, tmp_path):
    checkpoint.save(tmp_path, 1, tree, PLACE)
    (tmp_path / "2.orbax-checkpoint-tmp-17").mkdir()
    assert restore(tmp_path, tree)[0] == PLACE
    assert {p.name for p in tmp_path.iterdir()} == {"1", "1.json"}


def test_nothing_saved_is_nothing_restored(tree, tmp_path):
    assert restore(tmp_path / "never", tree) is None


def test_a_full_disk_is_logged_in_a_line_and_the_older_checkpoint_stays(
    tree, tmp_path, monkeypatch, capsys
):
    checkpoint.save(tmp_path, 1, tree, {"step": 1})

    def full(self, path, *args, **kwargs):
        path.with_name(f"{path.name}.orbax-checkpoint-tmp-0").mkdir()
        raise OSError(28, "No space left on device\n" * 20)

    with monkeypatch.context() as patch:
        patch.setattr(ocp.StandardCheckpointer, "save", full)
        assert not checkpoint.save(tmp_path, 2, tree, {"step": 2})
    text = said(capsys)
    assert text.count("written at step 2") == 1 and "No space left" in text
    assert "training goes on" in text and len(text) < 600
    assert {p.name for p in tmp_path.iterdir()} == {"1", "1.json"}  # no temporary files
    assert restore(tmp_path, tree)[0] == {"step": 1}


def test_fingerprint_changes_with_programs_and_numbers():
    def lowered(factor):
        return jax.jit(lambda x: factor * x).lower(jnp.ones(3))

    two, three = lowered(2.0), lowered(3.0)
    ones = {"a": np.ones(1)}
    fingerprint = checkpoint.fingerprint
    assert fingerprint([two], ones) == fingerprint([lowered(2.0)], ones)
    others = [
        fingerprint([three], ones),
        fingerprint([two, three], ones),
        fingerprint([two], {"a": np.zeros(1)}),
        fingerprint([two], {"b": np.ones(1)}),
        fingerprint([two], {"a": np.ones(())}),
        fingerprint([two], {"a": np.ones(1, np.float32)}),
    ]
    assert len({*others, fingerprint([two], ones)}) == 7


def said(capsys) -> str:
    """The log with line breaks removed."""
    return " ".join(capsys.readouterr().err.split())
