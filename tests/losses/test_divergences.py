"""Divergences: laws, the official code's values, bounds, and classes ruled out."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses import golden, laws
from tests.losses.formulas import forward, reverse
from tests.losses.laws import STUDENT, TEACHER, run
from tests.losses.programs import value, value_and_grad

INF = np.inf


@pytest.mark.parametrize("law, name", laws.of("divergences"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, expected",
    [(losses.reverse_kl, 2.5961076933), (losses.total_variation, 0.7431988784)],
)
def test_golden_value_of_the_official_code(loss, expected):
    golden.check(loss, expected)


@pytest.mark.parametrize("name", sorted(laws.FIXED - {"mft"}))
def test_weights_are_held_fixed_in_the_gradient(name):
    values, slopes = run(name, STUDENT, TEACHER)
    slope, forward_slope, reverse_slope = (
        run(n, STUDENT, TEACHER)[1][0] for n in (name, "forward_kl", "reverse_kl")
    )
    f, r = forward(STUDENT, TEACHER), reverse(STUDENT, TEACHER)
    share = ((values - r) / (f - r))[:, None]
    expected = share * forward_slope + (1 - share) * reverse_slope
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-4)


@given(
    arrays(
        np.float32,
        st.sampled_from([(2, 3, 1), (2, 3, 2), (2, 1, 5)]),
        elements=st.floats(-50, 50, width=32),
    )
)
@settings(deadline=None, max_examples=50)
def test_total_variation_is_at_most_one(z):
    assert (value(losses.total_variation, *z) <= 1 + 1e-6).all()


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_a_small_kl_is_half_the_variance_of_the_gap(size):
    rng = np.random.default_rng(0)
    t = (5 * rng.normal(size=(8, 1000))).astype(np.float32)
    s = (t + size * rng.normal(size=t.shape)).astype(np.float32)
    p, gap = softmax(t.astype(np.float64), -1), t.astype(np.float64) - s
    variance = np.sum(p * gap**2, -1) - np.sum(p * gap, -1) ** 2
    found = value(losses.forward_kl, s, t)
    np.testing.assert_allclose(found, variance / 2, rtol=5 * size)


# Exact zeros: true where finite, absence where not.


def test_a_class_the_teacher_rules_out_still_costs_the_student():
    s = np.array([1.0, 2.0, 0.5], np.float32)
    t = np.array([0.3, -INF, -0.2], np.float32)
    p, log_q = softmax(t), log_softmax(s)
    expected = sum(p[i] * (np.log(p[i]) - log_q[i]) for i in (0, 2))
    found, grad = value_and_grad(losses.forward_kl, s, t)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert grad[1] > 0.1


def test_a_class_the_student_rules_out_is_absent_from_forward_kl():
    s = np.array([1.0, -INF, 0.5], np.float32)
    t = np.array([0.3, 2.0, -0.2], np.float32)
    expected = value(losses.forward_kl, s[[0, 2]], t[[0, 2]])
    np.testing.assert_allclose(value(losses.forward_kl, s, t), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.forward_kl, losses.logit_mse])
def test_shapes_and_kinds_that_do_not_fit_are_refused(loss):
    z, i = np.zeros((2, 3), np.float32), np.zeros((2, 3), int)
    with pytest.raises(AssertionError, match="shape"):
        jax.eval_shape(loss, z, np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="has 3 classes and teacher_logits 4.* by uld"):
        jax.eval_shape(loss, z, np.zeros((2, 4), np.float32))
    with pytest.raises(AssertionError, match="type"):
        jax.eval_shape(loss, i, i)
