"""Speculative decoding: rates by simulation, losses by their formulas."""

import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses

INF = np.inf


@pytest.fixture
def logits():
    z = 2 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    return z[0], z[1]  # draft, target


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


def test_acceptance_rate_is_what_speculative_sampling_accepts(logits):
    q, p = (softmax(z[0].astype(np.float64)) for z in logits)
    rng = np.random.default_rng(0)
    drafted = rng.choice(6, size=100_000, p=q)
    accepted = rng.uniform(size=drafted.size) < p[drafted] / q[drafted]
    rate = losses.acceptance_rate(*logits)[0]
    np.testing.assert_allclose(rate, np.minimum(p, q).sum(), rtol=1e-5)
    assert abs(rate - accepted.mean()) < 4 * 0.5 / np.sqrt(drafted.size)
    assert losses.acceptance_rate(logits[0], logits[0]).tolist() == [1.0] * 4


def test_expected_tokens_are_those_of_the_paper_and_of_chance():
    for acceptance, drafted, expected in (
        (0.8, 4, 3.3616),
        (0.9, 4, 4.0951),
        (0.75, 7, 3.5995),
    ):
        tokens = losses.expected_tokens(jnp.array(acceptance), drafted=drafted)
        np.testing.assert_allclose(tokens, expected, atol=5e-5)
    run = np.cumprod(np.random.default_rng(0).uniform(size=(100_000, 4)) < 0.8, 1)
    np.testing.assert_allclose(
        losses.expected_tokens(jnp.array(0.8), drafted=4), 1 + run.sum(1).mean(), 0.01
    )
    assert losses.expected_tokens(jnp.array([0.0, 1.0]), drafted=4).tolist() == [1, 5]


def test_expected_speedup_pays_for_the_draft():
    speedup = losses.expected_speedup(jnp.array(0.8), drafted=4, cost=0.1)
    np.testing.assert_allclose(speedup, 3.3616 / 1.4, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_negative_log_acceptance_keeps_its_gradient_where_drafts_are_bad(scale, logits):
    s, t = (scale * z for z in logits)
    p, q = softmax(t.astype(np.float64), -1), softmax(s.astype(np.float64), -1)
    rate = np.minimum(p, q).sum(-1)
    value = losses.negative_log_acceptance(s, t)
    np.testing.assert_allclose(value, -np.log(rate), rtol=1e-5)
    grad = jax.grad(lambda s: losses.negative_log_acceptance(s, t).sum())(s)
    less = np.where(q < p, q, 0)  # whose logits raise the rate
    expected = -(less - q * less.sum(-1, keepdims=True)) / rate[:, None]
    np.testing.assert_allclose(grad, expected, rtol=1e-3, atol=1e-5)


def test_negative_log_acceptance_of_nothing_in_common_is_zero():
    s, t = jnp.array([0.0, -INF]), jnp.array([-INF, 0.0])
    value, grad = jax.value_and_grad(losses.negative_log_acceptance)(s, t)
    assert value == 0 and jnp.isfinite(grad).all()


def medusa_oracle(logits, tokens, where, decay):
    values = []
    for z, y, w in zip(logits, tokens, where, strict=True):
        value = 0.0
        for k, head in enumerate(log_softmax(z.astype(np.float64), -1), 1):
            seen = [
                -head[t, y[t + k + 1]] for t in range(len(y) - k - 1) if w[t + k + 1]
            ]
            value += decay**k * np.mean(seen) if seen else 0.0
        values.append(value)
    return values


def test_medusa_is_the_formula():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    tokens = rng.integers(0, 5, (2, 7))
    where = rng.uniform(size=(2, 7)) < 0.7
    for decay in (0.8, 1.0):
        expected = medusa_oracle(z, tokens, where, decay)
        value = losses.medusa(z, tokens, decay=decay, where=where)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
    everywhere = medusa_oracle(z, tokens, np.ones_like(where), 0.8)
    np.testing.assert_allclose(losses.medusa(z, tokens), everywhere, rtol=1e-5)
    with jax.enable_x64(True):
        z = z.astype(np.float64)
        check_grads(
            lambda z: losses.medusa(z, tokens, where=where), (z,), 1, modes=["rev"]
        )
    none = losses.medusa(z, tokens, where=np.zeros_like(where))
    assert none.tolist() == [0.0, 0.0]


def test_eagle_is_the_formula():
    rng = np.random.default_rng(0)
    f = 2 * rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
    z = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
    where = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
    values = []
    for b in range(2):
        gap = np.abs(f[0, b] - f[1, b])
        huber = np.where(gap < 1, gap**2 / 2, gap - 0.5).mean(-1)
        divergence = kl(softmax(z[1, b], -1), softmax(z[0, b], -1))
        values.append((huber + 0.1 * divergence)[where[b]].mean())
    got = losses.eagle(*f, *z, where=where)
    np.testing.assert_allclose(got, values, rtol=1e-5)
    with jax.enable_x64(True):
        wide = (x.astype(np.float64) for x in (*f, *z))
        check_grads(
            lambda *x: losses.eagle(*x, where=where), tuple(wide), 1, modes=["rev"]
        )


def test_eagle3_weighs_its_steps():
    z = np.random.default_rng(0).normal(size=(2, 2, 3, 5, 4)).astype(np.float32)
    where = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)[:, None]
    divergence = kl(softmax(z[1], -1), softmax(z[0], -1))
    expected = [
        sum(0.8**i * divergence[b, i][where[b, 0]].mean() for i in range(3))
        for b in range(2)
    ]
    np.testing.assert_allclose(losses.eagle3(*z, where=where), expected, rtol=1e-5)
    grad = jax.grad(lambda s: losses.eagle3(s, z[1], where=where).sum())(z[0])
    gap = softmax(z[0], -1) - softmax(z[1], -1)
    tokens = where / where.sum(-1, keepdims=True)
    weights = 0.8 ** np.arange(3)[None, :, None] * tokens
    np.testing.assert_allclose(grad, weights[..., None] * gap, rtol=1e-4, atol=1e-6)
