"""Words are replaced by their neighbours, and nothing else is."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from kdjax.data import rewording

TOKENS = ["[PAD]", "[CLS]", "good", "fine", "bad", "poor", "##ly", ".", "7"]


@pytest.fixture
def tokenizer(tmp_path):
    vocabulary = {token: i for i, token in enumerate(TOKENS)}
    opened = Tokenizer(models.WordPiece(vocabulary, unk_token="[PAD]"))
    opened.save(str(path := tmp_path / "tokenizer.json"))
    return path


@pytest.fixture
def near(tokenizer):
    # By cosine, good is next to fine, and bad to poor, whose lengths differ.
    table = np.zeros((10, 2), np.float32)
    table[2:6] = [[1, 0.1], [9, 1.8], [0.1, 1], [1.8, 9]]
    return rewording.neighbours(tokenizer, table, count=1)


def ids(*tokens):
    return [TOKENS.index(token) for token in tokens]


def test_neighbours_are_the_nearest_words_by_cosine(near):
    expected = ids("[PAD]", "[CLS]", "fine", "good", "poor", "bad", "##ly", ".", "7")
    np.testing.assert_array_equal(near.nearest[:, 0], [*expected, 9])
    assert np.flatnonzero(near.continues).tolist() == ids("##ly")


def test_copies_replace_whole_words_alone(near):
    tokens = [
        ids("[CLS]", "good", "##ly", "bad", ".", "7"),
        ids("[CLS]", "poor", "fine", "[PAD]", "[PAD]", "[PAD]"),
    ]
    split = {"tokens": np.array(tokens, np.int32), "label": np.array([0, 1])}
    found = rewording.with_copies(split, near, copies=2, share=1.0)
    reworded = [
        ids("[CLS]", "good", "##ly", "poor", ".", "7"),
        ids("[CLS]", "bad", "good", "[PAD]", "[PAD]", "[PAD]"),
    ]
    np.testing.assert_array_equal(found["tokens"], [*tokens, *reworded, *reworded])
    np.testing.assert_array_equal(found["label"], [0, 1] * 3)
    assert found["tokens"].dtype == np.int32


def test_a_share_of_the_words_is_replaced_in_each_copy(near):
    split = {"tokens": np.full((50, 40), 2, np.int32)}
    found = rewording.with_copies(split, near, copies=2, share=0.4)["tokens"]
    copies = (found != 2).reshape(3, -1)
    assert copies[0].sum() == 0
    np.testing.assert_allclose(copies[1:].mean(1), 0.4, atol=0.05)
    assert (copies[1] != copies[2]).mean() > 0.4
    other = rewording.with_copies(split, near, copies=2, share=0.4, seed=1)["tokens"]
    assert (other != found).any()


def test_all_neighbours_are_drawn():
    near = rewording.Neighbours(np.array([[1, 2, 3]] * 4), np.zeros(4, bool))
    split = {"tokens": np.zeros((20, 30), np.int32)}
    found = rewording.with_copies(split, near, copies=1, share=1.0)["tokens"][20:]
    np.testing.assert_allclose(np.bincount(found.ravel())[1:] / 600, 1 / 3, atol=0.06)


def test_bad_input_is_named(tokenizer, near, tmp_path):
    table = np.ones((10, 2), np.float32)
    with pytest.raises(
        ValueError, match="has 9 tokens, but the table of embeddings has 8"
    ):
        rewording.neighbours(tokenizer, table[:8])
    with pytest.raises(ValueError, match="count is 4, but takes 1 to 3"):
        rewording.neighbours(tokenizer, table, count=4)
    Tokenizer(models.BPE()).save(str(path := tmp_path / "bpe.json"))
    with pytest.raises(ValueError, match="bpe.json is not of WordPiece"):
        rewording.neighbours(path, table)
    split = {"tokens": np.zeros((1, 2), np.int32)}
    with pytest.raises(ValueError, match="copies is -1, but takes no negative"):
        rewording.with_copies(split, near, copies=-1)
    with pytest.raises(ValueError, match=r"share is 2, but takes a number in \[0, 1\]"):
        rewording.with_copies(split, near, copies=1, share=2)
