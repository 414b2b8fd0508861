"""Inputs of which the papers' official code has given its values in float64."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tests.losses.programs import value

_ROW, _COLUMN = np.arange(4)[:, None], np.arange(7)[None]
STUDENT = 2 * np.sin(1 + 3 * _ROW + 7 * _COLUMN[:, :6])
TEACHER = 3 * np.cos(2 + 5 * _ROW + 2 * _COLUMN[:, :6])
LABELS = np.array([0, 2, 5, 3])
STUDENT_EMBEDDING = np.sin(0.5 + 1.7 * _ROW + 0.9 * _COLUMN[:, :5])
TEACHER_EMBEDDING = np.cos(0.3 + 1.1 * _ROW + 1.3 * _COLUMN)


def check(loss: Callable, expected: float, **options: Any) -> None:
    """The mean over the logits is the official code's, to nine decimals."""
    with jax.enable_x64(True):
        found = value(loss, STUDENT, TEACHER, **options)
    assert found.dtype == np.float64
    assert abs(float(found.mean()) - expected) < 1e-9


def check_embeddings(loss: Callable, expected: float) -> None:
    """The mean over the embeddings is the official code's, to nine decimals."""
    with jax.enable_x64(True):
        found = value(loss, STUDENT_EMBEDDING, TEACHER_EMBEDDING)
    assert abs(float(found.mean()) - expected) < 1e-9
