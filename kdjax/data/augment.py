"""Random views of an image that leave its label as it was."""

import jax
import jax.numpy as jnp


def jitter(key: jax.Array, images: jax.Array, *, pixels: int = 2) -> jax.Array:
    """Shifts each image by up to ``pixels`` in any direction, zeros moving in.

    Args:
      key: Random key.
      images: ``[N, H, W]``.
      pixels: Greatest shift along each axis.

    Returns:
      ``[N, H, W]``.
    """
    n, height, width = images.shape
    padded = jnp.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    corners = jax.random.randint(key, (n, 2), 0, 2 * pixels + 1)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, corner, (height, width))

    return jax.vmap(crop)(padded, corners)
