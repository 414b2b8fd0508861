r"""Divergences between two categorical distributions given as logits.

Which class exists? One outside ``where`` is as if absent. A logit of ``-inf`` is a
probability of exactly 0. Where that would make the divergence infinite (forward KL
with a class that the student rules out), the class is as if absent too, so that
values and gradients are finite always. A row without any class gives 0.

A KL of 1e-6 keeps its digits in float32: see `kdjax.losses.arithmetic`.
"""

import jax.numpy as jnp

from kdjax.losses.arithmetic import (
    Array,
    Scalar,
    classes,
    compare,
    kl,
    kls_to_mixture,
    log_ratio_to_mixture,
)


def tempered_forward_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Scalar,
    where: Array | None = None,
) -> Array:
    r""":math:`\mathrm{KL}(p^T \| q^T)`, both logits divided by ``temperature``.

    The same as ``forward_kl(student / T, teacher / T)``, but the difference of
    logits is taken before the division rounds them. `soft_kl` is this times
    :math:`T^2`.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      temperature: Positive scalar.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> z = jnp.array([2.0, 0.0, -1.0])
      >>> float(tempered_forward_kl(z, z, temperature=4.0))
      0.0

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    student, teacher, where = classes(student_logits, teacher_logits, where)
    p, q, gap = compare(student, teacher, where & (student > -jnp.inf), temperature)
    return kl(p, q, gap)


def forward_kl(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    r""":math:`\mathrm{KL}(p \| q) = \sum_c p_c \log(p_c / q_c)`, p the teacher.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> print(f"{forward_kl(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2, at T = 1.
    """
    return tempered_forward_kl(
        student_logits, teacher_logits, temperature=1.0, where=where
    )


def reverse_kl(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    r""":math:`\mathrm{KL}(q \| p) = \sum_c q_c \log(q_c / p_c)`, q the student.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> student, teacher = jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf]), jnp.zeros(4)
      >>> print(f"{reverse_kl(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.1.
    """
    return forward_kl(teacher_logits, student_logits, where=where)


def skew_forward_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    skew: Scalar = 0.1,
    where: Array | None = None,
) -> Array:
    r""":math:`\mathrm{KL}(p \| s p + (1 - s) q)`, with s the skew.

    It is `forward_kl` at ``skew = 0``, 0 at ``skew = 1``, and at most
    :math:`\log(1/s)`: it goes from forward KL to nothing, not to reverse KL.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      skew: The teacher's share of the mixture, in ``[0, 1]``. The paper's alpha.
      where: Classes to keep, broadcastable to ``[..., C]``.

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
    student, teacher, where = classes(student_logits, teacher_logits, where)
    finite = (student > -jnp.inf) | (jnp.asarray(skew) > 0)
    p, q, gap = compare(student, teacher, where & finite)
    return kl(p, skew * p + (1 - skew) * q, log_ratio_to_mixture(gap, skew))


def skew_reverse_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    skew: Scalar = 0.1,
    where: Array | None = None,
) -> Array:
    r""":math:`\mathrm{KL}(q \| (1 - s) p + s q)`, with s the skew.

    It is `reverse_kl` at ``skew = 0``, 0 at ``skew = 1``, and at most
    :math:`\log(1/s)`. The gradient passes through the mixture.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      skew: The student's share of the mixture, in ``[0, 1]``. The paper's alpha.
      where: Classes to keep, broadcastable to ``[..., C]``.

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
    return skew_forward_kl(teacher_logits, student_logits, skew=skew, where=where)


def jensen_shannon(
    student_logits: Array,
    teacher_logits: Array,
    *,
    beta: Scalar = 0.5,
    where: Array | None = None,
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
      where: Classes to keep, broadcastable to ``[..., C]``.

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
    pair = compare(*classes(student_logits, teacher_logits, where))
    teacher_part, student_part = kls_to_mixture(pair, beta)
    return beta * teacher_part + (1 - beta) * student_part


def normalized_jensen_shannon(
    student_logits: Array,
    teacher_logits: Array,
    *,
    beta: Scalar = 0.5,
    where: Array | None = None,
) -> Array:
    r"""`jensen_shannon` over :math:`\beta (1 - \beta)`, continuous to its ends.

    It is `forward_kl` at ``beta = 0`` and `reverse_kl` at ``beta = 1``, and tends
    to them from inside, so a sweep over ``beta`` has no cliff at either end.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      beta: The teacher's share of the mixture, in ``[0, 1]``.
      where: Classes to keep, broadcastable to ``[..., C]``.

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
    student, teacher, where = classes(student_logits, teacher_logits, where)
    beta = jnp.asarray(beta, student.dtype)
    finite = (student > -jnp.inf) | (beta > 0)
    finite &= (teacher > -jnp.inf) | (beta < 1)
    pair = compare(student, teacher, where & finite)
    teacher_part, student_part = kls_to_mixture(pair, beta)
    # At an end its own part is 0 / 0, with limit 0: KL to m shrinks as the square.
    teacher_part = teacher_part / jnp.where(beta < 1, 1 - beta, 1)
    student_part = student_part / jnp.where(beta > 0, beta, 1)
    return teacher_part + student_part


def total_variation(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    r""":math:`\tfrac12 \sum_c |p_c - q_c| = 1 - \sum_c \min(p_c, q_c)`.

    One less the rate at which speculative decoding accepts the student's draft.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one value in ``[0, 1]`` an example.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> float(total_variation(student, teacher))
      0.5

    References:
      Wen et al., `f-Divergence Minimization for Sequence-Level Knowledge
      Distillation <https://arxiv.org/abs/2307.15190>`_, 2023, section 3.
    """
    p, q, _ = compare(*classes(student_logits, teacher_logits, where))
    return jnp.sum(jnp.abs(p - q), -1) / 2
