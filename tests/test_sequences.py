"""Sequences: reductions, and MiniLLM's gradient by writing out every text."""

from functools import partial
import itertools

import chex
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses

INF = np.inf
WHERE = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def texts(rng):
    z = 2 * rng.normal(size=(2, 4, 4, 6)).astype(np.float32)
    return z[0], z[1], rng.integers(0, 6, (4, 4))  # student, teacher, tokens


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


# Reductions.


def test_reductions_weigh_long_texts_differently():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(losses.token_mean(values, WHERE), values[WHERE].mean())
    np.testing.assert_allclose(losses.sequence_mean(values, WHERE), [1, 4, 9.5, 0])
    parts = [
        losses.global_token_mean(values[i : i + 2], WHERE[i : i + 2], tokens=8)
        for i in (0, 2)
    ]
    np.testing.assert_allclose(sum(parts), losses.token_mean(values, WHERE))


def test_values_of_tokens_that_do_not_count_are_never_seen():
    values = np.where(WHERE, 1.0, np.nan).astype(np.float32)
    assert losses.token_mean(values, WHERE) == 1
    assert losses.sequence_mean(values, WHERE).tolist() == [1, 1, 1, 0]
    nothing = np.zeros_like(WHERE)
    assert losses.token_mean(values, nothing) == 0
    grad = jax.grad(lambda v: losses.token_mean(v, nothing))(values)
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("how", ["pmap", "shard_map"])
def test_token_mean_over_uneven_shards_is_that_of_all_tokens(how, texts):
    s, t, _ = texts

    def loss(s, t, where, axis_name=None):
        values = losses.forward_kl(s, t)
        return losses.token_mean(values, where, axis_name=axis_name)

    def shard(s, t, where):
        out = jax.value_and_grad(partial(loss, axis_name="batch"))(s, t, where)
        return jax.lax.pmean(out[0], "batch"), out[1] / 4

    value, grad = jax.value_and_grad(loss)(s, t, WHERE)
    if how == "pmap":
        split = (x[:, None] for x in (s, t, WHERE))
        values, grads = jax.pmap(shard, axis_name="batch")(*split)
        values, grads = values[0], grads[:, 0]
    else:
        mesh = Mesh(np.array(jax.devices()), ("batch",))
        rows, whole = PartitionSpec("batch"), PartitionSpec()
        mapped = jax.shard_map(
            shard, mesh=mesh, in_specs=(rows,) * 3, out_specs=(whole, rows)
        )
        values, grads = jax.jit(mapped)(s, t, WHERE)
    np.testing.assert_allclose(values, value, rtol=1e-6)
    np.testing.assert_allclose(grads, grad, rtol=1e-5, atol=1e-7)


# SeqKD and GKD.


def test_sequence_nll_is_the_log_probability_of_the_text(texts):
    s, _, tokens = texts
    log_q = np.take_along_axis(log_softmax(s.astype(float), -1), tokens[..., None], -1)
    expected = -np.where(WHERE, log_q[..., 0], 0).sum(-1)
    value = losses.sequence_nll(s, tokens, where=WHERE)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    whole = losses.sequence_nll(s, tokens)
    np.testing.assert_allclose(whole, -log_q[..., 0].sum(-1), rtol=1e-5)
    grad = jax.grad(lambda s: losses.sequence_nll(s, tokens, where=WHERE).sum())(s)
    gap = softmax(s, -1) - np.eye(6)[tokens]
    np.testing.assert_allclose(grad, WHERE[..., None] * gap, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_gkd_mixes_both_kinds_of_texts_in_the_shares_asked_for(share, texts):
    s, t, _ = texts
    own = np.array([True, False, False, False])
    q, p = softmax(s.astype(float), -1), softmax(t.astype(float), -1)
    m = 0.3 * p + 0.7 * q
    tokens = 0.3 * kl(p, m) + 0.7 * kl(q, m)
    each = np.where(WHERE, tokens, 0).sum(-1) / np.maximum(WHERE.sum(-1), 1)
    loss = partial(losses.gkd, student_share=share, beta=0.3)
    expected = share * each[0] + (1 - share) * each[1:].mean()
    value = loss(s, t, own, where=WHERE).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    grad = jax.grad(lambda s: loss(s, t, own, where=WHERE).sum())(s)
    apart = jax.grad(
        lambda s: losses.sequence_mean(
            losses.jensen_shannon(s, t, beta=0.3), WHERE
        ).sum()
    )(s)
    weights = np.where(own, share / 0.25, (1 - share) / 0.75)[:, None, None]
    np.testing.assert_allclose(grad, weights * apart, rtol=1e-5, atol=1e-7)
    shards = jax.pmap(partial(loss, axis_name="batch"), "batch")
    parts = shards(*(x[:, None] for x in (s, t, own)))
    np.testing.assert_allclose(parts[:, 0], loss(s, t, own), rtol=1e-5, atol=1e-7)
    for kind in (np.zeros(4, bool), np.ones(4, bool)):  # none of the other kind
        chex.assert_tree_all_finite(loss(s, t, kind))


# Rewards.


def test_reward_is_the_log_ratio_of_the_token_written(texts):
    s, t, tokens = texts
    expected = np.take_along_axis(
        log_softmax(t.astype(float), -1) - log_softmax(s.astype(float), -1),
        tokens[..., None],
        -1,
    )[..., 0]
    value = losses.sampled_log_ratio(s, t, tokens)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    q = softmax(s, -1)
    ratios = jnp.stack(
        [losses.sampled_log_ratio(s, t, np.full((4, 4), v)) for v in range(6)], -1
    )
    mean = (q * ratios).sum(-1)
    np.testing.assert_allclose(-mean, losses.reverse_kl(s, t), rtol=1e-4, atol=1e-5)
    ruled = s.copy()
    ruled[..., 2] = -INF
    assert (losses.sampled_log_ratio(ruled, t, np.full((4, 4), 2)) == 0).all()


def test_rewards_to_go_of_the_official_code():
    rewards = jnp.array([1.0, 2.0, 3.0, 4.0])
    value = losses.mean_reward_to_go(rewards, discount=0.95)
    np.testing.assert_allclose(value, [2.2592, 2.8200, 3.4000, 4.0000], atol=5e-5)


def test_reward_to_go_is_the_sum_of_what_follows(rng):
    rewards = rng.normal(size=(4, 4)).astype(np.float32)
    for discount in (0.0, 0.9, 1.0):
        sums = np.zeros((4, 4))
        for b, t in itertools.product(range(4), range(4)):
            later = [i for i in range(t, 4) if WHERE[b, i]]
            sums[b, t] = sum(discount ** (i - t) * rewards[b, i] for i in later)
        value = losses.reward_to_go(rewards, discount=discount, where=WHERE)
        np.testing.assert_allclose(value, sums, rtol=1e-5, atol=1e-6)
        left = WHERE[:, ::-1].cumsum(1)[:, ::-1]
        mean = losses.mean_reward_to_go(rewards, discount=discount, where=WHERE)
        np.testing.assert_allclose(mean, sums / np.maximum(left, 1), rtol=1e-5)


def test_importance_weights_are_of_the_student_to_the_mixture(texts):
    s, t, tokens = texts
    q, p = (np.take_along_axis(softmax(z, -1), tokens[..., None], -1) for z in (s, t))
    loss = partial(losses.importance_weights, teacher_share=0.2)
    expected = (q / (0.2 * p + 0.8 * q))[..., 0]
    np.testing.assert_allclose(loss(s, t, tokens), expected, rtol=1e-5)
    assert (loss(s, t, tokens) <= 1 / 0.8 + 1e-6).all()
    np.testing.assert_array_equal(jax.grad(lambda s: loss(s, t, tokens).sum())(s), 0)


VOCABULARY, LENGTH = 3, 3
TEXTS = np.array(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))


def logits_of_texts(table):
    """A model as a table: logits of each token, given those before it."""
    rows = [
        [sum((int(v) + 1) * 4**i for i, v in enumerate(y[:t])) for t in range(LENGTH)]
        for y in TEXTS
    ]
    return table[np.array(rows)]


@pytest.mark.parametrize("where", [None, np.array([[True, True, False]])])
def test_minillm_has_the_gradient_of_reverse_kl_over_whole_texts(where, rng):
    """Over all texts, weighed by the student: single step and REINFORCE together."""
    student, teacher = (rng.normal(size=(64, VOCABULARY)) for _ in "st")
    counts = np.ones((1, LENGTH)) if where is None else where

    def log_likelihood(table):
        log_q = jax.nn.log_softmax(logits_of_texts(table))
        chosen = jnp.take_along_axis(log_q, TEXTS[..., None], -1)[..., 0]
        return (chosen * counts).sum(-1)

    def whole(table):
        log_q = log_likelihood(table)
        q = jnp.exp(log_q) / VOCABULARY ** (LENGTH - counts.sum())
        return jnp.sum(q * (log_q - log_likelihood(teacher)))

    def sampled(table):
        values = losses.minillm(
            logits_of_texts(table),
            logits_of_texts(teacher),
            TEXTS,
            teacher_share=0.0,
            length_normalized=False,
            where=where,
        )
        q = jnp.exp(log_likelihood(table)) / VOCABULARY ** (LENGTH - counts.sum())
        return jnp.sum(jax.lax.stop_gradient(q) * values)

    with jax.enable_x64(True):
        expected = jax.grad(whole)(jnp.asarray(student))
        np.testing.assert_allclose(
            jax.grad(sampled)(jnp.asarray(student)), expected, rtol=1e-9, atol=1e-12
        )


def test_minillm_is_the_formula_and_holds_its_rewards_fixed(texts):
    s, t, tokens = texts
    with jax.enable_x64(True):
        s, t = s.astype(np.float64), t.astype(np.float64)
        weights = losses.importance_weights(s, t, tokens, teacher_share=0.2)
        rewards = losses.sampled_log_ratio(s, t, tokens)
        expected = []
        for b in range(4):
            value = 0.0
            for i in np.flatnonzero(WHERE[b]):
                later = [rewards[b, j] for j in range(i + 1, 4) if WHERE[b, j]]
                single = kl(softmax(s[b, i]), softmax(t[b, i]))
                log_q = log_softmax(s[b, i])[tokens[b, i]]
                value += weights[b, i] * (single - np.mean(later or [0]) * log_q)
            expected.append(value)
        value = losses.minillm(s, t, tokens, where=WHERE)
        np.testing.assert_allclose(value, expected, rtol=1e-10)

        later = losses.mean_reward_to_go(rewards, where=WHERE)
        later = np.pad(np.asarray(later)[:, 1:], ((0, 0), (0, 1)))

        def by_hand(s):
            values = losses.reverse_kl(s, t) + later * losses.cross_entropy(s, tokens)
            return (WHERE * weights * values).sum()

        grad = jax.grad(lambda s: losses.minillm(s, t, tokens, where=WHERE).sum())(s)
        np.testing.assert_allclose(grad, jax.grad(by_hand)(s), rtol=1e-10)
        check_grads(by_hand, (s,), 1, modes=["rev"])


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.pmap])
def test_the_same_under_every_transform(transform, texts):
    s, t, tokens = texts
    for loss in (
        lambda s, t, y, w: losses.minillm(s, t, y, where=w),
        lambda s, t, y, w: losses.sequence_nll(s, y, where=w),
        lambda s, t, y, w: losses.sequence_mean(losses.forward_kl(s, t), w),
    ):
        expected = loss(s, t, tokens, WHERE)
        got = transform(loss)(s, t, tokens, WHERE)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_finite_at_extreme_logits_and_with_classes_ruled_out(scale, texts):
    s, t, tokens = texts
    s = np.sign(s) * np.float32(scale)
    s[0, 0, 2], t[0, 1, 3] = -INF, -INF
    for loss in (
        lambda s: losses.minillm(s, t, tokens, where=WHERE).sum(),
        lambda s: losses.sequence_nll(s, tokens, where=WHERE).sum(),
        lambda s: losses.gkd(s, t, np.array([True] * 4), where=WHERE).sum(),
    ):
        chex.assert_tree_all_finite(jax.value_and_grad(loss)(s))
