"""CIFAR-10 and the published teachers, if they lie beside the checkout."""

from functools import cache
import importlib.util
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared/data"
needs_cifar10 = pytest.mark.skipif(
    not SHARED.is_dir(), reason="CIFAR-10 is not beside the checkout"
)


@cache
def cifar10(split):
    """Images ``[N, 32, 32, 3]`` in bytes, and labels."""
    spec = importlib.util.spec_from_file_location("prepare", SHARED / "prepare_tfds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_cifar("cifar10", split)
