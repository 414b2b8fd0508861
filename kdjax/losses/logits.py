"""What a classifier's logits teach: student, teacher, and where needed the label."""

import jax
import jax.numpy as jnp
import optax

from kdjax.losses.arithmetic import Array, Scalar, classes
from kdjax.losses.divergences import tempered_forward_kl


def soft_kl(
    student_logits: Array,
    teacher_logits: Array,
    *,
    temperature: Scalar,
    where: Array | None = None,
) -> Array:
    r"""KL divergence from the softened teacher to the softened student.

    .. math:: T^2 \sum_c p_c \log(p_c / q_c), \quad
              p = \mathrm{softmax}(z^t / T), \; q = \mathrm{softmax}(z^s / T)

    Its gradient by the student's logits is :math:`T (q - p)`. The factor
    :math:`T^2` keeps that of order one as ``T`` grows; the limit is
    `centered_logit_mse`.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      temperature: Positive scalar.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value an example.

    Example:
      >>> z = jnp.array([[2.0, 0.0, -1.0]])
      >>> float(soft_kl(z, z, temperature=4.0)[0])
      0.0

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    kl = tempered_forward_kl(
        student_logits, teacher_logits, temperature=temperature, where=where
    )
    return temperature**2 * kl


def cross_entropy(
    student_logits: Array, labels: Array, *, where: Array | None = None
) -> Array:
    r"""Cross-entropy with the labels, :math:`-\log q_y`: training without a teacher.

    Args:
      student_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> print(f"{cross_entropy(jnp.zeros(4), jnp.array(1)):.6f}")  # log 4
      1.386294
    """
    dtype = jnp.promote_types(student_logits.dtype, jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(student_logits, dtype), labels, where=where
    )


def hinton(
    student_logits: Array,
    teacher_logits: Array,
    labels: Array,
    *,
    temperature: Scalar,
    alpha: Scalar,
    where: Array | None = None,
) -> Array:
    """``alpha * soft_kl + (1 - alpha) * cross_entropy``, an example at a time.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      temperature: Positive; softens both distributions of the first term only.
      alpha: Weight of the teacher in ``[0, 1]``; 0 is training without one.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value an example.

    Example:
      >>> z = jnp.zeros((1, 4))
      >>> loss = hinton(z, z, jnp.array([3]), temperature=4.0, alpha=0.5)
      >>> print(f"{loss[0]:.6f}")  # half of log 4
      0.693147

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    soft = soft_kl(student_logits, teacher_logits, temperature=temperature, where=where)
    hard = cross_entropy(student_logits, labels, where=where)
    return alpha * soft + (1 - alpha) * hard


def _difference(
    student_logits: Array, teacher_logits: Array, where: Array | None
) -> tuple[Array, Array, Array]:
    """Teacher's logits less the student's, on classes both have; mask; count."""
    student, teacher, where = classes(student_logits, teacher_logits, where)
    both = where & (student > -jnp.inf) & (teacher > -jnp.inf)
    count = jnp.maximum(jnp.sum(both, -1), 1)
    return jnp.where(both, teacher, 0) - jnp.where(both, student, 0), both, count


def logit_mse(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    r"""Mean square of the difference of logits, :math:`\|z^s - z^t\|^2 / C`.

    Unlike a divergence it also binds the mean of the logits, which no probability
    depends on. Classes that either side gives ``-inf`` are as if absent.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value an example.

    Example:
      >>> float(logit_mse(jnp.array([0.0, 2.0]), jnp.array([1.0, 5.0])))
      5.0

    References:
      Ba and Caruana, `Do Deep Nets Really Need to be Deep?
      <https://arxiv.org/abs/1312.6184>`_, 2014, section 2.2 (there half the sum).
    """
    difference, _, count = _difference(student_logits, teacher_logits, where)
    return jnp.sum(difference**2, -1) / count


def centered_logit_mse(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    r"""What `soft_kl` becomes as the temperature grows without bound.

    .. math:: \frac{1}{2C} \sum_c (\tilde z^s_c - \tilde z^t_c)^2

    where a tilde marks logits less their mean over classes. Classes that either
    side gives ``-inf`` are as if absent.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value an example.

    Example:
      >>> float(centered_logit_mse(jnp.array([0.0, 2.0]), jnp.array([7.0, 7.0])))
      0.5

    References:
      Hinton et al., `Distilling the Knowledge in a Neural Network
      <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.1.
    """
    difference, both, count = _difference(student_logits, teacher_logits, where)
    mean = jnp.sum(difference, -1) / count
    centred = jnp.where(both, difference - mean[..., None], 0)
    return jnp.sum(centred**2, -1) / (2 * count)


def label_smoothing(
    student_logits: Array,
    labels: Array,
    *,
    smoothing: Scalar,
    where: Array | None = None,
) -> Array:
    r"""Cross-entropy with the label mixed with a uniform distribution.

    .. math:: -(1 - \epsilon) \log q_y - \frac{\epsilon}{C} \sum_c \log q_c

    A soft target with no teacher in it: the control for every gain that is said
    to come from a teacher's softness. Classes of logit ``-inf`` are as if absent.

    Args:
      student_logits: ``[..., C]``, floating.
      labels: ``[...]``, integers in ``[0, C)``.
      smoothing: The uniform distribution's share, in ``[0, 1]``.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one positive value in nats an example.

    Example:
      >>> print(f"{label_smoothing(jnp.zeros(4), jnp.array(1), smoothing=0.1):.6f}")
      1.386294

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision
      <https://arxiv.org/abs/1512.00567>`_, 2015, section 7.
    """
    logits, _, where = classes(student_logits, student_logits, where)
    exists = where & (logits > -jnp.inf)
    count = jnp.maximum(jnp.sum(exists, -1), 1)
    uniform = (
        jax.nn.logsumexp(logits, -1, where=exists)
        - jnp.sum(jnp.where(exists, logits, 0), -1) / count
    )
    hard = cross_entropy(logits, labels, where=exists)
    return (1 - smoothing) * hard + smoothing * uniform


def teacher_argmax(
    student_logits: Array, teacher_logits: Array, *, where: Array | None = None
) -> Array:
    """Cross-entropy with the class that the teacher holds most likely.

    All of the teacher's corrections to the labels and none of its softness: the
    control that tells the two apart.

    Args:
      student_logits: ``[..., C]``, floating.
      teacher_logits: ``[..., C]``, floating.
      where: Classes to keep, broadcastable to ``[..., C]``.

    Returns:
      ``[...]``, one non-negative value in nats an example.

    Example:
      >>> print(f"{teacher_argmax(jnp.zeros(4), jnp.arange(4.0)):.6f}")  # log 4
      1.386294

    References:
      Kim et al., `Comparing Kullback-Leibler Divergence and Mean Squared Error
      Loss in Knowledge Distillation <https://arxiv.org/abs/2105.08919>`_, 2021,
      section 3 (the limit T -> 0).
    """
    student, teacher, where = classes(student_logits, teacher_logits, where)
    exists = where & (student > -jnp.inf)
    labels = jnp.argmax(jnp.where(exists, teacher, -jnp.inf), -1)
    return cross_entropy(student, labels, where=exists)
