r"""Learning from texts that the student wrote: MiniLLM and its parts.

Logits are ``[..., L, V]``, tokens ``[..., L]``, as in `kdjax.losses.sequences`. The
texts are arguments: sample them before.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    batch_mean,
    classes,
    compare,
    widen,
)
from kdjax.losses.divergences import reverse_kl
from kdjax.losses.logits import cross_entropy
from kdjax.losses.ranges import Fraction


def sampled_log_ratio(
    student_logits: Array, teacher_logits: Array, tokens: Array
) -> Array:
    r"""MiniLLM's reward of a token: :math:`\log p(y_t) - \log q(y_t)`.

    Its mean over the student's texts is minus `reverse_kl`.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, what was written.

    Returns:
      ``[..., L]``; 0 for a token that either side rules out, or outside ``[0, V)``.

    Example:
      >>> z = jnp.zeros((3, 4))
      >>> sampled_log_ratio(z, 2 + z, jnp.array([0, 1, 2])).tolist()
      [0.0, 0.0, 0.0]

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.2.
    """
    tokens, written = checks.labels(tokens, student_logits, "tokens")
    written = written[..., None]
    p, q, gap = compare(*classes(student_logits, teacher_logits, written))
    gap = jnp.where((p > 0) & (q > 0), gap, 0)
    return jnp.take_along_axis(gap, tokens[..., None], -1)[..., 0]


def reward_to_go(
    rewards: Array, *, discount: Fraction = 1.0, mask: Array | None = None
) -> Array:
    r"""Discounted sum of rewards: :math:`R_t = \sum_{i \ge t} \gamma^{i - t} r_i`.

    Args:
      rewards: ``[..., L]``.
      discount: The gamma, in ``[0, 1]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[..., L]``.

    Example:
      >>> reward_to_go(jnp.array([1.0, 2.0, 4.0])).tolist()
      [7.0, 6.0, 4.0]

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.2; discounted in its code.
    """
    checks.scalars(discount=discount)
    (rewards,) = widen(rewards)
    rewards = jnp.where(checks.mask(mask, rewards.shape), rewards, 0)

    def back(later: Array, now: Array) -> tuple[Array, Array]:
        return (now + discount * later,) * 2

    by_time = jnp.moveaxis(rewards, -1, 0)
    _, sums = jax.lax.scan(back, jnp.zeros_like(by_time[0]), by_time, reverse=True)
    return jnp.moveaxis(sums, 0, -1)


def mean_reward_to_go(
    rewards: Array, *, discount: Fraction = 1.0, mask: Array | None = None
) -> Array:
    r"""`reward_to_go` with length normalisation: over the number of tokens summed.

    Without it, short answers are preferred.

    Args:
      rewards: ``[..., L]``.
      discount: The gamma, in ``[0, 1]``; 0.95 in the authors' code.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[..., L]``; 0 where no token is left.

    Example:
      >>> mean_reward_to_go(jnp.array([1.0, 2.0, 3.0])).tolist()
      [2.0, 2.5, 3.0]

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.2; discounted in its code.
    """
    counts = checks.mask(mask, rewards.shape)
    left = reward_to_go(counts.astype(jnp.float32))
    return reward_to_go(rewards, discount=discount, mask=mask) / jnp.maximum(left, 1)


def importance_weights(
    student_logits: Array,
    teacher_logits: Array,
    tokens: Array,
    *,
    teacher_share: Fraction = 0.2,
) -> Array:
    r"""Importance weights of tokens sampled from a mixture of teacher and student.

    .. math:: w_t = \frac{q(y_t)}{\alpha p(y_t) + (1 - \alpha) q(y_t)}

    No gradient passes through them.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, what was written.
      teacher_share: The paper's alpha, in ``[0, 1)``.

    Returns:
      ``[..., L]``, at most :math:`1 / (1 - \alpha)`; 0 for a token outside ``[0, V)``.

    Example:
      >>> z = jnp.zeros((1, 4))
      >>> importance_weights(z, z, jnp.array([2])).tolist()
      [1.0]

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.2.
    """
    checks.scalars(teacher_share=teacher_share)
    tokens, written = checks.labels(tokens, student_logits, "tokens")
    p, q, _ = compare(*classes(student_logits, teacher_logits, None))
    p, q = (jnp.take_along_axis(x, tokens[..., None], -1)[..., 0] for x in (p, q))
    mixture = teacher_share * p + (1 - teacher_share) * q
    none = mixture == 0
    weights = jnp.where(none, 1, q) / jnp.where(none, 1, mixture)
    return jax.lax.stop_gradient(jnp.where(written, weights, 0))


def minillm(
    student_logits: Array,
    teacher_logits: Array,
    tokens: Array,
    *,
    teacher_share: Fraction = 0.2,
    length_normalized: bool = True,
    mask: Array | None = None,
) -> Array:
    r"""A loss whose gradient is MiniLLM's, on texts that student and teacher wrote.

    .. math:: \sum_t w_t \big( \mathrm{KL}(q_t \| p_t)
              - R_{t + 1} \log q(y_t) \big)

    with :math:`w_t` from `importance_weights` and :math:`R_{t + 1}`, the rewards of
    later tokens, from `mean_reward_to_go` of `sampled_log_ratio`, both without a
    gradient. The first term is exact for the token itself; the second is REINFORCE for
    its effect on later tokens. With ``teacher_share`` 0 and without
    length normalisation, the mean over the student's own texts has the gradient of
    :math:`\mathrm{KL}(q \| p)` over sequences.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, drawn from the mixture of teacher and student.
      teacher_share: The teacher's share of that mixture, the paper's alpha.
      length_normalized: Whether :math:`R` is the mean of the later rewards, as in the
        paper, or their sum.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one value per text, of use for its gradient alone.

    Example:
      >>> z = jnp.zeros((3, 4))
      >>> float(minillm(z, z, jnp.array([0, 1, 2])))
      0.0

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, section 2.2, equation 7.
    """
    rewards = sampled_log_ratio(student_logits, teacher_logits, tokens)
    _, written = checks.labels(tokens, student_logits, "tokens")
    counts = checks.mask(mask, rewards.shape) & written
    to_go = mean_reward_to_go if length_normalized else reward_to_go
    later = to_go(jax.lax.stop_gradient(rewards), mask=counts)[..., 1:]
    later = jnp.concatenate([later, jnp.zeros_like(rewards[..., :1])], -1)
    weights = importance_weights(
        student_logits, teacher_logits, tokens, teacher_share=teacher_share
    )
    single = reverse_kl(student_logits, teacher_logits)
    long = later * cross_entropy(student_logits, tokens)
    return jnp.sum(jnp.where(counts, weights * (single + long), 0), -1)


def whiten(
    values: Array, *, mask: Array | None = None, axis_name: str | None = None
) -> Array:
    """Values minus their mean over a batch's tokens, over their standard deviation.

    Args:
      values: ``[..., L]``, for instance advantages from `mean_reward_to_go`.
      mask: Tokens that count, ``[..., L]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[..., L]``; 0 for tokens that do not count.

    Example:
      >>> [round(float(x), 3) for x in whiten(jnp.array([1.0, 2.0, 3.0]))]
      [-1.225, 0.0, 1.225]

    References:
      Gu et al., `MiniLLM: Knowledge Distillation of Large Language Models
      <https://arxiv.org/abs/2306.08543>`_, 2024, in its code, which adds 1e-8 to the
      variance.
    """
    (values,) = widen(values)
    counts = checks.mask(mask, values.shape)
    centred = values - batch_mean(values, counts, axis_name)
    variance = batch_mean(centred**2, counts, axis_name)
    return jnp.where(counts, centred / jnp.sqrt(variance + 1e-8), 0)


def clipped_policy_loss(
    student_logits: Array,
    tokens: Array,
    old_log_probabilities: Array,
    advantages: Array,
    *,
    clip: Scalar = 0.2,
    mask: Array | None = None,
) -> Array:
    r"""PPO's clipped loss, which lets MiniLLM's code take several steps per text.

    .. math:: -\min\big(\rho_t A_t, \, \mathrm{clip}(\rho_t, 1 - \epsilon,
              1 + \epsilon) A_t\big), \quad
              \rho_t = q(y_t) / q_{\mathrm{old}}(y_t)

    On the first step, where both are the same student, its gradient is REINFORCE's.

    Args:
      student_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, what was written.
      old_log_probabilities: ``[..., L]``, of the tokens, by the student that wrote.
      advantages: ``[..., L]``. MiniLLM's are `whiten` of `mean_reward_to_go` of
        `sampled_log_ratio`. Held fixed in the gradient, as are the old probabilities.
      clip: The epsilon; positive.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[..., L]``, one value per token; 0 for tokens that do not count.

    Example:
      >>> z, tokens = jnp.zeros((1, 2)), jnp.array([0])
      >>> old = jnp.log(jnp.array([0.25]))  # half as probable as now
      >>> print(f"{clipped_policy_loss(z, tokens, old, jnp.array([1.0]))[0]:.1f}")
      -1.2

    References:
      Schulman et al., `Proximal Policy Optimization Algorithms
      <https://arxiv.org/abs/1707.06347>`_, 2017, equation 7.
    """
    checks.scalars(clip=clip)
    _, written = checks.labels(tokens, student_logits, "tokens")
    old, advantages = jax.lax.stop_gradient(
        tuple(widen(old_log_probabilities, advantages))
    )
    chex.assert_shape([old, advantages], written.shape)
    counts = checks.mask(mask, written.shape) & written
    log_ratio = -cross_entropy(student_logits, tokens) - old
    # Beyond 80 a ratio would overflow, and its gradient be NaN even where clipped.
    ratio = jnp.exp(jnp.minimum(jnp.where(counts, log_ratio, 0), 80))
    clipped = jnp.clip(ratio, 1 - clip, 1 + clip)
    gain = jnp.minimum(ratio * advantages, clipped * advantages)
    return -jnp.where(counts, gain, 0)
