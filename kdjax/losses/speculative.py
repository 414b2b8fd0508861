r"""Speculative decoding: acceptance rate, speed-up, and losses for draft models.

The draft model is the student, the target model the teacher. A token drawn from q is
accepted with probability :math:`\min(1, p / q)`, so that the output follows p exactly.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    Scalar,
    classes,
    compare,
    excess,
    huber,
    mean,
    normalise,
    polynomial,
    present,
    widen,
)
from kdjax.losses.divergences import forward_kl, total_variation
from kdjax.losses.logits import cross_entropy


def acceptance_rate(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Probability that the target accepts a token: :math:`\sum_c \min(p_c, q_c)`.

    Args:
      student_logits: The draft's, ``[..., C]``, floating.
      teacher_logits: The target's, ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, in ``[0, 1]``: one less `total_variation`.

    Example:
      >>> float(acceptance_rate(jnp.zeros(4), jnp.array([0.0, 0, -jnp.inf, -jnp.inf])))
      0.5

    References:
      Leviathan et al., `Fast Inference from Transformers via Speculative Decoding
      <https://arxiv.org/abs/2211.17192>`_, 2023, theorem 3.5.
    """
    return 1 - total_variation(student_logits, teacher_logits, class_mask=class_mask)


def expected_tokens(acceptance: Array, *, drafted: int) -> Array:
    r"""Expected tokens from one pass of the target: :math:`1 + a + \dots + a^n`.

    Args:
      acceptance: ``[...]``, the mean `acceptance_rate`, assumed for every token.
      drafted: The number n of tokens drafted for one pass.

    Returns:
      ``[...]``, in ``[1, drafted + 1]``.

    Example:
      >>> print(f"{expected_tokens(jnp.array(0.8), drafted=4):.4f}")
      3.3616

    References:
      Leviathan et al., `Fast Inference from Transformers via Speculative Decoding
      <https://arxiv.org/abs/2211.17192>`_, 2023, equation 1.
    """
    return polynomial([1] * (drafted + 1), jnp.asarray(acceptance, float))


def expected_speedup(acceptance: Array, *, drafted: int, cost: Scalar) -> Array:
    r"""Speed-up over decoding with the target alone: `expected_tokens` over their cost.

    .. math:: \frac{1 + a + \dots + a^n}{n c + 1}

    Args:
      acceptance: ``[...]``, the mean `acceptance_rate`.
      drafted: The number n of tokens drafted for one pass.
      cost: Ratio c of the draft's time per pass to the target's.

    Returns:
      ``[...]``.

    Example:
      >>> float(expected_speedup(jnp.array(1.0), drafted=3, cost=0.0))
      4.0

    References:
      Leviathan et al., `Fast Inference from Transformers via Speculative Decoding
      <https://arxiv.org/abs/2211.17192>`_, 2023, theorem 3.8.
    """
    checks.scalars(cost=cost)
    return expected_tokens(acceptance, drafted=drafted) / (drafted * cost + 1)


def negative_log_acceptance(
    student_logits: Array, teacher_logits: Array, *, class_mask: Array | None = None
) -> Array:
    r"""Negative log of `acceptance_rate`, whose gradient stays large for bad drafts.

    .. math:: -\log \sum_c \min(p_c, q_c)

    Args:
      student_logits: The draft's, ``[..., C]``, floating.
      teacher_logits: The target's, ``[..., C]``, floating.
      class_mask: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats per example; 0 where draft and target
      have no class in common.

    Example:
      >>> student, teacher = jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, -jnp.inf])
      >>> print(f"{negative_log_acceptance(student, teacher):.6f}")  # log 2
      0.693147

    References:
      Leviathan et al., `Fast Inference from Transformers via Speculative Decoding
      <https://arxiv.org/abs/2211.17192>`_, 2023, theorem 3.5, for the rate.
    """
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    student_has, teacher_has = (
        class_mask & present(student),
        class_mask & present(teacher),
    )
    both = student_has & teacher_has
    pair = compare(student, teacher, class_mask)
    distance = jnp.sum(jnp.abs(excess(pair)), -1) / 2
    near = distance < 0.5
    close = -jnp.log1p(-jnp.where(near, distance, 0))
    # Far apart the sum is small, and its log is taken from those of its terms.
    _, top, rest = normalise(student, student_has)
    log_q = jnp.where(both, (student - top) - rest, 0)
    smaller = jnp.where(both, log_q + jnp.minimum(pair.gap, 0), -jnp.inf)
    _, top, rest = normalise(smaller, both)
    apart = -(top + rest)[..., 0]
    return jnp.where(both.any(-1), jnp.where(near, close, apart), 0)


def medusa(
    head_logits: Array,
    tokens: Array,
    *,
    decay: Scalar = 0.8,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""Medusa: cross-entropy of each head with the token that it predicts.

    .. math:: -\sum_{k=1}^{K} \frac{\lambda^k}{n_k} \sum_t \log q^{(k)}_t(y_{t + k + 1})

    Args:
      head_logits: ``[..., K, L, V]``; head k, from 1, predicts at t the token at
        t + k + 1, since the language model's own head predicts that at t + 1.
      tokens: ``[..., L]``, integers in ``[0, V)``, where L is at least K + 2.
      decay: The lambda, weight of a head relative to the one before. The authors' first
        trainer used 1.
      pooled: Whether to weight texts so that the mean of the values is that over all
        tokens of the batch, as in the authors' code; by default, texts have equal
        weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count as targets, ``[..., L]``; n_k of them for head k.

    Returns:
      ``[...]``, one non-negative value per text: the sum over heads of the mean over
      the tokens that the head predicts.

    Raises:
      ValueError: if the text is too short for the last head to predict a token.

    Example:
      >>> loss = medusa(jnp.zeros((1, 5, 4)), jnp.arange(5) % 4, decay=1.0)
      >>> print(f"{loss:.6f}")  # log 4
      1.386294

    References:
      Cai et al., `Medusa: Simple LLM Inference Acceleration Framework with Multiple
      Decoding Heads <https://arxiv.org/abs/2401.10774>`_, 2024, section 2.2.1.
    """
    checks.scalars(decay=decay)
    tokens, labelled = checks.labels(tokens, head_logits[..., 0, :, :], "tokens")
    counts = checks.mask(mask, tokens.shape) & labelled
    heads, length = head_logits.shape[-3:-1]
    if length < heads + 2:
        raise ValueError(
            f"tokens has texts of {length}, but {heads} heads take {heads + 2} or more"
        )
    total = jnp.zeros(tokens.shape[:-1], jnp.float32)
    for k in range(1, heads + 1):
        logits = head_logits[..., k - 1, : -(k + 1), :]
        values = cross_entropy(logits, tokens[..., k + 1 :])
        predicted = counts[..., k + 1 :]
        value = mean(values, predicted, pooled=pooled, axis_name=axis_name)
        total += decay**k * value
    return total


def eagle(
    student_features: Array,
    teacher_features: Array,
    student_logits: Array,
    teacher_logits: Array,
    *,
    feature_weight: Scalar = 1.0,
    logit_weight: Scalar = 0.1,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""EAGLE: Huber loss of the next feature, plus KL of the next token.

    .. math:: w_f \overline{\ell(\hat f - f)} + w_l \overline{\mathrm{KL}(p \| q)}

    where both are means over tokens, and the first over features, too. The authors'
    code has cross-entropy in place of KL, which adds the teacher's entropy and leaves
    the gradient as it is.

    Args:
      student_features: The draft's next features, ``[..., L, d]``.
      teacher_features: The target's, ``[..., L, d]``.
      student_logits: The target's language-model head applied to the draft's features,
        ``[..., L, V]``.
      teacher_logits: ``[..., L, V]``.
      feature_weight: Weight of the features' term.
      logit_weight: Weight of KL.
      pooled: Whether to weight texts so that the mean of the values is that over all
        tokens of the batch, as in the authors' code; by default, texts have equal
        weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value per text.

    Example:
      >>> f, z = jnp.ones((3, 2)), jnp.zeros((3, 4))
      >>> float(eagle(f + 3, f, z, z))
      2.5

    References:
      Li et al., `EAGLE: Speculative Sampling Requires Rethinking Feature Uncertainty
      <https://arxiv.org/abs/2401.15077>`_, 2024, section 3.2.
    """
    checks.scalars(feature_weight=feature_weight, logit_weight=logit_weight)
    student, teacher = widen(student_features, teacher_features)
    chex.assert_equal_shape([student, teacher])
    features = jnp.mean(huber(student - teacher), -1)
    values = logit_weight * forward_kl(student_logits, teacher_logits)
    values += feature_weight * features
    tokens = checks.mask(mask, values.shape)
    return mean(values, tokens, pooled=pooled, axis_name=axis_name)


def eagle3(
    student_logits: Array,
    teacher_logits: Array,
    *,
    decay: Scalar = 0.8,
    mask: Array | None = None,
) -> Array:
    r"""EAGLE-3: KL at every step of a draft that is fed its own output.

    .. math:: \sum_{i=0}^{S-1} \lambda^i \, \overline{\mathrm{KL}(p_i \| q_i)}

    The authors' code has cross-entropy in place of KL, seven steps, and the mean over
    all positions.

    Args:
      student_logits: The draft's, ``[..., S, L, V]``, step by step.
      teacher_logits: The target's of the same tokens, ``[..., S, L, V]``; ``-inf``
        outside the draft's vocabulary.
      decay: Weight of a step over that of the step before.
      mask: Tokens that count, ``[..., S, L]``, or broadcastable to it.

    Returns:
      ``[...]``, one non-negative value per text.

    Example:
      >>> z = jnp.zeros((7, 3, 4))
      >>> float(eagle3(z, z))
      0.0

    References:
      Li et al., `EAGLE-3: Scaling up Inference Acceleration via Training-Time Test
      <https://arxiv.org/abs/2503.01840>`_, 2025, section 3.2.
    """
    checks.scalars(decay=decay)
    values = forward_kl(student_logits, teacher_logits)
    steps = mean(values, checks.mask(mask, values.shape))
    decay = jnp.asarray(decay, steps.dtype)
    return polynomial(list(jnp.moveaxis(steps, -1, 0)[::-1]), decay)
