"""Parts of a data set, drawn once for all."""

import numpy as np


def every(nth: int, labels: np.ndarray) -> np.ndarray:
    """Marks every ``nth`` example of each class, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    marked = np.zeros(len(labels), bool)
    marked[by_class[::nth]] = True
    return marked


def balanced(count: int, labels: np.ndarray) -> np.ndarray:
    """Marks ``count`` examples, with all classes equally often."""
    rng, classes = np.random.default_rng(0), np.unique(labels)
    marked = np.zeros(len(labels), bool)
    for label in classes:
        here = rng.permutation(np.flatnonzero(labels == label))
        marked[here[: count // len(classes)]] = True
    return marked
