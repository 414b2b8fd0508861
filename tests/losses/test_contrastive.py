"""The right pair told from all others: laws, oracles, and CRD with its memory."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdjax import losses
from tests.losses import batches
from tests.losses.batches import AXIS, STUDENT, TEACHER
from tests.losses.golden import STUDENT_EMBEDDING, TEACHER_EMBEDDING
from tests.losses.programs import (
    check_gradients,
    run,
    value,
    value_and_grad,
    value_and_grads,
)


@pytest.mark.parametrize("law, name", batches.of("contrastive"))
def test_law(law, name):
    law(name)


def crd(s, t):
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    values = []
    for i in range(len(s)):
        total = 0.0
        for a, b in ((s, t), (t, s)):
            e = np.exp(b @ a[i] / 0.07)
            h = e / (e + (len(s) - 1) / 50)
            total -= np.log(h[i]) + sum(np.log(1 - np.delete(h, i)))
        values.append(total)
    return values


def test_value_and_gradient_are_those_of_the_formula():
    batches.check_formula("crd", crd)


def test_crd_falls_as_right_pairs_come_together():
    t = np.eye(8, dtype=np.float32)
    other = np.roll(t, 1, 0)
    values = [
        value(losses.crd, (1 - x) * other + x * t, t, dataset_size=50).mean()
        for x in np.float32([0, 0.3, 0.7, 1])
    ]
    assert values == sorted(values, reverse=True) and values[0] > 1.5 * values[-1]


# TinyCLIP.


def clip(images, texts):
    def affinity(x, y):
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        return 10 * x @ y.T

    s = affinity(images, texts)
    t = affinity(TEACHER_EMBEDDING, TEACHER_EMBEDDING[:, ::-1])
    rows = [
        -(softmax(b, -1) * log_softmax(a, -1)).sum(-1).mean()
        for a, b in ((s, t), (s.T, t.T))
    ]
    return np.mean(rows)


def test_golden_value_of_clip_affinity():
    pair = STUDENT_EMBEDDING, STUDENT_EMBEDDING[:, ::-1]
    with jax.enable_x64(True):
        found, grads = value_and_grads(
            losses.clip_affinity,
            *pair,
            teacher_images=TEACHER_EMBEDDING,
            teacher_texts=TEACHER_EMBEDDING[:, ::-1],
            student_scale=10.0,
            teacher_scale=10.0,
        )
    assert abs(float(found.mean()) - 9.1758231563) < 1e-9
    for side in (0, 1):
        for i, j in ((0, 0), (3, 2), (1, 4)):
            step = np.zeros((4, 5))
            step[i, j] = 1e-6
            up, down = (
                clip(*(x + h * (k == side) for k, x in enumerate(pair)))
                for h in (step, -step)
            )
            np.testing.assert_allclose(
                grads[side][i, j] / found.size,
                (up - down) / 2e-6,
                rtol=1e-5,
                atol=1e-7,
            )


def test_embeddings_said_to_be_normalized_are_multiplied_as_they_are():
    images, texts = 2 * STUDENT_EMBEDDING, STUDENT_EMBEDDING[:, ::-1]
    scales = {"student_scale": 3.0, "teacher_scale": 5.0}
    teacher = TEACHER_EMBEDDING, TEACHER_EMBEDDING[:, ::-1]
    s, t = 3 * images @ texts.T, 5 * teacher[0] @ teacher[1].T
    pairs = (s, t), (s.T, t.T)
    ways = [-(softmax(b, -1) * log_softmax(a, -1)).sum(-1) for a, b in pairs]
    with jax.enable_x64(True):
        loss = partial(losses.clip_affinity, normalized=True)
        found = value(loss, images, texts, *teacher, **scales)
    np.testing.assert_allclose(found, (ways[0] + ways[1]) / 2, rtol=1e-9)


def affinity(student, teacher, **options):
    texts = teacher * np.float32(0.5) + 1
    scales = {"student_scale": 7.0, "teacher_scale": 9.0}
    return losses.clip_affinity(student, teacher, texts, teacher, **scales, **options)


@pytest.mark.parametrize("by", [batches.by_pmap, batches.by_shard_map])
def test_a_sharded_clip_batch_gives_value_and_gradient_of_the_whole(by):
    values, slope = value_and_grad(affinity, STUDENT, TEACHER)
    found, grad = by(affinity, np.eye(5, dtype=np.float32), STUDENT, TEACHER)
    np.testing.assert_allclose(found, values.mean(), rtol=1e-5)
    expected = STUDENT.T @ slope / values.size
    np.testing.assert_allclose(grad, expected, rtol=1e-4, atol=1e-6)


# CRD with its memory.

INDICES = np.array([3, 17, 5, 0, 11, 8, 2, 13])
NEGATIVES = np.random.default_rng(4).integers(0, 20, (8, 6))


def new_memory(size=20):
    new = partial(losses.crd_memory, dataset_size=size, width=5)
    return value(new, jax.random.key(0))


def with_memory(s, t, memory):
    """Values, and the memory after them."""
    return value(losses.crd_with_memory, s, t, memory, INDICES, NEGATIVES)


def values_with_memory(*args, **options):
    return losses.crd_with_memory(*args, **options)[0]


def test_a_new_memory_is_uniform_and_without_constants():
    memory, size = new_memory(), np.sqrt(3 / 5)
    for bank in (memory.student, memory.teacher):
        assert bank.shape == (20, 5) and (abs(bank) <= size).all()
        assert abs(bank).max() > 0.9 * size and abs(bank.mean()) < 0.3
    assert (memory.student != memory.teacher).all()
    assert memory.student_constant == memory.teacher_constant == 0


@pytest.mark.parametrize("size", [20, 300])  # of the latter few are negatives
def test_crd_with_memory_is_the_code_of_its_authors_in_float64(size):
    memory = new_memory(size)
    s, t = (x.astype(np.float64) for x in (STUDENT, TEACHER))
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (s, t))
    banks = [b.astype(np.float64) for b in memory[:2]]
    rows = np.concatenate([INDICES[:, None], NEGATIVES], 1)
    constants = [None, None]
    for step in range(2):  # the second with the constants of the first
        total = np.zeros(8)
        for side, (anchor, bank) in enumerate(((s, banks[1]), (t, banks[0]))):
            e = np.exp(np.einsum("bd,bkd->bk", anchor, bank[rows]) / 0.07)
            constants[side] = constants[side] or e.mean() * size
            h = e / constants[side]
            h = h / (h + 6 / size)
            total -= np.log(h[:, 0]) + np.log(1 - h[:, 1:]).sum(1)
        values, memory = with_memory(STUDENT, TEACHER, memory)
        np.testing.assert_allclose(values, total, rtol=1e-4, err_msg=f"step {step}")
        for bank, seen in zip(banks, (s, t), strict=True):
            mixed = (bank[INDICES] + seen) / 2
            bank[INDICES] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
        for ours, theirs in zip(memory[:2], banks, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(memory[2:], constants, rtol=1e-4)


def test_the_gradient_of_crd_with_memory_is_that_of_its_value():
    with jax.enable_x64(True):
        s, t = (x.astype(np.float64) for x in (STUDENT, TEACHER))
        memory = jax.tree.map(np.float64, new_memory())
        _, memory = with_memory(s, t, memory)
        batch = {"indices": INDICES, "negatives": NEGATIVES}
        check_gradients(values_with_memory, s, t, memory=memory, **batch)
        # The constant that a first batch sets is held fixed.
        unset = memory._replace(student_constant=np.float64(0))
        _, after = with_memory(s, t, unset)
        set_ = unset._replace(student_constant=after.student_constant)
        slopes = [
            value_and_grad(values_with_memory, s, t, memory=m, **batch)[1]
            for m in (unset, set_)
        ]
        np.testing.assert_allclose(*slopes, rtol=1e-9)


@pytest.mark.parametrize("known", [False, True], ids=["first batch", "later"])
def test_a_sharded_batch_leaves_the_memory_of_the_whole(known):
    memory = new_memory()
    if known:
        _, memory = with_memory(STUDENT, TEACHER, memory)
    values, after = with_memory(STUDENT, TEACHER, memory)

    def shard(s, t, indices, negatives, memory):
        return losses.crd_with_memory(s, t, memory, indices, negatives, axis_name=AXIS)

    batch = STUDENT, TEACHER, INDICES, NEGATIVES
    shards = (x.reshape(4, 2, *x.shape[1:]) for x in batch)
    by_device = jax.pmap(shard, AXIS, in_axes=(0, 0, 0, 0, None))
    parts, memories = run(by_device, *shards, memory)
    np.testing.assert_allclose(parts.reshape(-1), values, rtol=1e-4)
    for device in range(4):
        for ours, theirs in zip(memories, after, strict=True):
            np.testing.assert_allclose(ours[device], theirs, rtol=1e-5, atol=1e-6)
