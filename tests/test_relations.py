"""Losses over the pairs of a batch: laws, oracles, and sharded batches."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
import numpy as np
import pytest

from kdjax import losses

BATCH = {
    "rkd_distance": losses.rkd_distance,
    "rkd_angle": losses.rkd_angle,
    "similarity_preserving": losses.similarity_preserving,
    "pkt": losses.pkt,
    "gram_correlation": losses.gram_correlation,
    "cka": losses.cka,
    "cka debiased": partial(losses.cka, debiased=True),
    "dist_intra": losses.dist_intra,
    "dist": losses.dist,
}
RELATIONS = {n: f for n, f in BATCH.items() if not n.startswith("dist")}
AXIS = "batch"


def each(table):
    return pytest.mark.parametrize("loss", table.values(), ids=table.keys())


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    return rng.normal(size=(8, 5)).astype(np.float32), rng.normal(size=(8, 5)).astype(
        np.float32
    )


# Values of the papers' official code, in float64, on one input.

ROW = np.arange(4)[:, None]
STUDENT = np.sin(0.5 + 1.7 * ROW + 0.9 * np.arange(5))
TEACHER = np.cos(0.3 + 1.1 * ROW + 1.3 * np.arange(7))
GOLDEN = [
    (losses.rkd_distance, 0.0296441495),
    (losses.rkd_angle, 0.0409671685),
    (losses.similarity_preserving, 0.1483890634),
    (losses.pkt, 0.0770844095),
    (losses.cka, 1 - 0.8115085777),
]


@pytest.mark.parametrize("loss, expected", GOLDEN)
def test_golden_value_of_the_official_code(loss, expected):
    with jax.enable_x64(True):
        assert abs(float(loss(STUDENT, TEACHER).mean()) - expected) < 1e-9


def test_golden_value_of_clip_affinity():
    with jax.enable_x64(True):
        pairs = (STUDENT, STUDENT[:, ::-1], TEACHER, TEACHER[:, ::-1])
        value = losses.clip_affinity(*pairs, student_scale=10.0, teacher_scale=10.0)
        assert abs(float(value.mean()) - 9.1758231563) < 1e-9


# Oracles: the papers' formulas in float64, with loops.


def huber(x):
    return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5


def rkd_distance_oracle(s, t):
    n = len(s)
    d = [
        [[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)]
        for x in (s, t)
    ]
    d = [np.array(x) / np.mean([v for row in x for v in row if v > 0]) for x in d]
    return [
        np.mean([huber(d[0][i, j] - d[1][i, j]) for j in range(n)]) for i in range(n)
    ]


def rkd_angle_oracle(s, t):
    n = len(s)

    def cosine(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / lengths if lengths else 0.0

    return [
        np.mean(
            [
                huber(cosine(s, i, j, k) - cosine(t, i, j, k))
                for j in range(n)
                for k in range(n)
            ]
        )
        for i in range(n)
    ]


def similarity_oracle(s, t):
    rows = [(x @ x.T) / np.linalg.norm(x @ x.T, axis=1, keepdims=True) for x in (s, t)]
    return ((rows[0] - rows[1]) ** 2).mean(1)


def pkt_oracle(s, t):
    def neighbours(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        k = (x @ x.T + 1) / 2
        return k / k.sum(1, keepdims=True)

    q, p = neighbours(s), neighbours(t)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).mean(1)


def cka_oracle(s, t):
    s, t = s - s.mean(0), t - t.mean(0)
    squares = [np.linalg.norm(a.T @ b) for a, b in ((s, t), (s, s), (t, t))]
    return 1 - squares[0] ** 2 / (squares[1] * squares[2])


def debiased_cka_oracle(s, t):
    n = len(s)

    def hsic(k, m):  # over quadruples of different examples, as it is defined
        total = 0.0
        for i in range(n):
            for j in range(n):
                for a in range(n):
                    for b in range(n):
                        if len({i, j, a, b}) == 4:
                            total += k[i, j] * (m[i, j] + m[a, b] - 2 * m[i, a])
        return total / (n * (n - 1) * (n - 2) * (n - 3))

    k, m = s @ s.T, t @ t.T
    return 1 - hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


ORACLES = {
    "rkd_distance": rkd_distance_oracle,
    "rkd_angle": rkd_angle_oracle,
    "similarity_preserving": similarity_oracle,
    "pkt": pkt_oracle,
    "gram_correlation": lambda s, t: ((s @ s.T - t @ t.T) ** 2).mean(1),
    "cka": cka_oracle,
    "cka debiased": debiased_cka_oracle,
}


@pytest.mark.parametrize("name", ORACLES)
def test_value_and_gradient_are_those_of_the_formula(name, embeddings):
    s, t = (x.astype(np.float64) for x in embeddings)
    t = t[:, :4]  # of another width
    loss, oracle = RELATIONS[name], ORACLES[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss(s, t), oracle(s, t), rtol=1e-5, atol=1e-9)
        grad = jax.grad(lambda s: loss(s, t).mean())(s)
    for i, j in ((0, 0), (3, 2), (7, 4)):
        step = np.zeros_like(s)
        step[i, j] = 1e-5
        slope = (np.mean(oracle(s + step, t)) - np.mean(oracle(s - step, t))) / 2e-5
        np.testing.assert_allclose(grad[i, j], slope, rtol=1e-4, atol=1e-8)


# Laws.


@each(BATCH)
def test_zero_and_stationary_where_student_is_teacher(loss, embeddings):
    s = embeddings[0]
    value, grad = jax.value_and_grad(lambda s: loss(s, embeddings[0]).mean())(s)
    assert abs(value) < 1e-6
    np.testing.assert_allclose(grad, 0, atol=1e-5)


@each({n: f for n, f in RELATIONS.items() if n != "gram_correlation"})
def test_blind_to_the_scale_of_either_side(loss, embeddings):
    s, t = embeddings
    np.testing.assert_allclose(loss(3 * s, t), loss(s, t), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(loss(s, 5 * t), loss(s, t), rtol=1e-3, atol=1e-6)


@each(RELATIONS)
def test_blind_to_a_rotation(loss, embeddings):
    s, t = embeddings
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    rotated = (s @ rotation).astype(np.float32)
    np.testing.assert_allclose(loss(rotated, t), loss(s, t), rtol=1e-3, atol=1e-5)


@each(BATCH)
def test_examples_in_another_order_give_values_in_that_order(loss, embeddings):
    s, t = embeddings
    order = np.random.default_rng(2).permutation(8)
    values, there = loss(s, t), loss(s[order], t[order])
    expected = values[order] if jnp.ndim(values) else values
    np.testing.assert_allclose(there, expected, rtol=1e-4, atol=1e-6)


@each(BATCH)
@pytest.mark.parametrize("kind", ["equal rows", "zero rows", "huge"])
def test_finite_for_degenerate_batches(loss, kind, embeddings):
    s, t = (x.copy() for x in embeddings)
    if kind == "equal rows":
        s[:2], t[2:4] = 1, 1
    elif kind == "zero rows":
        s[:2], t[2:4] = 0, 0
    else:
        s, t = 1e4 * s, 1e4 * t
    value, grad = jax.value_and_grad(lambda s: loss(s, t).mean())(s)
    assert jnp.isfinite(value) and jnp.isfinite(grad).all()


@each(BATCH)
def test_nan_in_is_nan_out(loss, embeddings):
    s = embeddings[0].copy()
    s[3, 1] = np.nan
    assert jnp.isnan(jnp.mean(loss(s, embeddings[1])))


def test_a_batch_too_small_to_debias_is_refused():
    with pytest.raises(ValueError, match="batch of 3.*4 or more"):
        losses.cka(jnp.ones((3, 2)), jnp.ones((3, 2)), debiased=True)


@each(RELATIONS)
def test_embeddings_of_other_shapes_are_refused(loss):
    with pytest.raises(AssertionError):
        loss(jnp.ones((4, 2)), jnp.ones((5, 2)))
    with pytest.raises(AssertionError):
        loss(jnp.ones((4, 2, 2)), jnp.ones((4, 2, 2)))


# Shards: the same as the whole batch, for a student with a parameter.


def whole(loss, w, s, t):
    return jnp.mean(loss(s @ w, t))


def by_pmap(loss, w, s, t):
    def shard(w, s, t):
        def mean(w):
            return jnp.mean(loss(s @ w, t, axis_name=AXIS))

        return jax.lax.pmean(jax.value_and_grad(mean)(w), AXIS)

    parts = (x.reshape(4, 2, -1) for x in (s, t))
    value, grad = jax.pmap(shard, AXIS, in_axes=(None, 0, 0))(w, *parts)
    return value[0], grad[0]


def by_shard_map(loss, w, s, t):
    mesh = Mesh(np.array(jax.devices()), (AXIS,))
    spec = PartitionSpec

    def value(w, s, t):
        return jax.lax.pmean(jnp.mean(loss(s @ w, t, axis_name=AXIS)), AXIS)

    sharded = jax.shard_map(
        value, mesh=mesh, in_specs=(spec(), spec(AXIS), spec(AXIS)), out_specs=spec()
    )
    return jax.jit(jax.value_and_grad(sharded))(w, s, t)


@each(BATCH)
@pytest.mark.parametrize("by", [by_pmap, by_shard_map])
def test_a_sharded_batch_gives_value_and_gradient_of_the_whole(by, loss, embeddings):
    w = np.random.default_rng(3).normal(size=(5, 5)).astype(np.float32)
    expected = jax.value_and_grad(partial(whole, loss))(w, *embeddings)
    value, grad = by(loss, w, *embeddings)
    np.testing.assert_allclose(value, expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grad, expected[1], rtol=1e-4, atol=1e-6)


def test_a_sharded_clip_batch_gives_value_and_gradient_of_the_whole(embeddings):
    s, t = embeddings
    scales = {"student_scale": 7.0, "teacher_scale": 9.0}

    def loss(x, t, **options):
        return losses.clip_affinity(x, t, s_texts(t), t, **scales, **options)

    def s_texts(t):
        return t * np.float32(0.5) + 1

    w = np.eye(5, dtype=np.float32)
    expected = jax.value_and_grad(partial(whole, loss))(w, s, t)
    for by in (by_pmap, by_shard_map):
        value, grad = by(loss, w, s, t)
        np.testing.assert_allclose(value, expected[0], rtol=1e-5)
        np.testing.assert_allclose(grad, expected[1], rtol=1e-4, atol=1e-6)
