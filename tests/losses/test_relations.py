"""Losses over the pairs and triples of a batch: laws, oracles, the official values."""

from functools import partial
import math

import jax
import numpy as np
import pytest

from kdjax import losses
from tests.losses import batches, golden
from tests.losses.batches import STUDENT, TEACHER
from tests.losses.programs import value


@pytest.mark.parametrize("law, name", batches.of("relations"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, expected",
    [
        (losses.rkd_distance, 0.0296441495),
        (losses.rkd_angle, 0.0409671685),
        (losses.similarity_preserving, 0.1483890634),
        (losses.pkt, 0.0770844095),
    ],
)
def test_golden_value_of_the_official_code(loss, expected):
    golden.check_embeddings(loss, expected)


# Oracles: the papers' formulas in float64, with loops.


def huber(x):
    return x**2 / 2 if abs(x) < 1 else abs(x) - 0.5


def rkd_distance(s, t):
    n = len(s)
    d = [
        [[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)]
        for x in (s, t)
    ]
    d = [np.array(x) / np.mean([v for row in x for v in row if v > 0]) for x in d]
    return [
        np.mean([huber(d[0][i, j] - d[1][i, j]) for j in range(n)]) for i in range(n)
    ]


def rkd_angle(s, t):
    n = len(s)

    def cosine(x, i, j, k):
        a, b = x[j] - x[i], x[k] - x[i]
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / lengths if lengths else 0.0

    return [
        np.mean(
            [
                huber(cosine(s, i, j, k) - cosine(t, i, j, k))
                for j in range(n)
                for k in range(n)
            ]
        )
        for i in range(n)
    ]


def similarity_preserving(s, t):
    rows = [(x @ x.T) / np.linalg.norm(x @ x.T, axis=1, keepdims=True) for x in (s, t)]
    return ((rows[0] - rows[1]) ** 2).mean(1)


def pkt(s, t):
    def neighbours(x):
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
        k = (x @ x.T + 1) / 2
        return k / k.sum(1, keepdims=True)

    q, p = neighbours(s), neighbours(t)
    return (p * np.log((p + 1e-7) / (q + 1e-7))).mean(1)


def consecutive_correlation(s, t):
    delta = np.abs(s - t)
    pairs = [delta[i] @ delta[i + 1] for i in range(len(s) - 1)]
    return np.array([*pairs, 0]) * len(s) / (len(s) - 1)


def of_absolute_rows(s, t):
    rows = [(x @ x.T) / np.abs(x @ x.T).sum(1, keepdims=True) for x in (s, t)]
    return ((rows[0] - rows[1]) ** 2).mean(1)


def gaussian(x, order):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    terms = [(0.8 * x @ x.T) ** p / math.factorial(p) for p in range(order + 1)]
    return np.exp(-0.8) * sum(terms)


def gaussian_correlation(s, t):
    return ((gaussian(s, 2) - gaussian(t, 2)) ** 2).mean(1)


FORMULAS = {
    "similarity_preserving, absolute": of_absolute_rows,
    "gaussian_correlation": gaussian_correlation,
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "similarity_preserving": similarity_preserving,
    "pkt": pkt,
    "gram_correlation": lambda s, t: ((s @ s.T - t @ t.T) ** 2).mean(1),
    "consecutive_correlation": consecutive_correlation,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_value_and_gradient_are_those_of_the_formula(name):
    batches.check_formula(name, FORMULAS[name])


def test_the_series_tends_to_the_gaussian_kernel():
    s, t = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (STUDENT, TEACHER))
    kernels = [np.exp(-0.9 * ((x[:, None] - x) ** 2).sum(-1)) for x in (s, t)]
    expected = ((kernels[0] - kernels[1]) ** 2).mean(1)
    many = partial(losses.gaussian_correlation, order=20)
    np.testing.assert_allclose(value(many, s, t, gamma=0.9), expected, 1e-4, 1e-7)


def test_norms_and_orders_that_are_none_are_refused():
    for loss, name, wrong in (
        (losses.similarity_preserving, "row_norm", 3),
        (losses.gaussian_correlation, "order", 0),
    ):
        with pytest.raises(ValueError, match=f"{name} is {wrong}, but takes 1 or"):
            jax.eval_shape(partial(loss, **{name: wrong}), STUDENT, TEACHER)
