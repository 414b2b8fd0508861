r"""Alpha and Rényi divergences, which are forward KL at 1.

For masked classes and logits of ``-inf`` see `kdjax.losses.divergences`.
"""

from __future__ import annotations

import math

import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    NEAR,
    Array,
    classes,
    compare,
    normalise,
    polynomial,
    present,
)
from kdjax.losses.ranges import Fraction

# (exp(r) - 1 - r) / r^2 = 1/2 + r/6 + ...: exact in float64 for |r| < NEAR.
_SERIES = [1 / math.factorial(k + 2) for k in range(14)]


def alpha_divergence(
    student_logits: Array,
    teacher_logits: Array,
    *,
    alpha: Fraction = 0.5,
    class_mask: Array | None = None,
) -> Array:
    r"""Amari's alpha divergence: `reverse_kl` at 0, `forward_kl` at 1.

    .. math:: \frac{1 - \sum_c p_c^\alpha q_c^{1 - \alpha}}{\alpha (1 - \alpha)}

    It is `forward_kl` at 1 and continuous in between, so that ``alpha`` can be swept
    from 0 to 1.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      alpha: In ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value per example, at most
      :math:`1 / \alpha (1 - \alpha)`.

    Example:
      >>> student, teacher = jnp.array([0.0, -jnp.inf]), jnp.array([-jnp.inf, 0.0])
      >>> float(alpha_divergence(student, teacher, alpha=0.5))
      4.0

    References:
      Wang et al., `AlphaNet: Improved Training of Supernets with Alpha-Divergence
      <https://arxiv.org/abs/2102.07954>`_, 2021, section 3.2.
    """
    checks.scalars(alpha=alpha)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    alpha = jnp.asarray(alpha, student.dtype)
    finite = (present(student) | (alpha < 1)) & (present(teacher) | (alpha > 0))
    p, q, gap = compare(student, teacher, class_mask & finite)
    # By symmetry, (p, q, alpha) gives the same as (q, p, 1 - alpha).
    flip = alpha >= 0.5
    a, b, r = jnp.where(flip, p, q), jnp.where(flip, q, p), jnp.where(flip, -gap, gap)
    share = jnp.where(flip, 1 - alpha, alpha)
    near = jnp.abs(r) < NEAR
    close, apart = jnp.where(near, r, 0), jnp.where(near, 0, r)
    terms = a * close**2 * _power_series(close, share)
    # Beyond 80, a * exp(share * r) is negligible against b = a * exp(r).
    exponent = jnp.minimum(share * apart, 80)
    flat = exponent == 0
    slope = jnp.where(flat, 1, jnp.expm1(exponent) / jnp.where(flat, 1, exponent))
    far = (b - a - a * apart * slope) / (1 - share)
    return jnp.sum(jnp.where(near, terms, far), -1)


def _power_series(r: Array, share: Array) -> Array:
    """The sum over k of ``r^k / (k + 2)! * (1 + share + ... + share^k)``."""
    partial, coefficients = jnp.ones_like(share), []
    for factor in _SERIES:
        coefficients.append(factor * partial)
        partial = 1 + share * partial
    return polynomial(coefficients[::-1], r)


def renyi_divergence(
    student_logits: Array,
    teacher_logits: Array,
    *,
    alpha: Fraction = 0.5,
    class_mask: Array | None = None,
) -> Array:
    r"""Rényi divergence: twice the Bhattacharyya distance at 1/2, `forward_kl` at 1.

    .. math:: \frac{1}{\alpha - 1} \log \sum_c p_c^\alpha q_c^{1 - \alpha}

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      alpha: In ``[0, 1]``.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example; 0 where no class is both
      the student's and the teacher's.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> print(f"{renyi_divergence(student, teacher, alpha=0.5):.6f}")  # log 2
      0.693147

    References:
      Renyi, `On Measures of Entropy and Information
      <https://projecteuclid.org/euclid.bsmsp/1200512181>`_, 1961, section 3.
    """
    checks.scalars(alpha=alpha)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    alpha = jnp.asarray(alpha, student.dtype)
    student_has, teacher_has = (
        class_mask & present(student),
        class_mask & present(teacher),
    )
    both = student_has & teacher_has
    divergence = alpha_divergence(student, teacher, alpha=alpha, class_mask=class_mask)
    missing = alpha * (1 - alpha) * divergence  # 1 less the sum of the formula
    near = missing < 0.5
    small = jnp.where(near, missing, 0)
    zero = small == 0
    ratio = jnp.where(zero, 1, -jnp.log1p(-small) / jnp.where(zero, 1, small))
    close = alpha * divergence * ratio
    # Logits less the largest of their side, which costs no digits to add up.
    (_, top_t, rest_t), (_, top_s, rest_s) = (
        normalise(teacher, teacher_has),
        normalise(student, student_has),
    )
    mixed = alpha * jnp.where(both, teacher - top_t, 0)
    mixed += (1 - alpha) * jnp.where(both, student - top_s, 0)
    _, top, rest = normalise(mixed, both)
    log_sum = (top + rest - alpha * rest_t - (1 - alpha) * rest_s)[..., 0]
    apart = -log_sum / jnp.where(alpha < 1, 1 - alpha, 1)
    return jnp.where(both.any(-1), jnp.where(near, close, apart), 0)
