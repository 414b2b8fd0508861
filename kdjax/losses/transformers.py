"""Complete losses of BERT distillation papers, made of `kdjax.losses.attention`.

Shapes and masks are explained there.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from kdjax.losses import _numerics, checks
from kdjax.losses._numerics import Array, Scalar, attention_scores, mean, widen
from kdjax.losses.attention import (
    attention_kl,
    attention_mse,
    hidden_mse,
    relation_kl,
)
from kdjax.losses.logits import cross_entropy, soft_kl
from kdjax.losses.ranges import Positive


def tinybert(
    student_scores: Array,
    teacher_scores: Array,
    student_hidden: Array,
    teacher_hidden: Array,
    *,
    mask: Array | None = None,
) -> Array:
    r"""TinyBERT's first phase: embeddings, hidden states and attention of all layers.

    .. math:: \sum_m \mathrm{MSE}(A^s_m, A^t_{g(m)})
              + \sum_m \mathrm{MSE}(H^s_m W, H^t_{g(m)})

    The second phase, run by itself, is cross-entropy with the teacher's predictions:
    `soft_kl` at a temperature of 1, plus the teacher's entropy.

    Args:
      student_scores: ``[..., layers, heads, L, L]``.
      teacher_scores: ``[..., layers, heads, L, L]``, of the matching layers.
      student_hidden: ``[..., layers + 1, L, d]``, embeddings first, after the
        projection.
      teacher_hidden: ``[..., layers + 1, L, d]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> scores, hidden = jnp.ones((4, 2, 5, 5)), jnp.ones((5, 5, 8))
      >>> float(tinybert(scores, scores, hidden, hidden))
      0.0

    References:
      Jiao et al., `TinyBERT: Distilling BERT for Natural Language Understanding
      <https://arxiv.org/abs/1909.10351>`_, 2020, section 3.1, equation 11.
    """
    mask = None if mask is None else mask[..., None, :]
    attention = attention_mse(student_scores, teacher_scores, mask=mask)
    hidden = hidden_mse(student_hidden, teacher_hidden, mask=mask)
    return jnp.sum(attention, -1) + jnp.sum(hidden, -1)


def minilm(
    student_queries: Array,
    student_keys: Array,
    student_values: Array,
    teacher_queries: Array,
    teacher_keys: Array,
    teacher_values: Array,
    *,
    heads: int,
    mask: Array | None = None,
) -> Array:
    r"""MiniLM: attention distributions and value relation of the last layer.

    `attention_kl` of queries and keys plus `relation_kl` of values, both in the models'
    attention heads. Products are scaled here, by the square root of a head's width. For
    scores with a bias, or causal ones, add the two parts yourself.

    Args:
      student_queries: ``[..., L, d]``, heads concatenated, not scaled.
      student_keys: ``[..., L, d]``.
      student_values: ``[..., L, d]``.
      teacher_queries: ``[..., L, e]``.
      teacher_keys: ``[..., L, e]``.
      teacher_values: ``[..., L, e]``.
      heads: Attention heads; MiniLM has as many in the student as in the teacher.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per text.

    Example:
      >>> s, t = jnp.ones((3, 8)), jnp.ones((3, 16))
      >>> float(minilm(s, s, s, t, t, t, heads=2))
      0.0

    References:
      Wang et al., `MiniLM: Deep Self-Attention Distillation
      <https://arxiv.org/abs/2002.10957>`_, 2020, section 3, equation 10.
    """
    student = attention_scores(student_queries, student_keys, heads, "student")
    teacher = attention_scores(teacher_queries, teacher_keys, heads, "teacher")
    relation = relation_kl(student_values, teacher_values, heads=heads, mask=mask)
    return attention_kl(student, teacher, mask=mask) + relation


def minilm_v2(
    student_queries: Array,
    student_keys: Array,
    student_values: Array,
    teacher_queries: Array,
    teacher_keys: Array,
    teacher_values: Array,
    *,
    heads: int,
    mask: Array | None = None,
) -> Array:
    r"""MiniLMv2: relations among queries, keys and values of one layer.

    The sum of `relation_kl` over the three.

    Args:
      student_queries: ``[..., L, d]``.
      student_keys: ``[..., L, d]``.
      student_values: ``[..., L, d]``.
      teacher_queries: ``[..., L, e]``.
      teacher_keys: ``[..., L, e]``.
      teacher_values: ``[..., L, e]``.
      heads: Relation heads; must divide d and e.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats per example.

    Example:
      >>> s, t = jnp.ones((3, 8)), jnp.ones((3, 16))
      >>> float(minilm_v2(s, s, s, t, t, t, heads=4))
      0.0

    References:
      Wang et al., `MiniLMv2: Multi-Head Self-Attention Relation Distillation
      <https://arxiv.org/abs/2012.15828>`_, 2021, section 3.1.
    """
    pairs = (
        (student_queries, teacher_queries),
        (student_keys, teacher_keys),
        (student_values, teacher_values),
    )
    q, k, v = (relation_kl(s, t, heads=heads, mask=mask) for s, t in pairs)
    return q + k + v


def distilbert(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    student_hidden: Array,
    teacher_hidden: Array,
    *,
    masked: Array,
    temperature: Positive = 2.0,
    soft_weight: Scalar = 5.0,
    label_weight: Scalar = 2.0,
    cosine_weight: Scalar = 1.0,
    mask: Array | None = None,
) -> Array:
    r"""DistilBERT: the teacher's predictions, masked words, and hidden states.

    `soft_kl` over all tokens, `cross_entropy` over the masked ones, and
    `cosine_distance` of the last hidden states, each a mean over its tokens.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      labels: ``[..., L]``, integers in ``[0, V)``.
      student_hidden: ``[..., L, d]``, of the last layer.
      teacher_hidden: ``[..., L, d]``.
      masked: ``[..., L]``, the tokens that were masked and are to be predicted.
      temperature: Positive; for `soft_kl`.
      soft_weight: Weight of `soft_kl`.
      label_weight: Weight of `cross_entropy`.
      cosine_weight: Weight of `cosine_distance`.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value per example.

    Example:
      >>> z, h, all_ = jnp.zeros((3, 4)), jnp.ones((3, 2)), jnp.ones(3, bool)
      >>> loss = distilbert(z, z, jnp.zeros(3, int), h, h, masked=all_)
      >>> print(f"{loss:.6f}")  # twice log 4
      2.772589

    References:
      Sanh et al., `DistilBERT <https://arxiv.org/abs/1910.01108>`_, 2019, section 3,
      with the weights of its code.
    """
    checks.scalars(
        soft_weight=soft_weight, label_weight=label_weight, cosine_weight=cosine_weight
    )
    tokens = checks.mask(mask, student_logits.shape[:-1])
    guessed = tokens & checks.mask(masked, tokens.shape, "masked")
    _, labelled = checks.labels(labels, student_logits)
    soft = soft_kl(student_logits, teacher_logits, temperature=temperature)
    hard = cross_entropy(student_logits, labels)
    hidden = widen(student_hidden, teacher_hidden)
    chex.assert_equal_shape(hidden)
    cosine = _numerics.cosine_distance(*hidden)
    return (
        soft_weight * mean(soft, tokens)
        + label_weight * mean(hard, guessed & labelled)
        + cosine_weight * mean(cosine, tokens)
    )
