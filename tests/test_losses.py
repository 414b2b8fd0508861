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
    "symmetric_kl": partial(losses.symmetric_kl, reverse_share=0.3),
    "adaptive_kl": losses.adaptive_kl,
    "cakld": lambda s, t, where=None: losses.cakld(s, t, labels_of(s), where=where),
    "alpha_divergence": partial(losses.alpha_divergence, alpha=0.3),
    "alpha_divergence at 0": partial(losses.alpha_divergence, alpha=0.0),
    "alpha_divergence at 1": partial(losses.alpha_divergence, alpha=1.0),
    "renyi_divergence": partial(losses.renyi_divergence, alpha=0.3),
    "renyi_divergence at 1": partial(losses.renyi_divergence, alpha=1.0),
    "negative_log_acceptance": losses.negative_log_acceptance,
    "soft_kl": partial(losses.soft_kl, temperature=4.0),
    "centered_logit_mse": losses.centered_logit_mse,
    "tckd": lambda s, t, where=None: losses.tckd(
        s, t, labels_of(s), temperature=4.0, where=where
    ),
    "nckd": lambda s, t, where=None: losses.nckd(
        s, t, labels_of(s), temperature=4.0, where=where
    ),
    "dkd": lambda s, t, where=None: losses.dkd(s, t, labels_of(s), where=where),
}
# Zero at student = teacher, but bound to more than the distribution; or never zero.
PAIRS = DIVERGENCES | {
    "logit_mse": losses.logit_mse,
    "teacher_argmax": losses.teacher_argmax,
    "nkd": lambda s, t, where=None: losses.nkd(
        s, t, labels_of(s), temperature=2.0, where=where
    ),
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


def tckd_oracle(q, p):
    binary = [np.stack([x[..., 0], 1 - x[..., 0]], -1) for x in (p, q)]
    return 16 * kl(*binary)


def others(x):
    return x[..., 1:] / (1 - x[..., :1])


def adaptive_oracle(q, p):
    values = []
    for a, b in zip(p, q, strict=True):
        order = np.argsort(-a)
        head = order[: max(1, np.sum(np.cumsum(a[order]) <= 0.5))]
        share = np.abs(a - b)[head].sum() / np.abs(a - b).sum()
        values.append(share * kl(a, b) + (1 - share) * kl(b, a))
    return np.array(values)


def oracle(name, s, t):
    q, p = softmax(s, -1), softmax(t, -1)
    m = 0.3 * p + 0.7 * q
    jsd = 0.3 * kl(p, m) + 0.7 * kl(q, m)
    gap = (s - s.mean(-1, keepdims=True)) - (t - t.mean(-1, keepdims=True))
    hard = -log_softmax(s, -1)[..., 0]
    q4, p4 = softmax(s / 4, -1), softmax(t / 4, -1)
    q2, p2 = softmax(s / 2, -1), softmax(t / 2, -1)
    return {
        "symmetric_kl": 0.7 * kl(p, q) + 0.3 * kl(q, p),
        "adaptive_kl": adaptive_oracle(q, p),
        "cakld": p[..., 0].mean() * kl(q, p) + (1 - p[..., 0].mean()) * kl(p, q),
        "alpha_divergence": (1 - np.sum(p**0.3 * q**0.7, -1)) / 0.21,
        "alpha_divergence at 0": kl(q, p),
        "alpha_divergence at 1": kl(p, q),
        "renyi_divergence": -np.log(np.sum(p**0.3 * q**0.7, -1)) / 0.7,
        "renyi_divergence at 1": kl(p, q),
        "negative_log_acceptance": -np.log(np.minimum(p, q).sum(-1)),
        "tckd": tckd_oracle(q4, p4),
        "nckd": 16 * kl(others(p4), others(q4)),
        "dkd": tckd_oracle(q4, p4) + 8 * 16 * kl(others(p4), others(q4)),
        "nkd": p[..., 0] * hard - 1.5 * 4 * np.sum(others(p2) * np.log(others(q2)), -1),
        "forward_kl": kl(p, q),
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
        "soft_kl": 16 * kl(p4, q4),
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


# These hold their weights fixed in the gradient.
FIXED = {"adaptive_kl", "cakld"}


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - FIXED))
def test_gradient_is_the_difference_quotient_of_the_formula(name, logits):
    s, t = (z.astype(np.float64) for z in logits)
    step = 1e-5
    expected = np.zeros_like(s)
    for i in range(s.shape[-1]):
        e = step * np.eye(s.shape[-1])[i]
        expected[:, i] = (oracle(name, s + e, t) - oracle(name, s - e, t)) / (2 * step)
    grad = jax.grad(lambda s: PAIRS[name](s, t.astype(np.float32)).sum())(logits[0])
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-5)


@each({n: f for n, f in PAIRS.items() if n not in FIXED})
def test_gradient_passes_finite_differences(loss, logits):
    with jax.enable_x64(True):
        s, t = (z.astype(np.float64) for z in logits)
        check_grads(loss, (s, t + 0.1), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


# Values of the papers' official code, in float64, on one input.

ROW, COLUMN = np.arange(4)[:, None], np.arange(6)[None]
STUDENT = 2 * np.sin(1 + 3 * ROW + 7 * COLUMN)
TEACHER = 3 * np.cos(2 + 5 * ROW + 2 * COLUMN)
LABELS = np.array([0, 2, 5, 3])
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
    (losses.dkd, {"labels": LABELS}, 27.4422886411),
    (losses.tckd, {"labels": LABELS, "temperature": 4.0}, 0.2569505151),
    (losses.nckd, {"labels": LABELS, "temperature": 4.0}, 3.3981672658),
    (losses.nkd, {"labels": LABELS}, 3.9677440978),
    (losses.dist_inter, {}, 1.1964617916),
    (losses.dist_intra, {}, 1.0086584900),
    (losses.dist_inter, {"temperature": 4.0}, 17.3757249135),
    (losses.dist_intra, {"temperature": 4.0}, 14.7582532454),
    (losses.dist, {"temperature": 4.0}, 17.3757249135 + 14.7582532454),
]


@pytest.mark.parametrize("loss, hparams, expected", GOLDEN)
def test_golden_value_of_the_official_code(loss, hparams, expected):
    with jax.enable_x64(True):
        value = loss(STUDENT, TEACHER, **hparams).mean()
        assert value.dtype == np.float64
        assert abs(float(value) - expected) < 1e-9


def test_golden_value_of_standardized_logits():
    with jax.enable_x64(True):
        s, t = losses.standardize(STUDENT), losses.standardize(TEACHER)
        value = losses.soft_kl(s, t, temperature=2.0).mean()
        assert abs(float(value) - 0.8655555333) < 1e-9


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
    value, grad = jax.value_and_grad(lambda s: loss(s, logits[1], where=where).sum())(
        logits[0]
    )
    np.testing.assert_array_equal(loss(*logits, where=where)[1::2], 0)
    np.testing.assert_array_equal(grad[1::2], 0)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()


@each({n: f for n, f in PAIRS.items() if n != "cakld"})  # takes a mean over the batch
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
    "alpha_divergence": (losses.alpha_divergence, "alpha"),
    "renyi_divergence": (losses.renyi_divergence, "alpha"),
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
    arrays(
        np.float32,
        st.sampled_from([(2, 3, 1), (2, 3, 2), (2, 1, 5)]),
        elements=st.floats(-50, 50, width=32),
    ),
    st.floats(0.0, 1.0, width=32),
)
@settings(deadline=None, max_examples=50)
def test_divergences_are_never_negative_and_bounded(z, share):
    s, t = z
    for name, loss in DIVERGENCES.items():
        assert (loss(s, t) >= -1e-6).all(), name
        if s.shape[-1] == 1:
            assert (loss(s, t) <= 1e-5).all(), name
    entropy = -share * np.log(max(share, 1e-30))
    entropy -= (1 - share) * np.log(max(1 - share, 1e-30))
    assert (losses.jensen_shannon(s, t, beta=share) <= entropy + 1e-5).all()
    assert (losses.total_variation(s, t) <= 1 + 1e-6).all()
    if share > 0:
        for skewed in (losses.skew_forward_kl, losses.skew_reverse_kl):
            assert (skewed(s, t, skew=share) <= -np.log(share) + 1e-5).all()


@each({n: f for n, f in PAIRS.items() if n != "teacher_argmax"})
def test_nan_in_is_nan_out(loss, logits):
    s, t = (z.copy() for z in logits)
    s[1, 2] = np.nan
    assert jnp.isnan(loss(s, t)[1])
    assert jnp.isfinite(loss(s, t)[0])
    s[2] = np.nan  # a student that has diverged
    value, grad = jax.value_and_grad(lambda s: loss(s, t)[2])(s)
    assert jnp.isnan(value) and jnp.isnan(grad[2]).any()


@each(PAIRS)
@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_row_in_which_a_side_has_no_class_gives_zero(loss, side, logits):
    z = [x.copy() for x in logits]
    for x in z if side == 2 else [z[side]]:
        x[1] = -INF
    value, grad = jax.value_and_grad(lambda s: loss(s, z[1]).sum())(z[0])
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()
    of_labels = (losses.cross_entropy, losses.label_smoothing, losses.hinton)
    uses_labels = side == 1 and loss in [
        PAIRS[f.__name__] for f in (*of_labels, losses.teacher_argmax)
    ]
    if not uses_labels and loss is not PAIRS["nkd"]:
        assert loss(*z)[1] == 0


def test_a_label_that_is_ruled_out_costs_nothing(logits):
    s, t = logits
    y = np.array([0, 1, 2, 3])
    where = np.ones((4, 6), bool)
    where[0, 0] = False
    ruled = s.copy()
    ruled[1, 1] = -INF
    for options in ({"where": where}, {}):
        ce = losses.cross_entropy(ruled, y, **options)
        assert ce[1] == 0 and (ce[2:] > 0).all()
        assert (ce[0] == 0) == bool(options)
        for loss in (
            partial(losses.hinton, ruled, t, y, temperature=4.0, alpha=1.0),
            partial(losses.label_smoothing, ruled, y, smoothing=0.1),
        ):
            assert jnp.isfinite(loss(**options)).all()
            assert (loss(**options) >= 0).all()


@each({n: f for n, f in PAIRS.items() if "mse" not in n})
def test_the_least_number_is_a_mask_as_minus_infinity_is(loss, logits):
    masked = np.array([False, False, True, False, True, False])
    for least in (np.finfo(np.float32).min, np.float32(jnp.finfo(jnp.bfloat16).min)):
        for side in (0, 1):
            a, b = ([x.copy() for x in logits] for _ in "ab")
            a[side][:, masked], b[side][:, masked] = least, -INF
            here, there = (
                jax.value_and_grad(lambda s, t=z[1]: loss(s, t).sum())(z[0])
                for z in (a, b)
            )
            chex.assert_trees_all_equal(here, there)


@each({n: f for n, f in PAIRS.items() if n != "logit_mse"})
@pytest.mark.parametrize("offset", [100.0, 1e4])
def test_offsets_cost_no_digits(loss, offset, logits):
    s, t = (np.round(64 * z) / 64 for z in logits)  # exact with the offset, too
    for a, b in ((offset, -offset), (-offset, offset), (0, offset), (offset, 0)):
        shifted = loss(s + np.float32(a), t + np.float32(b))
        np.testing.assert_allclose(shifted, loss(s, t), rtol=1e-5, atol=1e-6)


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


@pytest.mark.parametrize("name", sorted(FIXED))
def test_weights_are_held_fixed_in_the_gradient(name, logits):
    s, t = logits
    grads = [
        jax.grad(lambda s, f=f: f(s, t).sum())(s)
        for f in (DIVERGENCES[name], losses.forward_kl, losses.reverse_kl)
    ]
    p, q = softmax(t, -1), softmax(s, -1)
    forward, reverse = kl(p, q), kl(q, p)
    share = (DIVERGENCES[name](s, t) - reverse) / (forward - reverse)
    share = np.asarray(share)[:, None]
    expected = share * grads[1] + (1 - share) * grads[2]
    np.testing.assert_allclose(grads[0], expected, rtol=1e-3, atol=1e-4)


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


def test_dkd_with_the_weights_of_kl_is_kl(logits):
    s, t = logits
    y = np.array([0, 1, 2, 3])
    p = softmax(t / 4, -1)[np.arange(4), y]
    both = losses.tckd(s, t, y, temperature=4.0), losses.nckd(s, t, y, temperature=4.0)
    expected = losses.soft_kl(s, t, temperature=4.0)
    np.testing.assert_allclose(both[0] + (1 - p) * both[1], expected, rtol=1e-5)


def test_standardized_logits_have_mean_zero_and_deviation_one(logits):
    z = np.asarray(losses.standardize(7 * logits[0] + np.float32(3)))
    np.testing.assert_allclose(z.mean(-1), 0, atol=1e-6)
    np.testing.assert_allclose(z.std(-1, ddof=1), 1, rtol=1e-5)
    keep = np.array([True, True, False, True, False, True])
    inside = losses.standardize(logits[0], where=keep[None])[:, keep]
    expected = losses.standardize(logits[0][:, keep])
    np.testing.assert_allclose(inside, expected, rtol=1e-5)
    np.testing.assert_array_equal(losses.standardize(jnp.ones((2, 3))), 0)
    grad = jax.grad(lambda z: losses.standardize(z).sum())(jnp.ones((2, 3)))
    assert jnp.isfinite(grad).all()


def test_uld_is_the_distance_of_sorted_probabilities(logits):
    s, t = logits[0][:, :4], logits[1]
    q, p = -np.sort(-softmax(s, -1)), -np.sort(-softmax(t, -1))
    expected = np.abs(np.pad(q, ((0, 0), (0, 2))) - p).sum(-1)
    np.testing.assert_allclose(losses.uld(s, t), expected, rtol=1e-5)
    np.testing.assert_allclose(losses.uld(t, s), expected, rtol=1e-5)
    shuffled = np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(losses.uld(t[:, shuffled], t), 0, atol=1e-6)
    grad = jax.grad(lambda z: losses.uld(z, t).sum())(s)
    ranks = np.argsort(np.argsort(-s, -1), -1)  # of each class among the student's
    sign = np.take_along_axis(np.sign(-np.sort(-softmax(s, -1)) - p[:, :4]), ranks, -1)
    weights = softmax(s, -1)
    slope = weights * (sign - (weights * sign).sum(-1, keepdims=True))
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)


def test_dist_is_blind_to_scale_and_shift_of_probabilities(logits):
    s, t = logits
    uniform = np.log(0.5 * softmax(t, -1) + 0.5 / 6).astype(np.float32)
    np.testing.assert_allclose(losses.dist_inter(uniform, t), 0, atol=1e-6)
    np.testing.assert_allclose(losses.dist_intra(uniform, t), 0, atol=1e-6)
    assert losses.dist_intra(s, t) > 0.1


# Controls.


def test_confidence_weights_are_the_teachers_and_have_mean_one(logits):
    s, t = logits
    y = np.array([0, 1, 2, 3])
    w = softmax(t, -1).max(-1)
    expected = w / w.mean() * -log_softmax(s, -1)[np.arange(4), y]
    got = losses.confidence_weighted(s, t, y)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    grad = jax.grad(lambda s: losses.confidence_weighted(s, t, y).sum())(s)
    slope = (w / w.mean())[:, None] * (softmax(s, -1) - np.eye(6)[y])
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)
    shard = jax.pmap(
        partial(losses.confidence_weighted, axis_name="batch"), axis_name="batch"
    )
    parts = shard(s[:, None], t[:, None], y[:, None])[:, 0]
    np.testing.assert_allclose(parts, expected, rtol=1e-5)


def test_permuted_others_keep_the_largest_and_the_values():
    t = np.random.default_rng(0).normal(size=(3000, 4)).astype(np.float32)
    permuted = np.asarray(losses.permute_others(jax.random.key(0), t))
    np.testing.assert_array_equal(permuted.argmax(-1), t.argmax(-1))
    np.testing.assert_array_equal(np.sort(permuted), np.sort(t))
    rows, others_ = np.arange(3000)[:, None], np.argsort(t, -1)[:, :3]
    moved = np.stack(
        [
            (permuted[rows, others_] == t[rows, others_[:, [i]]]).mean(0)
            for i in range(3)
        ]
    )
    np.testing.assert_allclose(moved, 1 / 3, atol=0.04)  # each to each place alike


# Extreme arithmetic.


@pytest.mark.parametrize("size", [1e-2, 1e-3, 1e-4])
def test_nearly_equal_distributions_keep_three_digits(size):
    rng = np.random.default_rng(0)
    t = (5 * rng.normal(size=(8, 1000))).astype(np.float32)
    s = (t + size * rng.normal(size=t.shape)).astype(np.float32)
    for name, loss in DIVERGENCES.items():
        value = loss(s, t)
        with jax.enable_x64(True):
            exact = loss(s.astype(np.float64), t.astype(np.float64))
        np.testing.assert_allclose(value, exact, 1e-3, 1e-12, err_msg=name)
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
