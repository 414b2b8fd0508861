"""How many steps and runs one program takes on a device."""

import jax
from jax.extend.core import Jaxpr, jaxprs_in_params

from kdjax.data.source import Stream, feeder
from kdjax.data.types import Data
from kdjax.models import Batch
from kdjax.training.step import Training


def scans_well(training: Training, data: Data, device: jax.Device) -> bool:
    """Whether a program loops over steps, so that all of them use the same memory.

    A step of ResNet-8 took 375 ms by itself on a core and 267 ms in a loop. There is no
    loop for ragged streams, nor, on a CPU, for convolutions with XLA's own gradient
    with respect to the kernel, which is twenty times slower in a loop.
    """
    if isinstance(data.train, Stream) and data.train.ragged:
        return False
    example = feeder(data.train, training.batch_size).example()
    if device.platform != "cpu":
        return True
    return not _convolves(_forward(training, example), own_gradients=False)


def convolves(training: Training, example: Batch) -> bool:
    """Whether the model has convolutions.

    Under `jax.vmap` over weights they become grouped convolutions, which are slow on
    every device.
    """
    return _convolves(_forward(training, example))


def _forward(training: Training, example: Batch) -> Jaxpr:
    variables = jax.eval_shape(training.model.init, jax.random.key(0), example)
    return jax.make_jaxpr(training.model.apply)(variables, example).jaxpr


def _convolves(jaxpr: Jaxpr, *, own_gradients: bool = True) -> bool:
    """Whether there is a convolution, or one without a gradient of its own."""
    return any(
        e.primitive.name == "conv_general_dilated"
        or any(
            _convolves(inner, own_gradients=own_gradients)
            for inner in jaxprs_in_params(e.params)
        )
        for e in jaxpr.eqns
        if own_gradients or e.primitive.name != "custom_vjp_call"
    )


def runs_per_program(training: Training, example: Batch, device: jax.Device) -> int:
    """How many runs to vectorize for the highest throughput that memory allows.

    On a CPU, weights and moments should fit in its cache: a step per run took 0.76 ms
    with 4 runs of 300 units and 0.96 ms with 16, but 0.054 ms with 16 runs of 16 units
    and 0.046 ms with 96. The memory is needed for weights, moments, best weights,
    gradients, and the activations saved for the backward pass.
    """
    variables = jax.eval_shape(training.model.init, jax.random.key(0), example)
    jaxpr = _forward(training, example)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
    activations = sum(getattr(v.aval, "size", 0) for e in jaxpr.eqns for v in e.outvars)
    cpu = device.platform == "cpu"
    stats = None if cpu else device.memory_stats()
    memory = (stats or {}).get("bytes_limit", 8 * 2**30) / 2
    fastest = (1_500_000 if cpu else 100_000_000) // parameters
    fitting = memory / 4 // (6 * parameters + 2 * activations)
    return int(max(1, min(64, fastest, fitting)))
