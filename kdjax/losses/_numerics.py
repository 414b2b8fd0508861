r"""Numerics shared by all losses, accurate for both close and distant distributions.

A divergence is computed as a sum over classes of :math:`a \log(a/b) - a + b`. Each term
is never negative, and 0 exactly where ``a`` equals ``b``; the sum is KL because both
sides sum to one. The usual sum of :math:`a \log(a/b)` is a small difference of large
terms: in float32 it loses a KL of 1e-6 altogether, and may be negative. For the same
reason log(a / b) is computed from the *difference of logits*, which is exact where they
are close; an error of the normalisers, the same for all classes, then cancels to first
order.
"""

from __future__ import annotations

from collections.abc import Iterable
import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from kdjax.losses import checks

Array = jax.Array
Scalar = Array | float

# (exp(-r) - 1 + r) / r^2 = 1/2 - r/6 + r^2/24 - ..., highest power first. Fourteen
# terms are exact in float64 for |r| < NEAR.
_SERIES = [(-1) ** k / math.factorial(k + 2) for k in range(14)][::-1]
NEAR = 0.5
# Logits below this are masks: other libraries use their least number instead of -inf.
_ABSENT = -1e30
# In place of an infinite log-ratio, where one side is exactly 0: exp(-_FAR) is 0.
_FAR = 1e4


class Pair(NamedTuple):
    p: Array  # teacher's probabilities [..., C]
    q: Array  # student's probabilities [..., C]
    gap: Array  # log(p / q) [..., C], finite


def present(logits: Array) -> Array:
    """Mask of the classes that have a probability: not ``-inf``, nor below -1e30.

    A mask of -1e9, or of float16's least number, -65504, is an ordinary logit. NaN
    counts as present, so that it is propagated and not taken for an absent class.
    """
    # In float16 the bound would be -inf, below which there is nothing.
    return ~(at_least_float32(logits) < _ABSENT)


def normalise(logits: Array, exists: Array) -> tuple[Array, Array, Array]:
    """Probabilities, and the log normaliser in two parts: largest logit, and rest.

    Without any class, all three are 0.
    """
    top = jnp.max(logits, -1, keepdims=True, where=exists, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(top == -jnp.inf, 0, top))
    mass = jnp.where(exists, jnp.exp(jnp.where(exists, logits - top, 0)), 0)
    total = jnp.sum(mass, -1, keepdims=True)
    total = jnp.where(total == 0, 1, total)
    return mass / total, top, jnp.log(total)


def widen(*arrays: Array) -> list[Array]:
    """The arrays in one floating type, float32 or wider."""
    chex.assert_type(arrays, float)
    dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
    return [jnp.asarray(a, dtype) for a in arrays]


def at_least_float32(values: Array) -> Array:
    """The values of any type, booleans, too, in float32 or wider."""
    return jnp.asarray(values, jnp.promote_types(jnp.result_type(values), jnp.float32))


def norm(x: Array) -> Array:
    """Length along the last axis, with gradient 0 where it is 0."""
    square = jnp.sum(x**2, -1)
    zero = square == 0  # not "> 0", which is false for NaN
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))


def huber(difference: Array) -> Array:
    """Half the square up to 1, linear from there on."""
    size = jnp.abs(difference)
    return jnp.where(size < 1, difference**2 / 2, size - 0.5)


def unit(x: Array) -> Array:
    """``x`` over its length along the last axis; 0 where that is 0."""
    length = norm(x)[..., None]
    return x / jnp.where(length == 0, 1, length)


def cosine_distance(a: Array, b: Array) -> Array:
    """One minus the cosine along the last axis, not below 0; 1 where either is 0."""
    either = (norm(a) == 0) | (norm(b) == 0)
    return jnp.where(either, 1, jnp.sum((unit(a) - unit(b)) ** 2, -1) / 2)


def mean(
    values: Array,
    counts: Array,
    axis: int | tuple[int, ...] = -1,
    *,
    pooled: bool = False,
    axis_name: str | None = None,
) -> Array:
    """Mean over ``axis`` of the values that count; 0 of none.

    If ``pooled``, the mean of the result over the remaining axes, and over the shards
    of ``axis_name``, is that of all values that count, however they are spread.
    """
    counts = jnp.broadcast_to(counts, values.shape)
    count = jnp.sum(counts, axis)
    if pooled:
        count = batch_mean(count, jnp.ones(count.shape, bool), axis_name)
    return jnp.sum(jnp.where(counts, values, 0), axis) / jnp.where(count == 0, 1, count)


def polynomial(coefficients: Iterable[Scalar], x: Array) -> Array:
    """The polynomial with these coefficients, highest power first."""
    total = jnp.zeros_like(x)
    for coefficient in coefficients:
        total = total * x + coefficient
    return total


def entropy(logits: Array) -> Array:
    """Of the softmax, in nats; 0 without any class."""
    exists = present(logits)
    p, top, rest = normalise(logits, exists)
    return -jnp.sum(p * jnp.where(exists, (logits - top) - rest, 0), -1)


def batch_mean(values: Array, counts: Array, axis_name: str | None) -> Array:
    """Mean of the values that count in all shards of the batch; 0 of none."""
    total, count = jnp.sum(jnp.where(counts, values, 0)), jnp.sum(counts)
    if axis_name is not None:
        total, count = jax.lax.psum((total, count), axis_name)
    return total / jnp.maximum(count, 1)


def embeddings(*arrays: Array) -> list[Array]:
    """The arrays in float32 or wider; they must have rank two and the same length."""
    chex.assert_rank(arrays, 2)
    chex.assert_equal_shape_prefix(arrays, 1)
    return widen(*arrays)


def attention_scores(queries: Array, keys: Array, heads: int, name: str) -> Array:
    """Scaled products of queries and keys, ``[..., L, d]``: ``[..., heads, L, L]``."""
    queries, keys = widen(queries, keys)
    width = queries.shape[-1]
    if heads < 1 or width % heads:
        raise ValueError(f"heads is {heads}, but must divide the {name}'s {width}")
    q, k = (x.reshape(*x.shape[:-1], heads, -1) for x in (queries, keys))
    return jnp.einsum("...qhd,...khd->...hqk", q, k) / jnp.sqrt(width // heads)


def gather(x: Array, axis_name: str | None) -> Array:
    """The whole batch, where ``x`` is a shard of it."""
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)


def classes(
    student_logits: Array, teacher_logits: Array, class_mask: Array | None
) -> tuple[Array, Array, Array]:
    """Logits in float32 or wider, and the mask of classes in their shape."""
    *ours, own = jnp.shape(student_logits) or (0,)
    *theirs, other = jnp.shape(teacher_logits) or (0,)
    if ours == theirs and own != other:
        raise ValueError(
            f"student_logits has {own} classes and teacher_logits {other}, but takes "
            f"the same; vocabularies that differ can be compared by uld alone"
        )
    chex.assert_equal_shape([student_logits, teacher_logits])
    student, teacher = widen(student_logits, teacher_logits)
    return student, teacher, checks.mask(class_mask, student.shape, "class_mask")


def compare(
    student: Array, teacher: Array, class_mask: Array, temperature: Scalar = 1.0
) -> Pair:
    in_student, in_teacher = (
        class_mask & present(student),
        class_mask & present(teacher),
    )
    anywhere = in_student.any(-1, keepdims=True) & in_teacher.any(-1, keepdims=True)
    in_student, in_teacher = in_student & anywhere, in_teacher & anywhere
    q, top_q, rest_q = normalise(student / temperature, in_student)
    p, top_p, rest_p = normalise(teacher / temperature, in_teacher)
    both = in_student & in_teacher
    t, s = jnp.where(both, teacher, 0), jnp.where(both, student, 0)
    # A common offset of all logits is subtracted from the larger side, exactly.
    offset = jnp.round((top_p - top_q) * temperature)
    difference = jnp.where(
        jnp.abs(top_p) > jnp.abs(top_q), (t - offset) - s, t - (s + offset)
    )
    normaliser = (top_p - top_q - offset / temperature) + (rest_p - rest_q)
    gap = difference / temperature - normaliser
    alone = _FAR * (in_teacher.astype(gap.dtype) - in_student)
    return Pair(p, q, jnp.where(both, gap, alone))


def excess(pair: Pair) -> Array:
    """``p - q``, with the digits of the gap where they are close."""
    p, q, gap = pair
    near = jnp.abs(gap) < NEAR
    return jnp.where(near, q * jnp.expm1(jnp.where(near, gap, 0)), p - q)


def kl(a: Array, b: Array, log_ratio: Array) -> Array:
    """Sum of ``a log(a/b) - a + b``, given ``log(a/b)``."""
    near = jnp.abs(log_ratio) < NEAR
    # Each branch sees only its own arguments, because gradients pass through both.
    r = jnp.where(near, log_ratio, 0)
    close = a * r**2 * polynomial(_SERIES, r)
    apart = a * jnp.where(near, 0, log_ratio) - a + b
    return jnp.sum(jnp.where(near, close, apart), -1)


def log_ratio_to_mixture(gap: Array, share: Scalar) -> Array:
    """``log(a / (share a + (1 - share) b))`` where ``gap`` is ``log(a / b)``."""
    near = jnp.abs(gap) < NEAR
    r = jnp.where(near, gap, 0)
    close = -jnp.log1p((1 - share) * jnp.expm1(-r))
    apart = -jnp.logaddexp(jnp.log(share), jnp.log1p(-share) - jnp.where(near, 1, gap))
    return jnp.where(near, close, apart)


def kls_to_mixture(pair: Pair, beta: Scalar) -> tuple[Array, Array]:
    """``KL(p || m)`` and ``KL(q || m)``, where ``m = beta p + (1 - beta) q``."""
    p, q, gap = pair
    mixture = beta * p + (1 - beta) * q
    return (
        kl(p, mixture, log_ratio_to_mixture(gap, beta)),
        kl(q, mixture, log_ratio_to_mixture(-gap, 1 - beta)),
    )


def tempered_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Scalar,
    class_mask: Array | None = None,
) -> Array:
    """Forward KL of both logits over ``temperature``.

    Logits are subtracted before the division rounds them. Classes that the student
    rules out are ignored.
    """
    checks.scalars(temperature=temperature)
    student, teacher, class_mask = classes(student_logits, teacher_logits, class_mask)
    p, q, gap = compare(student, teacher, class_mask & present(student), temperature)
    return kl(p, q, gap)
