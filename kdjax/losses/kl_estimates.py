r"""Estimates of reverse KL from one token that the student drew.

With :math:`y \sim q` and :math:`r = p(y) / q(y)`:

=====  ===================  ========  ==============================================
name   value                bias      mean of the gradient by the student's logits
=====  ===================  ========  ==============================================
k1     :math:`-\log r`      none      0: it is only of use in a policy gradient
k2     half of k1 squared   O(k1^3)   that of `reverse_kl`
k3     r - 1 - log r        none      that of `forward_kl`
=====  ===================  ========  ==============================================

Each takes logits ``[..., L, V]`` and tokens ``[..., L]``, and gives one value in nats a
token; 0 for a token that either side rules out. From Schulman, `Approximating KL
Divergence <http://joschu.net/blog/kl-approx.html>`_, 2020.
"""

from __future__ import annotations

import jax.numpy as jnp

from kdjax.losses._numerics import Array, kl
from kdjax.losses.on_policy import sampled_log_ratio


def reverse_kl_k1(student_logits: Array, teacher_logits: Array, tokens: Array) -> Array:
    r"""Estimate k1 of `reverse_kl` from one token of the student: the log-ratio.

    .. math:: k_1 = \log q(y) - \log p(y), \quad y \sim q

    Unbiased as a value, with a large variance: single values may be negative. Not to be
    differentiated: its gradient is that of :math:`\log q(y)`, whose mean is 0. With the
    sign changed it is the reward of a policy gradient: see `minillm`.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one value in nats a token; 0 for a token that either
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
    r"""Estimate k2 of `reverse_kl` from one token of the student: half the square.

    .. math:: k_2 = \tfrac12 (\log q(y) - \log p(y))^2, \quad y \sim q

    Biased as a value, by terms of third order in the log-ratio, with a small variance
    and never negative. The mean of its gradient is exactly that of `reverse_kl`.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one non-negative value in nats a token; 0 for a token that either
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
    r"""Estimate k3 of `reverse_kl` from one token of the student: never negative.

    .. math:: k_3 = r - 1 - \log r, \quad r = p(y) / q(y), \quad y \sim q

    Unbiased as a value, and of smaller variance than k1 where both sides are close. The
    mean of its gradient is not that of `reverse_kl` but of `forward_kl`, wherever the
    student can draw all that the teacher can.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, which the student drew.

    Returns:
      ``[..., L]``, one non-negative value in nats a token; 0 for a token that either
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
