"""Texts become rows for a decoder, which predicts the next token."""

import jax
import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from kdjax import files
from kdjax.data import language
from kdjax.data.text import bucketed


def five_words():
    """A tokenizer of five words."""
    known = {name: i for i, name in enumerate(("<end>", "a", "b", "c", "?"))}
    opened = Tokenizer(WordLevel(known, unk_token="?"))
    opened.pre_tokenizer = WhitespaceSplit()
    return opened


def test_texts_follow_one_another_in_rows_of_a_decoder(tmp_path):
    texts = ["a b", "c", "b b b", "a"]
    found = language.packed(five_words(), texts, length=4, end="<end>")
    assert found["tokens"].tolist() == [[1, 2, 0, 3], [0, 2, 2, 2]]
    assert found["label"].tolist() == [[2, 0, 3, -1], [2, 2, 2, -1]]
    assert found["mask"].all() and found["tokens"].dtype == np.int32
    five_words().save(str(path := tmp_path / "tokenizer.json"))
    again = language.packed(path, texts, length=4, end="<end>", vocabulary=5)
    jax.tree.map(np.testing.assert_array_equal, again, found)


def test_texts_that_cannot_be_packed_are_refused():
    for says, changed in (
        ("length is 99, but the texts have 3 tokens", {"length": 99}),
        ("end is '</s>', which is no token", {"end": "</s>"}),
        ("5 tokens, but the table of embeddings has 4 rows", {"vocabulary": 4}),
    ):
        with pytest.raises(ValueError, match=says):
            language.packed(
                five_words(), ["a b"], **{"length": 2, "end": "<end>"} | changed
            )
    with pytest.raises(TypeError, match="texts is a string"):
        language.packed(five_words(), "a b", length=2, end="<end>")


def test_answers_follow_their_prompts_and_are_to_be_predicted():
    prompts, answers = ["a b", "c", "a a a", ""], ["c", "b b a", "a a a", "b"]
    settings = {"longest": 6, "end": "<end>", "vocabulary": 5}
    found, kept = language.prompted(five_words(), prompts, answers, **settings)
    assert kept.tolist() == [0, 1, 3]  # the third pair has eight tokens
    assert found["tokens"].tolist() == [
        [1, 2, 0, 3, 0, 0],
        [3, 0, 2, 2, 1, 0],
        [0, 2, 0, 0, 0, 0],
    ]
    assert found["mask"].sum(1).tolist() == [5, 6, 3]
    assert found["prompt_length"].tolist() == [3, 2, 1]
    assert found["label"].tolist() == [
        [-1, -1, 3, 0, -1, -1],
        [-1, 2, 2, 1, 0, -1],
        [2, 0, -1, -1, -1, -1],
    ]
    for says, pairs in (
        ("answers has 1 texts, but takes 2", (["a", "b"], ["c"])),
        ("answer 1 is empty", (["a", "b"], ["c", ""])),
        ("longest is 6, but no pair is so short", (["a a a"], ["a a a"])),
    ):
        with pytest.raises(ValueError, match=says):
            language.prompted(five_words(), *pairs, **settings)
    with pytest.raises(TypeError, match="answers is a string"):
        language.prompted(five_words(), ["a"], "b", **settings)


def test_labels_of_tokens_are_cut_with_them():
    texts = ["a", "b", "c c c c c", "b b b b b"]
    found, _ = language.prompted(five_words(), texts, texts, longest=99, end="<end>")
    stream = bucketed(found, 2, lengths=[4, 12])
    batches = iter(stream.make(0))
    shapes = sorted(
        (b["tokens"].shape, b["label"].shape) for b in (next(batches) for _ in range(2))
    )
    assert shapes == [((2, 4), (2, 4)), ((2, 12), (2, 12))]


def test_byte_pairs_are_trained_once_and_lose_nothing(monkeypatch):
    texts = ["Zwei junge Männer sind im Freien.", "Zwei junge Frauen — im Freien!"] * 9
    made = language.byte_pairs(texts, 280, ["<end>"])
    assert made.get_vocab_size() == 280 and made.token_to_id("<end>") == 0
    for text in (*texts, "Any other text, such as 東京 or \n\t."):
        assert made.decode(made.encode(text).ids) == text
    assert len(made.encode(texts[0]).ids) < len(texts[0].encode())
    monkeypatch.setattr(files, "atomic", None)  # it is not written again
    again = language.byte_pairs(texts, 280, ["<end>"])
    assert again.get_vocab() == made.get_vocab()
    with pytest.raises(ValueError, match="vocabulary is 256, but takes at least 257"):
        language.byte_pairs(texts, 256, ["<end>"])
    with pytest.raises(ValueError, match="9999, but the texts have only"):
        language.byte_pairs(texts, 9999)
