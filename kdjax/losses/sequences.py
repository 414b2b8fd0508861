r"""Sequences: means over tokens, and losses on whole texts.

Logits are ``[..., L, V]``, tokens ``[..., L]``: the logits at a position predict the
token of the same index, so shift them by one before. ``mask``, ``[..., L]``, marks the
tokens that count, usually those of the answer.

Divergences give one value per token. The three ways to average them differ in the
weight of long sequences::

    values = forward_kl(student_logits, teacher_logits)  # [B, L]
    token_mean(values, mask)  # all tokens weigh the same
    sequence_mean(values, mask).mean()  # all sequences weigh the same
    global_token_mean(values, mask, tokens=n)  # over n tokens of accumulated batches

A sequence without a token has the value 0, which counts in the second. To leave it out,
mask the sequences, too::

    token_mean(sequence_mean(values, mask), mask.any(-1))
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import Array, Scalar, at_least_float32, batch_mean, mean
from kdjax.losses.logits import cross_entropy
from kdjax.losses.ranges import Fraction
from kdjax.losses.skew_and_js import jensen_shannon


def token_mean(values: Array, mask: Array, *, axis_name: str | None = None) -> Array:
    """Mean over all tokens of a batch that count.

    Args:
      values: ``[...]``, one per token.
      mask: Tokens that count, ``[...]``.
      axis_name: Mapped axis over which the batch is sharded, if any. The mean over
        shards is then that over all tokens, however they are spread.

    Returns:
      ``[]``; 0 if there is no token.

    Example:
      >>> mask = jnp.array([[True, True, True], [True, False, False]])
      >>> float(token_mean(jnp.array([[1.0, 1, 1], [5, 9, 9]]), mask))
      2.0
    """
    mask = checks.mask(mask, values.shape)
    count = jnp.sum(mask)
    if axis_name is not None:
        count = jax.lax.pmean(count, axis_name)
    return global_token_mean(values, mask, tokens=jnp.where(count == 0, 1, count))


def sequence_mean(values: Array, mask: Array) -> Array:
    """Mean over the tokens of each sequence that count.

    Args:
      values: ``[..., L]``, one per token.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one value per sequence; 0 if it has no token.

    Example:
      >>> mask = jnp.array([[True, True, True], [True, False, False]])
      >>> sequence_mean(jnp.array([[1.0, 1, 1], [5, 9, 9]]), mask).tolist()
      [1.0, 5.0]
    """
    mask = checks.mask(mask, jnp.shape(values))
    return mean(at_least_float32(values), mask)


def global_token_mean(values: Array, mask: Array, *, tokens: Scalar) -> Array:
    """Sum over the tokens that count, divided by a given number of tokens.

    Summed over accumulated batches, it is the mean over all their tokens.

    Args:
      values: ``[...]``, one per token.
      mask: Tokens that count, ``[...]``.
      tokens: How many tokens count in all accumulated batches.

    Returns:
      ``[]``.

    Example:
      >>> mask = jnp.array([True, True, False])
      >>> float(global_token_mean(jnp.array([1.0, 5.0, 9.0]), mask, tokens=4))
      1.5
    """
    checks.scalars(tokens=tokens)
    mask = checks.mask(mask, jnp.shape(values))
    return jnp.sum(jnp.where(mask, at_least_float32(values), 0)) / tokens


def sequence_nll(
    student_logits: Array, tokens: Array, *, mask: Array | None = None
) -> Array:
    r"""Sequence-level KD: negative log-likelihood of a text that the teacher wrote.

    .. math:: -\sum_t \log q(y_t \mid y_{<t})

    Args:
      student_logits: ``[..., L, V]``, floating.
      tokens: ``[..., L]``, integers in ``[0, V)``; found by beam search in the paper.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per sequence.

    Example:
      >>> print(f"{sequence_nll(jnp.zeros((3, 4)), jnp.zeros(3, int)):.6f}")
      4.158883

    References:
      Kim and Rush, `Sequence-Level Knowledge Distillation
      <https://arxiv.org/abs/1606.07947>`_, 2016, section 3.2.
    """
    checks.labels(tokens, student_logits, "tokens")
    values = cross_entropy(student_logits, tokens)
    return jnp.sum(jnp.where(checks.mask(mask, values.shape), values, 0), -1)


def gkd(
    student_logits: Array,
    teacher_logits: Array,
    from_student: Array,
    *,
    student_share: Fraction = 0.5,
    beta: Fraction = 0.5,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""Generalised KD: a weighted mean over texts of the data and of the student.

    .. math:: (1 - \lambda) \, \mathbb E_{y \sim \mathrm{data}} D(y)
              + \lambda \, \mathbb E_{y \sim q} D(y), \quad
              D(y) = \frac{1}{L} \sum_t \mathrm{JSD}_\beta(p_t, q_t)

    The weights do not depend on how many texts of the batch are of either kind; texts
    without a token do not count. No gradient passes through the student's sampling.

    Args:
      student_logits: ``[B, L, V]``, floating.
      teacher_logits: ``[B, L, V]``, floating.
      from_student: ``[B]``, booleans, true for texts that the student wrote.
      student_share: Weight of the student's texts, in ``[0, 1]``; the paper's lambda.
      beta: See `jensen_shannon`.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[B, L]``.

    Returns:
      ``[B]``, one non-negative value per text, whose mean is the loss.

    Example:
      >>> z = jnp.zeros((2, 3, 4))
      >>> gkd(z, z, jnp.array([True, False])).tolist()
      [0.0, 0.0]

    References:
      Agarwal et al., `On-Policy Distillation of Language Models
      <https://arxiv.org/abs/2306.13649>`_, 2024, section 3.
    """
    checks.scalars(student_share=student_share)
    values = jensen_shannon(student_logits, teacher_logits, beta=beta)
    mask = checks.mask(mask, values.shape)
    values, texts = mean(values, mask), mask.any(-1)
    own = checks.mask(from_student, values.shape, "from_student")
    of_kind = (kind.astype(values.dtype) for kind in (own & texts, ~own & texts))
    shares = (batch_mean(kind, jnp.ones(kind.shape), axis_name) for kind in of_kind)
    one, other = (jnp.where(share == 0, 1, share) for share in shares)
    weights = jnp.where(own, student_share / one, (1 - student_share) / other)
    return weights * values
