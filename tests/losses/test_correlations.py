"""One less a correlation: laws, oracles, and the official code's values."""

import jax
import numpy as np
import pytest
from scipy.special import softmax

from kdjax import losses
from tests.losses import batches, golden
from tests.losses.laws import STUDENT, TEACHER
from tests.losses.programs import value


@pytest.mark.parametrize("law, name", batches.of("correlations"))
def test_law(law, name):
    law(name)


@pytest.mark.parametrize(
    "loss, options, expected",
    [
        (losses.dist_inter, {}, 1.1964617916),
        (losses.dist_intra, {}, 1.0086584900),
        (losses.dist_inter, {"temperature": 4.0}, 17.3757249135),
        (losses.dist_intra, {"temperature": 4.0}, 14.7582532454),
        (losses.dist, {"temperature": 4.0}, 17.3757249135 + 14.7582532454),
    ],
)
def test_golden_value_of_the_official_code(loss, options, expected):
    golden.check(loss, expected, **options)


def test_golden_value_of_cka():
    golden.check_embeddings(losses.cka, 1 - 0.8115085777)


def cka(s, t):
    s, t = s - s.mean(0), t - t.mean(0)
    squares = [np.linalg.norm(a.T @ b) for a, b in ((s, t), (s, s), (t, t))]
    return 1 - squares[0] ** 2 / (squares[1] * squares[2])


def debiased_cka(s, t):
    n = len(s)

    def hsic(k, m):  # over quadruples of different examples, as it is defined
        total = 0.0
        for i in range(n):
            for j in range(n):
                for a in range(n):
                    for b in range(n):
                        if len({i, j, a, b}) == 4:
                            total += k[i, j] * (m[i, j] + m[a, b] - 2 * m[i, a])
        return total / (n * (n - 1) * (n - 2) * (n - 3))

    k, m = s @ s.T, t @ t.T
    return 1 - hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize(
    "name, formula", [("cka", cka), ("cka debiased", debiased_cka)]
)
def test_value_and_gradient_are_those_of_the_formula(name, formula):
    batches.check_formula(name, formula)


def test_a_batch_too_small_to_debias_is_refused():
    three = np.ones((3, 2), np.float32)
    with pytest.raises(ValueError, match="batch of 3.*4 or more"):
        jax.eval_shape(batches.BATCH["cka debiased"], three, three)


def test_dist_is_blind_to_scale_and_shift_of_probabilities():
    uniform = np.log(0.5 * softmax(TEACHER, -1) + 0.5 / 6).astype(np.float32)
    for loss in (losses.dist_inter, losses.dist_intra):
        np.testing.assert_allclose(value(loss, uniform, TEACHER), 0, atol=1e-6)
    assert value(losses.dist_intra, STUDENT, TEACHER) > 0.1
