"""Means over all tokens of a batch, however they are spread over texts and devices."""

from functools import partial

import jax
import numpy as np
import pytest

from kdjax import losses
from tests.losses.programs import run, value, value_and_grad

B, L, K = 4, 6, 2
RNG = np.random.default_rng(0)
MASK = np.arange(L) < np.array([[3], [6], [1], [0]])
SCORES = RNG.normal(size=(2, B, 3, L, L)).astype(np.float32)
HIDDEN = RNG.normal(size=(2, B, L, 5)).astype(np.float32)
LOGITS = RNG.normal(size=(2, B, L, 7)).astype(np.float32)
HEADS = RNG.normal(size=(B, K, L, 7)).astype(np.float32)
TOKENS = RNG.integers(0, 7, (B, L))


def medusa(head_logits, tokens, **options):
    return losses.medusa(head_logits, tokens, decay=1.0, **options)


# The loss, its arguments, and over how many values a text's is a mean.
CASES = {
    "hidden_mse": (losses.hidden_mse, HIDDEN, MASK.sum(1)),
    "eagle": (losses.eagle, (*HIDDEN, *LOGITS), MASK.sum(1)),
    "attention_mse": (losses.attention_mse, SCORES, MASK.sum(1) ** 2),
    "attention_kl": (losses.attention_kl, SCORES, MASK.sum(1)),
    "attention_cross_entropy": (
        losses.attention_cross_entropy,
        SCORES,
        MASK.sum(1),
    ),
}
each = pytest.mark.parametrize("loss, args, counts", CASES.values(), ids=CASES)


@each
def test_the_mean_of_texts_is_that_of_what_is_pooled(loss, args, counts):
    texts, of_texts = value_and_grad(loss, *args, mask=MASK)
    pooled = partial(loss, pooled=True)
    found, grad = value_and_grad(pooled, *args, mask=MASK)
    weights = counts / counts.mean()
    np.testing.assert_allclose(found, weights * texts, rtol=1e-5)
    weights = weights.reshape(-1, *(1,) * (of_texts.ndim - 1))
    np.testing.assert_allclose(grad, weights * of_texts, rtol=1e-4, atol=1e-7)
    none = value(pooled, *args, mask=np.zeros_like(MASK))
    assert (none == 0).all()


def test_medusa_pools_what_each_head_predicts():
    pooled = value(partial(medusa, pooled=True), HEADS, TOKENS, mask=MASK)
    total = 0.0
    for k in range(1, K + 1):
        logits, predicted = HEADS[:, k - 1, : -(k + 1)], TOKENS[:, k + 1 :]
        values = losses.cross_entropy(logits, predicted)
        total += losses.token_mean(values, MASK[:, k + 1 :])
    np.testing.assert_allclose(pooled.mean(), total, rtol=1e-5)


@pytest.mark.parametrize("name", [*CASES, "medusa"])
def test_a_sharded_batch_gives_the_values_of_the_whole(name):
    loss, args, _ = CASES.get(name, (medusa, (HEADS, TOKENS), None))
    pooled = partial(loss, pooled=True)
    expected = value(pooled, *args, mask=MASK)
    sharded = jax.pmap(
        lambda mask, *args: pooled(*args, mask=mask, axis_name="batch"), "batch"
    )
    found = run(sharded, MASK[:, None], *(x[:, None] for x in args))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
