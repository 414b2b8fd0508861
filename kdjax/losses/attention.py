r"""What a transformer teaches: hidden states, attention, and relations of tokens.

Attention is given as *scores*, before the softmax: ``[..., heads, L, L]``, queries by
keys; hidden states, queries, keys and values as ``[..., L, d]``, heads side by side.
``mask``, ``[..., L]``, marks the tokens that count; the others are as if absent, as
queries and as keys. A score of ``-inf`` is a key that its query may not see.

Which layer of the teacher answers to which of the student is the caller's choice.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import Array, mean, present, widen
from kdjax.losses.divergences import forward_kl


def hidden_mse(student: Array, teacher: Array, *, mask: Array | None = None) -> Array:
    r"""TinyBERT's distance of hidden states, or of embeddings: mean square.

    .. math:: \frac{1}{L d} \sum_{t} \| h^s_t W - h^t_t \|^2

    Args:
      student: ``[..., L, d]``, after the projection W if the widths differ.
      teacher: ``[..., L, d]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value an example.

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
    return mean(jnp.mean((student - teacher) ** 2, -1), tokens)


def attention_mse(
    student_scores: Array, teacher_scores: Array, *, mask: Array | None = None
) -> Array:
    r"""TinyBERT's distance of attention: mean square of scores before the softmax.

    .. math:: \frac{1}{h L^2} \sum_a \| A^s_a - A^t_a \|^2

    Args:
      student_scores: ``[..., heads, L, L]``.
      teacher_scores: ``[..., heads, L, L]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value an example: the mean over heads and over pairs
      of a query and a key that both sides let it see.

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
    return mean(gap**2, pairs, (-3, -2, -1))


def attention_kl(
    student_scores: Array, teacher_scores: Array, *, mask: Array | None = None
) -> Array:
    r"""MiniLM's distance of attention: KL of what each query attends to.

    .. math:: \frac{1}{h L} \sum_{a, t} \mathrm{KL}(A^t_{a, t} \| A^s_{a, t})

    Args:
      student_scores: ``[..., heads, L, L]``, before the softmax.
      teacher_scores: ``[..., heads, L, L]``.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats an example: the mean over heads and
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
    chex.assert_equal_shape([student_scores, teacher_scores])
    shape = student_scores.shape
    tokens = checks.mask(mask, (*shape[:-3], shape[-1]))
    keys = tokens[..., None, None, :]
    values = forward_kl(student_scores, teacher_scores, class_mask=keys)
    return mean(values, tokens[..., None, :], (-2, -1))


def relation_kl(
    student: Array, teacher: Array, *, heads: int, mask: Array | None = None
) -> Array:
    r"""KL between relations of tokens: MiniLM's values, and all of MiniLMv2.

    .. math:: \frac{1}{h L} \sum_{a, t} \mathrm{KL}(R^t_{a, t} \| R^s_{a, t}), \quad
              R_a = \mathrm{softmax}(X_a X_a^\top / \sqrt{d_r})

    The widths may differ, and so may the heads of the models: the features are split
    into relation heads of their own.

    Args:
      student: ``[..., L, d]``: queries, keys, values or any hidden states.
      teacher: ``[..., L, e]``.
      heads: Relation heads, which divide d and e. MiniLMv2 takes 48, or 64.
      mask: Tokens that count, ``[..., L]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

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
    student, teacher = widen(student, teacher)

    def relations(name: str, x: Array) -> Array:
        if heads < 1 or x.shape[-1] % heads:
            raise ValueError(f"heads is {heads}, but divides {name} of {x.shape[-1]}")
        x = x.reshape(*x.shape[:-1], heads, -1)
        return jnp.einsum("...qhd,...khd->...hqk", x, x) / jnp.sqrt(x.shape[-1])

    return attention_kl(
        relations("student", student), relations("teacher", teacher), mask=mask
    )
