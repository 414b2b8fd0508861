"""Correction of the biases of classes that a student never saw in training.

A student that never saw a class rarely predicts it, even if its logits rank the
examples of that class well. Section 3 of Hinton's paper raises the bias of the class
after training.
"""

from collections.abc import Sequence

import numpy as np


def predicted(logits: np.ndarray, moved: Sequence[int], bias: float) -> np.ndarray:
    """Predictions ``[N]`` with ``bias`` added to the logits of classes ``moved``."""
    inside, outside, least = _sides(logits, moved)
    return np.where(bias > least, inside, outside)


def best_bias(logits: np.ndarray, labels: np.ndarray, moved: Sequence[int]) -> float:
    """The bias with the fewest errors; among several, the one nearest to 0.

    The number of errors only changes where the prediction of an example changes, so one
    candidate between any two such biases is enough.

    Args:
      logits: ``[N, C]``.
      labels: ``[N]``.
      moved: The classes to whose logits the bias is added.
    """
    inside, outside, least = _sides(logits, moved)
    order = np.argsort(least)
    gains = (inside == labels).astype(int) - (outside == labels)
    gains = np.append(0, np.cumsum(gains[order]))  # in order of the changes
    places = np.unique(least)
    middles = (places[1:] + places[:-1]) / 2
    biases = np.array([0.0, places[0] - 1, *middles, places[-1] + 1])
    gained = gains[np.searchsorted(least[order], biases)]
    best = biases[gained == gained.max()]
    return float(best[np.abs(best).argmin()])


def _sides(
    logits: np.ndarray, moved: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The top class among ``moved``, the top other class, and the logit gap between.

    Each is ``[N]``. An example is predicted to be in ``moved`` if the bias exceeds the
    gap.
    """
    among = np.isin(np.arange(logits.shape[-1]), moved)
    logits = logits.astype(np.float64)
    inside, outside = (np.where(of, logits, -np.inf) for of in (among, ~among))
    return inside.argmax(-1), outside.argmax(-1), outside.max(-1) - inside.max(-1)
