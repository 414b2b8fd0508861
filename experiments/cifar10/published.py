"""The published residual networks for CIFAR-10, as teachers.

Their checkpoints lie in github.com/akamaster/pytorch_resnet_cifar10, pretrained_models.
Convert each once, where PyTorch is installed:

    python -m experiments.cifar10.published resnet20-12fca82f.th

This writes an npz file to ``$KDJAX_TEACHERS``, or ``teachers`` in the cache, from where
`load` reads it. Nothing is unpickled but tensors.
"""

import os
from pathlib import Path
import re
import sys

import numpy as np

from kdjax import files, models

DEPTHS = (20, 32, 44, 56)


def path(depth: int) -> Path:
    """The file of a network."""
    folder = os.environ.get("KDJAX_TEACHERS") or files.cache("teachers")
    return Path(folder) / f"cifar10_resnet{depth}.npz"


def load(depth: int) -> tuple[models.Model, models.Variables]:
    """A network of this depth, and its published variables.

    Raises:
      FileNotFoundError: saying how to get it, if its file is missing.
    """
    model = models.resnet(depth, classes=10)
    try:
        with np.load(path(depth)) as arrays:
            return model, models.from_torch(model, dict(arrays))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the published ResNet-{depth} is not in {path(depth)}: see "
            f"experiments/cifar10/published.py for how to convert it, or set "
            f"KDJAX_TEACHERS to a folder that holds it"
        ) from error


def convert(checkpoint: Path) -> Path:
    """Writes the arrays of a PyTorch checkpoint as an npz file; needs PyTorch."""
    import torch

    depth = int(re.search(r"resnet(\d+)", checkpoint.name).group(1))
    tensors = torch.load(checkpoint, map_location="cpu", weights_only=True)
    tensors = tensors.get("state_dict", tensors)
    arrays = {n.removeprefix("module."): t.numpy() for n, t in tensors.items()}
    model = models.resnet(depth, classes=10)
    models.from_torch(model, arrays)  # raises if it is another network
    files.save_arrays(path(depth), **arrays)
    return path(depth)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"wrote {convert(Path(name))}")
