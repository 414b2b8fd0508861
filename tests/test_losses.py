"""Laws that every loss obeys, and oracles written independently of it."""

from functools import partial

import chex
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses

INF = np.inf
DIVERGENCES = {
    "forward_kl": losses.forward_kl,
    "tempered_forward_kl": partial(losses.tempered_forward_kl, temperature=4.0),
    "reverse_kl": losses.reverse_kl,
    "skew_forward_kl": partial(losses.skew_forward_kl, skew=0.1),
    "skew_forward_kl at 0": partial(losses.skew_forward_kl, skew=0.0),
    "skew_reverse_kl": partial(losses.skew_reverse_kl, skew=0.1),
    "skew_reverse_kl at 0": partial(losses.skew_reverse_kl, skew=0.0),
    "jensen_shannon": partial(losses.jensen_shannon, beta=0.3),
    "normalized_jensen_shannon": partial(losses.normalized_jensen_shannon, beta=0.3),
    "normalized_jensen_shannon at 0": partial(
        losses.normalized_jensen_shannon, beta=0.0
    ),
    "normalized_jensen_shannon at 1": partial(
        losses.normalized_jensen_shannon, beta=1.0
    ),
    "total_variation": losses.total_variation,
    "soft_kl": partial(losses.soft_kl, temperature=4.0),
    "centered_logit_mse": losses.centered_logit_mse,
}
# Zero at student = teacher, but bound to more than the distribution; or never zero.
PAIRS = DIVERGENCES | {
    "logit_mse": losses.logit_mse,
    "teacher_argmax": losses.teacher_argmax,
    "hinton": lambda s, t, where=None: losses.hinton(
        s, t, labels_of(s), temperature=4.0, alpha=0.7, where=where
    ),
    "label_smoothing": lambda s, t, where=None: losses.label_smoothing(
        s, labels_of(s), smoothing=0.1, where=where
    ),
    "cross_entropy": lambda s, t, where=None: losses.cross_entropy(
        s, labels_of(s), where=where
    ),
}


def labels_of(student):
    return jnp.zeros(student.shape[:-1], int)


def each(table):
    return pytest.mark.parametrize("loss", table.values(), ids=table.keys())


@pytest.fixture
def logits():
    z = 3 * np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    return z[0], z[1]  # student, teacher


# Oracles: the papers' formulas in float64, term by term.


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


def oracle(name, s, t):
    q, p = softmax(s, -1), softmax(t, -1)
    if name in ("soft_kl", "tempered_forward_kl"):
        q, p = softmax(s / 4, -1), softmax(t / 4, -1)
    m = 0.3 * p + 0.7 * q
    jsd = 0.3 * kl(p, m) + 0.7 * kl(q, m)
    gap = (s - s.mean(-1, keepdims=True)) - (t - t.mean(-1, keepdims=True))
    hard = -log_softmax(s, -1)[..., 0]
    return {
        "forward_kl": kl(p, q),
        "tempered_forward_kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "skew_forward_kl": kl(p, 0.1 * p + 0.9 * q),
        "skew_forward_kl at 0": kl(p, q),
        "skew_reverse_kl": kl(q, 0.9 * p + 0.1 * q),
        "skew_reverse_kl at 0": kl(q, p),
        "jensen_shannon": jsd,
        "normalized_jensen_shannon": jsd / (0.3 * 0.7),
        "normalized_jensen_shannon at 0": kl(p, q),
        "normalized_jensen_shannon at 1": kl(q, p),
        "total_variation": 1 - np.minimum(p, q).sum(-1),
        "soft_kl": 16 * kl(p, q),
        "centered_logit_mse": (gap**2).mean(-1) / 2,
        "logit_mse": ((s - t) ** 2).mean(-1),
        "teacher_argmax": -np.take_along_axis(
            log_softmax(s, -1), t.argmax(-1)[..., None], -1
        )[..., 0],
        "hinton": 0.7 * 16 * kl(softmax(t / 4, -1), softmax(s / 4, -1)) + 0.3 * hard,
        "label_smoothing": 0.9 * hard - 0.1 * log_softmax(s, -1).mean(-1),
        "cross_entropy": hard,
    }[name]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_value_is_the_formula_of_the_paper(name, scale, logits):
    s, t = (scale * z for z in logits)
    expected = oracle(name, s.astype(np.float64), t.astype(np.float64))
    np.testing.assert_allclose(PAIRS[name](s, t), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", PAIRS)
def test_gradient_is_the_difference_quotient_of_the_formula(name, logits):
    s, t = (z.astype(np.float64) for z in logits)
    step = 1e-5
    expected = np.zeros_like(s)
    for i in range(s.shape[-1]):
        e = step * np.eye(s.shape[-1])[i]
        expected[:, i] = (oracle(name, s + e, t) - oracle(name, s - e, t)) / (2 * step)
    grad = jax.grad(lambda s: PAIRS[name](s, t.astype(np.float32)).sum())(logits[0])
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-5)


@each(PAIRS)
def test_gradient_passes_finite_differences(loss, logits):
    if loss is losses.teacher_argmax:
        logits = logits[0], logits[0]
    with jax.enable_x64(True):
        s, t = (z.astype(np.float64) for z in logits)
        check_grads(loss, (s, t + 0.1), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


# Values of the papers' official code, in float64, on one input.

ROW, COLUMN = np.arange(4)[:, None], np.arange(6)[None]
STUDENT = 2 * np.sin(1 + 3 * ROW + 7 * COLUMN)
TEACHER = 3 * np.cos(2 + 5 * ROW + 2 * COLUMN)
GOLDEN = [
    (losses.soft_kl, {"temperature": 1.0}, 1.7837533098),
    (losses.soft_kl, {"temperature": 4.0}, 3.2735695844),
    (losses.soft_kl, {"temperature": 20.0}, 3.3247145648),
    (losses.centered_logit_mse, {}, 3.2801418315),
    (losses.logit_mse, {}, 6.7889094361),
    (losses.reverse_kl, {}, 2.5961076933),
    (losses.total_variation, {}, 0.7431988784),
    (losses.jensen_shannon, {"beta": 0.1}, 0.1425460892),
    (losses.jensen_shannon, {"beta": 0.5}, 0.3738643543),
    (losses.jensen_shannon, {"beta": 0.9}, 0.1745886804),
    (losses.skew_forward_kl, {"skew": 0.1}, 1.1959152892),
    (losses.skew_forward_kl, {"skew": 0.5}, 0.4103606563),
    (losses.skew_reverse_kl, {"skew": 0.1}, 1.3233736482),
    (losses.skew_reverse_kl, {"skew": 0.5}, 0.3373680524),
]


@pytest.mark.parametrize("loss, hparams, expected", GOLDEN)
def test_golden_value_of_the_official_code(loss, hparams, expected):
    with jax.enable_x64(True):
        value = loss(STUDENT, TEACHER, **hparams).mean()
        assert value.dtype == np.float64
        assert abs(float(value) - expected) < 1e-9


# Laws.


@each(DIVERGENCES)
def test_zero_and_stationary_where_student_is_teacher(loss, logits):
    value, grad = jax.value_and_grad(lambda s: loss(s, logits[0]).sum())(logits[0])
    assert value == 0
    np.testing.assert_allclose(grad, 0, atol=1e-6)


@each({n: f for n, f in PAIRS.items() if n != "logit_mse"})
def test_unchanged_by_a_constant_added_to_all_logits(loss, logits):
    s, t = logits
    shifted = loss(s + np.float32(7), t - np.float32(3))
    np.testing.assert_allclose(shifted, loss(s, t), rtol=2e-5, atol=1e-6)


@each(PAIRS)
def test_where_is_absence_in_value_and_gradient(loss, logits):
    keep = np.array([True, True, False, True, False, True])

    def total(s, t, where=None):
        return loss(s, t, where=where).sum()

    here = jax.value_and_grad(total)(*logits, keep[None])
    there = jax.value_and_grad(total)(*(z[:, keep] for z in logits))
    np.testing.assert_allclose(here[0], there[0], rtol=1e-5)
    np.testing.assert_allclose(here[1][:, keep], there[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(here[1][:, ~keep], 0)


@each(PAIRS)
def test_a_class_that_is_minus_infinity_for_both_is_absent(loss, logits):
    keep = np.array([True, True, False, True, False, True])
    s, t = (np.where(keep, z, -INF).astype(np.float32) for z in logits)
    expected = loss(*(z[:, keep] for z in logits))
    np.testing.assert_allclose(loss(s, t), expected, rtol=1e-5)


@each(PAIRS)
@pytest.mark.parametrize("side", ["student", "teacher", "both"])
def test_finite_with_classes_ruled_out(loss, side, logits):
    s, t = (z.copy() for z in logits)
    if side != "teacher":
        s[:, 2] = -INF
    if side != "student":
        t[:, 3] = -INF
    value, grads = jax.value_and_grad(lambda s, t: loss(s, t).sum(), (0, 1))(s, t)
    chex.assert_tree_all_finite((value, grads))


@each(PAIRS)
@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_finite_at_extreme_logits(loss, scale, logits):
    for s, t in (logits, logits[::-1]):
        out = jax.value_and_grad(lambda s, t: loss(s, t).sum(), (0, 1))(
            np.sign(s) * np.float32(scale), t
        )
        chex.assert_tree_all_finite(out)


@each(DIVERGENCES | {"logit_mse": losses.logit_mse})
def test_a_row_without_any_class_gives_zero(loss, logits):
    where = np.array([[True], [False], [True], [False]])
    value, grad = jax.value_and_grad(
        lambda s: loss(s, logits[1], where=where).sum(), has_aux=False
    )(logits[0])
    np.testing.assert_array_equal(loss(*logits, where=where)[1::2], 0)
    np.testing.assert_array_equal(grad[1::2], 0)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()


@each(PAIRS)
@pytest.mark.parametrize(
    "transform",
    [lambda f: f, jax.jit, jax.vmap, jax.pmap],
    ids=["eager", "jit", "vmap", "pmap"],
)
def test_the_same_under_every_transform(loss, transform, logits):
    assert len(jax.devices()) == 4
    np.testing.assert_allclose(
        transform(loss)(*logits), loss(*logits), rtol=1e-5, atol=1e-6
    )


TRACED = {
    "soft_kl": (losses.soft_kl, "temperature"),
    "skew_forward_kl": (losses.skew_forward_kl, "skew"),
    "skew_reverse_kl": (losses.skew_reverse_kl, "skew"),
    "jensen_shannon": (losses.jensen_shannon, "beta"),
    "normalized_jensen_shannon": (losses.normalized_jensen_shannon, "beta"),
}


@pytest.mark.parametrize("loss, name", TRACED.values(), ids=TRACED.keys())
def test_hyperparameters_may_be_traced(loss, name, logits):
    values = jnp.array([0.25, 0.5])
    swept = jax.jit(jax.vmap(lambda v: loss(*logits, **{name: v})))(values)
    one_by_one = [loss(*logits, **{name: float(v)}) for v in values]
    np.testing.assert_allclose(swept, np.stack(one_by_one), rtol=1e-5)


@each(DIVERGENCES)
def test_low_precision_is_widened_before_anything_else(loss, logits):
    half = [jnp.asarray(z, jnp.bfloat16) for z in logits]
    wide = loss(*(z.astype(jnp.float32) for z in half))
    assert loss(*half).dtype == jnp.float32
    np.testing.assert_array_equal(loss(*half), wide)


def test_large_vocabulary_in_bfloat16():
    z = jax.random.normal(jax.random.key(0), (2, 250_000)).astype(jnp.bfloat16) * 5
    noise = 1e-2 * jax.random.normal(jax.random.key(1), z.shape).astype(jnp.bfloat16)
    for name, loss in DIVERGENCES.items():
        assert (loss(z, z) == 0).all(), name
        assert (loss(z + noise, z) > -1e-6).all(), name


@given(
    arrays(np.float32, (2, 3, 5), elements=st.floats(-50, 50, width=32)),
    st.floats(0.0, 1.0, width=32),
)
@settings(deadline=None, max_examples=50)
def test_divergences_are_never_negative_and_bounded(z, share):
    s, t = z
    for loss in DIVERGENCES.values():
        assert (loss(s, t) >= -1e-6).all()
    entropy = -share * np.log(max(share, 1e-30))
    entropy -= (1 - share) * np.log(max(1 - share, 1e-30))
    assert (losses.jensen_shannon(s, t, beta=share) <= entropy + 1e-5).all()
    assert (losses.total_variation(s, t) <= 1 + 1e-6).all()
    if share > 0:
        for skewed in (losses.skew_forward_kl, losses.skew_reverse_kl):
            assert (skewed(s, t, skew=share) <= -np.log(share) + 1e-5).all()


# Limits.


def test_soft_kl_tends_to_centered_mse(logits):
    with jax.enable_x64(True):
        s, t = (z.astype(np.float64) for z in logits)
        limit = losses.centered_logit_mse(s, t)
        for temperature in (1e3, 1e4):
            near = losses.soft_kl(s, t, temperature=temperature)
            np.testing.assert_allclose(near, limit, rtol=20 / temperature)


def test_soft_kl_gradient_is_temperature_times_the_gap(logits):
    s, t = logits
    for temperature in (0.5, 1.0, 4.0, 20.0):
        grad = jax.grad(lambda z: losses.soft_kl(z, t, temperature=temperature).sum())(  # noqa: B023
            s
        )
        gap = softmax(s / temperature, -1) - softmax(t / temperature, -1)
        np.testing.assert_allclose(grad, temperature * gap, rtol=1e-4, atol=1e-5)


def test_alpha_weighs_the_teacher(logits):
    s, t = logits
    y = np.array([0, 1, 2, 3])

    def at(alpha):
        return losses.hinton(s, t, y, temperature=4.0, alpha=alpha)

    soft = losses.soft_kl(s, t, temperature=4.0)
    np.testing.assert_allclose(at(1.0), soft, rtol=1e-6)
    np.testing.assert_allclose(at(0.0), losses.cross_entropy(s, y), rtol=1e-6)
    np.testing.assert_allclose(at(0.25), 0.25 * at(1.0) + 0.75 * at(0.0), rtol=1e-5)


def test_skew_ends_at_nothing(logits):
    for loss in (losses.skew_forward_kl, losses.skew_reverse_kl):
        np.testing.assert_allclose(loss(*logits, skew=1.0), 0, atol=1e-7)


def test_normalized_jensen_shannon_is_continuous_to_its_ends(logits):
    ends = {0.0: losses.forward_kl(*logits), 1.0: losses.reverse_kl(*logits)}
    for end, expected in ends.items():
        for step in (0.0, 1e-6, 1e-5):
            value = losses.normalized_jensen_shannon(*logits, beta=abs(end - step))
            np.testing.assert_allclose(value, expected, rtol=1e-3)


def test_label_smoothing_ends(logits):
    s, y = logits[0], np.array([0, 1, 2, 3])
    none = losses.label_smoothing(s, y, smoothing=0.0)
    np.testing.assert_allclose(none, losses.cross_entropy(s, y), rtol=1e-6)
    all_of_it = losses.label_smoothing(s, y, smoothing=1.0)
    np.testing.assert_allclose(all_of_it, -log_softmax(s, -1).mean(-1), rtol=1e-5)


# Extreme arithmetic.


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_nearly_equal_distributions_keep_three_digits(size):
    rng = np.random.default_rng(0)
    t = (5 * rng.normal(size=(8, 1000))).astype(np.float32)
    s = (t + size * rng.normal(size=t.shape)).astype(np.float32)
    for name, loss in DIVERGENCES.items():
        if name == "total_variation":
            continue
        value = loss(s, t)
        with jax.enable_x64(True):
            exact = loss(s.astype(np.float64), t.astype(np.float64))
        np.testing.assert_allclose(value, exact, rtol=1e-3, err_msg=name)
    # And float64 itself, by the expansion of KL: half the variance of the gap.
    p, gap = softmax(t.astype(np.float64), -1), t.astype(np.float64) - s
    variance = np.sum(p * gap**2, -1) - np.sum(p * gap, -1) ** 2
    np.testing.assert_allclose(losses.forward_kl(s, t), variance / 2, rtol=5 * size)


def test_a_temperature_of_ten_thousand_keeps_value_and_gradient():
    s, t = STUDENT.astype(np.float32), TEACHER.astype(np.float32)
    loss = partial(losses.soft_kl, temperature=1e4)
    value, grad = jax.value_and_grad(lambda s: loss(s, t).sum())(s)
    limit = losses.centered_logit_mse(s, t)
    np.testing.assert_allclose(value, limit.sum(), rtol=1e-3)
    gap = (s - s.mean(-1, keepdims=True)) - (t - t.mean(-1, keepdims=True))
    np.testing.assert_allclose(grad, gap / s.shape[-1], rtol=1e-3, atol=1e-3)


# Exact zeros: true where finite, absence where not.


def test_a_class_the_teacher_rules_out_still_costs_the_student():
    s = np.array([1.0, 2.0, 0.5], np.float32)
    t = np.array([0.3, -INF, -0.2], np.float32)
    p, log_q = softmax(t), log_softmax(s)
    expected = sum(p[i] * (np.log(p[i]) - log_q[i]) for i in (0, 2))
    np.testing.assert_allclose(losses.forward_kl(s, t), expected, rtol=1e-5)
    assert jax.grad(losses.forward_kl)(s, t)[1] > 0.1


def test_a_class_the_student_rules_out_is_absent_from_forward_kl():
    s = np.array([1.0, -INF, 0.5], np.float32)
    t = np.array([0.3, 2.0, -0.2], np.float32)
    expected = losses.forward_kl(s[[0, 2]], t[[0, 2]])
    np.testing.assert_allclose(losses.forward_kl(s, t), expected, rtol=1e-6)
    mixed = losses.skew_forward_kl(s, t, skew=0.1)  # finite as it is, so exact
    p, q = softmax(t), softmax(s)
    np.testing.assert_allclose(mixed, kl(p, 0.1 * p + 0.9 * q), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.forward_kl, losses.logit_mse])
def test_shapes_and_kinds_that_do_not_fit_are_refused(loss):
    with pytest.raises(AssertionError, match="shape"):
        loss(jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(AssertionError, match="type"):
        loss(jnp.zeros((2, 3), int), jnp.zeros((2, 3), int))
