from dataclasses import replace
from functools import partial
import shutil

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from kdjax import losses, models, objectives
from kdjax.data import Data
from kdjax.models import Outputs
from kdjax.sweep import grid
from kdjax.training import Measure, strategy, train
from tests import small
from tests.small import ONE, assert_close, assert_same, swept

CROSS_ENTROPY = objectives.on_logits(losses.cross_entropy)
METRICS = [
    f"{split}_{metric}_{end}"
    for split in ("test", "validation")
    for metric in ("accuracy", "nll")
    for end in ("best", "last")
]
SINGLE = {name: [value] for name, value in ONE.items()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module")
def whole(place):
    """A sweep of eight rows and two seeds, on one device and in one group."""
    return swept(place)


@pytest.fixture(scope="module")
def by_twos(tmp_path_factory):
    """The same sweep in groups of two, on one device."""
    return swept(tmp_path_factory.mktemp("twos"), runs_per_program=2)


def curve(result, name):
    """A column of the curves as ``[runs, epochs]``."""
    return result.curves[name].to_numpy().reshape(len(result.runs), -1)


def test_grid_varies_the_last_axis_fastest():
    columns = grid({"temperature": [1, 2], "learning_rate": [3, 4]})
    expected = {"temperature": [1, 1, 2, 2], "learning_rate": [3, 4, 3, 4]}
    pd.testing.assert_frame_equal(columns, pd.DataFrame(expected, dtype=np.float32))


def test_the_tables_have_a_row_a_run_and_a_row_an_epoch(whole):
    assert set(whole.runs) == {*small.AXES, "seed", "best_epoch", "diverged", *METRICS}
    assert len(whole.runs) == 2 * 8 and len(whole.curves) == 2 * 8 * 3
    metrics = {"train_loss", "validation_accuracy", "validation_nll"}
    assert set(whole.curves) == {*small.AXES, "seed", "epoch", *metrics}
    assert whole.seconds > 0 and not whole.extras and not whole.runs.diverged.any()
    again = pd.concat([grid(small.AXES)] * 2, ignore_index=True)
    pd.testing.assert_frame_equal(whole.runs[[*small.AXES]], again)
    last = whole.curves[whole.curves.epoch == 3].reset_index(drop=True)
    np.testing.assert_array_equal(last.seed, whole.runs.seed)
    np.testing.assert_array_equal(last.alpha, whole.runs.alpha)


def test_students_learn(whole):
    assert whole.runs.test_accuracy_last.max() > 0.85
    losses_ = curve(whole, "train_loss")
    assert (losses_[:, -1] < losses_[:, 0]).all()


def test_a_run_alone_is_its_row_of_a_sweep_but_for_rounding(whole, tmp_path):
    row = whole.runs.iloc[13]
    alone = swept(tmp_path, {n: [row[n]] for n in ONE}, seeds=[int(row.seed)])
    assert_close(alone.runs, whole.runs[13:14].reset_index(drop=True))


def test_a_training_is_a_row_of_a_sweep_but_for_rounding(whole, tmp_path):
    row = whole.runs.iloc[13]
    single = train(
        small.training(),
        {name: float(row[name]) for name in ONE},
        data=small.data(),
        key=jax.random.fold_in(jax.random.key(0), int(row.seed)),
        directory=tmp_path,
    )
    names = ["epoch", "train_loss", "validation_accuracy", "validation_nll"]
    rows = whole.curves[13 * 3 : 14 * 3].reset_index(drop=True)
    assert_close(single.curves[names].astype(rows[names].dtypes), rows[names])


def test_runs_one_after_another_are_those_side_by_side_but_for_rounding(
    whole, tmp_path
):
    sequence = swept(tmp_path, vectorized=False)
    assert_close(sequence.runs, whole.runs)
    assert_close(sequence.curves, whole.curves)
    assert len(list(tmp_path.glob("*/*.npz"))) == 16


def test_rows_of_a_seed_share_weights_and_batches(whole):
    # Without a teacher, the temperature has no effect.
    plain = whole.runs[whole.runs.alpha == 0]
    told_apart = plain.groupby(["seed", "learning_rate"]).test_nll_last.nunique()
    assert (told_apart == 1).all()
    assert plain.test_nll_last.nunique() == 4  # two seeds by two rates


def test_groups_change_nothing_but_rounding(whole, by_twos):
    assert_close(by_twos.runs, whole.runs)
    assert_close(by_twos.curves, whole.curves)


def test_a_group_is_filled_and_extras_belong_to_their_row(by_twos, tmp_path):
    def logits(variables, data):
        return {"logits": small.NETWORK.apply(variables, data.test)[0].logits}

    seven = grid(small.AXES)[:7]  # 2, 2, 2, and 1 with padding
    result = swept(tmp_path, seven, runs_per_program=2, extras=logits)
    same = by_twos.runs.drop(index=[7, 15]).reset_index(drop=True)
    pd.testing.assert_frame_equal(result.runs, same, check_exact=True)
    assert result.extras["logits"].shape == (2 * 7, 70, 3)
    label = small.data().test["label"]
    accuracy = (result.extras["logits"].argmax(-1) == label).mean(-1)
    np.testing.assert_allclose(accuracy, result.runs.test_accuracy_last, rtol=1e-6)
    assert len(set(accuracy)) > 5  # rows that differ


def test_best_is_the_epoch_that_validation_selects(whole):
    accuracy = curve(whole, "validation_accuracy")
    np.testing.assert_array_equal(whole.runs.best_epoch, accuracy.argmax(1) + 1)
    np.testing.assert_array_equal(
        whole.runs.validation_accuracy_best, accuracy.max(axis=1)
    )
    np.testing.assert_array_equal(whole.runs.validation_accuracy_last, accuracy[:, -1])


def _jump(rate, *, learning_rate, at, steps):
    def at_step(count):
        return -jnp.where(count == at, rate, learning_rate)

    return optax.scale_by_schedule(at_step)


def jumps(rate):
    """Gradient descent that jumps uphill at one of its steps."""
    return small.training(CROSS_ENTROPY, optimizer=partial(_jump, rate))


def test_the_best_epoch_can_be_that_of_the_least(tmp_path):
    columns = {"learning_rate": [0.3, 0.3], "at": [12, 99]}
    training = replace(jumps(100.0), select=("nll", "min"))
    result = swept(tmp_path, columns, training, seeds=[0])
    nll = curve(result, "validation_nll")
    assert result.runs.best_epoch.tolist() == [2, 3]  # before the jump; at the end
    np.testing.assert_array_equal(nll.argmin(1), [1, 2])
    np.testing.assert_array_equal(result.runs.validation_nll_best, nll.min(axis=1))


def test_without_selection_there_is_no_best(tmp_path):
    training = small.training(select=None)
    runs = swept(tmp_path, SINGLE, training, seeds=[0]).runs
    assert "best_epoch" not in runs and not [n for n in runs if n.endswith("_best")]
    assert "test_accuracy_last" in runs


def test_the_test_columns_are_of_the_test_split(tmp_path):
    data = small.data()
    swapped = data._replace(validation=data.test, test=data.validation)
    here, there = (
        swept(tmp_path, SINGLE, seeds=[0], data=d).runs for d in (data, swapped)
    )
    for metric in ("accuracy", "nll"):
        for one, other in ((here, there), (there, here)):
            of_test, of_validation = (
                one[f"test_{metric}_last"],
                other[f"validation_{metric}_last"],
            )
            np.testing.assert_allclose(of_test, of_validation, rtol=1e-6)
        assert here[f"test_{metric}_last"][0] != here[f"validation_{metric}_last"][0]


def test_without_a_test_split_there_are_no_test_columns(tmp_path):
    data = small.data()._replace(test=None)
    runs = swept(tmp_path, SINGLE, seeds=[0], data=data).runs
    assert not any(name.startswith("test_") for name in runs)
    assert "validation_accuracy_last" in runs


def test_four_devices_give_the_rows_of_one_bit_for_bit(by_twos, tmp_path):
    four = swept(tmp_path, runs_per_program=2, devices=jax.devices())
    assert_same(four, by_twos)


def test_a_sweep_stopped_on_every_device_goes_on_there(by_twos, tmp_path):
    options = {
        "runs_per_program": 2,
        "devices": jax.devices(),
        "checkpoint_seconds": 0,
    }
    with small.stopped_after(saves=6):
        swept(tmp_path, **options)
    assert len(list(tmp_path.glob("*/*/*.json"))) >= 6  # in several units
    rest = swept(tmp_path, **options)
    assert_same(rest, by_twos)
    assert not list(tmp_path.glob("*/*/"))  # checkpoints of finished units are removed


def test_a_sweep_traces_its_step_once(tmp_path):
    chex.clear_trace_counter()
    # One more trace with shapes only, before anything is computed.
    once = chex.assert_max_traces(losses.hinton, n=2)
    training = small.training(objectives.on_logits(once))
    swept(tmp_path, what=training, runs_per_program=2, devices=jax.devices()[:2])


def test_the_second_time_nothing_is_trained(whole, place):
    files = {p: p.stat().st_mtime_ns for p in place.rglob("*.npz")}
    assert len(files) == 2
    again = swept(place)
    assert_same(again, whole)
    assert again.seconds == whole.seconds
    assert files == {p: p.stat().st_mtime_ns for p in place.rglob("*.npz")}


def test_a_damaged_unit_is_logged_and_trained_again(whole, place, tmp_path, capsys):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    one, other = sorted(tmp_path.glob("*/*.npz"))
    one.write_bytes(one.read_bytes()[:1000])
    kept = other.stat().st_mtime_ns
    assert_same(swept(tmp_path), whole)
    assert capsys.readouterr().err.count(f"damaged file {one} skipped") == 1
    assert other.stat().st_mtime_ns == kept


def test_a_unit_of_another_version_is_logged_and_trained_again(
    whole, place, tmp_path, capsys
):
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    one, other = sorted(tmp_path.glob("*/*.npz"))
    with np.load(one) as arrays:
        older = {n.replace("final_metrics/", "ends/"): a for n, a in arrays.items()}
    np.savez(one, **older)
    kept = other.stat().st_mtime_ns
    assert_same(swept(tmp_path), whole)
    assert capsys.readouterr().err.count(f"{one} of another version of kdjax sk") == 1
    assert other.stat().st_mtime_ns == kept


def test_another_model_measure_or_length_starts_anew(tmp_path):
    init, apply = small.NETWORK
    zeros = models.Model(
        lambda key, batch: jax.tree.map(jnp.zeros_like, init(key, batch)), apply
    )
    halved = Measure(
        small.MEASURE.sums,
        lambda totals: {n: x / 2 for n, x in small.MEASURE.finish(totals).items()},
    )
    plain = {"optimizer": optax.sgd(0.1)}  # it does not take the number of steps
    trainings = [
        small.training(CROSS_ENTROPY, **plain | options)
        for options in ({}, {"model": zeros}, {"measures": (halved,)}, {"epochs": 4})
    ]
    runs = [
        swept(tmp_path, {}, training, seeds=[0]).runs.iloc[0] for training in trainings
    ]
    first, other_model, other_measure, longer = (run.test_nll_last for run in runs)
    assert first != other_model
    np.testing.assert_allclose(other_measure, first / 2, rtol=1e-6)
    assert longer < first


def _to(name, student, teacher, batch):
    return jnp.sum((student.logits - batch[name]) ** 2, -1)


def test_programs_that_read_other_arrays_of_equal_shape_are_others(tmp_path):
    split = dict(small.data().train)
    logits = split.pop("teacher").logits
    data = Data({**split, "one": logits, "other": -logits})
    found = [
        swept(
            tmp_path,
            {"learning_rate": [0.1]},
            small.training(partial(_to, name), select=None),
            data=data,
        ).curves["train_loss"]
        for name in ("one", "other")
    ]
    assert not np.allclose(*found)


def test_without_axes_there_is_a_run_a_seed(tmp_path):
    training = small.training(CROSS_ENTROPY, optimizer=optax.sgd(0.1))
    result = swept(tmp_path, {}, training)
    np.testing.assert_array_equal(result.runs.seed, [0, 1])
    assert len(result.curves) == 2 * 3
    assert result.runs.test_nll_last.nunique() == 2
    assert (curve(result, "train_loss")[:, 2] < curve(result, "train_loss")[:, 0]).all()


def test_a_run_that_diverges_is_marked_and_spoils_no_other(tmp_path):
    training, data = jumps(jnp.inf), small.data()
    # argmax of NaN is 0, so a diverged student is right for these.
    first = np.flatnonzero(data.validation["label"] == 0)
    data = data._replace(validation=jax.tree.map(lambda a: a[first], data.validation))
    at = [2.0, 7.0, 99.0]  # in the first epoch, in the second, never
    columns = {"learning_rate": [0.1] * 3, "at": at}
    result = swept(tmp_path, columns, training, data=data, seeds=[0])
    runs = result.runs
    assert runs.diverged.tolist() == [True, True, False]
    assert runs.test_nll_last.isna().tolist() == [True, True, False]
    assert runs.test_nll_best.isna().tolist() == [True, False, False]
    assert runs.best_epoch[:2].tolist() == [0, 1]
    accuracy = curve(result, "validation_accuracy")
    assert runs.validation_accuracy_best[1] == accuracy[1, 0] == accuracy[2, 0] < 1
    assert (accuracy[1, 1:] == 1).all()
    sound = {name: column[2:] for name, column in columns.items()}
    sound = swept(tmp_path, sound, training, data=data, seeds=[0])
    assert_close(sound.runs, runs[2:].reset_index(drop=True))


def test_phases_follow_each_other_and_the_best_epoch_is_of_the_last(tmp_path):
    columns = {"temperature": [1, 4], "alpha": [0.9, 0.9], "learning_rate": [0.03] * 2}
    result = swept(tmp_path, columns, small.phases(), seeds=[0])
    assert (curve(result, "epoch") == [1, 2, 3, 4]).all()
    accuracy = curve(result, "validation_accuracy")
    assert np.isnan(accuracy[:, :2]).all()  # the hint phase has no measures
    np.testing.assert_array_equal(result.runs.best_epoch, 3 + accuracy[:, 2:].argmax(1))
    hints = curve(result, "train_loss")[:, :2]
    np.testing.assert_array_equal(hints[0], hints[1])  # a hint has no temperature
    assert (hints[:, 1] < hints[:, 0]).all()


def test_fewer_runs_share_a_program_where_they_leave_more_activations():
    def model(repeats):
        def apply(variables, batch, key=None):
            x = batch["image"] @ variables["params"]
            wide = jnp.sin(jnp.tile(x, (1, repeats)))
            return Outputs(x + jnp.mean(wide)), {}

        def init(key, batch):
            return {"params": jnp.ones((8, 3)), "state": {}}

        return models.Model(init, apply)

    example = {"image": np.ones((100, 8), np.float32)}
    few, many = (
        strategy.runs_per_program(
            small.training(model=model(n)), example, jax.devices()[0]
        )
        for n in (1, 100_000)  # 2 x 120 MB a run, of 2**32
    )
    assert 1 < many < 30 and few == 64
