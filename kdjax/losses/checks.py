"""Checks of the labels, masks and hyperparameters of all losses.

Only shapes and types are checked, while a program is traced, so checks cost nothing
once it is compiled. The rules are in ``README.md``, "What a loss takes".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Integers = Array | np.ndarray


def labels(
    labels: Integers, logits: Array, name: str = "labels"
) -> tuple[Array, Array]:
    """The labels, and a mask of the examples that have one.

    An example whose label is outside ``[0, C)`` has none; its label becomes 0.

    Args:
      labels: ``[...]``, integers.
      logits: ``[..., C]``.
      name: The loss's name for the labels.
    """
    *shape, size = logits.shape
    return within(integers(labels, tuple(shape), name), size)


def integers(x: Integers, shape: tuple[int, ...], name: str) -> Integers:
    """The integers; raises if they have another type or shape."""
    x = _array(x)
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} has type {x.dtype}, but takes integers")
    if x.shape != shape:
        raise ValueError(f"{name} has shape {x.shape}, but takes integers of {shape}")
    return x.astype(int)  # a small type may not hold what they are compared with


def within(x: Integers, size: int) -> tuple[Array, Array]:
    """The integers, 0 where outside ``[0, size)``, and a mask of those inside."""
    inside = (x >= 0) & (x < size)
    return jnp.where(inside, x, 0), jnp.asarray(inside)


def mask(mask: Integers | None, shape: tuple[int, ...], name: str = "mask") -> Array:
    """The mask as booleans of this shape; without a mask, everything counts.

    Args:
      mask: Booleans or integers, where 0 means left out; broadcastable to ``shape``.
      shape: Shape of what is masked.
      name: The loss's name for the mask.
    """
    given = _array(True if mask is None else mask)
    if not (given.dtype == bool or jnp.issubdtype(given.dtype, jnp.integer)):
        raise TypeError(f"{name} has type {given.dtype}, but takes booleans or 0 and 1")
    pairs = zip(given.shape[::-1], shape[::-1], strict=False)
    if given.ndim > len(shape) or any(a not in (1, b) for a, b in pairs):
        raise ValueError(
            f"{name} has shape {given.shape}, but takes one that broadcasts to {shape}"
        )
    return jnp.broadcast_to(given != 0, shape)


def _array(x: jax.typing.ArrayLike) -> Integers:
    """An array of JAX or NumPy. NumPy's 64-bit integers are compared as they are."""
    return x if isinstance(x, jax.Array) else np.asarray(x)


def scalars(**hyperparameters: jax.typing.ArrayLike | None) -> None:
    """Raises for a hyperparameter that is not a scalar, which would broadcast."""
    for name, value in hyperparameters.items():
        if value is not None and np.shape(value) != ():
            raise ValueError(
                f"{name} has shape {np.shape(value)}, but takes a scalar; for one "
                f"value per example, map the loss with jax.vmap"
            )


def maps(**activations: Array) -> None:
    """Raises for feature maps that are not ``[B, H, W, C]`` of one batch and size."""
    shapes = [x.shape for x in activations.values()]
    if any(len(s) != 4 or s[:3] != shapes[0][:3] for s in shapes):
        given = " and ".join(f"{n} {x.shape}" for n, x in activations.items())
        raise ValueError(
            f"takes feature maps [B, H, W, C], channels last, of the same B, H and W, "
            f"but got {given}"
        )
