"""Built-in metrics of a student, and custom measures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, matthews_corrcoef

from kdjax.models import Outputs
from kdjax.sweep import sweep
from kdjax.training import Measure, metrics, programs
from tests import small

RNG = np.random.default_rng(0)


@jax.jit
def measured(logits, batch):
    measure = metrics.classification()
    return measure.finish(measure.sums(Outputs(logits), batch.get("teacher"), batch))


def some(*shape):
    logits, teacher = 3 * RNG.normal(size=(2, *shape)).astype(np.float32)
    labels = RNG.integers(shape[-1], size=shape[:-1]).astype(np.int32)
    return logits, {"label": labels, "teacher": Outputs(teacher)}


def test_metrics_are_what_they_are_called():
    logits, batch = some(100, 10)
    got = measured(logits, batch)
    teacher = batch["teacher"].logits.astype(np.float64)
    predicted, label = logits.argmax(-1), batch["label"]
    correct = predicted == label
    p, log_q = softmax(teacher, -1), log_softmax(logits.astype(np.float64), -1)
    assert got["errors"] == (~correct).sum()
    expected = {
        "accuracy": correct.mean(),
        "nll": -log_q[np.arange(100), label].mean(),
        "agreement": (predicted == teacher.argmax(-1)).mean(),
        "teacher_kl": (p * (log_softmax(teacher, -1) - log_q)).sum(-1).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)
    confidence, gaps = np.exp(log_q.max(-1)), 0.0
    for low in range(15):
        here = (confidence * 15 >= low) & (confidence * 15 < low + 1)
        if here.any():
            gaps += here.mean() * abs(confidence[here].mean() - correct[here].mean())
    np.testing.assert_allclose(got["ece"], gaps, rtol=1e-4)
    assert set(got) == {*expected, "errors", "ece"}


def test_nan_is_not_a_class():
    logits, batch = some(20, 10)
    logits[3] = np.nan
    got = measured(logits, batch)
    assert np.isnan(got["accuracy"]) and np.isnan(got["errors"])
    rows = jax.tree.map(lambda x: x[4:], batch)
    assert np.isfinite(measured(logits[4:], rows)["accuracy"])
    batch["label"][3] = -1  # which does not count
    assert measured(logits, batch)["errors"] >= 0
    assert np.isfinite(measured(logits, batch)["agreement"])
    batch["label"][3] = 0
    assert np.isnan(measured(logits, batch)["agreement"])
    batch["label"] = np.full(20, -1)  # none counts
    assert np.isnan(measured(logits, batch)["errors"])


def test_an_example_without_a_label_is_not_measured():
    logits, batch = some(20, 10)
    known = np.arange(20) % 3 != 0
    expected = measured(logits[known], jax.tree.map(lambda x: x[known], batch))
    batch["label"] = np.where(known, batch["label"], [-1, -100, 10, 99] * 5)
    for name, value in measured(logits, batch).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_without_a_teacher_nothing_is_said_of_one():
    logits, batch = some(20, 10)
    got = measured(logits, {"label": batch["label"]})
    assert set(got) == {"accuracy", "errors", "nll", "ece"}


def test_a_calibrated_classifier_has_no_calibration_error():
    half, sure = np.log([[0.5, 0.3, 0.2]]), [[90.0, 0.0, 0.0]]
    logits = np.float32(np.concatenate([half, half, sure, sure]))
    got = measured(logits, {"label": np.array([0, 1, 0, 0])})
    np.testing.assert_allclose(got["ece"], 0, atol=1e-6)
    got = measured(logits, {"label": np.array([0, 1, 1, 0])})  # one confident error
    np.testing.assert_allclose(got["ece"], 0.5 * 0.5, rtol=1e-6)


def test_of_tokens_those_count_that_the_mask_holds():
    logits, batch = some(6, 5, 4)
    mask = RNG.integers(2, size=(6, 5)).astype(bool)
    got = measured(logits, batch | {"mask": mask.astype(np.int32)})
    kept = {
        "label": batch["label"][mask],
        "teacher": Outputs(batch["teacher"].logits[mask]),
    }
    expected = measured(logits[mask], kept)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), got, expected)
    whole = measured(logits, batch)
    assert whole["nll"] != got["nll"]
    of_inputs = batch | {"mask": np.zeros((6, 3), bool)}  # a mask of another shape
    np.testing.assert_array_equal(measured(logits, of_inputs)["nll"], whole["nll"])


@pytest.mark.parametrize("block", [1, 30, 60, 1000])
def test_blocks_of_any_size_measure_the_same(block):
    data = small.data()
    training = small.training(
        measures=(metrics.classification(), small.MEASURE), measure_batch=block
    )
    variables = jax.jit(training.model.init)(jax.random.key(0), data.test)
    got = jax.jit(partial(programs.measure, training))(variables, data.test, None)
    logits = jax.jit(training.model.apply)(variables, data.test)[0].logits
    for name, value in measured(logits, data.test).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-4, err_msg=name)


def _top_two_sums(student, teacher, batch):
    best = jax.lax.top_k(student.logits, 2)[1]
    hit = (best == batch["label"][:, None]).any(-1)
    told = teacher is not None
    return {"of": jnp.float32(len(hit)), "hit": jnp.sum(hit), "told": jnp.float32(told)}


TOP_TWO = Measure(
    _top_two_sums,
    lambda totals: {"top2": totals["hit"] / totals["of"], "told": totals["told"]},
)


def test_ones_own_measure_is_in_the_runs_and_the_curves_of_a_sweep(tmp_path):
    training = small.training(
        measures=(small.MEASURE, TOP_TWO), select=("top2", "max"), epochs=2
    )
    done = sweep(
        training,
        {"temperature": [1.0, 4.0], "alpha": [0.5, 0.5], "learning_rate": [0.01, 0.03]},
        data=small.data(),
        seeds=[0],
        extras=lambda variables, data: {
            "logits": training.model.apply(variables, data.test)[0].logits
        },
        directory=tmp_path,
        devices=jax.devices()[:1],
    )
    top = np.argsort(done.extras["logits"], -1)[..., -2:]
    hits = (top == small.data().test["label"][None, :, None]).any(-1).mean(-1)
    np.testing.assert_allclose(done.runs["test_top2_last"], hits, rtol=1e-6)
    assert (done.runs["test_told_last"] > 0).all()
    curve = done.curves["validation_top2"].to_numpy().reshape(2, 2)
    np.testing.assert_array_equal(done.runs["validation_top2_last"], curve[:, -1])
    np.testing.assert_array_equal(done.runs["validation_top2_best"], curve.max(-1))
    np.testing.assert_array_equal(done.runs["best_epoch"], 1 + curve.argmax(-1))


def finished(measure, logits, batch):
    blocks = [slice(0, 30), slice(30, 37), slice(37, None)]  # sums add up
    sums = [
        measure.sums(
            Outputs(logits[rows]),
            batch.get("teacher") and Outputs(batch["teacher"].logits[rows]),
            {n: a[rows] for n, a in batch.items() if n != "teacher"},
        )
        for rows in blocks
    ]
    total = jax.tree.map(lambda *parts: sum(parts), *sums)
    return {n: float(v) for n, v in measure.finish(total).items()}


def test_two_classes_have_the_scores_of_scikit_learn():
    logits, batch = some(200, 2)
    logits[:, 1] += 6 * batch["label"]
    got = finished(metrics.binary(), logits, batch)
    predicted = logits.argmax(-1)
    assert got["f1"] == pytest.approx(f1_score(batch["label"], predicted))
    expected = matthews_corrcoef(batch["label"], predicted)
    assert got["matthews"] == pytest.approx(expected, rel=1e-5) and expected > 0.2


def test_scores_of_one_class_alone_are_zero():
    logits = np.tile(np.float32([[2, 0]]), (50, 1))
    for label in (np.zeros(50, np.int32), np.arange(50, dtype=np.int32) % 2):
        got = finished(metrics.binary(), logits, {"label": label})
        assert got == {"f1": 0, "matthews": 0}


def test_other_tasks_and_nan_get_no_score():
    logits, batch = some(20, 3)
    with pytest.raises(ValueError, match=r"shape \(20, 3\), but take \[B, 2\]"):
        metrics.binary().sums(Outputs(logits), None, batch)
    nan = np.where(np.arange(20)[:, None] == 7, np.nan, logits[:, :2])
    got = finished(metrics.binary(), np.float32(nan), {"label": batch["label"] % 2})
    assert np.isnan([got["f1"], got["matthews"]]).all()


def test_labels_beside_two_classes_are_ignored():
    logits, batch = some(60, 2)
    known = np.arange(60) % 3 != 0
    expected = finished(
        metrics.binary(), logits[known], {"label": batch["label"][known]}
    )
    label = np.where(known, batch["label"], -1).astype(np.int32)
    assert finished(metrics.binary(), logits, {"label": label}) == expected


def test_scores_of_other_shapes_are_refused():
    measure, score = metrics.regression(), np.ones(4, np.float32)
    with pytest.raises(ValueError, match=r"score has shape \(4, 1\), but takes \(4,\)"):
        measure.sums(Outputs(np.ones((4, 1))), None, {"score": score[:, None]})
    with pytest.raises(ValueError, match=r"shape \(4, 2\), but take \[B, 1\]"):
        measure.sums(Outputs(np.ones((4, 2))), None, {"score": score})


@pytest.mark.parametrize("spread, tolerance", [(0.3, 1e-3), (0.05, 5e-3), (1e-3, None)])
def test_predictions_that_hardly_vary_have_no_wrong_correlation(spread, tolerance):
    rng = np.random.default_rng(0)
    score = (5 * rng.random(1500)).astype(np.float32)
    logits = 2.7 + spread * (score - 2.5 + rng.normal(size=1500)) / 2
    logits = logits.astype(np.float32)[:, None]
    got = finished(metrics.regression(), logits, {"score": score})["pearson"]
    expected = pearsonr(logits[:, 0], score).statistic if tolerance else np.nan
    assert got == pytest.approx(expected, abs=tolerance, nan_ok=True)


def test_counts_of_millions_do_not_overflow():
    cells = ("true_positives", "true_negatives", "false_positives", "false_negatives")
    totals = dict(zip(cells, jnp.float32([4e9, 3e9, 1e9, 1e9]), strict=True))
    got = metrics.binary().finish(totals)["matthews"]
    expected = (4 * 3 - 1) / np.sqrt(5 * 5 * 4 * 4)
    assert float(got) == pytest.approx(expected)


def test_a_score_has_the_correlation_of_scipy():
    score = (5 * RNG.random(200)).astype(np.float32)
    logits = (score + RNG.normal(size=200)).astype(np.float32)[:, None]
    batch = {"score": score, "teacher": Outputs(logits + 0.5)}
    got = finished(metrics.regression(), logits, batch)
    expected = {
        "mse": np.mean((logits[:, 0] - score) ** 2),
        "pearson": pearsonr(logits[:, 0], score).statistic,
        "teacher_mse": 0.25,
    }
    assert got == pytest.approx(expected, rel=1e-4)
    flat = np.full_like(logits, 3.3)
    constant = finished(metrics.regression(), flat, {"score": score})
    assert set(constant) == {"mse", "pearson"} and np.isnan(constant["pearson"])


def test_examples_without_a_score_are_ignored():
    score = (5 * RNG.random(60)).astype(np.float32)
    logits = (score + RNG.normal(size=60)).astype(np.float32)[:, None]
    teacher = Outputs(logits + 1)
    known = {"score": score[:40], "teacher": Outputs(teacher.logits[:40])}
    expected = finished(metrics.regression(), logits[:40], known)
    score[40:] = np.nan
    every = {"score": score, "teacher": teacher}
    assert finished(metrics.regression(), logits, every) == pytest.approx(expected)
