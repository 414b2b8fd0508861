"""Contrastive losses: the right pair against all other pairs."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    batch_mean,
    embeddings,
    gather,
    unit,
)
from kdjax.losses.ranges import Fraction, Positive


def clip_affinity(
    student_images: Array,
    student_texts: Array,
    teacher_images: Array,
    teacher_texts: Array,
    *,
    student_scale: Positive,
    teacher_scale: Positive,
    normalized: bool = False,
    axis_name: str | None = None,
) -> Array:
    r"""TinyCLIP's affinity mimicking: cross-entropy between image-text affinities.

    The mean of two terms: over the batch's texts for each image, and over its images
    for each text. Its least value is not 0 but the teacher's entropy.

    Args:
      student_images: ``[B, d]``, normalised here unless ``normalized``.
      student_texts: ``[B, d]``.
      teacher_images: ``[B, e]``.
      teacher_texts: ``[B, e]``.
      student_scale: Inverse temperature of the student's softmax.
      teacher_scale: Inverse temperature of the teacher's softmax.
      normalized: Whether the embeddings are already normalised, or scaled on purpose.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one value per example: the mean of its image's and its text's.

    Example:
      >>> x = jnp.eye(2)
      >>> print(f"{clip_affinity(x, x, x, x, student_scale=0, teacher_scale=1)[0]:.6f}")
      0.693147

    References:
      Wu et al., `TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight
      Inheritance <https://arxiv.org/abs/2309.12314>`_, 2023, section 3.1.
    """
    checks.scalars(student_scale=student_scale, teacher_scale=teacher_scale)
    given = embeddings(student_images, student_texts, teacher_images, teacher_texts)
    images_s, texts_s, images_t, texts_t = (x if normalized else unit(x) for x in given)

    def one_way(from_s: Array, to_s: Array, from_t: Array, to_t: Array) -> Array:
        log_q = jax.nn.log_softmax(student_scale * from_s @ gather(to_s, axis_name).T)
        p = jax.nn.softmax(teacher_scale * from_t @ gather(to_t, axis_name).T)
        return -jnp.sum(p * log_q, -1)

    return (
        one_way(images_s, texts_s, images_t, texts_t)
        + one_way(texts_s, images_s, texts_t, images_t)
    ) / 2


def crd(
    student: Array,
    teacher: Array,
    *,
    dataset_size: Scalar,
    temperature: Positive = 0.07,
    axis_name: str | None = None,
) -> Array:
    r"""Contrastive representation distillation, with negatives from the batch.

    .. math:: -\log h_{ii} - \sum_{j \ne i} \log (1 - h_{ij}), \quad
              h_{ij} = \frac{e^{s_i^\top t_j / \tau}}{e^{s_i^\top t_j / \tau} + K / M}

    plus the same with student and teacher exchanged.

    Args:
      student: ``[B, d]``, after its linear embedding, normalised here.
      teacher: ``[B, d]``, after an embedding of its own.
      dataset_size: Number M of training examples. There are K = B - 1 negatives.
      temperature: Positive, the tau.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example; 0 for a batch of one.

    Example:
      >>> x = jnp.eye(4)
      >>> bool((crd(x, x, dataset_size=100) < crd(x, x[::-1], dataset_size=100)).all())
      True

    References:
      Tian et al., `Contrastive Representation Distillation
      <https://arxiv.org/abs/1910.10699>`_, 2020, section 3.1, equations 16 to 19.
    """
    checks.scalars(dataset_size=dataset_size, temperature=temperature)
    student, teacher = (unit(x) for x in embeddings(student, teacher))
    chex.assert_equal_shape([student, teacher])

    def one_way(anchors: Array, others: Array) -> Array:
        others = gather(others, axis_name)
        odds = anchors @ others.T / temperature
        odds -= jnp.log((len(others) - 1) / jnp.asarray(dataset_size, odds.dtype))
        first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * len(anchors)
        own = first + jnp.arange(len(anchors))[:, None] == jnp.arange(len(others))[None]
        return jnp.sum(jax.nn.softplus(jnp.where(own, -odds, odds)), -1)

    return one_way(student, teacher) + one_way(teacher, student)


class Memory(NamedTuple):
    """The last embeddings of all examples, and the constants that divide scores."""

    student: Array  # [M, d]
    teacher: Array  # [M, d]
    student_constant: Array  # [], 0 until a batch is seen
    teacher_constant: Array  # []


def crd_memory(key: Array, *, dataset_size: int, width: int) -> Memory:
    """A memory of random embeddings, for `crd_with_memory`.

    Args:
      key: Random key.
      dataset_size: Number M of training examples.
      width: Width d of the embeddings; 128 in the paper.

    Returns:
      The memory.

    Example:
      >>> crd_memory(jax.random.key(0), dataset_size=9, width=4).teacher.shape
      (9, 4)

    References:
      Tian et al., `Contrastive Representation Distillation
      <https://arxiv.org/abs/1910.10699>`_, 2020, section 3.3, as in its code.
    """
    shape, size = (2, dataset_size, width), (3 / width) ** 0.5
    banks = jax.random.uniform(key, shape, minval=-size, maxval=size)
    return Memory(banks[0], banks[1], jnp.zeros(()), jnp.zeros(()))


def crd_with_memory(
    student: Array,
    teacher: Array,
    memory: Memory,
    indices: Array,
    negatives: Array,
    *,
    temperature: Positive = 0.07,
    momentum: Fraction = 0.5,
    axis_name: str | None = None,
) -> tuple[Array, Memory]:
    r"""Contrastive representation distillation, with negatives from a memory.

    As `crd`, with negatives from a memory of all training examples, and with
    :math:`e^{\cdot} / Z` for :math:`e^{\cdot}`, where the code's constant Z is M times
    the mean score of the first batch.

    Args:
      student: ``[B, d]``, after its linear embedding, normalised here.
      teacher: ``[B, d]``, after an embedding of its own.
      memory: From `crd_memory`, or from the step before.
      indices: ``[B]``, places of the examples in the training set, in ``[0, M)``.
      negatives: ``[B, K]``, places of others, drawn at random or from other classes.
      temperature: Positive, the tau.
      momentum: Weight of the old embedding when an example's is updated, in ``[0, 1]``.
      axis_name: Mapped axis over which the batch is sharded, if any; each device then
        holds the same memory, updated from all shards.

    Returns:
      ``[B]``, one non-negative value per example, and the memory for the next step. An
      example with an index outside the memory gives NaN and does not change the memory.

    Example:
      >>> memory = crd_memory(jax.random.key(0), dataset_size=9, width=4)
      >>> x, negatives = jnp.eye(4)[:2], jnp.array([[4, 5, 6], [6, 7, 8]])
      >>> loss, memory = crd_with_memory(x, x, memory, jnp.array([0, 1]), negatives)
      >>> loss.shape
      (2,)

    References:
      Tian et al., `Contrastive Representation Distillation
      <https://arxiv.org/abs/1910.10699>`_, 2020, section 3.3, as in its code.
    """
    checks.scalars(temperature=temperature, momentum=momentum)
    student, teacher = (unit(x) for x in embeddings(student, teacher))
    chex.assert_equal_shape([student, teacher])
    memory = jax.lax.stop_gradient(jax.tree.map(jnp.asarray, memory))
    (batch, _), size = student.shape, len(memory.student)
    own_rows = checks.integers(indices, (batch,), "indices")
    others = checks.integers(negatives, (batch, *negatives.shape[1:]), "negatives")
    ratio = others.shape[-1] / size
    rows = jnp.concatenate([own_rows[:, None], others], -1)
    chosen, inside = checks.within(rows, size)
    inside = inside.all(-1)

    def one_way(anchors: Array, bank: Array, constant: Array) -> tuple[Array, Array]:
        if chosen.shape[-1] * anchors.shape[-1] < size:
            scores = jnp.einsum("bd,bkd->bk", anchors, bank[chosen])
        else:  # less memory than K embeddings for each anchor
            scores = jnp.take_along_axis(anchors @ bank.T, chosen, -1)
        scores = scores / temperature
        counts = jnp.broadcast_to(inside[:, None], scores.shape)
        fresh = batch_mean(jnp.exp(scores), counts, axis_name) * size
        constant = jax.lax.stop_gradient(jnp.where(constant > 0, constant, fresh))
        odds = scores - jnp.log(ratio * constant)
        own = jnp.arange(chosen.shape[-1]) == 0
        values = jax.nn.softplus(jnp.where(own[None], -odds, odds))
        return jnp.where(inside, jnp.sum(values, -1), jnp.nan), constant

    def remember(bank: Array, seen: Array) -> Array:
        rows = jnp.where(inside, indices, size)  # of no example
        rows, seen = (gather(x, axis_name) for x in (rows, seen))
        mixed = momentum * bank[rows] + (1 - momentum) * jax.lax.stop_gradient(seen)
        return bank.at[rows].set(unit(mixed).astype(bank.dtype), mode="drop")

    of_student, constant_s = one_way(student, memory.teacher, memory.student_constant)
    of_teacher, constant_t = one_way(teacher, memory.student, memory.teacher_constant)
    banks = remember(memory.student, student), remember(memory.teacher, teacher)
    return of_student + of_teacher, Memory(*banks, constant_s, constant_t)
