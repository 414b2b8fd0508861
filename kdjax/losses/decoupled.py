"""Losses that treat the label's class and the other classes differently."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    classes,
    compare,
    excess,
    kl,
    normalise,
    present,
    tempered_kl,
)
from kdjax.losses.ranges import Positive


def _apart(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    class_mask: Array | None,
) -> tuple[Array, Array, Array, Array]:
    """Both logits, the class mask, empty without a label, and where the label is."""
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    labels, labelled = checks.labels(labels, student)
    target = jax.nn.one_hot(labels, student.shape[-1], dtype=bool)
    return student, teacher, class_mask & labelled[..., None], target


def tckd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive,
    class_mask: Array | None = None,
) -> Array:
    r"""DKD's target-class term: KL between the label's class and all others as one.

    .. math:: T^2 \mathrm{KL}\big((p_y, 1 - p_y) \| (q_y, 1 - q_y)\big)

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive scalar.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> float(tckd(z, z, jnp.array(0), temperature=4.0))
      0.0

    References:
      Zhao et al., `Decoupled Knowledge Distillation
      <https://arxiv.org/abs/2203.08679>`_, 2022, section 3.1.
    """
    student, teacher, class_mask, target = _apart(
        student_logits, teacher_logits, labels, class_mask
    )
    checks.scalars(temperature=temperature)
    class_mask = class_mask & present(student)
    pair = compare(student, teacher, class_mask, temperature)
    p, q, gap = pair
    p_label, q_label, gap_label = (
        jnp.sum(jnp.where(target, x, 0), -1) for x in (p, q, gap)
    )
    p_rest, q_rest = (jnp.sum(jnp.where(target, 0, x), -1) for x in (p, q))
    change = jnp.sum(jnp.where(target, 0, excess(pair)), -1)  # of the mass of the rest
    shares = [
        _log_rest(z / temperature, class_mask, target) for z in (teacher, student)
    ]
    far = shares[0] - shares[1]
    near = (jnp.abs(far) < 0.5) & (q_rest > 0)
    gap_rest = jnp.where(
        near, jnp.log1p(jnp.where(near, change / jnp.where(near, q_rest, 1), 0)), far
    )
    return temperature**2 * kl(
        jnp.stack([p_label, p_rest], -1),
        jnp.stack([q_label, q_rest], -1),
        jnp.stack([gap_label, gap_rest], -1),
    )


def _log_rest(logits: Array, class_mask: Array, target: Array) -> Array:
    """Log of the probability of all classes but the target."""
    exists = class_mask & present(logits)
    _, top, rest = normalise(logits, exists)
    _, top_others, rest_others = normalise(logits, exists & ~target)
    others = jnp.any(exists & ~target, -1, keepdims=True)
    share = jnp.where(others, (top_others - top) + (rest_others - rest), -1e4)
    return share[..., 0]


def nckd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive,
    class_mask: Array | None = None,
) -> Array:
    r"""DKD's non-target term: KL among the classes other than the label's.

    .. math:: T^2 \mathrm{KL}(\hat p \| \hat q), \quad
              \hat p_c = p_c / (1 - p_y), \; c \ne y

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive scalar.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> student, teacher = jnp.array([5.0, 0.0, -1.0]), jnp.array([2.0, 0.0, -1.0])
      >>> float(nckd(student, teacher, jnp.array(0), temperature=4.0))
      0.0

    References:
      Zhao et al., `Decoupled Knowledge Distillation
      <https://arxiv.org/abs/2203.08679>`_, 2022, section 3.1.
    """
    student, teacher, class_mask, target = _apart(
        student_logits, teacher_logits, labels, class_mask
    )
    return temperature**2 * tempered_kl(
        student, teacher, temperature=temperature, class_mask=class_mask & ~target
    )


def dkd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive = 4.0,
    target_weight: Scalar = 1.0,
    nontarget_weight: Scalar = 8.0,
    class_mask: Array | None = None,
) -> Array:
    r"""Decoupled distillation (DKD): a weighted sum of `tckd` and `nckd`.

    `soft_kl` is the same sum with weights 1 and :math:`1 - p_y`, so it suppresses the
    other classes where the teacher is confident. The authors add cross-entropy, and
    raise the weight of this loss linearly over the first 20 epochs.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive scalar.
      target_weight: The paper's alpha.
      nontarget_weight: The paper's beta.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> float(dkd(z, z, jnp.array(0)))
      0.0

    References:
      Zhao et al., `Decoupled Knowledge Distillation
      <https://arxiv.org/abs/2203.08679>`_, 2022, section 3.2.
    """
    checks.scalars(target_weight=target_weight, nontarget_weight=nontarget_weight)
    both = (student_logits, teacher_logits, labels)
    options = {"temperature": temperature, "class_mask": class_mask}
    return target_weight * tckd(*both, **options) + nontarget_weight * nckd(
        *both, **options
    )


def nkd(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Positive = 1.0,
    nontarget_weight: Scalar = 1.5,
    class_mask: Array | None = None,
) -> Array:
    r"""Normalised distillation (NKD): a target term and a non-target term.

    .. math:: -p_y \log q_y - \gamma T^2 \sum_{c \ne y} \hat p_c \log \hat q_c

    The first term is at temperature 1, the second at ``temperature``, over the classes
    other than the label's. Both are cross-entropies, so the loss is neither 0 nor least
    where the student equals the teacher. The authors add cross-entropy with the label.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive scalar; the paper's lambda.
      nontarget_weight: The paper's gamma.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> print(f"{nkd(jnp.zeros(3), jnp.zeros(3), jnp.array(0)):.6f}")
      1.405925

    References:
      Yang et al., `From Knowledge Distillation to Self-Knowledge Distillation: A
      Unified Approach <https://arxiv.org/abs/2303.13005>`_, 2023, section 3.2.
    """
    student, teacher, class_mask, target = _apart(
        student_logits, teacher_logits, labels, class_mask
    )

    checks.scalars(temperature=temperature, nontarget_weight=nontarget_weight)

    def crossed(p_logits: Array, q_logits: Array, support: Array, terms: Array):
        """Cross-entropy over ``support``, of which ``terms`` count."""
        p, _, _ = normalise(p_logits, support & present(p_logits))
        in_student = support & present(q_logits)
        _, top, rest = normalise(q_logits, in_student)
        counts = terms & in_student
        log_q = jnp.where(counts, (q_logits - top) - rest, 0)
        return -jnp.sum(jnp.where(counts, p * log_q, 0), -1)

    label = crossed(teacher, student, class_mask, class_mask & target)
    rest = class_mask & ~target
    others = crossed(teacher / temperature, student / temperature, rest, rest)
    return label + nontarget_weight * temperature**2 * others
