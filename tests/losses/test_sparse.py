"""A part of the teacher's answer: bounds, identities, and an unbiased gradient."""

from functools import cache, partial

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.special import log_softmax, logsumexp, softmax

from kdjax import losses
from tests.losses.formulas import kl
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import TRANSFORMS, jit, value, value_and_grad

INF = np.inf


@cache
def top(k):
    return partial(losses.top_k, k=k)


def bucketed(loss):
    """The loss of both with all that is not kept in one class."""
    return lambda s, t, kept: loss(*(losses.tail_bucket(z, kept) for z in (s, t)))


coarse_kl = bucketed(losses.forward_kl)


def test_top_k_keeps_the_likeliest():
    kept = value(top(2), STUDENT)
    assert (kept.sum(-1) == 2).all()
    for row, where in zip(STUDENT, kept, strict=True):
        assert row[where].min() > row[~where].max()
    ties = value(top(2), np.zeros(4, np.float32))
    np.testing.assert_array_equal(ties, [True, True, False, False])
    few = value(top(2), np.float32([1, -INF, -INF]))
    np.testing.assert_array_equal(few, [True, False, False])
    for k in (0, 7):
        with pytest.raises(ValueError, match=f"k is {k}, but takes 1 to 6"):
            losses.top_k(STUDENT, k=k)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.filterwarnings("error:overflow")
def test_an_absent_class_is_never_kept(dtype):
    logits = jnp.array([[1.0, -jnp.inf, -60_000.0, -jnp.inf]], dtype)
    assert losses.top_k(logits, k=4).tolist() == [[True, False, True, False]]


@pytest.mark.parametrize("chooser", [0, 1], ids=["student's", "teacher's"])
def test_renormalised_support_is_the_formula(chooser):
    kept = value(top(3), (STUDENT, TEACHER)[chooser])
    found = value(losses.forward_kl, STUDENT, TEACHER, class_mask=kept)
    for i, (s, t) in enumerate(zip(STUDENT, TEACHER, strict=True)):
        expected = kl(softmax(t[kept[i]]), softmax(s[kept[i]]))
        np.testing.assert_allclose(found[i], expected, rtol=1e-5)


def test_renormalising_the_teacher_alone_adds_the_students_tail():
    kept = value(top(3), TEACHER)
    on_top = np.where(kept, TEACHER, np.float32(-INF))
    teacher_alone = value(losses.forward_kl, STUDENT, on_top)
    mass = np.where(kept, softmax(STUDENT, -1), 0).sum(-1)
    both = value(losses.forward_kl, STUDENT, TEACHER, class_mask=kept)
    np.testing.assert_allclose(teacher_alone, both - np.log(mass), rtol=1e-5)


def test_tail_bucket_holds_all_that_is_not_kept():
    kept = value(top(2), TEACHER)
    for z in (STUDENT, TEACHER):
        found = value(losses.tail_bucket, z, kept)
        np.testing.assert_allclose(
            found[:, -1], logsumexp(z, -1, b=~kept), rtol=1e-5, atol=1e-6
        )
        np.testing.assert_array_equal(found[:, :-1], np.where(kept, z, -INF))
    everything = value(losses.tail_bucket, STUDENT, np.ones_like(kept))
    np.testing.assert_array_equal(everything[:, -1], -INF)


def test_tail_bucket_gradient_is_that_of_the_coarse_formula():
    kept = value(top(2), TEACHER)
    q, p = softmax(STUDENT, -1), softmax(TEACHER, -1)
    tails = [np.where(kept, 0, x).sum(-1, keepdims=True) for x in (q, p)]
    expected = np.where(kept, q - p, q * (1 - tails[1] / tails[0]))
    _, grad = value_and_grad(coarse_kl, STUDENT, TEACHER, kept)
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-5)


def test_a_stored_teacher_is_the_bucketed_one():
    stored, classes = (
        np.asarray(x) for x in jax.lax.top_k(log_softmax(TEACHER, -1), 3)
    )
    restore = partial(losses.from_top_k, size=6)
    teacher, kept = value(restore, stored, classes)
    np.testing.assert_array_equal(kept, value(top(3), TEACHER))
    whole = value(losses.tail_bucket, log_softmax(TEACHER, -1), kept)
    np.testing.assert_allclose(teacher, whole, rtol=1e-5, atol=1e-6)
    padded = [
        np.pad(x, ((0, 0), (0, 2)), constant_values=-1) for x in (stored, classes)
    ]
    for found, expected in zip(value(restore, *padded), (teacher, kept), strict=True):
        np.testing.assert_array_equal(found, expected)
    for whole in ([0.25, 0.75], [0.25, 0.75001]):  # rounded up, too
        restored, _ = value(restore, np.log(np.float32(whole)), np.array([0, 1]))
        np.testing.assert_array_equal(restored[-5:], -INF)
    small = padded[0], padded[1].astype(np.int8)  # which cannot count the classes
    _, few = value(partial(losses.from_top_k, size=300), *small)
    np.testing.assert_array_equal(few, np.pad(kept, ((0, 0), (0, 294))))
    for wrong, error in ((classes[:, :2], ValueError), (stored, TypeError)):
        with pytest.raises(error, match="^classes has"):
            restore(stored, wrong)


@jit
def whole_and_coarse(s, t, kept):
    """Each divergence of all classes and in buckets, and forward KL with all kept."""
    pairs = [
        (loss(s, t), bucketed(loss)(s, t, kept))
        for loss in (losses.forward_kl, losses.reverse_kl, losses.jensen_shannon)
    ]
    return pairs, coarse_kl(s, t, jnp.ones_like(kept))


@given(
    arrays(np.float32, (2, 3, 6), elements=st.floats(-50, 50, width=32)),
    st.integers(1, 6),
)
@settings(deadline=None, max_examples=30)
def test_tail_bucket_never_exceeds_the_whole(z, k):
    s, t = z
    for chooser in (s, t):
        kept = value(top(k), chooser)
        pairs, with_all = jax.device_get(whole_and_coarse(s, t, kept))
        for whole, coarse in pairs:
            assert (coarse <= whole + 1e-4 * (1 + whole)).all()
        np.testing.assert_allclose(with_all, pairs[0][0], rtol=1e-5, atol=1e-6)


def sampled(key, logits, power, draws):
    return losses.sample_logits(key, logits, draws=draws, power=power)


@jit
def over_samples(s, t, power):
    """Value and gradient of the whole, and for each of 4000 samples."""

    def one(key):
        return jax.value_and_grad(
            lambda s: losses.sampled_kl(s, sampled(key, t, power, 20))[0]
        )(s)

    whole = jax.value_and_grad(lambda s: losses.forward_kl(s, t)[0])(s)
    return whole, jax.vmap(one)(jax.random.split(jax.random.key(0), 4000))


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_a_sample_has_the_mean_and_the_gradient_of_the_whole(power):
    parts = jax.device_get(over_samples(STUDENT[:1], TEACHER[:1], power))
    for whole, found in zip(*parts, strict=True):
        error = found.std(0) / np.sqrt(len(found))
        assert (np.abs(found.mean(0) - whole) < 5 * error + 1e-6).all()
        assert (error < 0.02).all()


def test_top_k_without_the_rest_is_biased_where_a_sample_is_not():
    """What sampling is for: at the true student the gradient of top-k is not 0."""
    kept = value(top(2), TEACHER)
    on_top = np.where(kept, TEACHER, np.float32(-INF))
    _, grad = value_and_grad(losses.forward_kl, TEACHER, on_top)
    assert np.abs(grad[0]).max() > 0.01


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_classes_are_drawn_in_proportion_and_those_without_a_weight_never(power):
    p = np.float32([[0.0, 0.1, 0.0, 0.6, 0.3, 0.0], [0.5, 0.0, 0.2, 0.2, 0.1, 0]])
    with np.errstate(divide="ignore"):
        z = np.log(p)
    draw = jax.jit(partial(losses.sample_logits, draws=20_000, power=power))
    found = np.asarray(draw(jax.random.key(0), z).indices)
    for own, row in zip(found, z, strict=True):
        weights = np.exp(power * row)
        counts = np.bincount(own, minlength=6)
        assert (counts[weights == 0] == 0).all() and len(counts) == 6
        some = weights > 0
        expected = 20_000 * weights[some] / weights.sum()
        assert stats.chisquare(counts[some], expected, sum_check=False).pvalue > 1e-3
    assert (found[0] != found[1]).any()


def test_sampled_kl_is_the_formula():
    s, t = STUDENT, TEACHER
    drawn = value(partial(sampled, power=0.7, draws=5), jax.random.key(1), t)
    rows = np.arange(4)[:, None]
    np.testing.assert_allclose(
        drawn.log_probabilities, log_softmax(t, -1)[rows, drawn.indices], rtol=1e-5
    )
    proposal = softmax(0.7 * t, -1)[rows, drawn.indices]
    p = softmax(t, -1)[rows, drawn.indices]
    np.testing.assert_allclose(drawn.weights, p / proposal / 5, rtol=1e-4)
    log_q = log_softmax(s, -1)[rows, drawn.indices]
    expected = (drawn.weights * (np.log(p) - log_q)).sum(-1)
    np.testing.assert_allclose(value(losses.sampled_kl, s, drawn), expected, rtol=1e-4)
    shifted = value(losses.sampled_kl, t + np.float32(3), drawn)
    np.testing.assert_allclose(shifted, 0, atol=1e-5)


def test_a_sampled_class_that_the_student_rules_out_is_absent():
    s, t = STUDENT[0].copy(), TEACHER[0]
    drawn = losses.Sampled(
        np.array([0, 1]), np.float32([0.5, 0.5]), np.log(softmax(t))[:2]
    )
    s[1] = -INF
    found, grad = value_and_grad(losses.sampled_kl, s, drawn)
    q = softmax(s[[0, 2, 3, 4, 5]])
    np.testing.assert_allclose(found, 0.5 * (np.log(softmax(t)[0] / q[0])), rtol=1e-5)
    assert np.isfinite(grad).all() and grad[1] == 0


def on_top_two(s, t):
    return coarse_kl(s, t, losses.top_k(t, k=2))


@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform):
    found, expected = (
        TRANSFORMS[t](on_top_two, STUDENT, TEACHER) for t in (transform, "eager")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
