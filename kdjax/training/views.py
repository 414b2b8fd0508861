"""Views: the only place where a training changes its inputs.

A view is a function ``(key, batch, params, fixed) -> batch`` of as many examples: it
augments images, or writes text with the student's ``params``. Teacher and student see
what it returns, and no gradient flows through it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from kdjax.models import Batch

View = Callable[..., Batch]
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]  # (key, images) -> images


def unchanged(key: jax.Array, batch: Batch, params: object, fixed: object) -> Batch:
    """The batch as it is."""
    return batch


def augmented(*augmentations: Augmentation) -> View:
    """A view in which each augmentation changes the images in turn.

    Outputs of a teacher that are stored for the images as they are do not change with
    them: give a live teacher to have them agree, or see `of_stored`.

    Args:
      *augmentations: Such as `kdjax.data.jitter`: ``(key, images) -> images``.
    """
    return partial(_augmented, augmentations)


def of_stored(views: Sequence[Callable[[jax.Array], jax.Array]]) -> View:
    """One of a finite set of views, drawn for each example, for a stored teacher.

    The teacher's outputs are stored for every view, ``[B, views, ...]``, in this order;
    the student sees the view whose outputs its batch then holds.

    Args:
      views: Functions of images ``[B, ...]``, without randomness.
    """
    return partial(_of_stored, tuple(views))


def _augmented(
    augmentations: tuple[Augmentation, ...],
    key: jax.Array,
    batch: Batch,
    params: object,
    fixed: object,
) -> Batch:
    images = batch["image"]
    keys = [key]  # one augmentation takes the view's own key
    if len(augmentations) > 1:
        keys = jax.random.split(key, len(augmentations))
    for augmentation, own in zip(augmentations, keys, strict=True):
        images = augmentation(own, images)
    return {**batch, "image": images}


def _of_stored(
    views: tuple[Callable, ...],
    key: jax.Array,
    batch: Batch,
    params: object,
    fixed: object,
) -> Batch:
    images = batch["image"]
    rows = jnp.arange(len(images))
    drawn = jax.random.randint(key, (len(images),), 0, len(views))
    seen = jnp.stack([view(images) for view in views], axis=1)
    teacher = jax.tree.map(lambda stored: stored[rows, drawn], batch["teacher"])
    return {**batch, "image": seen[rows, drawn], "teacher": teacher}
