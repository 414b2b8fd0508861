"""How a network for images normalises their pixels."""

from typing import NamedTuple

import jax
import numpy as np


class Pixels(NamedTuple):
    """What is subtracted from pixels in [0, 1], and what they are divided by."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


# Published networks for CIFAR use it, too.
IMAGENET = Pixels((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def normalise(image: jax.Array, pixels: Pixels) -> jax.Array:
    """Images ``[B, H, W, C]`` in [0, 1], normalised."""
    mean, deviation = (np.asarray(x, np.float32)[None, None, None] for x in pixels)
    return (image - mean) / deviation
