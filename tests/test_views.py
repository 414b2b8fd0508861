"""Views change what they say, as often as they say."""

import jax
import numpy as np
import pytest

from kdjax.training import views


def masked(tokens, mask, key=0, **more):
    view = views.masked_words(103, vocabulary=40, special=(1, 2), **more)
    batch = {"tokens": tokens, "mask": mask, "other": mask}
    return view(jax.random.key(key), batch, None, None)


def test_masked_words_are_those_that_bert_draws():
    rng = np.random.default_rng(0)
    count = rng.integers(3, 41, 500)
    mask = (np.arange(40) < count[:, None]).astype(np.int32)
    tokens = rng.integers(3, 40, (500, 40)).astype(np.int32) * mask
    tokens[:, 0], tokens[np.arange(500), count - 1] = 1, 2  # no words
    seen = jax.tree.map(np.asarray, masked(tokens, mask))
    drawn = seen["label"] >= 0
    words = count - 2
    expected = np.maximum(1, np.round(0.15 * words).astype(int))
    np.testing.assert_array_equal(drawn.sum(1), np.minimum(expected, words))
    own = np.take_along_axis(tokens, seen["places"], 1)
    new = np.take_along_axis(seen["tokens"], seen["places"], 1)
    np.testing.assert_array_equal(seen["label"][drawn], own[drawn])
    np.testing.assert_array_equal(new[~drawn], own[~drawn])
    assert (own[drawn] > 2).all() and np.array_equal(seen["other"], mask)
    for places, these in zip(seen["places"], drawn, strict=True):
        assert len(set(places[these])) == these.sum()
    changed = seen["tokens"] != tokens
    assert changed.sum() <= drawn.sum()
    shares = [(new == 103)[drawn].mean(), (new == own)[drawn].mean()]
    np.testing.assert_allclose(shares, [0.8, 0.1 + 0.1 / 40], atol=0.03)
    again = masked(tokens, mask, key=1)
    assert (again["places"] != seen["places"]).any()


def test_a_text_without_words_has_nothing_to_predict():
    tokens = np.array([[1, 2, 0, 0], [1, 5, 2, 0]], np.int32)
    seen = masked(tokens, (tokens > 0).astype(np.int32), share=1.0)
    assert (seen["label"][0] == -1).all() and (seen["label"][1] >= 0).sum() == 1
    np.testing.assert_array_equal(seen["tokens"][0], tokens[0])
    with pytest.raises(ValueError, match=r"share is 0.0, but takes a number in \(0, 1"):
        masked(tokens, tokens, share=0.0)
