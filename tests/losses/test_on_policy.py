"""MiniLLM: its parts, and its gradient by writing out every text."""

from functools import partial
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
    value,
    value_and_grad,
)
from tests.losses.texts import MASK, STUDENT, TEACHER, TOKENS

INF = np.inf
ESTIMATES = losses.reverse_kl_k1, losses.reverse_kl_k2, losses.reverse_kl_k3


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
