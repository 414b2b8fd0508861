"""MiniLLM: its parts, and its gradient by writing out every text."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses.formulas import kl
from tests.losses.programs import (
    TRANSFORMS,
    assert_finite,
    check_gradients,
    jit,
    run,
    value,
    value_and_grad,
)
from tests.losses.texts import MASK, STUDENT, TEACHER, TOKENS

INF = np.inf


def test_reward_is_the_log_ratio_of_the_token_written():
    log_ratio = log_softmax(TEACHER.astype(float), -1)
    log_ratio -= log_softmax(STUDENT.astype(float), -1)
    expected = np.take_along_axis(log_ratio, TOKENS[..., None], -1)[..., 0]
    found = value(losses.sampled_log_ratio, STUDENT, TEACHER, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    ratios = np.stack(
        [
            value(losses.sampled_log_ratio, STUDENT, TEACHER, np.full((4, 4), v))
            for v in range(6)
        ],
        -1,
    )
    mean = (softmax(STUDENT, -1) * ratios).sum(-1)
    whole = value(losses.reverse_kl, STUDENT, TEACHER)
    np.testing.assert_allclose(-mean, whole, rtol=1e-4, atol=1e-5)
    ruled = STUDENT.copy()
    ruled[..., 2] = -INF
    none = value(losses.sampled_log_ratio, ruled, TEACHER, np.full((4, 4), 2))
    assert (none == 0).all()


def test_rewards_to_go_of_the_official_code():
    rewards = np.float32([1, 2, 3, 4])
    found = value(losses.mean_reward_to_go, rewards, discount=0.95)
    np.testing.assert_allclose(found, [2.2592, 2.8200, 3.4000, 4.0000], atol=5e-5)


def test_reward_to_go_is_the_sum_of_what_follows():
    rewards = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    for discount in (0.0, 0.9, 1.0):
        sums = np.zeros((4, 4))
        for b, t in itertools.product(range(4), range(4)):
            later = [i for i in range(t, 4) if MASK[b, i]]
            sums[b, t] = sum(discount ** (i - t) * rewards[b, i] for i in later)
        options = {"discount": discount, "mask": MASK}
        found = value(losses.reward_to_go, rewards, **options)
        np.testing.assert_allclose(found, sums, rtol=1e-5, atol=1e-6)
        left = MASK[:, ::-1].cumsum(1)[:, ::-1]
        mean = value(losses.mean_reward_to_go, rewards, **options)
        np.testing.assert_allclose(mean, sums / np.maximum(left, 1), rtol=1e-5)


def test_importance_weights_are_of_the_student_to_the_mixture():
    q, p = (
        np.take_along_axis(softmax(z, -1), TOKENS[..., None], -1)
        for z in (STUDENT, TEACHER)
    )
    found, grad = value_and_grad(
        losses.importance_weights,
        STUDENT,
        TEACHER,
        TOKENS,
        teacher_share=0.2,
    )
    expected = (q / (0.2 * p + 0.8 * q))[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found <= 1 / 0.8 + 1e-6).all()
    np.testing.assert_array_equal(grad, 0)


VOCABULARY, LENGTH = 3, 3
TEXTS = np.array(list(itertools.product(range(VOCABULARY), repeat=LENGTH)))


def logits_of_texts(table):
    """A model as a table: logits of each token, given those before it."""
    rows = [
        [sum((int(v) + 1) * 4**i for i, v in enumerate(y[:t])) for t in range(LENGTH)]
        for y in TEXTS
    ]
    return table[np.array(rows)]


@pytest.mark.parametrize("mask", [None, np.array([[True, True, False]])])
def test_minillm_has_the_gradient_of_reverse_kl_over_whole_texts(mask):
    """Over all texts, weighed by the student: single step and REINFORCE together."""
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(size=(64, VOCABULARY)) for _ in "st")
    counts = np.ones((1, LENGTH)) if mask is None else mask

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
            mask=mask,
        )
        q = jnp.exp(log_likelihood(table)) / VOCABULARY ** (LENGTH - counts.sum())
        return jnp.sum(jax.lax.stop_gradient(q) * values)

    with jax.enable_x64(True):
        expected, found = (jit(jax.grad(f))(student) for f in (whole, sampled))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_minillm_is_the_formula_and_holds_its_rewards_fixed():
    with jax.enable_x64(True):
        s, t = STUDENT.astype(np.float64), TEACHER.astype(np.float64)
        weights = value(losses.importance_weights, s, t, TOKENS, teacher_share=0.2)
        rewards = value(losses.sampled_log_ratio, s, t, TOKENS)
        expected = []
        for b in range(4):
            total = 0.0
            for i in np.flatnonzero(MASK[b]):
                later = [rewards[b, j] for j in range(i + 1, 4) if MASK[b, j]]
                single = kl(softmax(s[b, i]), softmax(t[b, i]))
                log_q = log_softmax(s[b, i])[TOKENS[b, i]]
                total += weights[b, i] * (single - np.mean(later or [0]) * log_q)
            expected.append(total)
        found, grad = value_and_grad(losses.minillm, s, t, TOKENS, mask=MASK)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        later = value(losses.mean_reward_to_go, rewards, mask=MASK)
        later = np.pad(later[:, 1:], ((0, 0), (0, 1)))

        def by_hand(s):
            values = losses.reverse_kl(s, t) + later * losses.cross_entropy(s, TOKENS)
            return (MASK * weights * values).sum(-1)

        _, slope = value_and_grad(by_hand, s)
        np.testing.assert_allclose(grad, slope, rtol=1e-10)
        check_gradients(by_hand, s)


def minillm(s, t, tokens, mask):
    return losses.minillm(s, t, tokens, mask=mask)


@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform):
    args = STUDENT, TEACHER, TOKENS, MASK
    found, expected = (TRANSFORMS[t](minillm, *args) for t in (transform, "eager"))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_finite_at_extreme_logits_and_with_classes_ruled_out(scale):
    s, t = np.sign(STUDENT) * np.float32(scale), TEACHER.copy()
    s[0, 0, 2], t[0, 1, 3] = -INF, -INF
    assert_finite(value_and_grad(minillm, s, t, TOKENS, MASK))


def test_whitened_values_have_mean_0_and_variance_1_over_the_tokens_that_count():
    values = 3 + 2 * STUDENT[..., 0].astype(np.float64)
    with jax.enable_x64(True):
        found = value(losses.whiten, values, mask=MASK)
        alone = value(losses.whiten, values)
    counted = values[MASK]
    expected = (counted - counted.mean()) / np.sqrt(counted.var() + 1e-8)
    np.testing.assert_allclose(found[MASK], expected, rtol=1e-10)
    assert (found[~MASK] == 0).all()
    np.testing.assert_allclose([alone.mean(), alone.std()], [0, 1], atol=1e-7)
    same = np.full((2, 3), 7, np.float32)
    assert (value(losses.whiten, same) == 0).all()
    assert (value(losses.whiten, same, mask=np.zeros((2, 3), bool)) == 0).all()


def test_whitened_values_of_a_sharded_batch_are_those_of_the_whole():
    values = STUDENT[..., 0]
    sharded = jax.pmap(
        lambda v, m: losses.whiten(v, mask=m, axis_name="batch"), "batch"
    )
    found = run(sharded, values, MASK)
    expected = value(losses.whiten, values, mask=MASK)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_clipped_policy_loss_is_the_formula():
    rng = np.random.default_rng(0)
    log_q = np.take_along_axis(log_softmax(STUDENT, -1), TOKENS[..., None], -1)[..., 0]
    old = (log_q + rng.uniform(-0.6, 0.6, log_q.shape)).astype(np.float32)
    advantages = rng.normal(size=log_q.shape).astype(np.float32)
    ratio = np.exp(log_q.astype(np.float64) - old)
    clipped = np.clip(ratio, 0.7, 1.3)
    expected = -np.minimum(ratio * advantages, clipped * advantages)
    arguments = STUDENT, TOKENS, old, advantages
    found, grad = value_and_grad(
        losses.clipped_policy_loss, *arguments, clip=0.3, mask=MASK
    )
    np.testing.assert_allclose(found[MASK], expected[MASK], rtol=1e-5)
    assert (found[~MASK] == 0).all() and (grad[~MASK] == 0).all()
    # Where clipping took effect there is no gradient; elsewhere the ratio's.
    free = MASK & (ratio * advantages <= clipped * advantages)
    assert 0 < free.sum() < MASK.sum()
    taken = np.eye(6)[TOKENS] - softmax(STUDENT.astype(np.float64), -1)
    slope = np.where(free, -ratio * advantages, 0)[..., None] * taken
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)


def test_the_first_step_of_the_clipped_loss_is_reinforce():
    log_q = -value(losses.cross_entropy, STUDENT, TOKENS)
    advantages = TEACHER[..., 0]
    _, grad = value_and_grad(
        losses.clipped_policy_loss, STUDENT, TOKENS, log_q, advantages
    )
    taken = np.eye(6)[TOKENS] - softmax(STUDENT, -1)
    np.testing.assert_allclose(
        grad, -advantages[..., None] * taken, rtol=1e-4, atol=1e-6
    )


def test_a_policy_is_finite_where_it_rules_out_what_was_written():
    student = STUDENT.copy()
    student[0, 0, TOKENS[0, 0]] = -INF
    old = np.full(TOKENS.shape, -1.0, np.float32)
    found = value_and_grad(losses.clipped_policy_loss, student, TOKENS, old, old)
    assert_finite(found)
    for least in (-1e4, -INF):  # what the old policy ruled out
        old = np.full(TOKENS.shape, least, np.float32)
        for advantage in (-1, 1):
            advantages = np.full(TOKENS.shape, advantage, np.float32)
            arguments = STUDENT, TOKENS, old, advantages
            assert_finite(value_and_grad(losses.clipped_policy_loss, *arguments))
