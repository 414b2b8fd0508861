from dataclasses import replace
import re
import threading
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from kdjax import files, models, objectives
from kdjax.training import Measure, checkpoint, programs, strategy, train
from kdjax.training.programs import Phase
from tests import small

ONE = small.ONE
FOUR = jax.devices()[:4]


def trained(directory, trainings=None, hyperparameters=ONE, **options):
    options = {"data": small.data(), "key": jax.random.key(3)} | options
    trainings = small.training() if trainings is None else trainings
    return train(trainings, hyperparameters, directory=directory, **options)


def forgetful():
    """Phases with random numbers in their steps."""

    def apply(variables, batch, key=None):
        outputs, state = small.NETWORK.apply(variables, batch)
        noise = 0 if key is None else jax.random.normal(key, outputs.logits.shape)
        return outputs._replace(logits=outputs.logits + noise), state

    model = small.NETWORK._replace(apply=apply)
    return [replace(phase, model=model) for phase in small.phases()]


def assert_same(one, other):
    chex.assert_trees_all_equal(one[:2], other[:2])
    assert (one.curves.seconds > 0).all()
    curves = [result.curves.drop(columns="seconds") for result in (one, other)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def accuracy(training, variables):
    measure = jax.jit(lambda v, split: programs.measure(training, v, split, None))
    return float(measure(variables, small.data().validation)["accuracy"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.fixture(scope="module", params=[1, 4], ids=["one device", "four devices"])
def devices(request):
    return jax.devices()[: request.param]


@pytest.fixture(scope="module")
def whole(devices, place):
    return trained(place, forgetful(), devices=devices, checkpoint_steps=2)


def test_stopped_in_an_epoch_and_between_phases_it_ends_with_the_same_bits(
    devices, whole, tmp_path
):
    options = {"devices": devices, "checkpoint_steps": 2}  # of four in an epoch
    for saves, newest in ((1, "2.json"), (3, "8.json"), (2, "12.json")):
        with small.stopped_after(saves):
            trained(tmp_path, forgetful(), **options)
        assert max(tmp_path.glob("*/*.json"), key=newer).name == newest
    assert_same(trained(tmp_path, forgetful(), **options), whole)


def newer(path):
    return path.stat().st_mtime_ns


def test_how_often_there_is_a_checkpoint_changes_nothing_but_rounding(
    devices, whole, tmp_path
):
    seldom = trained(tmp_path, forgetful(), devices=devices)
    chex.assert_trees_all_close(seldom[:2], whole[:2], rtol=1e-4, atol=1e-5)
    assert [path.name for path in tmp_path.glob("*/*.json")] == ["16.json"]  # the last


def test_a_finished_run_is_returned_and_not_trained_again(
    devices, whole, place, monkeypatch
):
    monkeypatch.setattr(Phase, "advance", None)
    told = []
    options = {"devices": devices, "checkpoint_steps": 2, "on_epoch": told.append}
    again = trained(place, forgetful(), **options)
    assert_same(again, whole)
    pd.testing.assert_series_equal(again.curves.seconds, whole.curves.seconds)
    assert [metrics["epoch"] for metrics in told] == [4]


def test_each_epoch_is_told_with_its_metrics_and_the_callers_own(tmp_path):
    def sums(student, teacher, batch):
        return {"norm": jnp.sum(student.logits**2)}

    own = Measure(sums, lambda totals: {"norm": totals["norm"] / 60})
    training = small.training(measures=(small.MEASURE, own))
    told = []
    result = trained(tmp_path, training, on_epoch=told.append)
    assert [*told[0]] == [*result.curves]
    pd.testing.assert_frame_equal(
        pd.DataFrame(told).astype(result.curves.dtypes), result.curves
    )
    outputs, _ = training.model.apply(result.variables, small.data().validation)
    norm = np.sum(np.square(outputs.logits)) / 60
    np.testing.assert_allclose(result.curves.validation_norm[2], norm, rtol=1e-5)


def test_parameters_go_on_in_the_next_phase_and_the_optimizer_begins_anew(tmp_path):
    def early(learning_rate):  # only the first four steps of eight
        return optax.scale_by_schedule(lambda c: jnp.where(c < 4, -learning_rate, 0.0))

    first = small.training(epochs=2, batch_size=50, optimizer=early)
    still = replace(first, optimizer=optax.sgd(0.0))
    alone, twice, kept = (
        trained(tmp_path, phases) for phases in ([first], [first] * 2, [first, still])
    )
    chex.assert_trees_all_equal(kept.variables, alone.variables)
    nll = twice.curves.validation_nll
    assert nll[1] == nll[0] and nll[3] == nll[2]  # no updates in its second epoch
    assert nll[2] < nll[1]


def test_the_best_variables_are_those_of_the_last_phases_best_epoch(tmp_path):
    def uphill(learning_rate):  # after the first step
        return optax.scale_by_schedule(lambda c: learning_rate * jnp.where(c, 10, -1))

    good = small.training(epochs=3, batch_size=50)
    bad = replace(good, epochs=2, optimizer=uphill)
    result = trained(tmp_path, [good, bad])
    of_epochs = result.curves.validation_accuracy.to_numpy()
    assert of_epochs[4] < of_epochs[3] < of_epochs[:3].max()
    assert accuracy(bad, result.best) == of_epochs[3]
    assert accuracy(bad, result.variables) == of_epochs[4]


def test_without_a_finite_epoch_nothing_is_best(tmp_path, capsys):
    result = trained(tmp_path, hyperparameters={**ONE, "learning_rate": 1e38})
    assert np.isnan(result.curves.train_loss).all()
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(result.best))
    assert "no epoch has a finite loss and accuracy" in " ".join(
        capsys.readouterr().err.split()
    )


def test_validation_may_be_measured_after_some_epochs_alone(tmp_path):
    each = small.training(epochs=5, batch_size=50)
    rarely = replace(each, measure_epochs=2)
    one, other = (trained(tmp_path, training) for training in (each, rarely))
    chex.assert_trees_all_equal(one.variables, other.variables)
    pd.testing.assert_series_equal(one.curves.train_loss, other.curves.train_loss)
    measured = other.curves.filter(like="validation").notna()
    assert measured.all(axis=1).tolist() == [False, True, False, True, True]
    assert measured.any(axis=1).equals(measured.all(axis=1))
    found = other.curves.validation_accuracy
    pd.testing.assert_series_equal(
        found.dropna(), one.curves.validation_accuracy[found.notna()]
    )
    assert accuracy(rarely, other.best) == found.max()


@pytest.mark.parametrize("steps", [0, -1])
def test_validation_is_measured_after_at_least_one_epoch(steps, tmp_path):
    with pytest.raises(ValueError, match=f"measure_epochs is {steps}, but takes at"):
        trained(tmp_path, small.training(measure_epochs=steps))


def test_without_selection_the_best_are_the_last(tmp_path):
    result = trained(tmp_path, small.training(select=None))
    chex.assert_trees_all_equal(result.best, result.variables)


@pytest.fixture
def programs_text(monkeypatch):
    """The compiled programs by number of devices."""
    texts = {}

    def advance(self, run, *arguments, original=Phase.advance):
        many = len(jax.tree.leaves(run)[0].sharding.device_set)
        if many not in texts:
            texts[many] = self.program.lower(run, *arguments).compile().as_text()
        return original(self, run, *arguments)

    monkeypatch.setattr(Phase, "advance", advance)
    return texts


def test_a_batch_over_four_devices_is_that_of_one_but_for_rounding(
    tmp_path, programs_text
):
    one, four = (
        trained(tmp_path, devices=devices) for devices in (jax.devices()[:1], FOUR)
    )
    chex.assert_trees_all_close(one[:2], four[:2], rtol=1e-4, atol=1e-5)
    small.assert_close(
        *(result.curves.drop(columns="seconds") for result in (one, four))
    )
    for leaf in jax.tree.leaves(four.variables):
        assert len(leaf.sharding.device_set) == 4 and leaf.is_fully_replicated
    assert "all-reduce" in programs_text[4] and "all-reduce" not in programs_text[1]
    # Each device has a quarter of the batch of 40.
    assert re.search(r"f32\[10,8\]", programs_text[4])
    assert not re.search(r"f32\[40,", programs_text[4])


def test_what_a_model_remembers_of_its_batch_lies_on_every_device(tmp_path):
    plain = small.training().model
    keep = jnp.zeros((40, 8))

    def remember(variables, batch, key=None):
        outputs, _ = plain.apply({**variables, "state": {}}, batch, key)
        seen = variables["state"]["seen"] if key is None else batch["image"]
        return outputs, {"seen": seen}

    def init(key, batch):
        return {**plain.init(key, batch), "state": {"seen": keep}}

    model = models.Model(init, remember)
    result = trained(tmp_path, small.training(model=model), devices=FOUR)
    assert result.variables["state"]["seen"].is_fully_replicated


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 50.*multiple of the 4 devices"):
        trained(tmp_path, small.training(batch_size=50), devices=FOUR)


def test_two_at_the_same_run_are_one_after_the_other(tmp_path, capsys):
    first = trained(tmp_path)
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    results = []
    second = threading.Thread(target=lambda: results.append(trained(tmp_path)))
    with files.lock(directory, wait=False):
        second.start()
        said = ""
        while second.is_alive() and "waiting for another process" not in said:
            time.sleep(0.1)
            said += capsys.readouterr().err
        assert second.is_alive() and not results
    second.join()
    assert_same(results[0], first)


@pytest.mark.parametrize("scanned", [True, False])
def test_each_program_is_compiled_once(scanned, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(strategy, "scans_well", lambda *_: scanned)

    def weak(learning_rate):  # its state becomes weakly typed in the first step
        def update(gradients, state, params=None):
            scaled = jax.tree.map(lambda g: -learning_rate * g, gradients)
            return scaled, jnp.where(state > 0, 1.0, 2.0)

        return optax.GradientTransformation(lambda params: jnp.zeros(()), update)

    training = small.training(optimizer=weak)
    with jax.log_compiles():
        trained(tmp_path, training)
    compiled = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
    ours = ["_begin", "advance" if scanned else "_step", "_finish"]
    assert {name: compiled.count(name) for name in ours} == dict.fromkeys(ours, 1)


def test_a_full_disk_at_every_checkpoint_changes_nothing(tmp_path, monkeypatch, capsys):
    whole = trained(tmp_path / "whole")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.ocp.StandardCheckpointer, "save", full)
    assert_same(trained(tmp_path / "full", checkpoint_seconds=0), whole)
    said = capsys.readouterr().err
    assert said.count("training goes on") == said.count("No space left") == 3


def test_another_key_or_number_of_epochs_is_another_run(tmp_path):
    plain = small.training(optimizer=optax.adam)  # it does not take the number of steps
    trained(tmp_path, plain)
    other = trained(tmp_path, plain, key=jax.random.key(4))
    longer = trained(tmp_path, replace(plain, epochs=4))
    assert len(other.curves) == 3 and len(longer.curves) == 4
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_two_networks_learn_from_each_other_and_the_student_is_measured(tmp_path):
    model = models.with_peer(small.NETWORK, small.NETWORK)
    learn = small.training(objectives.mutual(small.HINTON), model=model, epochs=6)
    alone = small.training()
    result = trained(tmp_path, learn)
    found = {}
    for name in ("student", "peer"):
        own = {kind: result.variables[kind][name] for kind in ("params", "state")}
        found[name] = accuracy(alone, own)
    of_epochs = result.curves.validation_accuracy
    assert found["student"] == of_epochs.iloc[-1] > of_epochs[0]
    assert found["peer"] > of_epochs[0]
    assert found["peer"] != found["student"]  # two networks, not one twice
