"""Losses over hidden activations and feature maps: laws and oracles."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import losses
from tests.losses.programs import (
    TRANSFORMS,
    assert_finite,
    check_gradients,
    value,
    value_and_grad,
)

RAW = np.log(np.exp(1.0) - 1).astype(np.float32)  # a variance of 1
MAPS = {
    "hint": losses.hint,
    "cosine_distance": losses.cosine_distance,
    "attention_transfer": losses.attention_transfer,
    "attention_transfer_distance": losses.attention_transfer_distance,
    "nst": losses.nst,
    "factor_transfer": losses.factor_transfer,
    "fsp": lambda s, t: losses.fsp(s, s[..., ::-1], t, t[..., ::-1]),
    "inter_channel_correlation": losses.inter_channel_correlation,
    "hierarchical_context": partial(losses.hierarchical_context, sizes=(4, 3, 1)),
    "vid": lambda s, t: losses.vid(s, t, jnp.full(t.shape[-1], RAW)),
}
STUDENT, TEACHER = (
    np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
)


def each(table):
    return pytest.mark.parametrize("loss", table.values(), ids=table.keys())


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def test_golden_value_of_attention_transfer():
    with jax.enable_x64(True):
        s = channels_last(np.sin(np.arange(96.0)).reshape(2, 3, 4, 4))
        t = channels_last(np.cos(0.7 * np.arange(160)).reshape(2, 5, 4, 4))
        found = value(losses.attention_transfer, s, t).mean()
        assert abs(found - 0.0194964893) < 1e-9


def test_golden_value_of_patience():
    row = np.arange(4)[:, None]
    s = np.sin(0.5 + 1.7 * row + 0.9 * np.arange(5))
    t = np.cos(0.3 + 1.1 * row + 1.3 * np.arange(7))[:, :5]
    with jax.enable_x64(True):
        found = value(losses.pkd, s[:, None], t[:, None]).mean()
        assert abs(found - 0.3187080786) < 1e-9


def vector(x):
    q = (np.abs(x) ** 2).mean(-1).reshape(len(x), -1)
    return q / np.linalg.norm(q, axis=1, keepdims=True)


def nst_oracle(s, t):
    values = []
    for a, b in zip(s, t, strict=True):
        a, b = (x.reshape(-1, x.shape[-1]) for x in (a, b))
        a, b = (x / np.linalg.norm(x, axis=0) for x in (a, b))
        means = [((x.T @ y) ** 2).mean() for x, y in ((b, b), (a, a), (a, b))]
        values.append(means[0] + means[1] - 2 * means[2])
    return values


def fsp_oracle(s, t):
    values = []
    for a, b in zip(s, t, strict=True):
        flows = [
            sum(np.outer(x[h, w], x[h, w, ::-1]) for h in range(4) for w in range(4))
            for x in (a, b)
        ]
        values.append((((flows[0] - flows[1]) / 16) ** 2).mean())
    return values


def factor_oracle(s, t):
    s, t = (x.reshape(len(x), -1) for x in (s, t))
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    return np.abs(s - t).mean(1)


def inter_channel_oracle(s, t):
    values = []
    for a, b in zip(s, t, strict=True):
        rows = []
        for x in (a, b):
            channels = x.reshape(-1, x.shape[-1]).T
            gram = channels @ channels.T
            rows.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
        values.append(((rows[0] - rows[1]) ** 2).sum(1).mean())
    return values


def hierarchical_oracle(s, t):
    """Of maps of 4 x 4: bins of 3 overlap, as in adaptive average pooling."""
    gap = s - t
    thirds = [slice(0, 2), slice(1, 3), slice(2, 4)]
    three = np.array([[gap[:, r, c].mean((1, 2)) for c in thirds] for r in thirds])
    one = gap.mean((1, 2))
    means = (gap**2).mean((1, 2, 3)), (three**2).mean((0, 1, 3)), (one**2).mean(1)
    return (means[0] + means[1] / 2 + means[2] / 4) / 1.75


ORACLES = {
    "inter_channel_correlation": inter_channel_oracle,
    "hierarchical_context": hierarchical_oracle,
    "factor_transfer": factor_oracle,
    "hint": lambda s, t: ((s - t) ** 2).mean((1, 2, 3)),
    "attention_transfer": lambda s, t: ((vector(s) - vector(t)) ** 2).mean(1),
    "attention_transfer_distance": lambda s, t: np.linalg.norm(
        vector(s) - vector(t), axis=1
    ),
    "nst": nst_oracle,
    "fsp": fsp_oracle,
    "vid": lambda s, t: (((s - t) ** 2 / (1 + 1e-5) + np.log(1 + 1e-5)) / 2).mean(
        (1, 2, 3)
    ),
    "cosine_distance": lambda s, t: (
        1 - (s * t).sum(-1) / (np.linalg.norm(s, axis=-1) * np.linalg.norm(t, axis=-1))
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_value_is_the_formula_of_the_paper(name):
    expected = ORACLES[name](*(x.astype(np.float64) for x in (STUDENT, TEACHER)))
    found, _ = value_and_grad(MAPS[name], STUDENT, TEACHER)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@each(MAPS)
def test_gradient_passes_finite_differences(loss):
    check_gradients(loss, STUDENT, TEACHER)


# VID has no zero; the L1 distance of factors has a corner there.
@each({n: f for n, f in MAPS.items() if n not in ("vid", "factor_transfer")})
def test_zero_and_stationary_where_student_is_teacher(loss):
    found, grad = value_and_grad(loss, STUDENT, STUDENT)
    np.testing.assert_allclose(found, 0, atol=1e-6)
    np.testing.assert_allclose(grad, 0, atol=1e-5)


BLIND = (
    "factor_transfer",
    "attention_transfer",
    "attention_transfer_distance",
    "nst",
    "inter_channel_correlation",
    "cosine_distance",
)


@each({n: MAPS[n] for n in BLIND})
def test_blind_to_scale(loss):
    (a, _), (b, _) = (
        value_and_grad(loss, *pair)
        for pair in ((3 * STUDENT, TEACHER), (STUDENT, 2 * TEACHER))
    )
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@each(MAPS)
def test_finite_where_activations_are_zero(loss):
    s, t = STUDENT.copy(), TEACHER.copy()
    s[0], t[1] = 0, 0
    assert_finite(value_and_grad(loss, s, t))


@each(MAPS)
def test_nan_in_is_nan_out(loss):
    s = STUDENT.copy()
    s[1, 2, 0, 3] = np.nan
    found, _ = value_and_grad(loss, s, TEACHER)
    assert np.isnan(found[1]).any() and np.isfinite(found[0]).all()


@cache
def transformed(transform):
    """All losses in one program; a batch of one for each of three, if it is mapped."""
    mapped = transform in ("vmap", "pmap")
    pair = [x[:, None] if mapped else x for x in (STUDENT, TEACHER)]
    return TRANSFORMS[transform](
        lambda s, t: {name: loss(s, t) for name, loss in MAPS.items()}, *pair
    )


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform, name):
    found, expected = (transformed(t)[name] for t in (transform, "eager"))
    found = found.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@each(MAPS)
def test_low_precision_is_widened(loss):
    half = [x.astype(jnp.bfloat16) for x in (STUDENT, TEACHER)]
    found = value(loss, *half)
    assert found.dtype == jnp.float32
    wide = value(loss, *(x.astype(np.float32) for x in half))
    np.testing.assert_allclose(found, wide, rtol=1e-6, atol=1e-6)


def test_the_cosine_of_nothing_is_none():
    zero, one = np.zeros(3, np.float32), np.array([0, 1, 0], np.float32)
    for pair in ((zero, 5 * one), (5 * one, zero), (zero, one), (one, zero)):
        assert value(losses.cosine_distance, *pair) == 1
    assert value(losses.cosine_distance, one, 5 * one) == 0
    assert value(losses.cosine_distance, one, -one) == 2


@pytest.mark.parametrize("loss", [losses.attention_transfer, losses.nst])
def test_teachers_of_another_width_are_taken(loss):
    assert value(loss, STUDENT, TEACHER[..., :2]).shape == (3,)


def test_the_learnt_variance_of_vid_is_that_of_the_residual():
    rng = np.random.default_rng(0)
    t = (2 * rng.normal(size=(4000, 1))).astype(np.float32)

    def mean(raw):
        return losses.vid(jnp.zeros_like(t), t, raw).mean()

    best = np.log(np.exp(np.mean(t**2) - 1e-5) - 1).astype(np.float32)[None]
    below, at, above = (
        value_and_grad(mean, best + x)[1] for x in np.float32([-1, 0, 1])
    )
    np.testing.assert_allclose(at, 0, atol=1e-5)
    assert below[0] < 0 < above[0]
