"""A 3 x 3 convolution that is fast on a CPU, too.

XLA's own gradient with respect to the kernel is twenty times slower on a CPU inside a
loop than outside. Here it is a sum of matrix products over a few images at a time, so
that their patches stay in the cache. A convolution of a few channels, such as red,
green and blue, is a product of blocks of pixels, at least twice as fast as XLA's own.
On accelerators all is XLA's own.
"""

from functools import partial

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_IMAGES = 4  # at a time: more of them leave the cache
_PIXELS = 4  # in a block
_FEW = 4  # channels


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolution with a margin of one zero.

    Args:
      x: ``[B, H, W, I]``.
      kernel: ``[3, 3, I, O]``.
      stride: Stride of both axes; must divide H and W.

    Returns:
      ``[B, H / stride, W / stride, O]``.
    """
    native = partial(_native, stride=stride)
    if x.shape[-1] > _FEW or stride > 1 or x.shape[2] % _PIXELS:
        return native(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_in_blocks, default=native)


def _native(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT
    )


def _in_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The convolution as one product: of all that some pixels in a row depend on."""
    (batch, height, width, channels), features = x.shape, kernel.shape[-1]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, _PIXELS - 1), (0, 0)))
    blocks = padded.reshape(batch, height + 2, -1, _PIXELS * channels)
    blocks = jnp.concatenate([blocks[:, :, :-1], blocks[:, :, 1:, : 2 * channels]], -1)
    blocks = jnp.concatenate([blocks[:, i : i + height] for i in range(3)], -1)
    places = [(i, _PIXELS - 1 - i) for i in range(_PIXELS)]  # before and after
    kernels = [jnp.pad(kernel, ((0, 0), place, (0, 0), (0, 0))) for place in places]
    flat = jnp.stack(kernels, 3).reshape(blocks.shape[-1], -1)
    return (blocks @ flat).reshape(batch, height, width, features)


def _forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple:
    return convolve(x, kernel, stride), (x, kernel)


def _backward(stride: int, inputs: tuple, gradient: jax.Array) -> tuple:
    return lax.platform_dependent(
        *inputs,
        gradient,
        cpu=partial(_gradients_on_cpu, stride),
        default=partial(_native_gradients, stride),
    )


def _native_gradients(stride: int, x: jax.Array, kernel: jax.Array, by: jax.Array):
    _, gradients = jax.vjp(partial(_native, stride=stride), x, kernel)
    return gradients(by)


def _gradients_on_cpu(stride: int, x: jax.Array, kernel: jax.Array, by: jax.Array):
    # By the input: the kernel flipped and transposed by hand, so that XLA keeps to the
    # layout of the forward pass.
    (height, width), (h, w) = x.shape[1:3], by.shape[1:3]
    margins = [
        (1, size + 1 - ((s - 1) * stride + 1)) for size, s in ((height, h), (width, w))
    ]
    by_x = lax.conv_general_dilated(
        by,
        kernel[::-1, ::-1].swapaxes(2, 3),
        (1, 1),
        margins,
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )
    return by_x, _by_kernel(stride, x, by)


def _by_kernel(stride: int, x: jax.Array, by: jax.Array) -> jax.Array:
    """The kernel's gradient ``[3, 3, I, O]``, from patches with channels first."""
    images = _IMAGES if len(x) % _IMAGES == 0 else 1
    (height, width, channels), features = x.shape[1:], by.shape[-1]

    def add(total: jax.Array, first: jax.Array) -> tuple[jax.Array, None]:
        # Slices: to reshape the arrays, XLA would compute them a second time.
        some = lax.dynamic_slice_in_dim(x, first, images).transpose(3, 0, 1, 2)
        some = jnp.pad(some, ((0, 0), (0, 0), (1, 1), (1, 1)))
        gradient = lax.dynamic_slice_in_dim(by, first, images).reshape(-1, features)
        rows = [some[:, :, i : i + height : stride] for i in range(3)]
        patches = [
            jnp.concatenate([row[..., j : j + width : stride] for j in range(3)])
            for row in rows
        ]
        products = [p.reshape(-1, len(gradient)) @ gradient for p in patches]
        return total + jnp.stack(products), None

    zero = jnp.zeros((3, 3 * channels, features), by.dtype)
    total, _ = lax.scan(add, zero, jnp.arange(0, len(x), images))
    return total.reshape(3, 3, channels, features)


convolve.defvjp(_forward, _backward)


class Conv(nn.Module):
    """A layer of `convolve`, with He's initial weights and without a bias."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.features)
        initial = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        return convolve(x, self.param("kernel", initial, shape), self.stride)


@jax.custom_vjp
def max_pool(x: jax.Array) -> jax.Array:
    """The maximum of each 2 x 2 pixels of ``[B, H, W, C]``, for even H and W.

    XLA's own pooling is slow on a CPU. Where several pixels are largest, each gets the
    gradient; after a ReLU these are zeros, through which none passes.
    """
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return jnp.maximum(jnp.maximum(*corners[:2]), jnp.maximum(*corners[2:]))


def _pool(x: jax.Array) -> tuple:
    largest = max_pool(x)
    return largest, (x, largest)


def _unpool(inputs: tuple, gradient: jax.Array) -> tuple:
    x, largest = inputs
    batch, height, width, channels = largest.shape
    blocks = x.reshape(batch, height, 2, width, 2, channels)
    largest, gradient = (a[:, :, None, :, None] for a in (largest, gradient))
    return (jnp.where(blocks == largest, gradient, 0).reshape(x.shape),)


max_pool.defvjp(_pool, _unpool)
