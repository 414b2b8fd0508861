"""One-token estimates of reverse KL: bias, variance and gradient, all exact."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses.programs import assert_finite, value, value_and_grad
from tests.losses.texts import STUDENT, TEACHER, TOKENS

INF = np.inf
ESTIMATES = losses.reverse_kl_k1, losses.reverse_kl_k2, losses.reverse_kl_k3


def test_estimates_of_kl_have_the_bias_variance_and_gradient_that_they_say():
    """Over all tokens, weighed by the student: the exact mean of each estimate."""
    tokens = np.broadcast_to(np.arange(6), (16, 6))

    def moments(student, teacher, estimate):
        pair = (jnp.repeat(z[:, None], 6, 1) for z in (student, teacher))
        values = estimate(*pair, tokens)
        q = jax.lax.stop_gradient(jax.nn.softmax(student))
        mean = jnp.sum(q * values, -1)
        return mean, jnp.sum(q * (values - mean[:, None]) ** 2, -1)

    for size in (1.0, 0.1):
        student = STUDENT.reshape(-1, 6).astype(np.float64)
        teacher = student + size * TEACHER.reshape(-1, 6)
        with jax.enable_x64(True):
            pair = student, teacher
            (k1, s1), (k2, s2), (k3, s3) = (
                (value(partial(moments, estimate=k), *pair), slope)
                for k in ESTIMATES
                for slope in [
                    value_and_grad(lambda *z, k=k: moments(*z, k)[0], *pair)[1]
                ]
            )
            reverse, of_reverse = value_and_grad(losses.reverse_kl, *pair)
            _, of_forward = value_and_grad(losses.forward_kl, *pair)
        q = softmax(student, -1)
        ratio = log_softmax(teacher, -1) - log_softmax(student, -1)
        np.testing.assert_allclose(k1[0], reverse, rtol=1e-9)
        np.testing.assert_allclose(k2[0], (q * ratio**2).sum(-1) / 2, rtol=1e-9)
        np.testing.assert_allclose(k3[0], reverse, rtol=1e-9)
        second = (q * ratio**2).sum(-1)
        np.testing.assert_allclose(k1[1], second - reverse**2, rtol=1e-8)
        np.testing.assert_allclose(s1, 0, atol=1e-12)
        np.testing.assert_allclose(s2, of_reverse, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(s3, of_forward, rtol=1e-8, atol=1e-12)
    assert (abs(k2[0] / reverse - 1) < 0.3).all()  # the last pair is close
    assert (k3[1] < k1[1]).all() and (k2[1] < k1[1]).all()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_estimates_of_kl_are_finite_at_extreme_logits(scale):
    s, t = np.sign(STUDENT) * np.float32(scale), -np.sign(STUDENT) * np.float32(scale)
    t[0, 0, 2] = -INF
    for estimate in ESTIMATES:
        assert_finite(value_and_grad(estimate, s, t, TOKENS))
