import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdjax import files, losses, models, resume
from kdjax.sweep import grid, sweep
from kdjax.train import make_training

AXES = {
    "temperature": [1.0, 4.0, 20.0],
    "alpha": [0.0, 0.9],
    "learning_rate": [1e-3, 3e-3],
}
METRICS = [
    f"{split}_{metric}_{end}"
    for split in ("test", "validation")
    for metric in ("accuracy", "errors", "nll", "ece", "agreement", "teacher_kl")
    for end in ("best", "last")
]


def make(loss=losses.hinton, epochs=3, width=16, model=None):
    return make_training(
        model or models.mlp((width, width), classes=10),
        loss,
        epochs=epochs,
        batch_size=64,
        optimizer=optax.scale_by_adam(),
    )


PLAIN = make()


def run(digits, tmp_path, *, axes=AXES, training=PLAIN, **options):
    options = {
        "seeds": [0, 1],
        "name": "test",
        "directory": tmp_path,
        "devices": jax.devices()[:1],
    } | options
    columns = grid(axes, training.loss)
    return sweep(training, columns, data=digits, **options)


@pytest.fixture(scope="module")
def swept(digits, tmp_path_factory):
    return run(digits, tmp_path_factory.mktemp("swept"))


def test_grid_varies_the_last_axis_fastest():
    columns = grid({"temperature": [1, 2], "learning_rate": [3, 4]}, losses.soft_kl)
    chex.assert_trees_all_equal(
        columns,
        {
            "temperature": np.float32([1, 1, 2, 2]),
            "learning_rate": np.float32([3, 4, 3, 4]),
        },
    )


def test_the_table_has_a_row_a_run_and_a_curve_row_an_epoch(swept):
    assert set(swept.runs) == {*AXES, "seed", "best_epoch", *METRICS}
    assert {len(c) for c in swept.runs.values()} == {2 * 12}
    assert {len(c) for c in swept.curves.values()} == {2 * 12 * 3}
    assert swept.seconds > 0


def test_rows_keep_their_hyperparameters(digits, swept, tmp_path):
    row = {name: column[17] for name, column in swept.runs.items()}
    alone = run(
        digits, tmp_path, axes={n: [row[n]] for n in AXES}, seeds=[int(row["seed"])]
    )
    for name, column in alone.runs.items():
        np.testing.assert_allclose(column[0], row[name], rtol=2e-3, err_msg=name)


def test_rows_of_a_seed_share_weights_and_batches(swept):
    # Without a teacher the temperature is idle, so only those two could differ.
    table = {n: c[swept.runs["alpha"] == 0] for n, c in swept.runs.items()}
    for seed in (0, 1):
        rows = (table["seed"] == seed) & (table["learning_rate"] == np.float32(1e-3))
        assert len(set(table["test_nll_last"][rows])) == 1
    assert len(set(table["test_nll_last"])) == 4  # two seeds by two rates


def test_what_is_kept_belongs_to_its_row(swept, digits, tmp_path):
    def keep(variables, data):
        return {"logits": PLAIN.model.apply(variables, data.test.x).logits}

    found = run(digits, tmp_path, keep=keep, at_once=5)  # groups, the last one filled
    assert found.kept["logits"].shape == (2 * 12, len(digits.test.y), 10)
    errors = (found.kept["logits"].argmax(-1) != digits.test.y).sum(-1)
    np.testing.assert_array_equal(errors, found.runs["test_errors_last"])
    assert len(set(errors)) > 5  # rows that differ
    np.testing.assert_array_equal(errors, swept.runs["test_errors_last"])
    assert not swept.kept


def test_best_is_the_epoch_that_validation_would_choose(swept):
    accuracy = swept.curves["validation_accuracy"].reshape(-1, 3)
    np.testing.assert_array_equal(swept.runs["best_epoch"], accuracy.argmax(1) + 1)
    np.testing.assert_array_equal(
        swept.runs["validation_accuracy_best"], accuracy.max(1)
    )
    np.testing.assert_array_equal(
        swept.runs["validation_accuracy_last"], accuracy[:, -1]
    )


def test_a_sweep_traces_its_run_once(digits, tmp_path):
    chex.clear_trace_counter()
    once = make()
    once = once._replace(epoch=chex.assert_max_traces(once.epoch, n=1))
    run(digits, tmp_path, training=once, at_once=6, devices=jax.devices()[:2])


def test_the_test_columns_are_of_the_test_split(digits, tmp_path):
    axes = {"temperature": [4.0], "alpha": [0.9], "learning_rate": [3e-3]}
    swapped = digits._replace(validation=digits.test, test=digits.validation)
    there, here = (
        run(d, tmp_path, axes=axes, seeds=[0]).runs for d in (swapped, digits)
    )
    for metric in ("accuracy", "errors", "nll", "teacher_kl"):
        last = (here[f"test_{metric}_last"], there[f"validation_{metric}_last"])
        np.testing.assert_allclose(*last, rtol=1e-6)
        assert here[f"test_{metric}_last"] != here[f"validation_{metric}_last"]


def test_a_sweep_stopped_on_every_device_goes_on_there(digits, tmp_path, monkeypatch):
    whole = run(digits, tmp_path / "whole", devices=jax.devices(), at_once=6)
    with monkeypatch.context() as patch:
        saved = []

        def save(*arguments, original=resume.save):
            original(*arguments)
            saved.append(arguments)
            if len(saved) >= 6:
                raise KeyboardInterrupt

        patch.setattr(resume, "save", save)
        with pytest.raises(KeyboardInterrupt):
            options = {"devices": jax.devices(), "at_once": 6, "checkpoint_seconds": 0}
            run(digits, tmp_path / "cut", **options)
    rest = run(digits, tmp_path / "cut", **options)
    chex.assert_trees_all_equal(whole[:2], rest[:2])


def test_another_model_or_another_evaluation_starts_anew(digits, tmp_path):
    axes = {"temperature": [4.0], "alpha": [0.9], "learning_rate": [1e-3]}
    zeros = models.Model(
        lambda key, x: jax.tree.map(jnp.zeros_like, PLAIN.model.init(key, x)),
        PLAIN.model.apply,
    )
    other = make(model=zeros)
    first = run(digits, tmp_path, axes=axes).runs["test_nll_last"]
    second = run(digits, tmp_path, axes=axes, training=other).runs["test_nll_last"]
    assert (first != second).all()
    halved = PLAIN._replace(
        evaluate=lambda v, split: {
            n: x / 2 for n, x in PLAIN.evaluate(v, split).items()
        }
    )
    third = run(digits, tmp_path, axes=axes, training=halved).runs["test_nll_last"]
    np.testing.assert_allclose(third, first / 2, rtol=1e-6)


def test_a_damaged_group_is_said_and_trained_again(digits, tmp_path, capsys):
    first = run(digits, tmp_path, seeds=[0])
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:1000])
    second = run(digits, tmp_path, seeds=[0])
    chex.assert_trees_all_equal(first[:2], second[:2])
    assert "damaged file" in capsys.readouterr().err.replace("\n", " ")


def test_two_at_the_same_sweep_are_one_too_many(digits, tmp_path):
    run(digits, tmp_path, seeds=[0])
    (directory,) = tmp_path.iterdir()
    with files.alone_in(directory), pytest.raises(BlockingIOError, match="another"):
        run(digits, tmp_path, seeds=[0])


def test_a_student_that_diverges_is_seen(digits, tmp_path):
    axes = {"temperature": [4.0], "alpha": [1.0], "learning_rate": [1e30]}
    swept = run(digits, tmp_path, axes=axes, seeds=[0])
    assert np.isnan(swept.curves["train_loss"][-1])
    assert np.isnan(swept.runs["test_teacher_kl_last"][0])


def test_four_devices_give_the_rows_of_one_bit_for_bit(digits, tmp_path):
    one, four = (
        run(digits, tmp_path / str(n), devices=jax.devices()[:n], at_once=4)
        for n in (1, 4)
    )
    chex.assert_trees_all_equal(one.runs, four.runs)
    chex.assert_trees_all_equal(one.curves, four.curves)


def test_groups_are_filled_and_the_filling_is_left_out(digits, tmp_path, swept):
    fives = run(digits, tmp_path, at_once=5)  # 12 rows: 4, 4, 4
    for name, column in fives.runs.items():
        np.testing.assert_allclose(column, swept.runs[name], rtol=1e-3, atol=1e-3)
    five = {"temperature": [1, 2, 3, 4, 5], "alpha": [1.0], "learning_rate": [1e-3]}
    odd = run(digits, tmp_path, axes=five, at_once=3)  # 3, 2 and a filling
    np.testing.assert_array_equal(odd.runs["temperature"], 2 * [1, 2, 3, 4, 5])
    assert len(set(odd.runs["test_nll_last"])) == 10


def test_the_second_time_nothing_is_trained(digits, tmp_path):
    first = run(digits, tmp_path)
    files = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
    assert len(files) == 2
    second = run(digits, tmp_path)
    chex.assert_trees_all_equal(first, second)
    assert files == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}


def test_without_a_test_split_there_are_no_test_columns(digits, tmp_path):
    runs = run(digits._replace(test=None), tmp_path, seeds=[0]).runs
    assert not any(name.startswith("test_") for name in runs)
    assert "validation_accuracy_last" in runs


def test_students_learn(digits, tmp_path):
    axes = {"temperature": [4.0], "alpha": [0.9], "learning_rate": [3e-3]}
    long = make(epochs=30, width=64)
    runs = run(digits, tmp_path, axes=axes, training=long, seeds=[0]).runs
    assert runs["test_accuracy_last"][0] > 0.8
