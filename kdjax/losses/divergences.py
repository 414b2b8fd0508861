r"""Divergences between two categorical distributions given as logits.

A class outside ``class_mask`` is ignored. A logit of ``-inf``, or below -1e30, is a
probability of exactly 0; where that would make a divergence infinite, as in forward KL
when the student rules out a class, the class is ignored, too. So values and gradients
are finite for all logits of moderate size. A row in which either side has no class
gives 0. NaN gives NaN.

A KL of 1e-6 keeps its digits in float32: see `kdjax.losses._numerics`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    batch_mean,
    classes,
    compare,
    excess,
    normalise,
    present,
    tempered_kl,
)
from kdjax.losses.ranges import Fraction


def forward_kl(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Forward KL, from the teacher: :math:`\sum_c p_c \log(p_c / q_c)`.

    Classes that the student rules out are ignored, so it is never infinite.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> print(f"{forward_kl(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2, at T = 1.
    """
    return tempered_kl(
        student_logits, teacher_logits, temperature=1.0, class_mask=class_mask
    )


def reverse_kl(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Reverse KL, from the student: :math:`\sum_c q_c \log(q_c / p_c)`.

    Classes that the teacher rules out are ignored, so it is never infinite.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> student, teacher = jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf]), jnp.zeros(4)
      >>> print(f"{reverse_kl(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.1.
    """
    return forward_kl(teacher_logits, student_logits, class_mask=class_mask)


def total_variation(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Total variation: :math:`\tfrac12 \sum_c |p_c - q_c|`, from 0 to 1.

    One minus the rate at which speculative decoding accepts the student's drafts.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one value in ``[0, 1]`` per example.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> float(total_variation(student, teacher))
      0.5

    References:
      Wen et al., `f-Divergence Minimization for Sequence-Level Knowledge
      Distillation <https://arxiv.org/abs/2307.15190>`_, 2023, section 3.
    """
    pair = compare(*classes(student_logits, teacher_logits, class_mask))
    return jnp.sum(jnp.abs(excess(pair)), -1) / 2


def symmetric_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    reverse_share: Fraction = 0.5,
    class_mask: Array | None = None,
) -> Array:
    r"""Weighted sum of forward and reverse KL, by :math:`1 - r` and :math:`r`.

    `cakld` sets :math:`r` to the teacher's confidence.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      reverse_share: Weight r of reverse KL, in ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> float(symmetric_kl(z, z))
      0.0

    References:
      Du et al., `BitDistiller <https://arxiv.org/abs/2402.10631>`_, 2024, section 3.2.
    """
    forward = forward_kl(student_logits, teacher_logits, class_mask=class_mask)
    reverse = reverse_kl(student_logits, teacher_logits, class_mask=class_mask)
    checks.scalars(reverse_share=reverse_share)
    return (1 - reverse_share) * forward + reverse_share * reverse


def cakld(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    axis_name: str | None = None,
    class_mask: Array | None = None,
) -> Array:
    r"""BitDistiller's KL: more reverse, the more confident the teacher is of the label.

    .. math:: \gamma \mathrm{KL}(q \| p) + (1 - \gamma) \mathrm{KL}(p \| q), \quad
              \gamma = \overline{p_y}

    The mean is over the examples of the batch that have a label and a teacher. The
    authors compute it once over the training set: for that, use `symmetric_kl`.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``: classes, or the text's own tokens. An
        example without a label gives 0.
      axis_name: Mapped axis over which the batch is sharded, if any.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0]])
      >>> cakld(z, z, jnp.array([0])).tolist()
      [0.0]

    References:
      Du et al., `BitDistiller <https://arxiv.org/abs/2402.10631>`_, 2024, section 3.2.
    """
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    labels, labelled = checks.labels(labels, teacher)
    class_mask = class_mask & labelled[..., None]
    exists = class_mask & present(teacher)
    p, _, _ = normalise(teacher, exists)
    p = jnp.take_along_axis(p, labels[..., None], -1)[..., 0]
    confidence = batch_mean(p, exists.any(-1) & ~jnp.isnan(p), axis_name)
    confidence = jax.lax.stop_gradient(confidence)
    return symmetric_kl(
        student, teacher, reverse_share=confidence, class_mask=class_mask
    )


def adaptive_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    head_mass: Fraction = 0.5,
    boundary_in_head: bool = False,
    class_mask: Array | None = None,
) -> Array:
    r"""AKL: forward and reverse KL, weighted by the student's error on head and tail.

    .. math:: \frac{g_h \mathrm{KL}(p \| q) + g_t \mathrm{KL}(q \| p)}{g_h + g_t},
              \quad g = \sum |p_c - q_c|

    where the head are the teacher's most probable classes and the tail the others. No
    gradient passes through the weights.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      head_mass: Probability of the head, the paper's mu. The head are as many of the
        teacher's most probable classes as together have at most this probability, but
        always the first.
      boundary_in_head: Whether the first class beyond that is in the head, too, as in
        DSKD's code.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> float(adaptive_kl(z, z))
      0.0

    References:
      Wu et al., `Rethinking Kullback-Leibler Divergence in Knowledge Distillation for
      Large Language Models <https://arxiv.org/abs/2404.02657>`_, 2024, section 4.
    """
    checks.scalars(head_mass=head_mass)
    pair = compare(*classes(student_logits, teacher_logits, class_mask))
    order = jnp.argsort(pair.p, -1, descending=True)
    ordered = jnp.take_along_axis(pair.p, order, -1)
    mass = jnp.cumsum(ordered, -1) - (ordered if boundary_in_head else 0)
    in_head = (mass <= head_mass).at[..., 0].set(True)
    head = jnp.take_along_axis(in_head, jnp.argsort(order, -1), -1)
    gap = jax.lax.stop_gradient(jnp.abs(excess(pair)))
    head_gap, all_gap = jnp.sum(jnp.where(head, gap, 0), -1), jnp.sum(gap, -1)
    none = all_gap == 0
    share = jnp.where(none, 0.5, head_gap / jnp.where(none, 1, all_gap))
    forward = forward_kl(student_logits, teacher_logits, class_mask=class_mask)
    reverse = reverse_kl(student_logits, teacher_logits, class_mask=class_mask)
    return share * forward + (1 - share) * reverse
