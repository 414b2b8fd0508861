r"""The arithmetic that all divergences share: exact for near and for far pairs.

A divergence here is a sum over classes of :math:`a \log(a/b) - a + b`, which is
never negative, and is 0 exactly where ``a`` equals ``b``; the sum is KL, for both
sides sum to one. Summing :math:`a \log(a/b)` alone, as is usual, leaves a small number
as the difference of large ones: in float32 it loses a KL of 1e-6 altogether, and may
come out negative. For the same reason log(a / b) is taken from the *difference of
logits*, which is exact where they are close; an error in the normalisers, the same for
all classes, then cancels to first order.
"""

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

Array = jax.Array
Scalar = jax.typing.ArrayLike

# (exp(-r) - 1 + r) / r^2 = 1/2 - r/6 + r^2/24 - ..., highest power first. Fourteen
# terms are exact in float64 for |r| < NEAR.
_SERIES = [(-1) ** k / math.factorial(k + 2) for k in range(14)][::-1]
_NEAR = 0.5
# Stands for an infinite log-ratio where one side is exactly 0: exp(-_FAR) is 0.
_FAR = 1e4


class Pair(NamedTuple):
    p: Array  # teacher's probabilities [..., C]
    q: Array  # student's probabilities [..., C]
    gap: Array  # log(p / q) [..., C], finite


def _normalise(logits: Array, exists: Array) -> tuple[Array, Array, Array]:
    """Probabilities, and the log normaliser as two parts: largest logit and rest."""
    top = jnp.max(logits, -1, keepdims=True, where=exists, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(top > -jnp.inf, top, 0))
    mass = jnp.where(exists, jnp.exp(jnp.where(exists, logits - top, 0)), 0)
    total = jnp.sum(mass, -1, keepdims=True)
    total = jnp.where(total > 0, total, 1)
    return mass / total, top, jnp.log(total)


def classes(
    student_logits: Array, teacher_logits: Array, where: Array | None
) -> tuple[Array, Array, Array]:
    """Logits in float32 or wider, and ``where`` broadcast to their shape."""
    chex.assert_equal_shape([student_logits, teacher_logits])
    chex.assert_type([student_logits, teacher_logits], float)
    dtype = jnp.promote_types(
        jnp.result_type(student_logits, teacher_logits), jnp.float32
    )
    student, teacher = (jnp.asarray(z, dtype) for z in (student_logits, teacher_logits))
    where = jnp.broadcast_to(True if where is None else where, student.shape)
    return student, teacher, where


def compare(
    student: Array, teacher: Array, where: Array, temperature: Scalar = 1.0
) -> Pair:
    in_student, in_teacher = where & (student > -jnp.inf), where & (teacher > -jnp.inf)
    q, top_q, rest_q = _normalise(student / temperature, in_student)
    p, top_p, rest_p = _normalise(teacher / temperature, in_teacher)
    both = in_student & in_teacher
    difference = jnp.where(both, teacher, 0) - jnp.where(both, student, 0)
    gap = difference / temperature - ((top_p - top_q) + (rest_p - rest_q))
    alone = _FAR * (in_teacher.astype(gap.dtype) - in_student)
    return Pair(p, q, jnp.where(both, gap, alone))


def kl(a: Array, b: Array, log_ratio: Array) -> Array:
    """Sum of ``a log(a/b) - a + b``, given ``log(a/b)`` itself."""
    near = jnp.abs(log_ratio) < _NEAR
    # Each branch sees only its own arguments, for gradients pass through both.
    r = jnp.where(near, log_ratio, 0)
    close = a * r**2 * jnp.polyval(jnp.array(_SERIES, r.dtype), r)
    apart = a * jnp.where(near, 0, log_ratio) - a + b
    return jnp.sum(jnp.where(near, close, apart), -1)


def log_ratio_to_mixture(gap: Array, share: Scalar) -> Array:
    """``log(a / (share a + (1 - share) b))`` where ``gap`` is ``log(a / b)``."""
    near = jnp.abs(gap) < _NEAR
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
