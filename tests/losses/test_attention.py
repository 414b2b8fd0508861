"""Losses of transformers: oracles token by token, masks, and other laws."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses.formulas import kl
from tests.losses.programs import (
    TRANSFORMS,
    assert_finite,
    check_gradients,
    value,
    value_and_grad,
)

INF = np.inf
B, HEADS, L, D, E, V = 2, 4, 5, 8, 16, 7
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Oracles: the papers' formulas in float64, an example and a head at a time.


def attention_kl_oracle(s, t, tokens):
    n = tokens.sum()
    values = [
        kl(softmax(b[i, :n]), softmax(a[i, :n]))
        for a, b in zip(s, t, strict=True)
        for i in range(n)
    ]
    return np.mean(values)


def relation_kl_oracle(s, t, heads, tokens):
    def scores(x):
        parts = np.split(x.astype(np.float64), heads, -1)
        return [p @ p.T / np.sqrt(p.shape[-1]) for p in parts]

    return attention_kl_oracle(scores(s), scores(t), tokens)


def attention_mse_oracle(s, t, tokens):
    n = tokens.sum()
    return np.mean((s[:, :n, :n].astype(np.float64) - t[:, :n, :n]) ** 2)


def hidden_mse_oracle(s, t, tokens):
    return np.mean((s[tokens].astype(np.float64) - t[tokens]) ** 2)


def tinybert_oracle(s, t, hs, ht, tokens):
    attention = sum(attention_mse_oracle(*x, tokens) for x in zip(s, t, strict=True))
    return attention + sum(
        hidden_mse_oracle(*x, tokens) for x in zip(hs, ht, strict=True)
    )


def attention_cross_entropy_oracle(s, t, tokens):
    n = tokens.sum()
    values = [
        -np.sum(softmax(b[i, :n]) * log_softmax(a[i, :n]))
        for a, b in zip(s.astype(np.float64), t.astype(np.float64), strict=True)
        for i in range(n)
    ]
    return np.mean(values)


def minilm_oracle(qs, ks, vs, qt, kt, vt, tokens):
    def scores(q, k):
        heads = (np.split(x.astype(np.float64), HEADS, -1) for x in (q, k))
        return [a @ b.T / np.sqrt(a.shape[-1]) for a, b in zip(*heads, strict=True)]

    attention = attention_kl_oracle(scores(qs, ks), scores(qt, kt), tokens)
    return attention + relation_kl_oracle(vs, vt, HEADS, tokens)


def minilm_v2_oracle(*args):
    *x, tokens = args
    pairs = zip(x[:3], x[3:], strict=True)
    return sum(relation_kl_oracle(s, t, 2, tokens) for s, t in pairs)


SCORES = tuple(normal(2, B, HEADS, L, L))
STUDENT_HIDDEN, TEACHER_HIDDEN = normal(2, B, L, D, seed=1)
WIDE = normal(B, L, E, seed=2)
LAYERS = (*normal(2, B, 3, HEADS, L, L, seed=3), *normal(2, B, 4, L, D, seed=4))
QKV = (*normal(3, B, L, D, seed=5), *normal(3, B, L, E, seed=6))

# The loss, its arguments, all of them floating, and the oracle of one example.
CASES = {
    "hidden_mse": (
        losses.hidden_mse,
        (STUDENT_HIDDEN, TEACHER_HIDDEN),
        hidden_mse_oracle,
    ),
    "attention_mse": (losses.attention_mse, SCORES, attention_mse_oracle),
    "attention_kl": (losses.attention_kl, SCORES, attention_kl_oracle),
    "attention_cross_entropy": (
        losses.attention_cross_entropy,
        SCORES,
        attention_cross_entropy_oracle,
    ),
    "relation_kl": (
        partial(losses.relation_kl, heads=2),
        (STUDENT_HIDDEN, WIDE),
        lambda s, t, tokens: relation_kl_oracle(s, t, 2, tokens),
    ),
    "tinybert": (losses.tinybert, LAYERS, tinybert_oracle),
    "minilm": (partial(losses.minilm, heads=HEADS), QKV, minilm_oracle),
    "minilm_v2": (partial(losses.minilm_v2, heads=2), QKV, minilm_v2_oracle),
}
each = pytest.mark.parametrize("loss, args, oracle", CASES.values(), ids=CASES.keys())


@each
def test_value_is_the_formula_over_the_tokens_that_count(loss, args, oracle):
    for mask in (MASK, np.ones_like(MASK)):
        expected = [oracle(*(x[b] for x in args), mask[b]) for b in range(B)]
        found, _ = value_and_grad(loss, *args, mask=mask)
        np.testing.assert_allclose(found, expected, rtol=2e-5)
    np.testing.assert_allclose(value(loss, *args), expected, rtol=2e-5)


@each
def test_gradient_passes_finite_differences(loss, args, oracle):
    check_gradients(loss, *args, mask=MASK)


@each
def test_gradient_is_the_difference_quotient_of_the_formula(loss, args, oracle):
    direction = normal(*args[0].shape, seed=7).astype(np.float64)
    step = 1e-5

    def total(shift):
        moved = (args[0] + shift * direction, *(x.astype(np.float64) for x in args[1:]))
        return sum(oracle(*(x[b] for x in moved), MASK[b]) for b in range(B))

    expected = (total(step) - total(-step)) / (2 * step)
    _, grad = value_and_grad(loss, *args, mask=MASK)
    np.testing.assert_allclose((grad * direction).sum(), expected, rtol=1e-3, atol=1e-5)


@each
def test_padding_is_absent_whatever_it_holds(loss, args, oracle):
    expected, slope = value_and_grad(loss, *args, mask=MASK)

    def spoil(x):
        square = x.shape[-1] == L
        tokens = MASK.reshape(B, *(1,) * (x.ndim - 3 - square), *(1,) * square, L, 1)
        if square:
            keys = MASK.reshape(B, *(1,) * (x.ndim - 2), L)
            tokens = MASK.reshape(B, *(1,) * (x.ndim - 3), L, 1) & keys
        return np.where(tokens, x, np.float32(1e4))

    found, grad = value_and_grad(loss, *(spoil(x) for x in args), mask=MASK)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(grad, slope, rtol=1e-4, atol=1e-6)
    assert_finite(grad)


@each
def test_no_token_gives_zero_and_one_token_a_number(loss, args, oracle):
    for mask in (np.zeros_like(MASK), np.eye(L, dtype=bool)[:B]):
        found, grad = value_and_grad(loss, *args, mask=mask)
        assert_finite((found, grad))
        if not mask.any():
            assert (found == 0).all() and (grad == 0).all()


@pytest.mark.parametrize("name", [n for n in CASES if n != "attention_cross_entropy"])
def test_zero_and_stationary_where_student_is_teacher(name):
    loss, args, _ = CASES[name]
    if name in ("minilm", "minilm_v2"):
        same = (*args[:3], *args[:3])
    else:
        same = [x for x in args[::2] for _ in range(2)]
    found, grad = value_and_grad(loss, *same, mask=np.ones_like(MASK))
    np.testing.assert_array_equal(found, 0)
    np.testing.assert_allclose(grad, 0, atol=1e-6)


@cache
def transformed(transform):
    """All losses in one program, each with its own arguments."""

    def every(args, mask):
        return {n: CASES[n][0](*x, mask=mask) for n, x in args.items()}

    return TRANSFORMS[transform](every, {n: x for n, (_, x, _) in CASES.items()}, MASK)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transform", ["jit", "vmap", "pmap"])
def test_the_same_under_every_transform(transform, name):
    found, expected = (transformed(t)[name] for t in (transform, "eager"))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("least", [-INF, np.finfo(np.float32).min])
def test_a_key_that_a_query_may_not_see_is_absent(least):
    s, t = (x[:1] for x in SCORES)
    causal = np.tril(np.ones((L, L), bool))
    a, b = (np.where(causal, x, least).astype(np.float32) for x in (s, t))
    expected = [
        kl(softmax(b[0, h, i, : i + 1]), softmax(a[0, h, i, : i + 1]))
        for h in range(HEADS)
        for i in range(L)
    ]
    found, grad = value_and_grad(losses.attention_kl, a, b)
    np.testing.assert_allclose(found[0], np.mean(expected), rtol=1e-5)
    assert np.isfinite(grad).all()
    squares = ((s - t) ** 2)[0][:, causal]
    found, grad = value_and_grad(losses.attention_mse, a, b)
    np.testing.assert_allclose(found[0], squares.mean(), rtol=1e-5)
    assert np.isfinite(grad).all()


def test_cross_entropy_is_kl_and_the_entropy_of_the_teacher():
    kl, slope = value_and_grad(losses.attention_kl, *SCORES, mask=MASK)
    cross, grad = value_and_grad(losses.attention_cross_entropy, *SCORES, mask=MASK)
    teacher = (SCORES[1],) * 2
    entropy = value(losses.attention_cross_entropy, *teacher, mask=MASK)
    np.testing.assert_allclose(cross, kl + entropy, rtol=1e-6)
    np.testing.assert_allclose(grad, slope, rtol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [losses.attention_mse, losses.attention_kl, losses.attention_cross_entropy],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_key_that_only_one_side_may_see_costs_nothing_infinite(loss, side):
    pair = [x[:1].copy() for x in SCORES]
    pair[side][..., 2] = -INF
    found, grad = value_and_grad(loss, *pair)
    assert_finite((found, grad))
    if loss is losses.attention_mse:
        s, t = (np.delete(x, 2, -1) for x in pair)
        np.testing.assert_allclose(found[0], ((s - t) ** 2).mean(), rtol=1e-5)


def test_relations_are_blind_to_rotation_within_a_head():
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(D // 2, D // 2)))[0].astype(np.float32)
    halves = np.split(STUDENT_HIDDEN, 2, -1)
    rotated = np.concatenate([x @ rotation for x in halves], -1)
    loss = CASES["relation_kl"][0]
    np.testing.assert_allclose(
        value(loss, rotated, WIDE), value(loss, STUDENT_HIDDEN, WIDE), rtol=1e-4
    )


def test_heads_that_divide_no_width_are_refused():
    s, t = STUDENT_HIDDEN[0], WIDE[0]
    for heads in (3, 0):
        with pytest.raises(ValueError, match=f"heads is {heads}, .* the student's 8"):
            losses.relation_kl(s, t, heads=heads)
    assert jax.eval_shape(partial(losses.relation_kl, heads=1), s, t).shape == ()
    with pytest.raises(ValueError, match="the teacher's 15"):
        losses.relation_kl(s, t[:, :15], heads=2)
    with pytest.raises(AssertionError, match="shape"):
        losses.attention_kl(normal(2, L, L), normal(3, L, L))


def test_distilbert_adds_its_three_losses():
    z, h = normal(2, B, L, V), normal(2, B, L, D, seed=1)
    labels = np.random.default_rng(2).integers(0, V, (B, L))
    masked = np.array([[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]], bool)
    expected = []
    for b in range(B):
        tokens = MASK[b]
        s, t = (x[b].astype(np.float64) for x in z)
        soft = 4 * kl(softmax(t / 2, -1), softmax(s / 2, -1))[tokens].mean()
        hard = -log_softmax(s, -1)[np.arange(L), labels[b]][tokens & masked[b]].mean()
        cosines = [
            x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            for x, y in zip(h[0, b], h[1, b], strict=True)
        ]
        cosine = np.mean(1 - np.array(cosines)[tokens])
        expected.append(5 * soft + 2 * hard + cosine)

    def loss(s, hidden, t, labels, teacher_hidden, masked, **options):
        return losses.distilbert(
            s, t, labels, hidden, teacher_hidden, masked=masked, **options
        )

    rest = z[1], labels, h[1], masked
    found = value(loss, z[0], h[0], *rest, mask=MASK)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    weights = dict.fromkeys(("soft_weight", "cosine_weight", "label_weight"), 0.0)
    none = value(loss, z[0], h[0], *rest, mask=MASK, **weights)
    np.testing.assert_array_equal(none, 0)
    named = dict(zip(("t", "labels", "teacher_hidden", "masked"), rest, strict=True))
    check_gradients(loss, z[0], h[0], mask=MASK, **named)
