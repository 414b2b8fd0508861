"""Views: transformations of a batch, such as augmentation.

A view is a function ``(key, batch, params, fixed) -> batch`` that keeps the number of
examples. It augments images, or generates text with the student's ``params``. Teacher
and student both see its result, and no gradient flows through it.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp

from kdjax.models import Batch

View = Callable[..., Batch]
Augmentation = Callable[[jax.Array, jax.Array], jax.Array]  # (key, images) -> images


def unchanged(key: jax.Array, batch: Batch, params: object, fixed: object) -> Batch:
    """Returns the batch unchanged."""
    return batch


def augmented(*augmentations: Augmentation) -> View:
    """A view that applies augmentations to the images in turn.

    Stored teacher outputs do not follow the augmentation. Use a live teacher if they
    should, or `of_stored`.

    Args:
      *augmentations: Functions ``(key, images) -> images``, as `kdjax.data.jitter`.
    """
    return partial(_augmented, augmentations)


def of_stored(views: Sequence[Callable[[jax.Array], jax.Array]]) -> View:
    """A view that draws one of a finite set of views per example, for a stored teacher.

    The teacher's outputs are stored for every view, ``[B, views, ...]``, in this order.
    Of these the batch keeps the outputs for the view that was drawn.

    Args:
      views: Deterministic functions of images ``[B, ...]``.
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
    keys = [key]  # a single augmentation takes the key of the view
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
