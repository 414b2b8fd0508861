"""Random augmentations of images that preserve their labels."""

import jax
import jax.numpy as jnp


def jitter(key: jax.Array, images: jax.Array, *, pixels: int = 2) -> jax.Array:
    """Shifts each image by up to ``pixels`` in any direction, and pads it with zeros.

    Args:
      key: Random key.
      images: ``[N, H, W]`` or ``[N, H, W, C]``.
      pixels: Maximum shift along each axis.

    Returns:
      Images of the same shape.
    """
    n, height, width, *channels = images.shape
    widths = ((0, 0), (pixels, pixels), (pixels, pixels), *((0, 0) for _ in channels))
    padded = jnp.pad(images, widths)
    corners = jax.random.randint(key, (n, 2), 0, 2 * pixels + 1)

    def window(image: jax.Array, corner: jax.Array) -> jax.Array:
        start = (*corner, *(0 for _ in channels))
        return jax.lax.dynamic_slice(image, start, (height, width, *channels))

    return jax.vmap(window)(padded, corners)


def crop(key: jax.Array, images: jax.Array, *, pixels: int = 4) -> jax.Array:
    """Takes a random crop of each image, padded with zeros.

    The usual augmentation for CIFAR, together with `flip`. It equals `jitter` by up to
    the width of the padding.

    Args:
      key: Random key.
      images: ``[N, H, W]`` or ``[N, H, W, C]``.
      pixels: Width of the padding.

    Returns:
      Images of the same shape.
    """
    return jitter(key, images, pixels=pixels)


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Flips each image from left to right with probability one half.

    Args:
      key: Random key.
      images: ``[N, H, W]`` or ``[N, H, W, C]``.

    Returns:
      Images of the same shape.
    """
    mirrored = jax.random.bernoulli(key, shape=images.shape[:1])
    mirrored = mirrored.reshape(-1, *(1 for _ in images.shape[1:]))
    return jnp.where(mirrored, jnp.flip(images, axis=2), images)
