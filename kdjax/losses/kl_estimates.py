r"""Estimates of reverse KL from one token that the student drew.

With :math:`y \sim q` and :math:`r = p(y) / q(y)`:

=====  ===================  ========  ==============================================
name   value                bias      mean of the gradient by the student's logits
=====  ===================  ========  ==============================================
k1     :math:`-\log r`      none      0: it is only of use in a policy gradient
k2     half of k1 squared   O(k1^3)   that of `reverse_kl`
k3     r - 1 - log r        none      that of `forward_kl`
=====  ===================  ========  ==============================================

From Schulman, `Approximating KL Divergence
<http://joschu.net/blog/kl-approx.html>`_, 2020.
"""

from __future__ import annotations

import jax.numpy as jnp

from kdjax.losses._numerics import Array, kl
from kdjax.losses.on_policy import sampled_log_ratio


def reverse_kl_k1(student_logits: Array, teacher_logits: Array, tokens: Array) -> Array:
    r"""The k1 estimate of `reverse_kl`: the log-ratio, unbiased.

    .. math:: k_1 = \log q(y) - \log p(y), \quad y \sim q

    Its variance is large, and single values may be negative. Do not differentiate it:
    its gradient is that of :math:`\log q(y)`, whose mean is 0. Its negative is the
    reward in a policy gradient, as in `minillm`.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one value in nats per token; 0 for a token that either
      side rules out.

    Example:
      >>> student, teacher = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.25, 0.75]]))
      >>> print(f"{reverse_kl_k1(student, teacher, jnp.array([0]))[0]:.4f}")  # log 2
      0.6931

    References:
      Schulman, `Approximating KL Divergence
      <http://joschu.net/blog/kl-approx.html>`_, 2020.
    """
    return -sampled_log_ratio(student_logits, teacher_logits, tokens)


def reverse_kl_k2(student_logits: Array, teacher_logits: Array, tokens: Array) -> Array:
    r"""The k2 estimate of `reverse_kl`: biased in value, unbiased in gradient.

    .. math:: k_2 = \tfrac12 (\log q(y) - \log p(y))^2, \quad y \sim q

    Its value is biased, by terms of third order in the log-ratio, and never negative;
    its variance is small. The mean of its gradient is exactly that of `reverse_kl`.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one non-negative value in nats per token; 0 for a token that either
      side rules out.

    Example:
      >>> student, teacher = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.25, 0.75]]))
      >>> print(f"{reverse_kl_k2(student, teacher, jnp.array([0]))[0]:.4f}")
      0.2402

    References:
      Schulman, `Approximating KL Divergence
      <http://joschu.net/blog/kl-approx.html>`_, 2020.
    """
    return sampled_log_ratio(student_logits, teacher_logits, tokens) ** 2 / 2


def reverse_kl_k3(student_logits: Array, teacher_logits: Array, tokens: Array) -> Array:
    r"""The k3 estimate of `reverse_kl`: unbiased and never negative.

    .. math:: k_3 = r - 1 - \log r, \quad r = p(y) / q(y), \quad y \sim q

    Its variance is smaller than that of k1 where both sides are close. The mean of its
    gradient is not that of `reverse_kl` but that of `forward_kl`, if the student can
    draw every token that the teacher can.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one non-negative value in nats per token; 0 for a token that either
      side rules out.

    Example:
      >>> student, teacher = jnp.zeros((1, 2)), jnp.log(jnp.array([[0.25, 0.75]]))
      >>> print(f"{reverse_kl_k3(student, teacher, jnp.array([0]))[0]:.4f}")
      0.1931

    References:
      Schulman, `Approximating KL Divergence
      <http://joschu.net/blog/kl-approx.html>`_, 2020.
    """
    ratio = sampled_log_ratio(student_logits, teacher_logits, tokens)[..., None]
    return kl(jnp.ones_like(ratio), jnp.exp(ratio), -ratio)
