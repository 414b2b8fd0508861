"""What people take CIFAR-10's test images for: CIFAR-10H (Peterson et al., 2019).

About 50 people named the class of each image. Their answers lie in
github.com/jcpeterson/cifar-10h, data/cifar10h-counts.npy (CC BY-NC-SA 4.0). Download
this file as ``cifar10h-counts.npy`` to ``data`` in the cache, or set
``$KDJAX_CIFAR10H`` to its path.
"""

import os
from pathlib import Path

import numpy as np

from kdjax import files

LEAST, MOST = 47, 63  # answers to an image
AGREED = 0.99  # of the images: 99.2 % in the right order, 10 % in another


def path() -> Path:
    """The file of answers."""
    given = os.environ.get("KDJAX_CIFAR10H")
    return Path(given) if given else files.cache("data") / "cifar10h-counts.npy"


def shares(labels: np.ndarray) -> np.ndarray:
    """The shares of people's answers for the test images.

    Args:
      labels: ``[N]``, of the test images in their original order.

    Returns:
      ``[N, 10]``; rows sum to 1.

    Raises:
      FileNotFoundError: saying how to get the file, if it is missing.
      ValueError: if it holds something else, or the images have another order.
    """
    try:
        counts = np.load(path())
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"CIFAR-10H is not in {path()}: download data/cifar10h-counts.npy of "
            f"github.com/jcpeterson/cifar-10h, and set KDJAX_CIFAR10H to its path"
        ) from error
    _check(counts, labels)
    return counts / counts.sum(1, keepdims=True)


def _check(counts: np.ndarray, labels: np.ndarray) -> None:
    wanted = (len(labels), 10)
    if counts.shape != wanted or counts.dtype.kind not in "iu":
        raise ValueError(
            f"{path()} has shape {counts.shape} and type {counts.dtype}, but CIFAR-10H "
            f"has integers of shape {wanted}"
        )
    least, most = counts.sum(1).min(), counts.sum(1).max()
    if least < LEAST or most > MOST:
        raise ValueError(
            f"{path()} has {least} to {most} answers to an image, but CIFAR-10H has "
            f"{LEAST} to {MOST}"
        )
    agreed = np.mean(counts.argmax(1) == labels)
    if agreed <= AGREED:
        raise ValueError(
            f"{path()}: the most frequent answer is the label of {agreed:.1%} of the "
            f"images, but of more than {AGREED:.0%} if both have the original order"
        )
