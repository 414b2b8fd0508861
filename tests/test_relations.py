"""Losses over the pairs of a batch: laws, oracles, and sharded batches."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.test_util import check_grads
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses

BATCH = {
    "rkd_distance": losses.rkd_distance,
    "rkd_angle": losses.rkd_angle,
    "similarity_preserving": losses.similarity_preserving,
    "pkt": losses.pkt,
    "gram_correlation": losses.gram_correlation,
    "consecutive_correlation": losses.consecutive_correlation,
    "crd": partial(losses.crd, dataset_size=50),
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

        def total(images, texts):
            scales = {"student_scale": 10.0, "teacher_scale": 10.0}
            return losses.clip_affinity(images, texts, *pairs[2:], **scales).mean()

        grads = jax.grad(total, (0, 1))(*map(jnp.asarray, pairs[:2]))
        for side in (0, 1):
            for i, j in ((0, 0), (3, 2), (1, 4)):
                step = np.zeros((4, 5))
                step[i, j] = 1e-6
                up, down = (
                    clip_oracle(*(x + h * (k == side) for k, x in enumerate(pairs[:2])))
                    for h in (step, -step)
                )
                np.testing.assert_allclose(
                    grads[side][i, j], (up - down) / 2e-6, rtol=1e-5, atol=1e-7
                )


def clip_oracle(images, texts):
    def affinity(x, y):
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return 10 * x @ y.T

    s, t = affinity(images, texts), affinity(TEACHER, TEACHER[:, ::-1])
    rows = [
        -(softmax(b, -1) * log_softmax(a, -1)).sum(-1).mean()
        for a, b in ((s, t), (s.T, t.T))
    ]
    return np.mean(rows)


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


def consecutive_oracle(s, t):
    delta = np.abs(s - t)
    pairs = [delta[i] @ delta[i + 1] for i in range(len(s) - 1)]
    return np.array([*pairs, 0]) * len(s) / (len(s) - 1)


def crd_oracle(s, t):
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    values = []
    for i in range(len(s)):
        value = 0.0
        for a, b in ((s, t), (t, s)):
            e = np.exp(b @ a[i] / 0.07)
            h = e / (e + (len(s) - 1) / 50)
            value -= np.log(h[i]) + sum(np.log(1 - np.delete(h, i)))
        values.append(value)
    return values


SAME_WIDTH = {"consecutive_correlation", "crd"}
ORACLES = {
    "consecutive_correlation": consecutive_oracle,
    "crd": crd_oracle,
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
    loss, oracle = RELATIONS[name], ORACLES[name]
    t = t if name in SAME_WIDTH else t[:, :4]
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss(s, t), oracle(s, t), rtol=1e-5, atol=1e-9)
        grad = jax.grad(lambda s: loss(s, t).mean())(s)
    for i, j in ((0, 0), (3, 2), (7, 4)):
        step = np.zeros_like(s)
        step[i, j] = 1e-5
        slope = (np.mean(oracle(s + step, t)) - np.mean(oracle(s - step, t))) / 2e-5
        np.testing.assert_allclose(grad[i, j], slope, rtol=1e-4, atol=1e-8)


# Laws.


@each({n: f for n, f in BATCH.items() if n != "crd"})
def test_zero_and_stationary_where_student_is_teacher(loss, embeddings):
    s = embeddings[0]
    value, grad = jax.value_and_grad(lambda s: loss(s, embeddings[0]).mean())(s)
    assert abs(value) < 1e-6
    np.testing.assert_allclose(grad, 0, atol=1e-5)


@each({n: f for n, f in RELATIONS.items() if "_correlation" not in n})
def test_blind_to_the_scale_of_either_side(loss, embeddings):
    s, t = embeddings
    np.testing.assert_allclose(loss(3 * s, t), loss(s, t), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(loss(s, 5 * t), loss(s, t), rtol=1e-3, atol=1e-6)


@each({n: f for n, f in RELATIONS.items() if n not in SAME_WIDTH})
def test_blind_to_a_rotation(loss, embeddings):
    s, t = embeddings
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    rotated = (s @ rotation).astype(np.float32)
    np.testing.assert_allclose(loss(rotated, t), loss(s, t), rtol=1e-3, atol=1e-5)


@each({n: f for n, f in BATCH.items() if n != "consecutive_correlation"})
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


TAKES_TWO = {"cka", "cka debiased", "dist", "dist_intra"}


@each({n: f for n, f in BATCH.items() if n not in TAKES_TWO})
def test_a_batch_of_one_relates_to_nothing(loss, embeddings):
    s, t = (x[:1] for x in embeddings)
    value, grad = jax.value_and_grad(lambda s: loss(s, t).mean())(s)
    assert jnp.isfinite(grad).all()
    if loss is not losses.gram_correlation:
        np.testing.assert_allclose(value, 0, atol=1e-6)
        np.testing.assert_allclose(grad, 0, atol=1e-6)


@each({n: BATCH[n] for n in sorted(TAKES_TWO)})
def test_a_batch_too_small_to_correlate_is_refused(loss):
    with pytest.raises(ValueError, match="batch of 1, but takes [24] or more"):
        loss(jnp.ones((1, 2)), jnp.ones((1, 2)))


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


def test_crd_falls_as_right_pairs_come_together():
    t = np.eye(8, dtype=np.float32)
    other = np.roll(t, 1, 0)
    values = [
        float(losses.crd((1 - x) * other + x * t, t, dataset_size=50).mean())
        for x in (0.0, 0.3, 0.7, 1.0)
    ]
    assert values == sorted(values, reverse=True) and values[0] > 1.5 * values[-1]


# CRD with its memory.


@pytest.fixture
def memory():
    return losses.crd_memory(jax.random.key(0), dataset_size=20, width=5)


INDICES = np.array([3, 17, 5, 0, 11, 8, 2, 13])
NEGATIVES = np.random.default_rng(4).integers(0, 20, (8, 6))


def test_a_new_memory_is_uniform_and_without_constants(memory):
    size = np.sqrt(3 / 5)
    for bank in (memory.student, memory.teacher):
        assert bank.shape == (20, 5) and (abs(bank) <= size).all()
        assert abs(bank).max() > 0.9 * size and abs(bank.mean()) < 0.3
    assert (memory.student != memory.teacher).all()
    assert memory.student_constant == memory.teacher_constant == 0


def test_crd_with_memory_is_the_code_of_its_authors_in_float64(embeddings, memory):
    s, t = (x.astype(np.float64) for x in embeddings)
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    banks = [np.asarray(b, np.float64) for b in memory[:2]]
    rows = np.concatenate([INDICES[:, None], NEGATIVES], 1)
    constants, values = [None, None], None
    for step in range(2):  # the second with the constants of the first
        total = np.zeros(8)
        for side, (anchor, bank) in enumerate(((s, banks[1]), (t, banks[0]))):
            e = np.exp(np.einsum("bd,bkd->bk", anchor, bank[rows]) / 0.07)
            constants[side] = constants[side] or e.mean() * 20
            h = e / constants[side]
            h = h / (h + 6 / 20)
            total -= np.log(h[:, 0]) + np.log(1 - h[:, 1:]).sum(1)
        values, memory = losses.crd_with_memory(*embeddings, memory, INDICES, NEGATIVES)
        np.testing.assert_allclose(values, total, rtol=1e-4, err_msg=f"step {step}")
        for bank, seen in zip(banks, (s, t), strict=True):
            mixed = (bank[INDICES] + seen) / 2
            bank[INDICES] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        for ours, theirs in zip(memory[:2], banks, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(memory[2:], constants, rtol=1e-4)


def test_the_gradient_of_crd_with_memory_is_that_of_its_value(embeddings, memory):
    with jax.enable_x64(True):
        s, t = (x.astype(np.float64) for x in embeddings)
        wide = jax.tree.map(lambda x: jnp.asarray(x, np.float64), memory)
        _, wide = losses.crd_with_memory(s, t, wide, INDICES, NEGATIVES)

        def loss(s, t):
            return losses.crd_with_memory(s, t, wide, INDICES, NEGATIVES)[0]

        check_grads(loss, (s, t), order=1, modes=["rev"], rtol=1e-6)
        # The constant that a first batch sets is held fixed.
        unset = wide._replace(student_constant=0.0 * wide.student_constant)
        set_ = unset._replace(
            student_constant=losses.crd_with_memory(s, t, unset, INDICES, NEGATIVES)[
                1
            ].student_constant
        )
        grads = [
            jax.grad(
                lambda s, m=m: losses.crd_with_memory(s, t, m, INDICES, NEGATIVES)[
                    0
                ].sum()
            )(s)
            for m in (unset, set_)
        ]
        np.testing.assert_allclose(*grads, rtol=1e-9)


@pytest.mark.parametrize("known", [False, True], ids=["first batch", "later"])
def test_a_sharded_batch_leaves_the_memory_of_the_whole(known, embeddings, memory):
    if known:
        memory = losses.crd_with_memory(*embeddings, memory, INDICES, NEGATIVES)[1]
    batch = (*embeddings, INDICES, NEGATIVES)

    def loss(s, t, indices, negatives, axis_name=None):
        return losses.crd_with_memory(
            s, t, memory, indices, negatives, axis_name=axis_name
        )

    values, after = loss(*batch)
    shards = (x.reshape(4, 2, *x.shape[1:]) for x in batch)
    parts, memories = jax.pmap(partial(loss, axis_name=AXIS), AXIS)(*shards)
    np.testing.assert_allclose(parts.reshape(-1), values, rtol=1e-4)
    for device in range(4):
        for ours, theirs in zip(memories, after, strict=True):
            np.testing.assert_allclose(ours[device], theirs, rtol=1e-5, atol=1e-6)
