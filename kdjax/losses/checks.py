"""What a loss takes: labels, masks and hyperparameters, checked here for all losses.

Only shapes and types are checked, while a program is traced, so a check costs nothing
once it is compiled. The rules are in ``README.md``, "What a loss takes".
"""

import jax
import jax.numpy as jnp
import numpy as np


def labels(
    labels: jax.Array, logits: jax.Array, name: str = "labels"
) -> tuple[jax.Array, jax.Array]:
    """Labels of the classes of ``logits``, and which examples have one.

    An example whose label is not in ``[0, C)`` has none; class 0 stands in for it.

    Args:
      labels: ``[...]``, integers.
      logits: ``[..., C]``.
      name: What the loss calls the labels.
    """
    labels, (*shape, size) = _array(labels), logits.shape
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"{name} has type {labels.dtype}, but takes integers")
    if labels.shape != tuple(shape):
        raise ValueError(
            f"{name} has shape {labels.shape}, but takes one class index for each "
            f"example: {tuple(shape)}"
        )
    labels = labels.astype(int)  # a small type may not hold the number of classes
    labelled = (labels >= 0) & (labels < size)
    return jnp.where(labelled, labels, 0), labelled


def mask(
    mask: jax.Array | None, shape: tuple[int, ...], name: str = "mask"
) -> jax.Array:
    """The mask as booleans of this shape; without one everything counts.

    Args:
      mask: Booleans or integers, of which 0 leaves out; broadcastable to ``shape``.
      shape: Of what is masked.
      name: What the loss calls the mask.
    """
    mask = _array(True if mask is None else mask)
    if not (mask.dtype == bool or jnp.issubdtype(mask.dtype, jnp.integer)):
        raise TypeError(f"{name} has type {mask.dtype}, but takes booleans or 0 and 1")
    pairs = zip(mask.shape[::-1], shape[::-1], strict=False)
    if mask.ndim > len(shape) or any(a not in (1, b) for a, b in pairs):
        raise ValueError(
            f"{name} has shape {mask.shape}, but takes one that broadcasts to {shape}"
        )
    return jnp.broadcast_to(mask != 0, shape)


def _array(x: jax.typing.ArrayLike) -> jax.Array | np.ndarray:
    """One of JAX or of NumPy, whose wider integers are compared as they are."""
    return x if isinstance(x, jax.Array) else np.asarray(x)


def scalars(**hyperparameters: jax.typing.ArrayLike) -> None:
    """Refuses a hyperparameter that is no scalar: it would broadcast."""
    for name, value in hyperparameters.items():
        if np.shape(value) != ():
            raise ValueError(
                f"{name} has shape {np.shape(value)}, but takes a scalar; for one "
                f"value an example, map the loss with jax.vmap"
            )


def maps(**activations: jax.Array) -> None:
    """Refuses feature maps that are not ``[B, H, W, C]``, of one batch and size."""
    shapes = [x.shape for x in activations.values()]
    if any(len(s) != 4 or s[:3] != shapes[0][:3] for s in shapes):
        given = " and ".join(f"{n} {x.shape}" for n, x in activations.items())
        raise ValueError(
            f"takes feature maps [B, H, W, C], channels last, of the same B, H and W, "
            f"but got {given}"
        )
