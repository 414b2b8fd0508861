"""Instructions are read as they were given, and answers compared as papers do."""

import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.language import answering, stories
from kdjax import models
from kdjax.data import instructions, language
from kdjax.data.instructions import Instructions
from kdjax.models.decoder import LanguageModel
from kdjax.models.generation import generate
from tests.published import SHARED

FOLDER = Path(os.environ.get("KDJAX_INSTRUCTIONS", SHARED / "text/instructions"))
needs_them = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs KDJAX_INSTRUCTIONS")
ASKED = Instructions(["tin", "a man in a tin", "it"], ["in it", "-", None])


@pytest.fixture(scope="module")
def tokenizer():
    """Characters, with the tokens around an instruction."""
    return language.characters([answering.TURN, "flow "], 24, ["<|im_end|>"])


@pytest.fixture(scope="module")
def whole():
    shape = stories.shape(24, 1, 16)
    drawn = models.decoder(shape).init(jax.random.key(0), {})["params"]
    return LanguageModel(shape, jax.tree.map(lambda a: 9 * a, drawn))


@needs_them
def test_instructions_have_no_words_around_them(monkeypatch):
    monkeypatch.setenv("KDJAX_INSTRUCTIONS", str(FOLDER))
    sets = instructions.load()
    sizes = {name: len(each.prompts) for name, each in sets.items()}
    assert sizes == {"seeds": 175, "self_instruct": 252, "vicuna": 80, "dolly": 151}
    assert sets["dolly"].prompts[1] == "Which US state produces the most pineapples?"
    assert sets["dolly"].answers[1] == "Hawaii"
    assert sets["seeds"].prompts[1].endswith("\n\nNight : Day :: Right : Left")
    assert sets["vicuna"].answers == [None] * 80
    every = [text for each in sets.values() for text in each.prompts]
    assert all(text and text == text.strip() for text in every)
    assert not any("###" in t for t in (*every, *sets["dolly"].answers))


def test_a_file_that_is_missing_or_short_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("KDJAX_INSTRUCTIONS", str(tmp_path))
    with pytest.raises(
        FileNotFoundError, match=r"seed_tasks.jsonl: download data/seed"
    ):
        instructions.load()
    (tmp_path / "seed_tasks.jsonl").write_text(json.dumps({}) + "\n")
    with pytest.raises(ValueError, match="seed_tasks.jsonl has 1 instr.* takes 175"):
        instructions.load()


def test_long_instructions_are_left_out(tokenizer):
    size = len(tokenizer.encode(answering.TURN.format("")).ids)
    found = answering.asked(tokenizer, [ASKED], longest=size + 5, new=2)
    assert found.answers == ["in it", None]
    lengths = found.mask.sum(1)
    assert lengths.tolist() == [size + 3, size + 2]
    for row, length, text in zip(found.prompts, lengths, ("tin", "it"), strict=True):
        expected = tokenizer.encode(answering.TURN.format(text)).ids
        assert row[:length].tolist() == expected and not row[length:].any()
    first = answering.asked(tokenizer, [ASKED] * 2, longest=size + 5, new=2, most=1)
    assert first.answers == ["in it"] * 2
    with pytest.raises(
        ValueError, match="longest is 3, but no instruction is so short"
    ):
        answering.asked(tokenizer, [ASKED], longest=3, new=2)


def test_answers_are_those_of_greedy_search(tokenizer, whole):
    own = answering.asked(tokenizer, [ASKED], longest=58, new=4)
    lines = answering.of_student(whole.shape, own)({"params": whole.params}, None)
    given = whole.shape, whole.params, own.prompts, own.mask
    expected = generate(*given, new=4, end=own.end)
    written = np.where(expected.mask, expected.tokens, -1)
    np.testing.assert_array_equal(lines["answers"], written)
    texts = answering.of_whole(whole, own, "test")
    for row, line in zip(texts["label"], written, strict=True):
        assert row[row >= 0].tolist() == line[line >= 0].tolist()


def test_rouge_l_is_of_the_longest_common_subsequence(tokenizer):
    # Three of five words in common, in this order, and three of four.
    said, true = ["a cat sat on mats", "yes"], ["the cats sit, on mat", None]
    f = 100 * 2 * (3 / 5) * (3 / 5) / (3 / 5 + 3 / 5)
    assert answering.rouge_l(said, true) == pytest.approx(f)
    assert answering.rouge_l(["yes"] * 2, ["yes", "no"]) == pytest.approx(50)
    own = answering.asked(tokenizer, [ASKED], longest=58, new=4)
    lines = np.full((3, 4), -1)
    ids = tokenizer.encode("tin").ids
    lines[0, :4] = [*ids, own.end]
    assert own.read(lines) == ["tin", "", ""]
    found = answering.scores(own, lines, ["tin", "it", "a"])
    assert found == {"rouge_l": pytest.approx(100 / 3), "rouge_l_people": 0}
