"""`best_bias` finds the optimum."""

import numpy as np
import pytest

from kdjax.study.biases import best_bias, predicted


def guesses(seed, labels):
    """Noisy logits ``[N, 10]`` of the labels, with low values for class 3."""
    noise = np.random.default_rng(seed).normal(size=(len(labels), 10))
    logits = 2 * np.eye(10)[labels] + noise - 2 * np.eye(10)[3]
    return logits.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("moved", [(3,), (7, 8), (0, 1, 2, 3, 4, 5, 6, 9)])
def test_no_bias_makes_fewer_errors_and_none_as_few_is_nearer_to_0(moved, seed):
    labels = np.arange(60) % 10
    logits = guesses(seed, labels)
    added = np.isin(np.arange(10), moved)
    gaps = logits[:, ~added].max(-1).astype(float) - logits[:, added].max(-1)
    places = np.array([gaps.min() - 2, *np.sort(gaps), gaps.max() + 2])
    biases = np.array([0.0, *(places[1:] + places[:-1]) / 2])
    errors = [np.sum((logits + b * added).argmax(-1) != labels) for b in biases]
    best = biases[errors == np.min(errors)]
    chosen = best_bias(logits, labels, moved)
    np.testing.assert_allclose(chosen, best[np.abs(best).argmin()])
    assert np.sum(predicted(logits, moved, chosen) != labels) == min(errors)


@pytest.mark.parametrize(
    "between, labels, best",
    [
        ((1, 3, -4), (1, 0, 0), 2),  # one error in (1, 3), and below -4
        ((-1, -3, 4), (0, 1, 1), -2),
        ((1, -1), (0, 1), 0),  # no error in (-1, 1)
        ((1, 1), (0, 1), 0),  # one error for any bias
        ((1, 3), (1, 1), 4),  # no error above 3
        ((-1, -3), (0, 0), -4),
    ],
)
def test_of_equally_good_biases_it_is_the_nearest_to_0(between, labels, best):
    logits = np.stack([np.array(between), np.zeros(len(between))], -1)
    assert best_bias(logits, np.array(labels), (1,)) == best
