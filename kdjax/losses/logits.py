"""Losses on a classifier's logits, with or without labels."""

from __future__ import annotations

import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    classes,
    norm,
    normalise,
    present,
    tempered_kl,
    widen,
)
from kdjax.losses.ranges import Fraction, Positive


def soft_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Positive,
    class_mask: Array | None = None,
) -> Array:
    r"""KL divergence from the softened teacher to the softened student.

    .. math:: T^2 \sum_c p_c \log(p_c / q_c), \quad
              p = \mathrm{softmax}(z^t / T), \; q = \mathrm{softmax}(z^s / T)

    Its gradient with respect to the student's logits is :math:`T (q - p)`. The factor
    :math:`T^2` keeps it of order one as ``T`` grows; the limit is `centered_logit_mse`.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      temperature: Positive scalar.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0]])
      >>> float(soft_kl(z, z, temperature=4.0)[0])
      0.0

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    kl = tempered_kl(
        student_logits, teacher_logits, temperature=temperature, class_mask=class_mask
    )
    return temperature**2 * kl


def cross_entropy(
    student_logits: Array, labels: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Cross-entropy with hard labels, :math:`-\log q_y`: training without a teacher.

    Args:
      student_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example; 0 without a label, and
      where the label's class is ruled out, by ``class_mask`` or a logit of ``-inf``.

    Example:
      >>> print(f"{cross_entropy(jnp.zeros(4), jnp.array(1)):.6f}")  # log 4
      1.386294
    """
    logits, _, class_mask = classes(student_logits, student_logits, class_mask)
    labels, labelled = checks.labels(labels, logits)
    exists = class_mask & present(logits) & labelled[..., None]
    _, top, rest = normalise(logits, exists)
    labels = labels[..., None]
    here = jnp.take_along_axis(exists, labels, -1)
    logit = jnp.take_along_axis(jnp.where(exists, logits, 0), labels, -1)
    return jnp.where(here, (top - logit) + rest, 0)[..., 0]


def hinton(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive,
    alpha: Fraction,
    class_mask: Array | None = None,
) -> Array:
    r"""Hinton's loss: a weighted sum of `soft_kl` and `cross_entropy`.

    .. math:: \alpha \, T^2 \, \mathrm{KL}(p^T \| q^T) - (1 - \alpha) \log q_y, \quad
              p^T = \mathrm{softmax}(z / T)

    For an example without a label, the second term is 0.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive; softens student and teacher in the first term only.
      alpha: Weight of the teacher, in ``[0, 1]``; 0 is training with hard labels.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> z = jnp.zeros((1, 4))
      >>> loss = hinton(z, z, jnp.array([3]), temperature=4.0, alpha=0.5)
      >>> print(f"{loss[0]:.6f}")  # half of log 4
      0.693147

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    checks.scalars(alpha=alpha)
    soft = soft_kl(
        student_logits, teacher_logits, temperature=temperature, class_mask=class_mask
    )
    hard = cross_entropy(student_logits, labels, class_mask=class_mask)
    return alpha * soft + (1 - alpha) * hard


def _difference(
    student_logits: Array, teacher_logits: Array, class_mask: Array | None
) -> tuple[Array, Array, Array]:
    """Teacher minus student on the classes that both have, their mask and number."""
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    both = class_mask & present(student) & present(teacher)
    count = jnp.maximum(jnp.sum(both, -1), 1)
    return jnp.where(both, teacher, 0) - jnp.where(both, student, 0), both, count


def logit_mse(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Mean squared difference of logits, :math:`\|z^s - z^t\|^2 / C`.

    Unlike a divergence, it also compares the mean of the logits, on which probabilities
    do not depend. Classes with logit ``-inf`` on either side are ignored.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> float(logit_mse(jnp.array([0.0, 2.0]), jnp.array([1.0, 5.0])))
      5.0

    References:
      Ba and Caruana, `Do Deep Nets Really Need to be Deep?
      <https://arxiv.org/abs/1312.6184>`_, 2014, section 2.2 (there half the sum).
    """
    difference, _, count = _difference(student_logits, teacher_logits, class_mask)
    return jnp.sum(difference**2, -1) / count


def centered_logit_mse(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Half the mean squared difference of centred logits: `soft_kl` as T grows.

    .. math:: \frac{1}{2C} \sum_c (\tilde z^s_c - \tilde z^t_c)^2

    where a tilde marks logits minus their mean over classes. Classes with logit
    ``-inf`` on either side are ignored.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> float(centered_logit_mse(jnp.array([0.0, 2.0]), jnp.array([7.0, 7.0])))
      0.5

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.1.
    """
    difference, both, count = _difference(student_logits, teacher_logits, class_mask)
    mean = jnp.sum(difference, -1) / count
    centred = jnp.where(both, difference - mean[..., None], 0)
    return jnp.sum(centred**2, -1) / (2 * count)


def standardize(logits: Array, *, class_mask: Array | None = None) -> Array:
    r"""Logit standardisation: logits minus their mean, over their standard deviation.

    .. math:: \frac{z - \bar z}{\sigma(z) + 10^{-7}}, \quad
              \sigma^2 = \frac{\sum_c (z_c - \bar z)^2}{C - 1}

    Applied to both student and teacher, it frees the student from matching the range of
    the teacher's logits. The authors use `soft_kl` at temperature 2 with weight 9.

    Args:
      logits: ``[..., C]``, floating.
      class_mask: Classes to standardise, broadcastable to ``[..., C]``; the others are
        returned unchanged.

    Returns:
      ``[..., C]``.

    Example:
      >>> standardize(jnp.array([1.0, 2.0, 3.0])).round(5).tolist()
      [-1.0, 0.0, 1.0]

    References:
      Sun et al., `Logit Standardization in Knowledge Distillation
      <https://arxiv.org/abs/2403.01427>`_, 2024, section 4.
    """
    logits, _, class_mask = classes(logits, logits, class_mask)
    exists = class_mask & present(logits)
    z = jnp.where(exists, logits, 0)
    count = jnp.sum(exists, -1, keepdims=True)
    mean = jnp.sum(z, -1, keepdims=True) / jnp.maximum(count, 1)
    centred = jnp.where(exists, z - mean, 0)
    deviation = norm(centred)[..., None] / jnp.sqrt(jnp.maximum(count - 1, 1))
    return jnp.where(exists, centred / (deviation + 1e-7), logits)


def uld(student_logits: Array, teacher_logits: Array) -> Array:
    r"""Universal logit distillation (ULD): distance between sorted probabilities.

    .. math:: \sum_i |q_{(i)} - p_{(i)}|

    sorted in descending order, the smaller vocabulary padded with zeros, so that the
    models may have different tokenizers.

    Args:
      student_logits: ``[..., V]``, floating.
      teacher_logits: ``[..., W]``, floating; the vocabularies may differ.

    Returns:
      ``[...]``, one value in ``[0, 2]`` per example.

    Example:
      >>> student, teacher = jnp.zeros(2), jnp.array([9.0, -jnp.inf, -jnp.inf])
      >>> float(uld(student, teacher))
      1.0

    References:
      Boizard et al., `Towards Cross-Tokenizer Distillation
      <https://arxiv.org/abs/2402.12030>`_, 2024, section 3.2.
    """
    student, teacher = widen(student_logits, teacher_logits)
    size = max(student.shape[-1], teacher.shape[-1])

    def sorted_probabilities(logits: Array) -> Array:
        p, _, _ = normalise(logits, present(logits))
        fill = [(0, 0)] * (p.ndim - 1) + [(0, size - p.shape[-1])]
        return jnp.sort(jnp.pad(p, fill), descending=True)

    q, p = sorted_probabilities(student), sorted_probabilities(teacher)
    empty = (q == 0).all(-1) | (p == 0).all(-1)
    return jnp.where(empty, 0, jnp.sum(jnp.abs(q - p), -1))
