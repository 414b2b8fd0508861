r"""Relational losses: over pairs and triples of the examples in a batch.

Embeddings are ``[B, d]``; student and teacher may have different widths. Each loss
gives ``[B]``, an example's part in the paper's value, which is their mean.

In a batch of one there is nothing to relate, and all are 0 except `gram_correlation`,
which compares lengths as well.

Under ``pmap`` or ``shard_map``, where the batch is sharded over devices, pass the name
of the mapped axis as ``axis_name``: embeddings are gathered over it. Value and gradient
are then those of the whole batch on one device, if each device takes the mean over its
shard and ``pmean`` joins the values and the gradients of the parameters.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from kdjax.losses import checks
from kdjax.losses._numerics import (
    Array,
    embeddings,
    gather,
    huber,
    norm,
    polynomial,
    unit,
)
from kdjax.losses.ranges import Positive

_EPSILON = 1e-7  # PKT's, in the code of its authors


def rkd_distance(
    student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
    r"""RKD-D: Huber loss between pairwise distances, each set divided by its mean.

    .. math:: \frac1B \sum_j \ell\!\left(\frac{\|s_i - s_j\|}{\mu_s},
              \frac{\|t_i - t_j\|}{\mu_t}\right)

    where :math:`\mu` is the mean of the distances that are not 0.

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example. The authors weigh its mean by 25.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (4, 3))
      >>> print(f"{rkd_distance(5 * x, x).mean():.6f}")  # scale does not matter
      0.000000

    References:
      Park et al., `Relational Knowledge Distillation
      <https://arxiv.org/abs/1904.05068>`_, 2019, section 3.2.1.
    """
    student, teacher = embeddings(student, teacher)

    def relative(x: Array) -> Array:
        distance = norm(x[:, None] - gather(x, axis_name)[None])
        everywhere = gather(distance, axis_name)
        count = jnp.maximum(jnp.sum(everywhere > 0), 1)
        mean = jnp.sum(everywhere) / count
        return distance / jnp.where(mean == 0, 1, mean)

    return jnp.mean(huber(relative(student) - relative(teacher)), -1)


def rkd_angle(student: Array, teacher: Array, *, axis_name: str | None = None) -> Array:
    r"""RKD-A: Huber loss between the cosines of the angles of all triples.

    .. math:: \frac1{B^2} \sum_{j,k} \ell(\cos \angle s_j s_i s_k,
              \cos \angle t_j t_i t_k)

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example, for the angles at it. The authors
      weigh its mean by 50. Memory grows as ``B^3``.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (4, 3))
      >>> print(f"{rkd_angle(5 * x, x).mean():.6f}")  # scale does not matter
      0.000000

    References:
      Park et al., `Relational Knowledge Distillation
      <https://arxiv.org/abs/1904.05068>`_, 2019, section 3.2.2.
    """
    student, teacher = embeddings(student, teacher)

    def cosines(x: Array) -> Array:
        towards = unit(gather(x, axis_name)[None] - x[:, None])
        return jnp.einsum("ijd,ikd->ijk", towards, towards)

    return jnp.mean(huber(cosines(student) - cosines(teacher)), (1, 2))


def similarity_preserving(
    student: Array, teacher: Array, *, row_norm: int = 2, axis_name: str | None = None
) -> Array:
    r"""Squared differences of Gram matrices with rows scaled to norm 1.

    .. math:: \frac1B \sum_j \left(\frac{(S S^\top)_{ij}}{\|(S S^\top)_i\|}
              - \frac{(T T^\top)_{ij}}{\|(T T^\top)_i\|}\right)^2

    Args:
      student: ``[B, d]``; feature maps are flattened by the caller.
      teacher: ``[B, e]``.
      row_norm: 2 for the paper's rows, of Euclidean norm 1; 1 for torchdistill's, whose
        absolute values add to 1.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example. The usual weight of its mean is 3000.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (4, 3))
      >>> print(f"{similarity_preserving(5 * x, x).mean():.6f}")
      0.000000

    References:
      Tung and Mori, `Similarity-Preserving Knowledge Distillation
      <https://arxiv.org/abs/1907.09682>`_, 2019, section 3.
    """
    if row_norm not in (1, 2):
        raise ValueError(f"row_norm is {row_norm}, but takes 1 or 2")
    student, teacher = embeddings(student, teacher)

    def rows(x: Array) -> Array:
        gram = x @ gather(x, axis_name).T
        if row_norm == 2:
            return unit(gram)
        total = jnp.sum(jnp.abs(gram), -1, keepdims=True)
        return gram / jnp.where(total == 0, 1, total)

    return jnp.mean((rows(student) - rows(teacher)) ** 2, -1)


def pkt(student: Array, teacher: Array, *, axis_name: str | None = None) -> Array:
    r"""PKT: KL between distributions over neighbours, by cosine similarity.

    .. math:: \frac1B \sum_j p_{ij} \log \frac{p_{ij} + \epsilon}{q_{ij} + \epsilon},
              \quad p_{ij} \propto \tfrac12 (1 + \cos(t_i, t_j))

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one value per example. The usual weight of its mean is 30000.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (4, 3))
      >>> bool(abs(pkt(5 * x, x).mean()) < 1e-6)
      True

    References:
      Passalis and Tefas, `Learning Deep Representations with Probabilistic Knowledge
      Transfer <https://arxiv.org/abs/1803.10837>`_, 2018, section 3.
    """
    student, teacher = embeddings(student, teacher)

    def neighbours(x: Array) -> Array:
        x = x / (norm(x) + _EPSILON)[:, None]
        similar = (1 + x @ gather(x, axis_name).T) / 2
        return similar / jnp.sum(similar, -1, keepdims=True)

    q, p = neighbours(student), neighbours(teacher)
    return jnp.mean(p * jnp.log((p + _EPSILON) / (q + _EPSILON)), -1)


def gram_correlation(
    student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
    r"""Squared differences of both Gram matrices: correlation congruence.

    .. math:: \frac1B \sum_j (s_i^\top s_j - t_i^\top t_j)^2

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> float(gram_correlation(jnp.ones((2, 1)), jnp.zeros((2, 3))).mean())
      1.0

    References:
      Peng et al., `Correlation Congruence for Knowledge Distillation
      <https://arxiv.org/abs/1904.01802>`_, 2019, section 3.2, bilinear kernel.
    """
    student, teacher = embeddings(student, teacher)

    def gram(x: Array) -> Array:
        return x @ gather(x, axis_name).T

    return jnp.mean((gram(student) - gram(teacher)) ** 2, -1)


def gaussian_correlation(
    student: Array,
    teacher: Array,
    *,
    gamma: Positive = 0.4,
    order: int = 2,
    axis_name: str | None = None,
) -> Array:
    r"""Correlation congruence with a Gaussian kernel, by its Taylor series.

    .. math:: \frac1B \sum_j \big(k(s_i, s_j) - k(t_i, t_j)\big)^2, \quad
              k(x, y) = e^{-2\gamma} \sum_{p=0}^{P}
              \frac{(2\gamma \, x^\top y)^p}{p!} \approx e^{-\gamma \|x - y\|^2}

    for embeddings scaled to length 1, as is done here.

    Args:
      student: ``[B, d]``.
      teacher: ``[B, e]``.
      gamma: Inverse squared width of the kernel.
      order: P, of the last term that is kept; at least 1.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (4, 3))
      >>> print(f"{gaussian_correlation(5 * x, x).mean():.6f}")  # scale does not matter
      0.000000

    References:
      Peng et al., `Correlation Congruence for Knowledge Distillation
      <https://arxiv.org/abs/1904.01802>`_, 2019, section 3.2, Gaussian kernel.
    """
    checks.scalars(gamma=gamma)
    if order < 1:
        raise ValueError(f"order is {order}, but takes 1 or more")
    student, teacher = (unit(x) for x in embeddings(student, teacher))
    terms = [1 / math.factorial(p) for p in range(order, -1, -1)]

    def kernel(x: Array) -> Array:
        products = 2 * gamma * x @ gather(x, axis_name).T
        return jnp.exp(-2 * jnp.asarray(gamma, x.dtype)) * polynomial(terms, products)

    return jnp.mean((kernel(student) - kernel(teacher)) ** 2, -1)


def consecutive_correlation(
    student: Array, teacher: Array, *, axis_name: str | None = None
) -> Array:
    r"""Products of absolute errors of consecutive examples: RepDistiller's form.

    .. math:: \frac{1}{B - 1} \sum_i \delta_i^\top \delta_{i+1}, \quad
              \delta_i = |s_i - t_i|

    Unlike `gram_correlation`, which the paper describes, it depends on the order of the
    examples in the batch.

    Args:
      student: ``[B, d]``, after the projection if the widths differ.
      teacher: ``[B, d]``.
      axis_name: Mapped axis over which the batch is sharded, if any.

    Returns:
      ``[B]``, one non-negative value per example, whose mean is the loss; 0 for the
      last, and in a batch of one. The usual weight is 0.02.

    Example:
      >>> consecutive_correlation(jnp.ones((3, 2)), jnp.zeros((3, 2))).tolist()
      [3.0, 3.0, 0.0]

    References:
      Peng et al., `Correlation Congruence for Knowledge Distillation
      <https://arxiv.org/abs/1904.01802>`_, 2019, as in RepDistiller.
    """
    student, teacher = embeddings(student, teacher)
    chex.assert_equal_shape([student, teacher])
    mine = jnp.abs(student - teacher)
    batch = gather(mine, axis_name)
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * len(mine)
    after = jnp.pad(batch, ((0, 1), (0, 0)))[1:]  # the last has no neighbour
    after = jax.lax.dynamic_slice_in_dim(after, first, len(mine))
    pairs = max(len(batch) - 1, 1)
    return len(batch) / pairs * jnp.sum(mine * after, -1)
