"""Losses on feature maps of convolutional networks.

Maps are ``[B, H, W, C]``; for channels first, pass ``jnp.moveaxis(x, 1, -1)``. Where
sizes or numbers of channels must agree, resize or project before the loss.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from kdjax.losses import checks
from kdjax.losses._numerics import Array, norm, unit, widen
from kdjax.losses.features import hint


def _attention_maps(student: Array, teacher: Array, power: float) -> list[Array]:
    """Means over channels of ``|a|^power``, flattened, scaled to length 1: [B, H W]."""
    checks.scalars(power=power)
    checks.maps(student=student, teacher=teacher)
    maps = (jnp.mean(jnp.abs(x) ** power, -1) for x in widen(student, teacher))
    return [unit(x.reshape(len(x), -1)) for x in maps]


def attention_transfer(student: Array, teacher: Array, *, power: float = 2) -> Array:
    r"""Attention transfer as in the authors' code: mean squared difference of maps.

    .. math:: \frac1{HW} \left\| \frac{a_s}{\|a_s\|} - \frac{a_t}{\|a_t\|} \right\|^2,
              \quad a = \sum_c |A_c|^p

    Args:
      student: ``[B, H, W, C]``.
      teacher: ``[B, H, W, D]``; resize the larger map before.
      power: The exponent p.

    Returns:
      ``[B]``, one non-negative value per example. The usual weight of its mean is 1000.

    Example:
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 2, 2, 2)
      >>> print(f"{attention_transfer(3 * x, x)[0]:.6f}")
      0.000000

    References:
      Zagoruyko and Komodakis, `Paying More Attention to Attention
      <https://arxiv.org/abs/1612.03928>`_, 2017, section 3.1, as in its code.
    """
    student, teacher = _attention_maps(student, teacher, power)
    return hint(student, teacher)


def attention_transfer_distance(
    student: Array, teacher: Array, *, power: float = 2
) -> Array:
    r"""Attention transfer as in the paper: distance between attention maps.

    .. math:: \left\| \frac{a_s}{\|a_s\|} - \frac{a_t}{\|a_t\|} \right\|

    Args:
      student: ``[B, H, W, C]``.
      teacher: ``[B, H, W, D]``; resize the larger map before.
      power: The exponent p.

    Returns:
      ``[B]``, one non-negative value per example. The paper weighs it by 500.

    Example:
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 2, 2, 2)
      >>> print(f"{attention_transfer_distance(3 * x, x)[0]:.6f}")
      0.000000

    References:
      Zagoruyko and Komodakis, `Paying More Attention to Attention
      <https://arxiv.org/abs/1612.03928>`_, 2017, section 3.1, equation 2.
    """
    student, teacher = _attention_maps(student, teacher, power)
    return norm(student - teacher)


def fsp(
    student_first: Array,
    student_second: Array,
    teacher_first: Array,
    teacher_second: Array,
) -> Array:
    r"""Flow of solution procedure (FSP): mean squared difference of Gram matrices.

    If a layer is passed twice, they are the Gram matrices of style transfer.

    .. math:: \frac1{CD} \sum_{c,d} (G^s_{cd} - G^t_{cd})^2, \quad
              G_{cd} = \frac1{HW} \sum_{h,w} F^1_{hwc} F^2_{hwd}

    Args:
      student_first: ``[B, H, W, C]``.
      student_second: ``[B, H, W, D]``.
      teacher_first: ``[B, H', W', C]``.
      teacher_second: ``[B, H', W', D]``.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> x = jnp.ones((1, 2, 2, 3))
      >>> fsp(x, x, x, x).tolist()
      [0.0]

    References:
      Yim et al., `A Gift from Knowledge Distillation
      <https://doi.org/10.1109/CVPR.2017.754>`_, 2017, section 3.2.
    """
    checks.maps(student_first=student_first, student_second=student_second)
    checks.maps(teacher_first=teacher_first, teacher_second=teacher_second)
    maps = widen(student_first, student_second, teacher_first, teacher_second)

    def flow(first: Array, second: Array) -> Array:
        _, height, width, _ = first.shape
        return jnp.einsum("bhwc,bhwd->bcd", first, second) / (height * width)

    return hint(flow(*maps[:2]), flow(*maps[2:]))


def nst(student: Array, teacher: Array) -> Array:
    r"""Neuron selectivity transfer (NST): maximum mean discrepancy between channels.

    .. math:: \overline{k(t, t')} + \overline{k(s, s')} - 2 \overline{k(s, t)},
              \quad k(a, b) = (a^\top b)^2

    where each channel is a point in the space of pixels, scaled to length 1.

    Args:
      student: ``[B, H, W, C]``.
      teacher: ``[B, H, W, D]``; resize the larger map before.

    Returns:
      ``[B]``, one non-negative value per example. The usual weight of its mean is 50.

    Example:
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 2, 2, 2)
      >>> print(f"{nst(3 * x, x)[0]:.6f}")
      0.000000

    References:
      Huang and Wang, `Like What You Like: Knowledge Distill via Neuron Selectivity
      Transfer <https://arxiv.org/abs/1707.01219>`_, 2017, section 4, polynomial kernel.
    """
    checks.maps(student=student, teacher=teacher)
    student, teacher = widen(student, teacher)

    def channels(x: Array) -> Array:
        return unit(jnp.moveaxis(x.reshape(len(x), -1, x.shape[-1]), -1, 1))

    def kernel(a: Array, b: Array) -> Array:
        return jnp.mean(jnp.einsum("bci,bdi->bcd", a, b) ** 2, (1, 2))

    s, t = channels(student), channels(teacher)
    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def inter_channel_correlation(student: Array, teacher: Array) -> Array:
    r"""ICKD: distance between the correlations of channels, row by row.

    .. math:: \frac1C \sum_c \left\| \frac{G^s_c}{\|G^s_c\|}
              - \frac{G^t_c}{\|G^t_c\|} \right\|^2, \quad
              G_{cd} = \sum_{h,w} F_{hwc} F_{hwd}

    Args:
      student: ``[B, H, W, C]``, after the projection if the channels differ.
      teacher: ``[B, H', W', C]``.

    Returns:
      ``[B]``, one non-negative value per example. The authors' code divides the mean by
      ``B`` once more.

    Example:
      >>> x = jnp.arange(1.0, 9.0).reshape(1, 2, 2, 2)
      >>> print(f"{inter_channel_correlation(3 * x, x)[0]:.6f}")
      0.000000

    References:
      Liu et al., `Exploring Inter-Channel Correlation for Diversity-Preserved Knowledge
      Distillation <https://arxiv.org/abs/2202.03680>`_, 2021, section 3, and its code.
    """
    checks.maps(student=student)
    checks.maps(teacher=teacher)

    def correlations(x: Array) -> Array:
        return unit(jnp.einsum("bhwc,bhwd->bcd", x, x))

    s, t = (correlations(x) for x in widen(student, teacher))
    return s.shape[-1] * hint(s, t)


def hierarchical_context(
    student: Array, teacher: Array, *, sizes: tuple[int, ...] = (4, 2, 1)
) -> Array:
    r"""Knowledge review: mean squared differences of maps pooled to several sizes.

    .. math:: \frac{\sum_i 2^{-i} \, \mathrm{MSE}(P_i(s), P_i(t))}{\sum_i 2^{-i}}

    with the whole map first and then its averages in ``sizes``, of which those smaller
    than the map are taken. For a review of several stages, add the losses of all.

    Args:
      student: ``[B, H, W, C]``, from the module that fuses the student's later stages
        into this one and learns with the student.
      teacher: ``[B, H, W, C]``.
      sizes: Height and width of each pooled map, as in adaptive average pooling.

    Returns:
      ``[B]``, one non-negative value per example.

    Example:
      >>> x = jnp.arange(8.0).reshape(1, 2, 2, 2)
      >>> hierarchical_context(x + 3, x).tolist()
      [9.0]

    References:
      Chen et al., `Distilling Knowledge via Knowledge Review
      <https://arxiv.org/abs/2104.09044>`_, 2021, section 3, as in its code.
    """
    checks.maps(student=student, teacher=teacher)
    student, teacher = widen(student, teacher)
    height, width = student.shape[1:3]
    smaller = [size for size in sizes if size < min(height, width)]
    value, weight, total = hint(student, teacher), 1.0, 1.0
    gap = student - teacher  # pooling is linear
    for size in smaller:
        weight /= 2
        total += weight
        rows, columns = _averages(height, size), _averages(width, size)
        pooled = jnp.einsum("kh,lw,bhwc->bklc", rows, columns, gap)
        value += weight * jnp.mean(pooled**2, (1, 2, 3))
    return value / total


def _averages(length: int, bins: int) -> np.ndarray:
    """``[bins, length]``: means over even bins, which overlap where they must."""
    edges = np.arange(bins + 1) * length
    first, last = edges[:-1] // bins, -(-edges[1:] // bins)
    inside = (np.arange(length) >= first[:, None]) & (np.arange(length) < last[:, None])
    return inside / inside.sum(-1, keepdims=True)
