"""A part of the teacher's answer: bounds, identities, and an unbiased gradient."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from kdjax import losses

INF = np.inf


@pytest.fixture
def logits():
    z = 3 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    return z[0], z[1]  # student, teacher


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


def test_top_k_keeps_the_likeliest(logits):
    kept = np.asarray(losses.top_k(logits[0], k=2))
    assert (kept.sum(-1) == 2).all()
    for row, where in zip(logits[0], kept, strict=True):
        assert row[where].min() > row[~where].max()
    ties = losses.top_k(jnp.zeros(4), k=2)
    np.testing.assert_array_equal(ties, [True, True, False, False])
    few = losses.top_k(jnp.array([1.0, -INF, -INF]), k=2)
    np.testing.assert_array_equal(few, [True, False, False])
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k is {k}, but takes 1 to 6"):
            losses.top_k(logits[0], k=k)


@pytest.mark.parametrize("chooser", [0, 1], ids=["student's", "teacher's"])
def test_renormalised_support_is_the_formula(chooser, logits):
    kept = losses.top_k(logits[chooser], k=3)
    for i, (s, t) in enumerate(zip(*logits, strict=True)):
        here = np.asarray(kept[i])
        expected = kl(softmax(t[here]), softmax(s[here]))
        value = losses.forward_kl(s, t, where=kept[i])
        np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_renormalising_the_teacher_alone_adds_the_students_tail(logits):
    s, t = logits
    kept = losses.top_k(t, k=3)
    teacher_alone = losses.forward_kl(s, jnp.where(kept, t, -INF))
    mass = np.where(kept, softmax(s, -1), 0).sum(-1)
    expected = losses.forward_kl(s, t, where=kept) - np.log(mass)
    np.testing.assert_allclose(teacher_alone, expected, rtol=1e-5)


def test_tail_bucket_holds_all_that_is_not_kept(logits):
    kept = np.asarray(losses.top_k(logits[1], k=2))
    for z in logits:
        bucketed = losses.tail_bucket(z, kept)
        np.testing.assert_allclose(
            bucketed[:, -1], logsumexp(z, -1, b=~kept), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(bucketed[:, :-1], np.where(kept, z, -INF))
    everything = losses.tail_bucket(logits[0], np.ones_like(kept))
    np.testing.assert_array_equal(everything[:, -1], -INF)


def test_tail_bucket_gradient_is_that_of_the_coarse_formula(logits):
    s, t = logits
    kept = np.asarray(losses.top_k(t, k=2))

    def loss(s):
        return losses.forward_kl(*(losses.tail_bucket(z, kept) for z in (s, t))).sum()

    q, p = softmax(s, -1), softmax(t, -1)
    tails = [np.where(kept, 0, x).sum(-1, keepdims=True) for x in (q, p)]
    expected = np.where(kept, q - p, q * (1 - tails[1] / tails[0]))
    np.testing.assert_allclose(jax.grad(loss)(s), expected, rtol=1e-4, atol=1e-5)


@given(
    arrays(np.float32, (2, 3, 6), elements=st.floats(-50, 50, width=32)),
    st.integers(1, 6),
)
@settings(deadline=None, max_examples=30)
def test_tail_bucket_never_exceeds_the_whole(z, k):
    s, t = z
    for chooser in (s, t):
        kept = losses.top_k(chooser, k=k)
        coarse = [losses.tail_bucket(x, kept) for x in (s, t)]
        for loss in (losses.forward_kl, losses.reverse_kl, losses.jensen_shannon):
            whole = loss(s, t)
            assert (loss(*coarse) <= whole + 1e-4 * (1 + whole)).all()
    everything = losses.tail_bucket(s, jnp.ones(s.shape, bool))
    whole = losses.forward_kl(
        everything, losses.tail_bucket(t, jnp.ones(s.shape, bool))
    )
    np.testing.assert_allclose(whole, losses.forward_kl(s, t), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_a_sample_has_the_mean_and_the_gradient_of_the_whole(power, logits):
    s, t = (z[:1] for z in logits)

    def one(key):
        sampled = losses.sample_logits(key, t, draws=20, power=power)
        return jax.value_and_grad(lambda s: losses.sampled_kl(s, sampled)[0])(s)

    values, grads = jax.vmap(one)(jax.random.split(jax.random.key(0), 4000))
    for found, whole in (
        (values, losses.forward_kl(s, t)[0]),
        (grads, jax.grad(lambda s: losses.forward_kl(s, t)[0])(s)),
    ):
        error = found.std(0) / np.sqrt(len(found))
        assert (jnp.abs(found.mean(0) - whole) < 5 * error + 1e-6).all()
        assert (error < 0.02).all()


def test_top_k_without_the_rest_is_biased_where_a_sample_is_not(logits):
    """What sampling is for: at the true student the gradient of top-k is not 0."""
    t = logits[1][:1]
    kept = losses.top_k(t, k=2)
    grad = jax.grad(lambda s: losses.forward_kl(s, jnp.where(kept, t, -INF))[0])(t)
    assert jnp.abs(grad).max() > 0.01


def test_sampled_kl_is_the_formula(logits):
    s, t = logits
    sampled = losses.sample_logits(jax.random.key(1), t, draws=5, power=0.7)
    rows = np.arange(4)[:, None]
    np.testing.assert_allclose(
        sampled.log_probabilities, log_softmax(t, -1)[rows, sampled.indices], rtol=1e-5
    )
    proposal = softmax(0.7 * t, -1)[rows, sampled.indices]
    p = softmax(t, -1)[rows, sampled.indices]
    np.testing.assert_allclose(sampled.weights, p / proposal / 5, rtol=1e-4)
    log_q = log_softmax(s, -1)[rows, sampled.indices]
    expected = (sampled.weights * (np.log(p) - log_q)).sum(-1)
    np.testing.assert_allclose(losses.sampled_kl(s, sampled), expected, rtol=1e-4)
    np.testing.assert_allclose(losses.sampled_kl(t + 3, sampled), 0, atol=1e-5)


def test_a_sampled_class_that_the_student_rules_out_is_absent(logits):
    s, t = logits[0][0].copy(), logits[1][0]
    sampled = losses.Sampled(
        jnp.array([0, 1]), jnp.array([0.5, 0.5]), jnp.log(softmax(t))[:2]
    )
    s[1] = -INF
    value, grad = jax.value_and_grad(losses.sampled_kl)(s, sampled)
    q = softmax(s[[0, 2, 3, 4, 5]])
    np.testing.assert_allclose(value, 0.5 * (np.log(softmax(t)[0] / q[0])), rtol=1e-5)
    assert jnp.isfinite(grad).all() and grad[1] == 0


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.pmap])
def test_the_same_under_every_transform(transform, logits):
    def loss(s, t):
        kept = losses.top_k(t, k=2)
        return losses.forward_kl(
            losses.tail_bucket(s, kept), losses.tail_bucket(t, kept)
        )

    expected = loss(*logits)
    np.testing.assert_allclose(transform(loss)(*logits), expected, rtol=1e-5)
