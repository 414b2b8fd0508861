"""One number added to the logits of some classes, to make up for what was not seen.

A student that never saw a class takes its examples for others, though its logits may
know better: section 3 of Hinton's paper raises the class's bias after training.
"""

from collections.abc import Sequence

import numpy as np


def predicted(logits: np.ndarray, moved: Sequence[int], bias: float) -> np.ndarray:
    """Classes ``[N]`` once ``bias`` is added to the logits of the classes ``moved``."""
    inside, outside, least = _sides(logits, moved)
    return np.where(bias > least, inside, outside)


def best_bias(logits: np.ndarray, labels: np.ndarray, moved: Sequence[int]) -> float:
    """The bias with the fewest errors, of several the nearest to 0.

    Errors change only where an example changes sides, so that one look between any two
    such places is enough.

    Args:
      logits: ``[N, C]``.
      labels: ``[N]``.
      moved: The classes to whose logits it is added.
    """
    inside, outside, least = _sides(logits, moved)
    order = np.argsort(least)
    gains = (inside == labels).astype(int) - (outside == labels)
    gains = np.append(0, np.cumsum(gains[order]))  # by how many changed sides
    places = np.unique(least)
    middles = (places[1:] + places[:-1]) / 2
    biases = np.array([0.0, places[0] - 1, *middles, places[-1] + 1])
    gained = gains[np.searchsorted(least[order], biases)]
    best = biases[gained == gained.max()]
    return float(best[np.abs(best).argmin()])


def _sides(
    logits: np.ndarray, moved: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best class that is moved, the best other, and how far the first is behind.

    ``[N]`` each: with a greater bias than that an example goes to the first.
    """
    among = np.isin(np.arange(logits.shape[-1]), moved)
    logits = logits.astype(np.float64)
    inside, outside = (np.where(of, logits, -np.inf) for of in (among, ~among))
    return inside.argmax(-1), outside.argmax(-1), outside.max(-1) - inside.max(-1)
