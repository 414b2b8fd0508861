"""Losses in which the right pair is told from all other pairs of the batch."""

import jax
import jax.numpy as jnp

from kdjax.losses.arithmetic import Array, Scalar, embeddings, gather, unit


def clip_affinity(
    student_images: Array,
    student_texts: Array,
    teacher_images: Array,
    teacher_texts: Array,
    *,
    student_scale: Scalar,
    teacher_scale: Scalar,
    axis_name: str | None = None,
) -> Array:
    r"""TinyCLIP's affinity mimicking: cross-entropy between image-text affinities.

    For each image the distribution over the texts of the batch, for each text that over
    its images; half of either. Not 0 at the optimum, where it is the teacher's entropy.

    Args:
      student_images: ``[B, d]``, scaled to length 1 here.
      student_texts: ``[B, d]``.
      teacher_images: ``[B, e]``.
      teacher_texts: ``[B, e]``.
      student_scale: Inverse temperature of the student's softmax.
      teacher_scale: And of the teacher's.
      axis_name: Of the mapped axis that the batch is sharded over, if it is.

    Returns:
      ``[B]``, one value an example: that of its image and that of its text.

    Example:
      >>> x = jnp.eye(2)
      >>> print(f"{clip_affinity(x, x, x, x, student_scale=0, teacher_scale=1)[0]:.6f}")
      0.693147

    References:
      Wu et al., `TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight
      Inheritance <https://arxiv.org/abs/2309.12314>`_, 2023, section 3.1.
    """
    images_s, texts_s, images_t, texts_t = (
        unit(x)
        for x in embeddings(
            student_images, student_texts, teacher_images, teacher_texts
        )
    )

    def one_way(from_s: Array, to_s: Array, from_t: Array, to_t: Array) -> Array:
        log_q = jax.nn.log_softmax(student_scale * from_s @ gather(to_s, axis_name).T)
        p = jax.nn.softmax(teacher_scale * from_t @ gather(to_t, axis_name).T)
        return -jnp.sum(p * log_q, -1)

    return (
        one_way(images_s, texts_s, images_t, texts_t)
        + one_way(texts_s, images_s, texts_t, images_t)
    ) / 2
