"""Losses in which the right pair is told from all other pairs of the batch."""

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
    axis_name: str | None = None,
) -> Array:
    r"""TinyCLIP's affinity mimicking: cross-entropy between image-text affinities.

    For each image the distribution over the texts of the batch, for each text that over
    its images; half of either. Not 0 at the optimum, where it is the teacher's entropy.

    Args:
      student_images: ``[B, d]``, scaled to length 1 here.
      student_texts: ``[B, d]``.
      teacher_images: ``[B, e]``.
      teacher_texts: ``[B, e]``.
      student_scale: Inverse temperature of the student's softmax.
      teacher_scale: And of the teacher's.
      axis_name: Of the mapped axis that the batch is sharded over, if it is.

    Returns:
      ``[B]``, one value an example: that of its image and that of its text.

    Example:
      >>> x = jnp.eye(2)
      >>> print(f"{clip_affinity(x, x, x, x, student_scale=0, teacher_scale=1)[0]:.6f}")
      0.693147

    References:
      Wu et al., `TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight
      Inheritance <https://arxiv.org/abs/2309.12314>`_, 2023, section 3.1.
    """
    checks.scalars(student_scale=student_scale, teacher_scale=teacher_scale)
    images_s, texts_s, images_t, texts_t = (
        unit(x)
        for x in embeddings(
            student_images, student_texts, teacher_images, teacher_texts
        )
    )

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
    r"""Contrastive representation distillation, against the others of the batch.

    .. math:: -\log h_{ii} - \sum_{j \ne i} \log (1 - h_{ij}), \quad
              h_{ij} = \frac{e^{s_i^\top t_j / \tau}}{e^{s_i^\top t_j / \tau} + K / M}

    and the same of the teacher's embedding among the student's, added.

    Args:
      student: ``[B, d]``, after its linear embedding, scaled to length 1 here.
      teacher: ``[B, d]``, after an embedding of its own.
      dataset_size: M, the examples that the K = B - 1 others stand for.
      temperature: Positive, the tau.
      axis_name: Of the mapped axis that the batch is sharded over, if it is.

    Returns:
      ``[B]``, one non-negative value an example; 0 for a batch of one.

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
    """Embeddings of all examples as last seen, and what their scores are divided by."""

    student: Array  # [M, d]
    teacher: Array  # [M, d]
    student_constant: Array  # [], 0 until a batch is seen
    teacher_constant: Array  # []


def crd_memory(key: Array, *, dataset_size: int, width: int) -> Memory:
    """A memory of random embeddings, for `crd_with_memory`.

    Args:
      key: Of `jax.random`.
      dataset_size: M, how many examples there are.
      width: d, of the embeddings; the authors' is 128.

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
    r"""Contrastive representation distillation, against a memory of all examples.

    As `crd`, with embeddings from the memory for those of the batch, and
    :math:`e^{\cdot} / Z` for :math:`e^{\cdot}`: the code's constant Z, M times the mean
    of the first batch's scores.

    Args:
      student: ``[B, d]``, after its linear embedding, scaled to length 1 here.
      teacher: ``[B, d]``, after an embedding of its own.
      memory: From `crd_memory`, or from the step before.
      indices: ``[B]``, of the examples in the data, integers in ``[0, M)``.
      negatives: ``[B, K]``, those of others: drawn at random, or of another class.
      temperature: Positive, the tau.
      momentum: What stays of an example's embedding when it is seen, in ``[0, 1]``.
      axis_name: Of the mapped axis that the batch is sharded over, if it is; the memory
        is then the same on each device, and sees all shards.

    Returns:
      ``[B]``, one non-negative value an example, and the memory for the next step. An
      example with an index outside the memory has NaN, and leaves no trace in it.

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
        scores = jnp.einsum("bd,bkd->bk", anchors, bank[chosen]) / temperature
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
        return bank.at[rows].set(unit(mixed), mode="drop")

    of_student, constant_s = one_way(student, memory.teacher, memory.student_constant)
    of_teacher, constant_t = one_way(teacher, memory.student, memory.teacher_constant)
    banks = remember(memory.student, student), remember(memory.teacher, teacher)
    return of_student + of_teacher, Memory(*banks, constant_s, constant_t)
