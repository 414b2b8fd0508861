r"""Losses on hidden states, attention and token relations of transformers.

Attention is given as *scores*, before the softmax: ``[..., heads, L, L]``, queries by
keys; hidden states, queries, keys and values as ``[..., L, d]``, heads concatenated.
``mask``, ``[..., L]``, marks the tokens that count; the others are ignored, both as
queries and as keys. A score of ``-inf`` is a key that its query may not see.

Each loss gives one value per text, a mean over its tokens. Where peers take one mean
over all tokens of a batch, ``pooled=True`` weights the texts so that the mean of the
values is that one. Which layers of student and teacher to compare is the caller's
choice.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    attention_scores,
    entropy,
    mean,
    present,
    widen,
)
from kdjax.losses.divergences import forward_kl


def hidden_mse(
    student: Array,
    teacher: Array,
    *,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""TinyBERT's mean squared error of hidden states, or of embeddings.

    .. math:: \frac{1}{L d} \sum_{t} \| h^s_t W - h^t_t \|^2

    Args:
      student: ``[..., L, d]``, after the projection W if the widths differ.
      teacher: ``[..., L, d]``.
      pooled: Whether to weight texts so that the mean of the values is that over all
        tokens of the batch, as in TextBrewer; by default, texts have equal weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value per text.

    Example:
      >>> float(hidden_mse(jnp.zeros((2, 3)), jnp.full((2, 3), 2.0)))
      4.0

    References:
      Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
      <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1, equations 8 and 9.
    """
    student, teacher = widen(student, teacher)
    chex.assert_equal_shape([student, teacher])
    tokens = checks.mask(mask, student.shape[:-1])
    squares = jnp.mean((student - teacher) ** 2, -1)
    return mean(squares, tokens, pooled=pooled, axis_name=axis_name)


def attention_mse(
    student_scores: Array,
    teacher_scores: Array,
    *,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""TinyBERT's mean squared error of attention scores, before the softmax.

    .. math:: \frac{1}{h L^2} \sum_a \| A^s_a - A^t_a \|^2

    Args:
      student_scores: ``[..., heads, L, L]``.
      teacher_scores: ``[..., heads, L, L]``.
      pooled: Whether to weight texts so that the mean of the values is that over all
        pairs of the batch, as in TextBrewer; by default, texts have equal weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value per text: the mean over heads and over all pairs
      of a query and a key that it sees on both sides.

    Example:
      >>> float(attention_mse(jnp.zeros((1, 2, 2)), jnp.full((1, 2, 2), 3.0)))
      9.0

    References:
      Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
      <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1, equation 7.
    """
    student, teacher = widen(student_scores, teacher_scores)
    chex.assert_equal_shape([student, teacher])
    tokens = checks.mask(mask, (*student.shape[:-3], student.shape[-1]))
    pairs = (tokens[..., None, :, None] & tokens[..., None, None, :]) & (
        present(student) & present(teacher)
    )
    gap = jnp.where(pairs, student, 0) - jnp.where(pairs, teacher, 0)
    return mean(gap**2, pairs, (-3, -2, -1), pooled=pooled, axis_name=axis_name)


def attention_kl(
    student_scores: Array,
    teacher_scores: Array,
    *,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""MiniLM's KL between the attention distributions of each query.

    .. math:: \frac{1}{h L} \sum_{a, t} \mathrm{KL}(A^t_{a, t} \| A^s_{a, t})

    Args:
      student_scores: ``[..., heads, L, L]``, before the softmax.
      teacher_scores: ``[..., heads, L, L]``.
      pooled: Whether to weight texts so that the mean of the values is that over all
        queries of the batch, as in TextBrewer; by default, texts have equal weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per text: the mean over heads and
      queries.

    Example:
      >>> student = jnp.zeros((1, 2, 2))
      >>> teacher = jnp.array([[[0.0, -jnp.inf], [0.0, 0.0]]])
      >>> print(f"{attention_kl(student, teacher):.6f}")  # half of log 2
      0.346574

    References:
      Wang et al., `MiniLM: Deep Self-Attention Distillation
      <https://arxiv.org/abs/2002.10957>`_, 2020, section 3.1, equation 7.
    """
    tokens = _tokens(student_scores, mask)
    keys = tokens[..., None, None, :]
    values = forward_kl(student_scores, teacher_scores, class_mask=keys)
    queries = tokens[..., None, :]
    return mean(values, queries, (-2, -1), pooled=pooled, axis_name=axis_name)


def attention_cross_entropy(
    student_scores: Array,
    teacher_scores: Array,
    *,
    pooled: bool = False,
    axis_name: str | None = None,
    mask: Array | None = None,
) -> Array:
    r"""TextBrewer's soft cross-entropy between attention distributions.

    .. math:: -\frac{1}{h L} \sum_{a, t, u} A^t_{a, t, u} \log A^s_{a, t, u}

    It is `attention_kl` plus the teacher's entropy, and has the same gradient by the
    student. For TextBrewer's ``att_ce_mean_loss`` take the mean of the scores over
    heads first, with ``keepdims=True``.

    Args:
      student_scores: ``[..., heads, L, L]``, before the softmax.
      teacher_scores: ``[..., heads, L, L]``.
      pooled: Whether to weight texts so that the mean of the values is that over all
        queries of the batch, as in TextBrewer; by default, texts have equal weight.
      axis_name: Mapped axis over which the batch is sharded, if any.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per text: the mean over heads and
      queries.

    Example:
      >>> scores = jnp.zeros((1, 2, 2))
      >>> print(f"{attention_cross_entropy(scores, scores):.6f}")  # log 2
      0.693147

    References:
      Yang et al., `TextBrewer: An Open-Source Knowledge Distillation Toolkit for
      Natural Language Processing <https://arxiv.org/abs/2002.12620>`_, 2020, table 2.
    """
    tokens = _tokens(student_scores, mask)
    # What a side rules out is absent from both, as in `attention_kl`.
    keys = tokens[..., None, None, :] & present(student_scores)
    (teacher,) = widen(teacher_scores)
    entropies = entropy(jnp.where(keys, teacher, -jnp.inf))
    average = {"pooled": pooled, "axis_name": axis_name}
    divergence = attention_kl(student_scores, teacher_scores, mask=mask, **average)
    return divergence + mean(entropies, tokens[..., None, :], (-2, -1), **average)


def _tokens(scores: Array, mask: Array | None) -> Array:
    """The mask, ``[..., L]``, of scores ``[..., heads, L, L]``."""
    return checks.mask(mask, (*scores.shape[:-3], scores.shape[-1]))


def relation_kl(
    student: Array, teacher: Array, *, heads: int, mask: Array | None = None
) -> Array:
    r"""KL between token relations: MiniLM's value relation, and all of MiniLMv2.

    .. math:: \frac{1}{h L} \sum_{a, t} \mathrm{KL}(R^t_{a, t} \| R^s_{a, t}), \quad
              R_a = \mathrm{softmax}(X_a X_a^\top / \sqrt{d_r})

    The relation heads split the features anew, so both the widths and the attention
    heads of the models may differ. Products are scaled here, by :math:`d_r`, the width
    of a relation head on that side: pass queries, keys and values as they are.

    Args:
      student: ``[..., L, d]``: queries, keys, values or any hidden states.
      teacher: ``[..., L, e]``.
      heads: Relation heads; must divide d and e. MiniLMv2 has 48 or 64.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per text.

    Raises:
      ValueError: if the heads do not divide a width.

    Example:
      >>> x = jnp.ones((3, 8))
      >>> float(relation_kl(x, jnp.ones((3, 4)), heads=2))
      0.0

    References:
      Wang et al., `MiniLMv2: Multi-Head Self-Attention Relation Distillation
      <https://arxiv.org/abs/2012.15828>`_, 2021, section 3.1.
    """
    return attention_kl(
        attention_scores(student, student, heads, "student"),
        attention_scores(teacher, teacher, heads, "teacher"),
        mask=mask,
    )
