"""Controls that leave out a part of what the teacher predicts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import Array, batch_mean, classes, normalise, present
from kdjax.losses.logits import cross_entropy
from kdjax.losses.ranges import Fraction


def label_smoothing(
    student_logits: Array,
    labels: Array,
    *,
    smoothing: Fraction,
    class_mask: Array | None = None,
) -> Array:
    r"""Cross-entropy with the label mixed with a uniform distribution.

    .. math:: -(1 - \epsilon) \log q_y - \frac{\epsilon}{C} \sum_c \log q_c

    Soft targets without a teacher: the control for any gain that is attributed to
    soft targets as such. Classes with logit ``-inf`` are ignored.

    Args:
      student_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      smoothing: Weight of the uniform distribution, in ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example; 0 without a label. If the
      label's class is ruled out, only the uniform part is left.

    Example:
      >>> print(f"{label_smoothing(jnp.zeros(4), jnp.array(1), smoothing=0.1):.6f}")
      1.386294

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2015, section 7.
    """
    checks.scalars(smoothing=smoothing)
    logits, _, class_mask = classes(student_logits, student_logits, class_mask)
    _, labelled = checks.labels(labels, logits)
    exists = class_mask & present(logits) & labelled[..., None]
    _, top, rest = normalise(logits, exists)
    count = jnp.maximum(jnp.sum(exists, -1), 1)
    below = jnp.sum(jnp.where(exists, top - logits, 0), -1) / count
    uniform = below + rest[..., 0]
    hard = cross_entropy(logits, labels, class_mask=exists)
    return (1 - smoothing) * hard + smoothing * uniform


def teacher_argmax(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    """Cross-entropy with the teacher's most probable class.

    The control that keeps the teacher's corrections to the labels and drops its soft
    targets.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> print(f"{teacher_argmax(jnp.zeros(4), jnp.arange(4.0)):.6f}")  # log 4
      1.386294

    References:
      Kim et al., `Comparing Kullback-Leibler Divergence and Mean Squared Error
      Loss in Knowledge Distillation <https://arxiv.org/abs/2105.08919>`_, 2021,
      section 3 (the limit T -> 0).
    """
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    exists = class_mask & present(student)
    known = exists & present(teacher)
    labels = jnp.argmax(jnp.where(known, teacher, -jnp.inf), -1)
    labels = jnp.where(known.any(-1), labels, -1)
    return cross_entropy(student, labels, class_mask=exists)


def confidence_weighted(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    class_mask: Array | None = None,
    axis_name: str | None = None,
) -> Array:
    r"""CWTM: cross-entropy with the labels, weighted by the teacher's confidence.

    .. math:: \frac{w_i}{\frac1B \sum_j w_j} (-\log q_{y_i}), \quad
              w_i = \max_c p_{ic}

    The control that keeps the teacher's view of how hard an example is and drops what
    it predicts of the other classes.

    Args:
      student_logits: ``[B, C]``, floating.
      teacher_logits: ``[B, C]``, floating.
      labels: ``[B]``, integers in ``[0, C)``.
      class_mask: Classes to keep, broadcastable to ``[B, C]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value in nats per example; 0 without a label, or where
      the teacher has no class, and the mean of the weights leaves those out.

    Example:
      >>> z = jnp.array([[0.0, 0.0], [0.0, 9.0]])
      >>> weighted = confidence_weighted(jnp.zeros((2, 2)), z, jnp.array([0, 1]))
      >>> print(f"{weighted[1] / weighted[0]:.2f}")  # twice as sure
      2.00

    References:
      Furlanello et al., `Born-Again Neural Networks
      <https://arxiv.org/abs/1805.04770>`_, 2018, section 3.2.
    """
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    _, labelled = checks.labels(labels, student)
    exists = class_mask & present(teacher) & labelled[..., None]
    p, _, _ = normalise(teacher, exists)
    confidence = jnp.max(p, -1)
    counts = exists.any(-1) & ~jnp.isnan(confidence)
    mean = batch_mean(confidence, counts, axis_name)
    return (
        confidence
        / jnp.where(mean == 0, 1, mean)
        * cross_entropy(student, labels, class_mask=class_mask)
    )


def permute_others(key: Array, teacher_logits: Array) -> Array:
    r"""DKPP: the teacher's logits, permuted except for the largest of each example.

    The control that keeps the teacher's confidence and the values of its other
    probabilities, and destroys class similarity. Pass the result to any loss as the
    teacher's logits.

    Args:
      key: Random key; each example is permuted independently.
      teacher_logits: ``[..., C]``.

    Returns:
      ``[..., C]``.

    Example:
      >>> z = jnp.array([1.0, 9.0, 2.0, 3.0])
      >>> permuted = permute_others(jax.random.key(0), z)
      >>> float(permuted[1]), sorted(permuted.tolist())
      (9.0, [1.0, 2.0, 3.0, 9.0])

    References:
      Furlanello et al., `Born-Again Neural Networks
      <https://arxiv.org/abs/1805.04770>`_, 2018, section 3.2.
    """
    size = teacher_logits.shape[-1]
    largest = jax.nn.one_hot(jnp.argmax(teacher_logits, -1), size, dtype=bool)
    # Sorted by random numbers, the largest first; then dealt out to the same places.
    draw = jax.random.uniform(key, teacher_logits.shape)
    source = jnp.argsort(jnp.where(largest, -1, draw), -1)
    places = jnp.argsort(jnp.where(largest, -1, jnp.arange(size, dtype=draw.dtype)), -1)
    values = jnp.take_along_axis(teacher_logits, source, -1)
    return jnp.take_along_axis(values, jnp.argsort(places, -1), -1)
