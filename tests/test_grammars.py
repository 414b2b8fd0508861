"""The mixture of grammars has the probabilities that it says it has."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.language import grammars
from kdjax import losses

TINY = grammars.Mixture((0.7, 0.3), words=2, longest=3, choices=1, noise=0.1, seed=1)


def texts(mixture):
    """Every text of a mixture, once."""
    places = itertools.product(range(mixture.vocabulary), repeat=mixture.longest)
    every = {tuple(written[: end_of(written)]) for written in places}
    padded = [list(w) + [0] * (mixture.longest - len(w)) for w in sorted(every)]
    mask = [np.arange(mixture.longest) < len(w) for w in sorted(every)]
    return grammars.batch(np.array(padded), np.array(mask))


def end_of(written):
    return written.index(0) + 1 if 0 in written else len(written)


def test_the_probabilities_of_all_texts_add_up_to_one():
    every = texts(TINY)
    assert len(every["tokens"]) == 1 + 2 + 4 * 3
    p = np.exp(grammars.log_probability(TINY, every))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-6)
    by_template = np.bincount(
        grammars.template_of(TINY, every), p, minlength=2
    )  # noise lets a few texts be mistaken
    np.testing.assert_allclose(by_template, TINY.weights, atol=0.15)


def test_the_teacher_predicts_the_next_token_with_these_probabilities():
    every = texts(TINY)
    logits = grammars.teacher(TINY, None, every).logits
    np.testing.assert_allclose(np.exp(logits[:, :3]).sum(-1), 1, rtol=1e-5)
    nll = losses.cross_entropy(logits, every["label"])
    counted = jnp.sum(nll, 1, where=every["label"] >= 0)
    np.testing.assert_allclose(
        counted, -grammars.log_probability(TINY, every), rtol=1e-5
    )


def test_samples_have_these_probabilities():
    every, count = texts(TINY), 20_000
    drawn = TINY.sample(count, 0)
    rows = {tuple(row): i for i, row in enumerate(key(every))}
    found = np.bincount([rows[tuple(r)] for r in key(drawn)], minlength=len(rows))
    p = np.exp(np.asarray(grammars.log_probability(TINY, every), float))
    assert stats.chisquare(found, count * p / p.sum()).pvalue > 1e-3


def key(batch):
    return np.concatenate([batch["tokens"], batch["mask"]], 1)


def test_a_text_is_valid_if_a_template_allows_it():
    mixture = grammars.Mixture()
    allowed = mixture.allowed
    first = np.argmax(allowed[0], -1)
    mask = np.cumsum(first == 0) - (first == 0) == 0
    wrong = first.copy()
    wrong[2] = np.flatnonzero(allowed[:, 2].sum(0) == 0)[-1]
    batch = grammars.batch(np.stack([first, wrong]), np.stack([mask, mask]))
    assert grammars.is_valid(mixture, batch).tolist() == [True, False]
    assert grammars.template_of(mixture, batch)[0] == 0
    both = mixture.sample(4000, 3)
    share = float(grammars.is_valid(mixture, both).mean())
    ends = np.array([(t.argmax(-1) == 0).argmax() + 1 for t in allowed])
    noise = mixture.noise * (1 - mixture.choices / mixture.vocabulary)
    np.testing.assert_allclose(share, ((1 - noise) ** ends).mean(), atol=0.02)
    jax.tree.map(np.testing.assert_array_equal, both, mixture.sample(4000, 3))
