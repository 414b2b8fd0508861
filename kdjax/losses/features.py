"""Losses on hidden activations, one vector or array per example.

Where widths differ, project the student's activations before the loss, for instance
with `kdjax.models.projectors`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from kdjax.losses import _numerics
from kdjax.losses._numerics import Array, unit, widen


def hint(student: Array, teacher: Array) -> Array:
    r"""FitNets' hint: mean squared difference of activations.

    .. math:: \frac1d \|s - t\|^2

    Args:
      student: ``[B, ...]``, after the projection if the widths differ.
      teacher: ``[B, ...]``, of the same shape.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> hint(jnp.zeros((2, 3)), jnp.full((2, 3), 2.0)).tolist()
      [4.0, 4.0]

    References:
      Romero et al., `FitNets: Hints for Thin Deep Nets
      <https://arxiv.org/abs/1412.6550>`_, 2015, section 2.2 (there half the sum).
    """
    student, teacher = widen(student, teacher)
    chex.assert_equal_shape([student, teacher])
    return jnp.mean((student - teacher) ** 2, _but_first(student))


def cosine_distance(student: Array, teacher: Array) -> Array:
    r"""One minus the cosine similarity of activations.

    Args:
      student: ``[..., d]``, after the projection if the widths differ.
      teacher: ``[..., d]``.

    Returns:
      ``[...]``, one value in ``[0, 2]`` per example; 1 where either is 0.

    Example:
      >>> float(cosine_distance(jnp.array([1.0, 0.0]), jnp.array([0.0, 3.0])))
      1.0

    References:
      Sanh et al., `DistilBERT <https://arxiv.org/abs/1910.01108>`_, 2019, section 3.
    """
    student, teacher = widen(student, teacher)
    chex.assert_equal_shape([student, teacher])
    return _numerics.cosine_distance(student, teacher)


def pkd(student: Array, teacher: Array) -> Array:
    r"""Patient KD for BERT: mean squared difference of normalised activations.

    .. math:: \frac1d \left\| \frac{s}{\|s\|} - \frac{t}{\|t\|} \right\|^2

    averaged over layers. The paper sums over ``d``; its code takes the mean.

    Args:
      student: ``[B, layers, d]``, hidden states of the first token.
      teacher: ``[B, layers, d]``, of the matching layers.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> x = jnp.ones((1, 2, 4))
      >>> pkd(3 * x, x).tolist()
      [0.0]

    References:
      Sun et al., `Patient Knowledge Distillation for BERT Model Compression
      <https://arxiv.org/abs/1908.09355>`_, 2019, section 3.2.
    """
    student, teacher = widen(student, teacher)
    chex.assert_rank([student, teacher], 3)
    return hint(unit(student), unit(teacher))


def factor_transfer(student: Array, teacher: Array) -> Array:
    r"""Factor transfer (FT): mean absolute difference of normalised factors.

    .. math:: \frac1d \left\| \frac{f_s}{\|f_s\|} - \frac{f_t}{\|f_t\|} \right\|_1

    Args:
      student: ``[B, ...]``, from a translator that learns with the student.
      teacher: ``[B, ...]``, of the same shape, from a paraphraser trained before.

    Returns:
      ``[B]``, one non-negative value per example. The usual weight of its mean is 200.

    Example:
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 2, 4)
      >>> print(f"{factor_transfer(3 * x, x)[0]:.6f}")
      0.000000

    References:
      Kim et al., `Paraphrasing Complex Network: Network Compression via Factor Transfer
      <https://arxiv.org/abs/1802.04977>`_, 2018, section 3.3, with p = 1.
    """
    chex.assert_equal_shape([student, teacher])
    s, t = (unit(x.reshape(len(x), -1)) for x in widen(student, teacher))
    return jnp.mean(jnp.abs(s - t), -1)


def vid(student: Array, teacher: Array, raw_variance: Array) -> Array:
    r"""Variational information distillation (VID): Gaussian negative log-likelihood.

    .. math:: \frac1{2d} \sum \left( \frac{(t - \mu)^2}{\sigma_c^2}
              + \log \sigma_c^2 \right), \quad
              \sigma_c^2 = \log(1 + e^{\rho_c}) + 10^{-5}

    of the teacher's activations, less a constant; it may be negative. The variances
    are learned with the student.

    Args:
      student: ``[B, ..., C]``, the mean, projected from the student's activations.
      teacher: ``[B, ..., C]``.
      raw_variance: ``[C]``, the parameter rho; log(e^5 - 1) at first in the paper.

    Returns:
      ``[B]``, one value per example.

    Example:
      >>> x = jnp.ones((1, 4))
      >>> print(f"{vid(x, x, jnp.full(4, 0.541325))[0]:.4f}")  # a variance of 1
      0.0000

    References:
      Ahn et al., `Variational Information Distillation for Knowledge Transfer
      <https://arxiv.org/abs/1904.05835>`_, 2019, section 2.1.
    """
    student, teacher, raw_variance = widen(student, teacher, raw_variance)
    chex.assert_equal_shape([student, teacher])
    if raw_variance.shape != student.shape[-1:]:
        raise ValueError(
            f"raw_variance has shape {raw_variance.shape}, but takes one value a "
            f"channel: {student.shape[-1:]}"
        )
    variance = jax.nn.softplus(raw_variance) + 1e-5
    variance = variance.reshape((1,) * (student.ndim - 1) + variance.shape)
    values = ((teacher - student) ** 2 / variance + jnp.log(variance)) / 2
    return jnp.mean(values, _but_first(values))


def _but_first(x: Array) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))
