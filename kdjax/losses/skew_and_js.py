"""Divergences from a mixture of both distributions, which keeps them finite.

For masked classes and logits of ``-inf`` see `kdjax.losses.divergences`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    classes,
    compare,
    kl,
    kls_to_mixture,
    log_ratio_to_mixture,
    mean,
    present,
    widen,
)
from kdjax.losses.logits import cross_entropy
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
      ``[...]``, one non-negative value in nats per example.

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
      ``[...]``, one non-negative value in nats per example.

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
      ``[...]``, one non-negative value in nats per example.

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
      ``[...]``, one non-negative value in nats per example.

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


def likelihood_gap(
    student_logits: Array,
    teacher_logits: Array,
    tokens: Array,
    *,
    mask: Array | None = None,
) -> Array:
    r"""Per-token likelihood of a text under the teacher minus that under the student.

    .. math:: \Big(\prod_t p(y_t)\Big)^{1/L} - \Big(\prod_t q(y_t)\Big)^{1/L}

    From it `adaptive_skew` chooses the skew of a text. Held fixed in the gradient.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, the text.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one value in ``[-1, 1]`` per text; 0 for a text without a token.

    Example:
      >>> student, teacher = jnp.zeros((3, 2)), jnp.log(jnp.array([[0.75, 0.25]] * 3))
      >>> float(likelihood_gap(student, teacher, jnp.zeros(3, int)))
      0.25

    References:
      Ko et al., `DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs
      <https://arxiv.org/abs/2503.07067>`_, 2025, section 3, as in its code.
    """
    _, written = checks.labels(tokens, student_logits, "tokens")
    counts = checks.mask(mask, written.shape) & written
    for logits in (student_logits, teacher_logits):
        counts &= present(logits).any(-1)

    def likelihood(logits: Array) -> Array:
        return jnp.exp(-mean(cross_entropy(logits, tokens), counts))

    gap = likelihood(teacher_logits) - likelihood(student_logits)
    return jax.lax.stop_gradient(gap)


def adaptive_skew(
    gap: Array, *, reference_gap: Scalar, base_skew: Fraction = 0.1
) -> Array:
    r"""DistiLLM-2's skew for each text: smaller where student and teacher are closer.

    .. math:: \mathrm{clip}\Big(1 - (1 - s_0) \frac{m}{g}, \, 0.01, \, s_0\Big)

    which keeps :math:`(1 - s) g`, the first-order size of a skew divergence, the same
    for all texts. Pass it to a skew divergence with `jax.vmap`::

        gap = likelihood_gap(student, teacher, tokens, mask=mask)
        skew = adaptive_skew(gap, reference_gap=mean_gap)
        values = jax.vmap(lambda s, t, a: skew_forward_kl(s, t, skew=a))(
            student, teacher, skew
        )

    For texts that the student wrote, with `skew_reverse_kl`, the gap is that of the
    student over the teacher: its sign is changed.

    Args:
      gap: ``[...]``, from `likelihood_gap`.
      reference_gap: The m, a mean gap, for instance of an earlier epoch.
      base_skew: The :math:`s_0`, in ``[0.01, 1]``: the largest skew.

    Returns:
      ``[...]``, one skew per text.

    Example:
      >>> skews = adaptive_skew(jnp.array([0.2, 0.25, 0.4]), reference_gap=0.26)
      >>> [round(float(skew), 2) for skew in skews]
      [0.01, 0.06, 0.1]

    References:
      Ko et al., `DistiLLM-2: A Contrastive Approach Boosts the Distillation of LLMs
      <https://arxiv.org/abs/2503.07067>`_, 2025, section 3, as in its code.
    """
    checks.scalars(reference_gap=reference_gap, base_skew=base_skew)
    (gap,) = widen(gap)
    skew = 1 - (1 - base_skew) * reference_gap / (gap + 1e-5)
    return jnp.clip(skew, 0.01, base_skew)
