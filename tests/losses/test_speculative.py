"""Speculative decoding: laws, rates by simulation, losses by their formulas."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses import laws
from tests.losses.formulas import kl
from tests.losses.programs import check_gradients, value, value_and_grad

INF = np.inf
DRAFT, TARGET = 2 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("law, name", laws.of("speculative"))
def test_law(law, name):
    law(name)


def test_acceptance_rate_is_what_speculative_sampling_accepts():
    q, p = (softmax(z[0].astype(np.float64)) for z in (DRAFT, TARGET))
    rng = np.random.default_rng(0)
    drafted = rng.choice(6, size=100_000, p=q)
    accepted = rng.uniform(size=drafted.size) < p[drafted] / q[drafted]
    rate = value(losses.acceptance_rate, DRAFT, TARGET)[0]
    np.testing.assert_allclose(rate, np.minimum(p, q).sum(), rtol=1e-5)
    assert abs(rate - accepted.mean()) < 4 * 0.5 / np.sqrt(drafted.size)
    assert value(losses.acceptance_rate, DRAFT, DRAFT).tolist() == [1.0] * 4


def test_expected_tokens_are_those_of_the_paper_and_of_chance():
    for acceptance, drafted, expected in (
        (0.8, 4, 3.3616),
        (0.9, 4, 4.0951),
        (0.75, 7, 3.5995),
    ):
        tokens = losses.expected_tokens(np.float32(acceptance), drafted=drafted)
        np.testing.assert_allclose(tokens, expected, atol=5e-5)
    run = np.cumprod(np.random.default_rng(0).uniform(size=(100_000, 4)) < 0.8, 1)
    np.testing.assert_allclose(
        losses.expected_tokens(np.float32(0.8), drafted=4), 1 + run.sum(1).mean(), 0.01
    )
    ends = losses.expected_tokens(np.float32([0, 1]), drafted=4)
    assert ends.tolist() == [1, 5]


def test_expected_speedup_pays_for_the_draft():
    speedup = losses.expected_speedup(np.float32(0.8), drafted=4, cost=0.1)
    np.testing.assert_allclose(speedup, 3.3616 / 1.4, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 20.0])
def test_negative_log_acceptance_keeps_its_gradient_where_drafts_are_bad(scale):
    s, t = (np.float32(scale) * z for z in (DRAFT, TARGET))
    p, q = softmax(t.astype(np.float64), -1), softmax(s.astype(np.float64), -1)
    rate = np.minimum(p, q).sum(-1)
    found, grad = value_and_grad(losses.negative_log_acceptance, s, t)
    np.testing.assert_allclose(found, -np.log(rate), rtol=1e-5)
    less = np.where(q < p, q, 0)  # whose logits raise the rate
    expected = -(less - q * less.sum(-1, keepdims=True)) / rate[:, None]
    np.testing.assert_allclose(grad, expected, rtol=1e-3, atol=1e-5)


def test_negative_log_acceptance_of_nothing_in_common_is_zero():
    s, t = np.float32([0, -INF]), np.float32([-INF, 0])
    found, grad = value_and_grad(losses.negative_log_acceptance, s, t)
    assert found == 0 and np.isfinite(grad).all()


def medusa_oracle(logits, tokens, mask, decay):
    values = []
    for z, y, w in zip(logits, tokens, mask, strict=True):
        total = 0.0
        for k, head in enumerate(log_softmax(z.astype(np.float64), -1), 1):
            seen = [
                -head[t, y[t + k + 1]] for t in range(len(y) - k - 1) if w[t + k + 1]
            ]
            total += decay**k * np.mean(seen) if seen else 0.0
        values.append(total)
    return values


def test_medusa_is_the_formula():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 3, 7, 5)).astype(np.float32)
    tokens = rng.integers(0, 5, (2, 7))
    mask = rng.uniform(size=(2, 7)) < 0.7
    for decay in (0.8, 1.0):
        expected = medusa_oracle(z, tokens, mask, decay)
        found = value(losses.medusa, z, tokens, decay=decay, mask=mask)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    everywhere = medusa_oracle(z, tokens, np.ones_like(mask), 0.8)
    np.testing.assert_allclose(value(losses.medusa, z, tokens), everywhere, rtol=1e-5)
    check_gradients(losses.medusa, z, tokens=tokens, mask=mask)
    none = value(losses.medusa, z, tokens, decay=0.8, mask=np.zeros_like(mask))
    assert none.tolist() == [0.0, 0.0]


def test_eagle_is_the_formula():
    rng = np.random.default_rng(0)
    f = 2 * rng.normal(size=(2, 2, 5, 3)).astype(np.float32)
    z = rng.normal(size=(2, 2, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
    values = []
    for b in range(2):
        gap = np.abs(f[0, b] - f[1, b])
        huber = np.where(gap < 1, gap**2 / 2, gap - 0.5).mean(-1)
        divergence = kl(softmax(z[1, b], -1), softmax(z[0, b], -1))
        values.append((huber + 0.1 * divergence)[mask[b]].mean())
    found = value(losses.eagle, *f, *z, mask=mask)
    np.testing.assert_allclose(found, values, rtol=1e-5)
    check_gradients(losses.eagle, *f, *z, mask=mask)


def test_eagle3_weighs_its_steps():
    z = np.random.default_rng(0).normal(size=(2, 2, 3, 5, 4)).astype(np.float32)
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)[:, None]
    divergence = kl(softmax(z[1], -1), softmax(z[0], -1))
    expected = [
        sum(0.8**i * divergence[b, i][mask[b, 0]].mean() for i in range(3))
        for b in range(2)
    ]
    found, grad = value_and_grad(losses.eagle3, *z, mask=mask)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    gap = softmax(z[0], -1) - softmax(z[1], -1)
    tokens = mask / mask.sum(-1, keepdims=True)
    weights = 0.8 ** np.arange(3)[None, :, None] * tokens
    np.testing.assert_allclose(grad, weights[..., None] * gap, rtol=1e-4, atol=1e-6)
