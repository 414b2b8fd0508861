"""Plain convolutional networks, of the paper on teacher assistants."""

import flax.linen as nn
import jax

from kdjax.models.convolution import Conv, max_pool
from kdjax.models.linen import from_linen
from kdjax.models.pixels import IMAGENET, Pixels, normalise
from kdjax.models.types import Model, Outputs

# Filters of the convolutions between poolings, and units of the hidden dense layers.
LAYERS: dict[int, tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]] = {
    2: (((16,), (16,)), ()),
    4: (((16, 16), (32, 32)), ()),
    6: (((16, 16), (32, 32), (64, 64)), ()),
    8: (((16, 16), (32, 32), (64, 64), (128, 128)), (64,)),
    10: (((32, 32), (64, 64), (128, 128), (256, 256, 256, 256)), (128,)),
}


class _Plain(nn.Module):
    stages: tuple[tuple[int, ...], ...]
    hidden: tuple[int, ...]
    classes: int
    pixels: Pixels

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Outputs:
        x = normalise(image, self.pixels)
        features = []
        for filters in self.stages:
            for width in filters:
                norm = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5)
                x = nn.relu(norm(Conv(width)(x)))
            features.append(x)
            x = max_pool(x)
        x = x.reshape(len(x), -1)
        for units in self.hidden:
            x = nn.relu(nn.Dense(units)(x))
        features.append(x)
        return Outputs(nn.Dense(self.classes)(x), tuple(features))


def plain(
    layers: int, *, classes: int, width: float = 1.0, pixels: Pixels = IMAGENET
) -> Model:
    """3 x 3 convolutions with batch normalisation, 2 x 2 poolings, dense layers.

    Features are the maps before each pooling, and the inputs of the last layer.

    Args:
      layers: Number of convolutions: 2, 4, 6, 8 or 10.
      classes: Number of logits.
      width: Factor of the numbers of filters and hidden units.
      pixels: How pixels are normalised.

    Mirzadeh et al., `Improved Knowledge Distillation via Teacher Assistant
    <https://arxiv.org/abs/1902.03393>`_, 2020; the layers of its code for CIFAR-10.
    """
    if layers not in LAYERS:
        raise ValueError(f"layers is {layers}, but takes one of {list(LAYERS)}")
    stages, hidden = LAYERS[layers]

    def scaled(numbers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(1, round(width * n)) for n in numbers)

    return from_linen(
        _Plain(tuple(map(scaled, stages)), scaled(hidden), classes, pixels)
    )
