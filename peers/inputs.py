"""The input of every peer, by formulas, so that no generator of numbers is needed."""

import numpy as np


def waves(*shape: int, start: float, step: float, size: float = 2.0) -> np.ndarray:
    """Numbers in ``[-size, size]`` without a pattern that any loss could see."""
    return size * np.sin(start + step * np.arange(np.prod(shape)) ** 1.1).reshape(shape)


# Images: four of them, six classes.
STUDENT = waves(4, 6, start=1.0, step=1.7)
TEACHER = waves(4, 6, start=2.0, step=2.3, size=3.0)
LABELS = np.array([0, 2, 5, 3])
# Texts: two of them, five tokens, seven words; seven tokens count.
STUDENT_TEXT = waves(2, 5, 7, start=0.5, step=1.3)
TEACHER_TEXT = waves(2, 5, 7, start=1.5, step=2.9, size=3.0)
TOKENS = np.array([[0, 6, 2, 4, 1], [3, 5, 0, 2, 2]])
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], bool)
# Embeddings of a batch of four, of one width and of two.
STUDENT_EMBEDDING = waves(4, 5, start=0.3, step=1.1)
TEACHER_EMBEDDING = waves(4, 5, start=1.2, step=2.7)
WIDE_TEACHER_EMBEDDING = waves(4, 7, start=2.2, step=1.9)
# Feature maps, channels last.
STUDENT_MAP = waves(2, 4, 4, 3, start=0.1, step=1.5)
TEACHER_MAP = waves(2, 4, 4, 3, start=0.9, step=2.1)
VARIANCE = waves(3, start=0.4, step=1.3, size=0.5)
# Attention scores of three heads, positive, for a peer takes others for masked; hidden
# states of six features.
STUDENT_SCORES = 2.5 + waves(2, 3, 5, 5, start=0.2, step=1.9)
TEACHER_SCORES = 2.5 + waves(2, 3, 5, 5, start=0.8, step=2.6)
STUDENT_HIDDEN = waves(2, 5, 6, start=0.6, step=1.4)
TEACHER_HIDDEN = waves(2, 5, 6, start=1.4, step=2.2)
# A memory of nine examples, the batch's places in it, and the others of each.
STUDENT_MEMORY = waves(9, 5, start=0.7, step=1.2, size=0.7)
TEACHER_MEMORY = waves(9, 5, start=1.7, step=1.6, size=0.7)
PLACES = np.array([3, 0, 7, 4])
NEGATIVES = np.array([[1, 2, 5], [8, 6, 2], [1, 1, 0], [5, 8, 3]])
