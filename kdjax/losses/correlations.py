"""Losses of the form one minus a correlation: DIST and CKA.

Correlations over a batch need at least two examples, and raise ValueError for one.
"""

from __future__ import annotations

import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    classes,
    compare,
    cosine_distance,
    embeddings,
    gather,
    mean,
)
from kdjax.losses.ranges import Positive


def _probabilities(
    student_logits: Array, teacher_logits: Array, temperature: Scalar
) -> tuple[Array, Array, Array]:
    """Those of student and teacher, and which rows have any class on both sides."""
    checks.scalars(temperature=temperature)
    sides = classes(student_logits, teacher_logits, None)
    p, q, _ = compare(*sides, temperature)
    return q, p, ~(p == 0).all(-1)


def _pearson_distance(a: Array, b: Array, counts: Array) -> Array:
    """One minus the correlation along the last axis; 1 where either is constant."""
    counts = jnp.broadcast_to(counts, a.shape)
    centred = (jnp.where(counts, x - mean(x, counts)[..., None], 0) for x in (a, b))
    return cosine_distance(*centred)


def dist_inter(
    student_logits: Array, teacher_logits: Array, *, temperature: Positive = 1.0
) -> Array:
    r"""DIST's inter-class term: one minus each example's correlation over classes.

    .. math:: T^2 \big(1 - \rho(q_i, p_i)\big)

    Args:
      student_logits: ``[B, C]``, floating.
      teacher_logits: ``[B, C]``, floating.
      temperature: Positive scalar.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0]])
      >>> print(f"{dist_inter(z, z)[0]:.6f}")
      0.000000

    References:
      Huang et al., `Knowledge Distillation from A Stronger Teacher
      <https://arxiv.org/abs/2205.10536>`_, 2022, section 3.2; the factor of the code.
    """
    q, p, rows = _probabilities(student_logits, teacher_logits, temperature)
    return jnp.where(rows, temperature**2 * _pearson_distance(q, p, rows[:, None]), 0)


def dist_intra(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Positive = 1.0,
    axis_name: str | None = None,
) -> Array:
    r"""DIST's intra-class term: one minus each class's correlation over the batch.

    .. math:: T^2 \Big(1 - \frac1C \sum_c \rho(q_{\cdot c}, p_{\cdot c})\Big)

    Args:
      student_logits: ``[B, C]``, floating.
      teacher_logits: ``[B, C]``, floating.
      temperature: Positive scalar.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[]``, one non-negative value per batch.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 5.0]])
      >>> print(f"{dist_intra(z, z):.6f}")
      0.000000

    References:
      Huang et al., `Knowledge Distillation from A Stronger Teacher
      <https://arxiv.org/abs/2205.10536>`_, 2022, section 3.2; the factor of the code.
    """
    sides = _probabilities(student_logits, teacher_logits, temperature)
    q, p, rows = (gather(x, axis_name) for x in sides)
    _check_batch(q, 2)
    return temperature**2 * jnp.mean(_pearson_distance(q.T, p.T, rows[None]))


def dist(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Positive = 1.0,
    inter_weight: Scalar = 1.0,
    intra_weight: Scalar = 1.0,
    axis_name: str | None = None,
) -> Array:
    r"""DIST: `dist_inter` and `dist_intra`, each with its weight.

    Args:
      student_logits: ``[B, C]``, floating.
      teacher_logits: ``[B, C]``, floating.
      temperature: Positive scalar.
      inter_weight: The paper's beta.
      intra_weight: The paper's gamma.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example, to each of which the intra-class term
      of the batch is added; 0 where either side has no class.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0], [0.0, 1.0, 5.0]])
      >>> print(f"{dist(z, z).mean():.6f}")
      0.000000

    References:
      Huang et al., `Knowledge Distillation from A Stronger Teacher
      <https://arxiv.org/abs/2205.10536>`_, 2022, section 3.2.
    """
    checks.scalars(inter_weight=inter_weight, intra_weight=intra_weight)
    _, _, rows = _probabilities(student_logits, teacher_logits, temperature)
    inter = dist_inter(student_logits, teacher_logits, temperature=temperature)
    intra = dist_intra(
        student_logits, teacher_logits, temperature=temperature, axis_name=axis_name
    )
    return jnp.where(rows, inter_weight * inter + intra_weight * intra, 0)


def cka(
    student: Array,
    teacher: Array,
    *,
    debiased: bool = False,
    axis_name: str | None = None,
) -> Array:
    r"""One minus linear centred kernel alignment (CKA).

    .. math:: 1 - \frac{\|S^\top T\|_F^2}{\|S^\top S\|_F \, \|T^\top T\|_F}

    for embeddings from which the mean over the batch is subtracted. Rotating or scaling
    either side changes nothing.

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      debiased: Whether to use unbiased estimates of the three norms, better for small
        batches. Needs at least four examples; the value may then lie outside [0, 1].
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[]``, one value per batch.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (8, 3))
      >>> print(f"{cka(5 * x[:, ::-1], x):.6f}")
      0.000000

    References:
      Kornblith et al., `Similarity of Neural Network Representations Revisited
      <https://arxiv.org/abs/1905.00414>`_, 2019, section 3; debiased as in Nguyen et
      al., `Do Wide and Deep Networks Learn the Same Things?
      <https://arxiv.org/abs/2010.15327>`_, 2021, section 2.
    """
    student, teacher = (gather(x, axis_name) for x in embeddings(student, teacher))
    _check_batch(student, 4 if debiased else 2)
    s, t = (x @ x.T for x in (student, teacher))
    if debiased:
        both = _unbiased_hsic(s, s) * _unbiased_hsic(t, t)
        return 1 - _unbiased_hsic(s, t) / jnp.sqrt(both)
    return cosine_distance(_centre(s).reshape(-1), _centre(t).reshape(-1))


def _check_batch(batch: Array, least: int) -> None:
    if len(batch) < least:
        raise ValueError(f"a batch of {len(batch)}, but takes {least} or more")


def _centre(gram: Array) -> Array:
    gram = gram - jnp.mean(gram, 0, keepdims=True)
    return gram - jnp.mean(gram, 1, keepdims=True)


def _unbiased_hsic(a: Array, b: Array) -> Array:
    n = len(a)
    a, b = (gram * (1 - jnp.eye(n, dtype=gram.dtype)) for gram in (a, b))
    means = jnp.sum(a) * jnp.sum(b) / ((n - 1) * (n - 2))
    rows = jnp.sum(jnp.sum(a, 0) * jnp.sum(b, 0)) * 2 / (n - 2)
    return (jnp.sum(a * b) + means - rows) / (n * (n - 3))
