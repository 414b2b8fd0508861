"""Controls: laws, and what each keeps of the teacher's answer."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses import laws
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import run, value, value_and_grad

LABELS = np.array([0, 1, 2, 3])


@pytest.mark.parametrize("law, name", laws.of("baselines"))
def test_law(law, name):
    law(name)


def test_label_smoothing_ends():
    none, all_of_it = (
        value(losses.label_smoothing, STUDENT, LABELS, smoothing=x) for x in (0.0, 1.0)
    )
    hard = value(losses.cross_entropy, STUDENT, LABELS)
    np.testing.assert_allclose(none, hard, rtol=1e-6)
    uniform = -log_softmax(STUDENT, -1).mean(-1)
    np.testing.assert_allclose(all_of_it, uniform, rtol=1e-5)


def test_label_smoothing_is_finite_for_a_label_that_is_ruled_out():
    class_mask = np.ones((4, 6), bool)
    class_mask[0, 0] = False
    ruled = STUDENT.copy()
    ruled[1, 1] = -np.inf
    for options in ({"class_mask": class_mask}, {}):
        found = value(losses.label_smoothing, ruled, LABELS, smoothing=0.1, **options)
        assert np.isfinite(found).all() and (found >= 0).all()


def test_confidence_weights_are_the_teachers_and_have_mean_one():
    w = softmax(TEACHER, -1).max(-1)
    expected = w / w.mean() * -log_softmax(STUDENT, -1)[np.arange(4), LABELS]
    found, grad = value_and_grad(losses.confidence_weighted, STUDENT, TEACHER, LABELS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    slope = (w / w.mean())[:, None] * (softmax(STUDENT, -1) - np.eye(6)[LABELS])
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)
    shards = jax.pmap(
        partial(losses.confidence_weighted, axis_name="batch"), axis_name="batch"
    )
    parts = run(shards, *(x[:, None] for x in (STUDENT, TEACHER, LABELS)))
    np.testing.assert_allclose(parts[:, 0], expected, rtol=1e-5)


def test_permuted_others_keep_the_largest_and_the_values():
    t = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    permuted = value(losses.permute_others, jax.random.key(0), t)
    np.testing.assert_array_equal(permuted.argmax(-1), t.argmax(-1))
    np.testing.assert_array_equal(np.sort(permuted), np.sort(t))
    rows, others = np.arange(3000)[:, None], np.argsort(t, -1)[:, :3]
    moved = np.stack(
        [(permuted[rows, others] == t[rows, others[:, [i]]]).mean(0) for i in range(3)]
    )
    np.testing.assert_allclose(moved, 1 / 3, atol=0.04)  # each to each place alike
