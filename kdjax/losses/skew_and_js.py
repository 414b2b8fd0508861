"""Divergences to a mixture of both distributions: bounded, whatever the logits.

Which class exists is said in `kdjax.losses.divergences`.
"""

from __future__ import annotations

import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    classes,
    compare,
    kl,
    kls_to_mixture,
    log_ratio_to_mixture,
    present,
)
from kdjax.losses.ranges import Fraction


def skew_forward_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    skew: Fraction = 0.1,
    class_mask: Array | None = None,
) -> Array:
    r""":math:`\mathrm{KL}(p \| s p + (1 - s) q)`, with s the skew.

    It is `forward_kl` at ``skew = 0``, 0 at ``skew = 1``, and at most
    :math:`\log(1/s)`: it goes from forward KL to nothing, not to reverse KL.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      skew: The teacher's share of the mixture, in ``[0, 1]``. The paper's alpha.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0])
      >>> print(f"{skew_forward_kl(student, teacher, skew=0.5):.6f}")  # log 2
      0.693147

    References:
      Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language
      Models <https://arxiv.org/abs/2402.03898>`_, 2024, section 3.1.
    """
    checks.scalars(skew=skew)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    finite = present(student) | (jnp.asarray(skew) > 0)
    p, q, gap = compare(student, teacher, class_mask & finite)
    return kl(p, skew * p + (1 - skew) * q, log_ratio_to_mixture(gap, skew))


def skew_reverse_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    skew: Fraction = 0.1,
    class_mask: Array | None = None,
) -> Array:
    r""":math:`\mathrm{KL}(q \| (1 - s) p + s q)`, with s the skew.

    It is `reverse_kl` at ``skew = 0``, 0 at ``skew = 1``, and at most
    :math:`\log(1/s)`. The gradient passes through the mixture.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      skew: The student's share of the mixture, in ``[0, 1]``. The paper's alpha.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0])
      >>> print(f"{skew_reverse_kl(student, teacher, skew=0.5):.6f}")  # log 2
      0.693147

    References:
      Ko et al., `DistiLLM: Towards Streamlined Distillation for Large Language
      Models <https://arxiv.org/abs/2402.03898>`_, 2024, section 3.1.
    """
    return skew_forward_kl(
        teacher_logits, student_logits, skew=skew, class_mask=class_mask
    )


def jensen_shannon(
    student_logits: Array,
    teacher_logits: Array,
    *,
    beta: Fraction = 0.5,
    class_mask: Array | None = None,
) -> Array:
    r"""GKD's generalised Jensen-Shannon divergence.

    .. math:: \beta \mathrm{KL}(p \| m) + (1 - \beta) \mathrm{KL}(q \| m), \quad
              m = \beta p + (1 - \beta) q

    At most the entropy of a coin of bias ``beta``, hence 0 at both ends: see
    `normalized_jensen_shannon` for a form that does not vanish there.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      beta: The teacher's share of the mixture, in ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0])
      >>> print(f"{jensen_shannon(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Agarwal et al., `On-Policy Distillation of Language Models
      <https://arxiv.org/abs/2306.13649>`_, 2024, section 2.
    """
    checks.scalars(beta=beta)
    pair = compare(*classes(student_logits, teacher_logits, class_mask))
    teacher_part, student_part = kls_to_mixture(pair, beta)
    return beta * teacher_part + (1 - beta) * student_part


def normalized_jensen_shannon(
    student_logits: Array,
    teacher_logits: Array,
    *,
    beta: Fraction = 0.5,
    class_mask: Array | None = None,
) -> Array:
    r"""`jensen_shannon` over :math:`\beta (1 - \beta)`, continuous to its ends.

    It is `forward_kl` at ``beta = 0`` and `reverse_kl` at ``beta = 1``, and tends
    to them from inside, so a sweep over ``beta`` has no cliff at either end.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      beta: The teacher's share of the mixture, in ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.array([1.0, 0.0]), jnp.array([0.0, 3.0])
      >>> ends = normalized_jensen_shannon(student, teacher, beta=0.0)
      >>> bool(ends == forward_kl(student, teacher))
      True

    References:
      Agarwal et al., `On-Policy Distillation of Language Models
      <https://arxiv.org/abs/2306.13649>`_, 2024, section 2 (the limits).
    """
    checks.scalars(beta=beta)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    beta = jnp.asarray(beta, student.dtype)
    finite = present(student) | (beta > 0)
    finite &= present(teacher) | (beta < 1)
    pair = compare(student, teacher, class_mask & finite)
    teacher_part, student_part = kls_to_mixture(pair, beta)
    # At an end its own part is 0 / 0, with limit 0: KL to m shrinks as the square.
    teacher_part = teacher_part / jnp.where(beta < 1, 1 - beta, 1)
    student_part = student_part / jnp.where(beta > 0, beta, 1)
    return teacher_part + student_part
