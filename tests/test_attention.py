"""Losses of transformers: oracles token by token, masks, and other laws."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
from jax.test_util import check_grads
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses

INF = np.inf
B, HEADS, L, D, E, V = 2, 4, 5, 8, 16, 7
WHERE = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def kl(a, b):
    return np.sum(a * (np.log(a) - np.log(b)), -1)


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


def inputs(rng, name):
    """Arguments, all of them floating, and the oracle of one example."""
    scores = normal(rng, B, HEADS, L, L), normal(rng, B, HEADS, L, L)
    hidden = normal(rng, B, L, D), normal(rng, B, L, D)
    values = normal(rng, B, L, D), normal(rng, B, L, E)
    layers = normal(rng, 2, B, 3, HEADS, L, L), normal(rng, 2, B, 4, L, D)

    def tinybert(s, t, hs, ht, m):
        attention = sum(attention_mse_oracle(*x, m) for x in zip(s, t, strict=True))
        hiddens = sum(hidden_mse_oracle(*x, m) for x in zip(hs, ht, strict=True))
        return attention + hiddens

    def minilm(s, t, vs, vt, m):
        return attention_kl_oracle(s, t, m) + relation_kl_oracle(vs, vt, HEADS, m)

    def minilm_v2(*args):
        *x, m = args
        pairs = zip(x[:3], x[3:], strict=True)
        return sum(relation_kl_oracle(s, t, 2, m) for s, t in pairs)

    v2 = [normal(rng, B, L, n) for n in (D, D, D, E, E, E)]
    return {
        "hidden_mse": (hidden, hidden_mse_oracle),
        "attention_mse": (scores, attention_mse_oracle),
        "attention_kl": (scores, attention_kl_oracle),
        "relation_kl": (values, lambda s, t, m: relation_kl_oracle(s, t, 2, m)),
        "tinybert": ((*layers[0], *layers[1]), tinybert),
        "minilm": ((*scores, *values), minilm),
        "minilm_v2": (v2, minilm_v2),
    }[name]


LOSSES = {
    "hidden_mse": losses.hidden_mse,
    "attention_mse": losses.attention_mse,
    "attention_kl": losses.attention_kl,
    "relation_kl": partial(losses.relation_kl, heads=2),
    "tinybert": losses.tinybert,
    "minilm": losses.minilm,
    "minilm_v2": partial(losses.minilm_v2, heads=2),
}
each = pytest.mark.parametrize("name", LOSSES)


@each
def test_value_is_the_formula_over_the_tokens_that_count(name, rng):
    args, oracle = inputs(rng, name)
    for where in (WHERE, np.ones_like(WHERE)):
        expected = [oracle(*(x[b] for x in args), where[b]) for b in range(B)]
        value = LOSSES[name](*args, where=where)
        np.testing.assert_allclose(value, expected, rtol=2e-5)
    np.testing.assert_allclose(LOSSES[name](*args), expected, rtol=2e-5)


@each
def test_gradient_passes_finite_differences(name, rng):
    args, _ = inputs(rng, name)
    with jax.enable_x64(True):
        wide = tuple(x.astype(np.float64) for x in args)
        loss = partial(LOSSES[name], where=WHERE)
        check_grads(loss, wide, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@each
def test_gradient_is_the_difference_quotient_of_the_formula(name, rng):
    args, oracle = inputs(rng, name)
    direction = normal(rng, *args[0].shape).astype(np.float64)
    step = 1e-5

    def total(shift):
        moved = (args[0] + shift * direction, *(x.astype(np.float64) for x in args[1:]))
        return sum(oracle(*(x[b] for x in moved), WHERE[b]) for b in range(B))

    expected = (total(step) - total(-step)) / (2 * step)
    grad = jax.grad(lambda x: LOSSES[name](x, *args[1:], where=WHERE).sum())(args[0])
    np.testing.assert_allclose((grad * direction).sum(), expected, rtol=1e-3, atol=1e-5)


@each
def test_padding_is_absent_whatever_it_holds(name, rng):
    args, _ = inputs(rng, name)
    loss = partial(LOSSES[name], where=WHERE)
    value, grad = jax.value_and_grad(lambda x: loss(x, *args[1:]).sum())(args[0])

    def spoil(x):
        square = x.shape[-1] == L
        tokens = WHERE.reshape(B, *(1,) * (x.ndim - 3 - square), *(1,) * square, L, 1)
        if square:
            keys = WHERE.reshape(B, *(1,) * (x.ndim - 2), L)
            tokens = WHERE.reshape(B, *(1,) * (x.ndim - 3), L, 1) & keys
        return np.where(tokens, x, np.float32(1e4))

    spoilt = [spoil(x) for x in args]
    again, grads = jax.value_and_grad(lambda x: loss(x, *spoilt[1:]).sum())(spoilt[0])
    np.testing.assert_allclose(again, value, rtol=1e-5)
    np.testing.assert_allclose(grads, grad, rtol=1e-4, atol=1e-6)
    chex.assert_tree_all_finite(grads)


@each
def test_no_token_gives_zero_and_one_token_a_number(name, rng):
    args, _ = inputs(rng, name)
    for where in (np.zeros_like(WHERE), np.eye(L, dtype=bool)[:B]):
        value, grad = jax.value_and_grad(
            lambda x, w=where: LOSSES[name](x, *args[1:], where=w).sum()
        )(args[0])
        chex.assert_tree_all_finite((value, grad))
        if not where.any():
            assert value == 0 and (grad == 0).all()


@each
def test_zero_and_stationary_where_student_is_teacher(name, rng):
    args, _ = inputs(rng, name)
    if name == "minilm_v2":
        same = (*args[:3], *args[:3])
    else:
        same = [x for x in args[::2] for _ in range(2)]
    value, grad = jax.value_and_grad(lambda x: LOSSES[name](x, *same[1:]).sum())(
        same[0]
    )
    assert value == 0
    np.testing.assert_allclose(grad, 0, atol=1e-6)


@each
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.pmap])
def test_the_same_under_every_transform(name, transform, rng):
    args, _ = inputs(rng, name)

    def loss(*x):
        return LOSSES[name](*x[:-1], where=x[-1])

    expected = loss(*args, WHERE)
    np.testing.assert_allclose(transform(loss)(*args, WHERE), expected, rtol=1e-5)


def test_a_key_that_a_query_may_not_see_is_absent(rng):
    s, t = normal(rng, 2, 1, HEADS, L, L)
    causal = np.tril(np.ones((L, L), bool))
    for least in (-INF, np.finfo(np.float32).min):
        a, b = (np.where(causal, x, least).astype(np.float32) for x in (s, t))
        expected = [
            kl(softmax(b[0, h, i, : i + 1]), softmax(a[0, h, i, : i + 1]))
            for h in range(HEADS)
            for i in range(L)
        ]
        value, grad = jax.value_and_grad(lambda x, t=b: losses.attention_kl(x, t)[0])(a)
        np.testing.assert_allclose(value, np.mean(expected), rtol=1e-5)
        assert jnp.isfinite(grad).all()
        squares = ((s - t) ** 2)[0][:, causal]
        value, grad = jax.value_and_grad(lambda x, t=b: losses.attention_mse(x, t)[0])(
            a
        )
        np.testing.assert_allclose(value, squares.mean(), rtol=1e-5)
        assert jnp.isfinite(grad).all()


@pytest.mark.parametrize("loss", [losses.attention_mse, losses.attention_kl])
@pytest.mark.parametrize("side", [0, 1])
def test_a_key_that_only_one_side_may_see_costs_nothing_infinite(loss, side, rng):
    pair = [normal(rng, 1, HEADS, L, L) for _ in "st"]
    pair[side][..., 2] = -INF
    value, grad = jax.value_and_grad(lambda x: loss(x, pair[1])[0])(pair[0])
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()
    if loss is losses.attention_mse:
        s, t = (np.delete(x, 2, -1) for x in pair)
        np.testing.assert_allclose(value, ((s - t) ** 2).mean(), rtol=1e-5)


def test_relations_are_blind_to_rotation_within_a_head(rng):
    s, t = normal(rng, L, D), normal(rng, L, E)
    rotation = np.linalg.qr(rng.normal(size=(D // 2, D // 2)))[0].astype(np.float32)
    rotated = np.concatenate([x @ rotation for x in np.split(s, 2, -1)], -1)
    np.testing.assert_allclose(
        losses.relation_kl(rotated, t, heads=2),
        losses.relation_kl(s, t, heads=2),
        rtol=1e-4,
    )


def test_heads_that_divide_no_width_are_refused(rng):
    s, t = normal(rng, L, D), normal(rng, L, E)
    for heads, name in ((3, "student of 8"), (0, "student of 8")):
        with pytest.raises(ValueError, match=f"heads is {heads}, .* {name}"):
            losses.relation_kl(s, t, heads=heads)
    with pytest.raises(ValueError, match="teacher of 15"):
        losses.relation_kl(s, t[:, :15], heads=2)
    with pytest.raises(AssertionError, match="shape"):
        losses.attention_kl(normal(rng, 2, L, L), normal(rng, 3, L, L))


def test_distilbert_adds_its_three_losses(rng):
    z, h = normal(rng, 2, B, L, V), normal(rng, 2, B, L, D)
    labels = rng.integers(0, V, (B, L))
    masked = np.array([[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]], bool)
    loss = partial(losses.distilbert, masked=masked, where=WHERE)
    expected = []
    for b in range(B):
        tokens = WHERE[b]
        s, t = (x[b].astype(np.float64) for x in z)
        soft = 4 * kl(softmax(t / 2, -1), softmax(s / 2, -1))[tokens].mean()
        hard = -log_softmax(s, -1)[np.arange(L), labels[b]][tokens & masked[b]].mean()
        cosines = [
            x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            for x, y in zip(h[0, b], h[1, b], strict=True)
        ]
        cosine = np.mean(1 - np.array(cosines)[tokens])
        expected.append(5 * soft + 2 * hard + cosine)
    np.testing.assert_allclose(loss(*z, labels, *h), expected, rtol=1e-5)
    only = partial(loss, soft_weight=0.0, cosine_weight=0.0)
    none = only(*z, labels, *h, label_weight=0.0)
    np.testing.assert_array_equal(none, 0)
    with jax.enable_x64(True):
        wide = tuple(x.astype(np.float64) for x in (z[0], h[0]))
        check_grads(lambda s, k: loss(s, z[1], labels, k, h[1]), wide, 1, modes=["rev"])
