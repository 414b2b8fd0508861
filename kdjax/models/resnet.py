"""Residual networks for CIFAR, in the form of He et al."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kdjax.models.convolution import Conv
from kdjax.models.linen import from_linen
from kdjax.models.pixels import IMAGENET, Pixels, normalise
from kdjax.models.types import Model, Outputs, Variables

WIDTHS = (16, 32, 64)


class _ResNet(nn.Module):
    blocks: int  # of each stage
    classes: int
    pixels: Pixels

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> Outputs:
        norm = partial(nn.BatchNorm, not train, momentum=0.9, epsilon=1e-5)
        x = normalise(image, self.pixels)
        x = nn.relu(norm(name="norm")(Conv(WIDTHS[0], name="conv")(x)))
        features = []
        for stage, width in enumerate(WIDTHS):
            for block in range(self.blocks):
                name = f"stage{stage}_block{block}"
                stride = 2 if stage > 0 and block == 0 else 1
                y = Conv(width, stride, name=f"{name}_conv0")(x)
                y = nn.relu(norm(name=f"{name}_norm0")(y))
                y = norm(name=f"{name}_norm1")(Conv(width, name=f"{name}_conv1")(y))
                x = nn.relu(y + (x if stride == 1 else _shortcut(x, width)))
            features.append(x)
        features.append(x.mean((1, 2)))
        logits = nn.Dense(self.classes, name="dense")(features[-1])
        return Outputs(logits, tuple(features))


def _shortcut(x: jax.Array, width: int) -> jax.Array:
    """Option A: every other pixel, and as many channels of zeros before as after."""
    more = (width - x.shape[-1]) // 2
    return jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (more, more)))


def resnet(depth: int, *, classes: int, pixels: Pixels = IMAGENET) -> Model:
    """A residual network for images of 32 x 32 pixels, with shortcuts of option A.

    Features are the maps at the end of each stage, ``[B, 32, 32, 16]``,
    ``[B, 16, 16, 32]`` and ``[B, 8, 8, 64]``, and the mean of the last, ``[B, 64]``.

    Args:
      depth: Layers with weights: 6 n + 2, such as 8, 14, 20, 32, 44 or 56.
      classes: Number of logits.
      pixels: How pixels are normalised.

    He et al., `Deep Residual Learning for Image Recognition
    <https://arxiv.org/abs/1512.03385>`_, 2016, section 4.2.
    """
    if depth < 8 or depth % 6 != 2:
        raise ValueError(f"depth is {depth}, but takes 6 n + 2: 8, 14, 20, ...")
    return from_linen(_ResNet((depth - 2) // 6, classes, pixels))


def from_torch(model: Model, arrays: dict[str, np.ndarray]) -> Variables:
    """Variables of a `resnet` from the arrays of a PyTorch checkpoint.

    Args:
      model: The network.
      arrays: By the names of ``akamaster/pytorch_resnet_cifar10``, without ``module.``:
        ``conv1.weight``, ``layer1.0.bn1.running_mean`` and so on; a checkpoint's
        ``state_dict``, saved by ``numpy.savez``.

    Raises:
      ValueError: naming arrays that are missing, misshapen or have no place.
    """
    params: dict = {}
    statistics: dict = {}
    for name, array in arrays.items():
        *layer, kind = name.split(".")
        if kind == "num_batches_tracked":
            continue
        where, leaf = _place(layer, kind, name)
        if leaf == "kernel":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        tree = statistics if leaf in ("mean", "var") else params
        tree.setdefault(where, {})[leaf] = jnp.asarray(array)
    found = {"params": params, "state": {"batch_stats": statistics}}
    example = {"image": jnp.zeros((1, 32, 32, 3))}
    wanted = jax.eval_shape(model.init, jax.random.key(0), example)
    has, takes = (_shapes(tree) for tree in (found, wanted))
    if wrong := sorted({*has.items()} ^ {*takes.items()}):
        names = ", ".join(dict.fromkeys(name for name, _ in wrong))
        raise ValueError(f"arrays are not those of this network: {names} differ")
    return found


def _shapes(tree: Variables) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf.shape for path, leaf in leaves}


def _place(layer: list[str], kind: str, name: str) -> tuple[str, str]:
    """The flax layer and leaf of a PyTorch one."""
    leaves = {"running_mean": "mean", "running_var": "var", "bias": "bias"}
    match layer:
        case ["conv1"]:
            return "conv", "kernel"
        case ["bn1"]:
            where = "norm"
        case ["linear"]:
            return "dense", "kernel" if kind == "weight" else kind
        case [stage, block, part] if stage.startswith("layer"):
            number = int(part[-1]) - 1
            where = f"stage{int(stage[5:]) - 1}_block{block}_"
            if part.startswith("conv"):
                return f"{where}conv{number}", "kernel"
            where += f"norm{number}"
        case _:
            raise ValueError(f"{name} has no place in a residual network for CIFAR")
    return where, leaves.get(kind, "scale")
