"""Losses as compiled programs, each compiled once and run at every point of a test.

Compiling takes nearly all the time of these tests, so XLA is told to do it quickly, and
a loss has one program for its values and gradients. Everything else is NumPy: outside
a program each operation of ``jax.numpy`` is compiled by itself, once for every shape.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# What is compiled runs for microseconds; excess precision would hide a low one.
QUICK = {
    "xla_allow_excess_precision": False,
    "xla_backend_optimization_level": 0,
}
if jax.__version_info__ < (0, 12):  # which has no such option
    QUICK["xla_cpu_use_fusion_emitters"] = False


def jit(function: Callable) -> Callable:
    return jax.jit(function, compiler_options=QUICK)


def run(transformed: Callable, *args: Any) -> Any:
    """What a function under `jax.jit` or `jax.pmap` gives, compiled quickly."""
    program = transformed.lower(*args).compile(compiler_options=QUICK)
    return jax.device_get(program(*args))


TRANSFORMS: dict[str, Callable] = {
    "eager": lambda f, *args: jax.device_get(f(*args)),
    "jit": lambda f, *args: jax.device_get(jax.jit(f)(*args)),  # compiled with all care
    "vmap": lambda f, *args: run(jax.jit(jax.vmap(f)), *args),
    "pmap": lambda f, *args: run(jax.pmap(f), *args),
}


@cache
def _forward(loss: Callable) -> Callable:
    return jit(loss)


@cache
def _with_gradients(loss: Callable, by: tuple[int, ...]) -> Callable:
    """The program of a loss: an uneven sum of its values, they, and its gradients."""

    def program(unevenness, args, options):
        def total(*args):
            values = loss(*args, **options)
            ripple = jnp.cos(jnp.arange(values.size, dtype=values.dtype))
            weights = 1 + unevenness * ripple.reshape(values.shape)
            return jnp.sum(weights * values), values

        return jax.value_and_grad(total, by, has_aux=True)(*args)

    return jit(program)


def value(loss: Callable, *args: Any, **options: Any) -> Any:
    """The loss, compiled; all its arguments are traced."""
    return jax.device_get(_forward(loss)(*args, **options))


def value_and_grad(loss: Callable, *args: Any, **options: Any) -> Any:
    """Values, and the gradient of their sum by the first argument."""
    program = _with_gradients(loss, (0,))
    (_, values), (grad,) = jax.device_get(program(0.0, args, options))
    return values, grad


def value_and_grads(loss: Callable, *args: Any, **options: Any) -> Any:
    """Values, and the gradients of their sum by all in ``args``."""
    program = _with_gradients(loss, tuple(range(len(args))))
    (_, values), grads = jax.device_get(program(0.0, args, options))
    return values, grads


def check_gradients(
    loss: Callable,
    *args: np.ndarray,
    rtol: float = 1e-6,
    atol: float = 1e-6,
    **options: Any,
) -> None:
    """The gradients are the finite differences along one direction, in float64.

    They are those of an uneven sum of the values, lest errors of examples cancel.
    """
    rng, step = np.random.default_rng(0), 1e-4
    args = [x.astype(np.float64) for x in args]
    along = [rng.normal(size=x.shape) for x in args]
    program = _with_gradients(loss, tuple(range(len(args))))

    def at(step):
        moved = tuple(x + step * d for x, d in zip(args, along, strict=True))
        (total, _), grads = jax.device_get(program(1.0, moved, options))
        return total, grads

    with jax.enable_x64(True):
        expected = (at(step)[0] - at(-step)[0]) / (2 * step)
        _, grads = at(0)
    slope = sum(np.sum(g * d) for g, d in zip(grads, along, strict=True))
    np.testing.assert_allclose(slope, expected, rtol=rtol, atol=atol)


def assert_finite(tree: Any) -> None:
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(leaf).all()
