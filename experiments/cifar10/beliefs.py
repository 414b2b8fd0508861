"""How far beliefs about images are alike: probabilities ``[N, C]``, one row per image.

A network's beliefs are its softened outputs. The reference is the shares of people's
answers, or another network.
"""

import numpy as np
import pandas as pd
from scipy import special, stats

from kdjax.study.statistics import rank_correlation

# The share of the most frequent answer is below this. More than a fifth, about ten
# people, gave another, so that the second class is no slip of one or two.
DISAGREE = 0.8
DIVIDED = 2 / 3  # more than a third gave another: a split that a picture shows


def softened(logits: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """The softmax of logits over a temperature, or over one for each image, ``[N]``."""
    divisor = np.broadcast_to(temperature, len(logits))[:, None]
    return special.softmax(np.asarray(logits, float) / divisor, axis=-1)


def kl(reference: np.ndarray, beliefs: np.ndarray) -> np.ndarray:
    """KL from the reference to the beliefs in nats, ``[N]``, with 0 log 0 = 0."""
    return special.rel_entr(reference, beliefs).sum(-1)


def fitted(
    reference: np.ndarray, logits: np.ndarray, temperatures: np.ndarray
) -> np.ndarray:
    """For each image, the temperature with the lowest KL on the half it is not in.

    The halves are the images in even and in odd places, so nothing is measured on the
    images that select its temperature.

    Returns:
      ``[N]``, two temperatures that alternate.
    """
    losses = np.array([kl(reference, softened(logits, t)) for t in temperatures])
    even, odd = (losses[:, half::2].mean(1).argmin() for half in (0, 1))
    return np.resize(np.asarray(temperatures, float)[[odd, even]], len(logits))


def confusions(beliefs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``[C, C]``, the mean belief in each class (column) for images of each (row).

    NaN in rows of classes without images.
    """
    of = np.eye(beliefs.shape[-1])[labels]
    with np.errstate(invalid="ignore"):
        return of.T @ beliefs / of.sum(0)[:, None]


def confusion_correlation(
    reference: np.ndarray, beliefs: np.ndarray, labels: np.ndarray
) -> float:
    """Spearman's rank correlation of the confusions of one class with another."""
    both = (confusions(each, labels) for each in (reference, beliefs))
    return float(rank_correlation(*map(off_diagonal, both)))


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    """The cells ``[C (C - 1)]`` of a matrix that are not on its diagonal."""
    return matrix[~np.eye(len(matrix), dtype=bool)]


def entropy_correlation(reference: np.ndarray, beliefs: np.ndarray) -> float:
    """Spearman's rank correlation of entropies over images."""
    both = (stats.entropy(each, axis=-1) for each in (reference, beliefs))
    return float(rank_correlation(*both))


def disagree(reference: np.ndarray, below: float = DISAGREE) -> np.ndarray:
    """Marks the images ``[N]`` whose most frequent answer has a lower share."""
    return reference.max(-1) < below


def same_second(reference: np.ndarray, beliefs: np.ndarray) -> float:
    """How often the second most probable class is that of the reference.

    Of the images on which people disagree; NaN if there are none. If several classes
    tie for the second place of the reference, each of them counts.
    """
    chosen = disagree(reference)
    if not chosen.any():
        return float("nan")
    reference, beliefs = reference[chosen], beliefs[chosen]
    second = np.argsort(beliefs, -1)[:, -2, None]
    share = np.take_along_axis(reference, second, -1)[:, 0]
    return float(np.mean(share == np.sort(reference, -1)[:, -2]))


def distance(reference: np.ndarray, beliefs: np.ndarray) -> np.ndarray:
    """The share of belief that would have to move between classes, ``[N]``."""
    return np.abs(reference - beliefs).sum(-1) / 2


def telling(
    reference: np.ndarray,
    teacher: np.ndarray,
    distilled: np.ndarray,
    hard: np.ndarray,
    labels: np.ndarray,
    *,
    count: int,
    per_class: int = 2,
) -> np.ndarray:
    """Images on which teacher and distilled student doubt as people do, hard does not.

    Of the images on which people are `DIVIDED`, those come first where the student
    trained on hard labels is farther from people than both others by the largest
    `distance`. At most ``per_class`` of them have the same label.

    Returns:
      Indices of up to ``count`` images, the most telling first.
    """
    others = np.maximum(distance(reference, teacher), distance(reference, distilled))
    margin = distance(reference, hard) - others
    images = pd.DataFrame({"label": labels, "margin": margin})
    divided = images[disagree(reference, DIVIDED)]
    ranked = divided.sort_values("margin", ascending=False, kind="stable")
    return ranked.groupby("label").head(per_class).head(count).index.to_numpy()
