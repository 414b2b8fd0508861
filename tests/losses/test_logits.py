"""What a classifier's logits teach: laws, the official code's values, and limits."""

import jax
import numpy as np
import pytest
from scipy.special import softmax

from kdjax import losses
from tests.losses import golden, laws
from tests.losses.formulas import centred
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import value, value_and_grad

INF = np.inf
LABELS = np.array([0, 1, 2, 3])


@pytest.mark.parametrize("law, name", laws.of("logits"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, options, expected",
    [
        (losses.soft_kl, {"temperature": 1.0}, 1.7837533098),
        (losses.soft_kl, {"temperature": 4.0}, 3.2735695844),
        (losses.soft_kl, {"temperature": 20.0}, 3.3247145648),
        (losses.centered_logit_mse, {}, 3.2801418315),
        (losses.logit_mse, {}, 6.7889094361),
    ],
)
def test_golden_value_of_the_official_code(loss, options, expected):
    golden.check(loss, expected, **options)


def test_golden_value_of_standardized_logits():
    def standardized(s, t):
        s, t = losses.standardize(s), losses.standardize(t)
        return losses.soft_kl(s, t, temperature=2.0)

    golden.check(standardized, 0.8655555333)


def test_soft_kl_tends_to_centered_mse():
    with jax.enable_x64(True):
        s, t = (z.astype(np.float64) for z in (STUDENT, TEACHER))
        limit = value(losses.centered_logit_mse, s, t)
        for temperature in (1e3, 1e4):
            near = value(losses.soft_kl, s, t, temperature=temperature)
            np.testing.assert_allclose(near, limit, rtol=20 / temperature)


def test_soft_kl_gradient_is_temperature_times_the_gap():
    for temperature in (0.5, 1.0, 4.0, 20.0):
        _, grad = value_and_grad(
            losses.soft_kl, STUDENT, TEACHER, temperature=temperature
        )
        gap = softmax(STUDENT / temperature, -1) - softmax(TEACHER / temperature, -1)
        np.testing.assert_allclose(grad, temperature * gap, rtol=1e-4, atol=1e-5)


def test_a_temperature_of_ten_thousand_keeps_value_and_gradient():
    s, t = (z.astype(np.float32) for z in (golden.STUDENT, golden.TEACHER))
    found, grad = value_and_grad(losses.soft_kl, s, t, temperature=1e4)
    limit = value(losses.centered_logit_mse, s, t)
    np.testing.assert_allclose(found.sum(), limit.sum(), rtol=1e-3)
    gap = centred(s) - centred(t)
    np.testing.assert_allclose(grad, gap / s.shape[-1], rtol=1e-3, atol=1e-3)


def test_alpha_weighs_the_teacher():
    def at(alpha):
        return value(
            losses.hinton, STUDENT, TEACHER, LABELS, temperature=4.0, alpha=alpha
        )

    soft = value(losses.soft_kl, STUDENT, TEACHER, temperature=4.0)
    hard = value(losses.cross_entropy, STUDENT, LABELS)
    np.testing.assert_allclose(at(1.0), soft, rtol=1e-6)
    np.testing.assert_allclose(at(0.0), hard, rtol=1e-6)
    np.testing.assert_allclose(at(0.25), 0.25 * at(1.0) + 0.75 * at(0.0), rtol=1e-5)


def test_a_label_that_is_ruled_out_costs_nothing():
    class_mask = np.ones((4, 6), bool)
    class_mask[0, 0] = False
    ruled = STUDENT.copy()
    ruled[1, 1] = -INF
    for options in ({"class_mask": class_mask}, {}):
        ce = value(losses.cross_entropy, ruled, LABELS, **options)
        assert ce[1] == 0 and (ce[2:] > 0).all()
        assert (ce[0] == 0) == bool(options)
        options |= {"temperature": 4.0, "alpha": 1.0}
        soft = value(losses.hinton, ruled, TEACHER, LABELS, **options)
        assert np.isfinite(soft).all() and (soft >= 0).all()


def test_standardized_logits_have_mean_zero_and_deviation_one():
    z = value(losses.standardize, 7 * STUDENT + np.float32(3))
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(-1, ddof=1), 1, rtol=1e-5)
    keep = laws.KEEP
    inside = value(losses.standardize, STUDENT, class_mask=keep[None])[:, keep]
    expected = value(losses.standardize, STUDENT[:, keep])
    np.testing.assert_allclose(inside, expected, rtol=1e-5)
    same, grad = value_and_grad(losses.standardize, np.ones((2, 3), np.float32))
    np.testing.assert_array_equal(same, 0)
    assert np.isfinite(grad).all()


def test_uld_is_the_distance_of_sorted_probabilities():
    s, t = STUDENT[:, :4], TEACHER
    q, p = -np.sort(-softmax(s, -1)), -np.sort(-softmax(t, -1))
    expected = np.abs(np.pad(q, ((0, 0), (0, 2))) - p).sum(-1)
    found, grad = value_and_grad(losses.uld, s, t)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(value(losses.uld, t, s), expected, rtol=1e-5)
    shuffled = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(value(losses.uld, t[:, shuffled], t), 0, atol=1e-6)
    ranks = np.argsort(np.argsort(-s, -1), -1)  # of each class among the student's
    sign = np.take_along_axis(np.sign(-np.sort(-softmax(s, -1)) - p[:, :4]), ranks, -1)
    weights = softmax(s, -1)
    slope = weights * (sign - (weights * sign).sum(-1, keepdims=True))
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)
