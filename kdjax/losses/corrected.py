"""Losses with a teacher that is corrected by the labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import Array, classes, normalise, present
from kdjax.losses.divergences import forward_kl
from kdjax.losses.ranges import Fraction, Positive


def mft(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive = 1.0,
    threshold: Fraction = 0.2,
    class_mask: Array | None = None,
) -> Array:
    r"""Minifinetuning: `soft_kl` from a teacher corrected towards the label.

    .. math:: T^2 \mathrm{KL}\big((1 - m) p + m e_y \,\|\, q\big)

    where e_y is the one-hot label. If the teacher's most probable class is wrong, m
    lets the label's probability exceed that of this class by the threshold. If it is
    right, m raises the label's probability by the threshold, to at most 1. No gradient
    passes through the corrected teacher.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive scalar.
      threshold: The paper's tau, in ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example; 0 without a label.

    Example:
      >>> student, teacher = jnp.zeros(2), jnp.log(jnp.array([0.6, 0.4]))
      >>> print(f"{mft(student, teacher, jnp.array(1)):.4f}")  # target [0.4, 0.6]
      0.0201

    References:
      Belcak et al., `Minifinetuning: Low-Data Generation Domain Adaptation through
      Corrective Self-Distillation <https://arxiv.org/abs/2506.15702>`_, 2025.
    """
    checks.scalars(temperature=temperature, threshold=threshold)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    labels, labelled = checks.labels(labels, student)
    target = jax.nn.one_hot(labels, student.shape[-1], dtype=bool)
    target = target & class_mask & labelled[..., None]
    class_mask = class_mask & target.any(-1, keepdims=True)
    teacher = jax.lax.stop_gradient(teacher)
    exists = class_mask & present(teacher)
    p, top, rest = normalise(teacher / temperature, exists)
    label = jnp.sum(jnp.where(target, p, 0), -1, keepdims=True)
    lead = jnp.max(p, -1, keepdims=True) - label  # of the teacher's choice
    wrong = lead > 0
    gain = jnp.where(wrong, lead + threshold, jnp.minimum(1 - label, threshold))
    room = jnp.where(wrong, 1 + lead, 1 - label)
    share = jnp.where(room > 0, gain / jnp.where(room > 0, room, 1), 0)
    log_p = jnp.where(exists, (teacher / temperature - top) - rest, -jnp.inf)
    kept = log_p + jnp.log1p(-share)
    label = jnp.where(exists.any(-1, keepdims=True), jnp.log(share), -jnp.inf)
    corrected = jnp.where(target, jnp.logaddexp(kept, label), kept)
    # Without its offset, like the corrected teacher: a large one would cost digits.
    _, top, _ = normalise(student / temperature, class_mask & present(student))
    student = jnp.where(class_mask, student / temperature - top, -jnp.inf)
    return temperature**2 * forward_kl(student, corrected)
