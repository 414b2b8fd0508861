"""The losses of small transformers as their papers put them together.

What each takes is said in `kdjax.losses.attention`, which has the parts.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from kdjax.losses import _numerics, checks
from kdjax.losses._numerics import Array, Scalar, mean, widen
from kdjax.losses.attention import attention_kl, attention_mse, hidden_mse, relation_kl
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
    r"""TinyBERT's first phase: attention and hidden states of every layer, embeddings.

    .. math:: \sum_m \mathrm{MSE}(A^s_m, A^t_{g(m)})
              + \sum_m \mathrm{MSE}(H^s_m W, H^t_{g(m)})

    The second phase, on its own, teaches predictions by cross-entropy with the
    teacher's: `soft_kl` at a temperature of 1, but for the teacher's entropy.

    Args:
      student_scores: ``[..., layers, heads, L, L]``.
      teacher_scores: ``[..., layers, heads, L, L]``, of the layers chosen for them.
      student_hidden: ``[..., layers + 1, L, d]``, embeddings first, after the
        projection.
      teacher_hidden: ``[..., layers + 1, L, d]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value an example.

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
    student_scores: Array,
    teacher_scores: Array,
    student_values: Array,
    teacher_values: Array,
    *,
    mask: Array | None = None,
) -> Array:
    r"""MiniLM: attention and value relation of the last layer.

    `attention_kl` plus `relation_kl` of the values, in the heads of the models, which
    must be as many.

    Args:
      student_scores: ``[..., heads, L, L]``, before the softmax.
      teacher_scores: ``[..., heads, L, L]``.
      student_values: ``[..., L, d]``.
      teacher_values: ``[..., L, e]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> scores, values = jnp.ones((2, 3, 3)), jnp.ones((3, 8))
      >>> float(minilm(scores, scores, values, values))
      0.0

    References:
      Wang et al., `MiniLM: Deep Self-Attention Distillation
      <https://arxiv.org/abs/2002.10957>`_, 2020, section 3, equation 10.
    """
    heads = student_scores.shape[-3]
    relation = relation_kl(student_values, teacher_values, heads=heads, mask=mask)
    return attention_kl(student_scores, teacher_scores, mask=mask) + relation


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
    r"""MiniLMv2: relations among queries, among keys and among values, of one layer.

    The sum of `relation_kl` over the three.

    Args:
      student_queries: ``[..., L, d]``.
      student_keys: ``[..., L, d]``.
      student_values: ``[..., L, d]``.
      teacher_queries: ``[..., L, e]``.
      teacher_keys: ``[..., L, e]``.
      teacher_values: ``[..., L, e]``.
      heads: Relation heads, which divide d and e.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

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
    r"""DistilBERT's three: the teacher's predictions, masked words, hidden states.

    `soft_kl` over all tokens, `cross_entropy` over the masked ones, and
    `cosine_distance` of the last hidden states, each a mean over its tokens.

    Args:
      student_logits: ``[..., L, V]``, floating.
      teacher_logits: ``[..., L, V]``, floating.
      labels: ``[..., L]``, integers in ``[0, V)``.
      student_hidden: ``[..., L, d]``, of the last layer.
      teacher_hidden: ``[..., L, d]``.
      masked: ``[..., L]``, which words were hidden and are to be guessed.
      temperature: Positive; of the first term.
      soft_weight: Of the first term.
      label_weight: Of the second.
      cosine_weight: Of the third.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value an example.

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
