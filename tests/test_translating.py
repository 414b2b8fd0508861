"""Translations are decoded, read and scored as they should be."""

from functools import partial

import chex
import jax
import numpy as np
import pandas as pd
import pytest
from sacrebleu.metrics import BLEU

from experiments.language import translating, translation
from experiments.language.translating import Task, Teacher
from kdjax import models
from kdjax.data import Data, language
from kdjax.models.generation import beam_search, generate
from kdjax.study import claims
from kdjax.training import teacher_texts

GERMAN = ["der Hund läuft", "die Katze schläft", "ein Mann liest ein Buch"] * 2
ENGLISH = ["the dog runs", "the cat sleeps", "a man reads a book"] * 2
CONFIG = translation.Config(vocabulary=270, width=32, layers=1)


@pytest.fixture(scope="module")
def task():
    tokenizer = language.byte_pairs(GERMAN + ENGLISH, 270, [translating.TOKEN])
    settings = {"longest": 99, "end": translating.TOKEN}
    train, _ = language.prompted(tokenizer, GERMAN, ENGLISH, **settings)
    return Task(tokenizer, Data(train, None, train), ENGLISH)


@pytest.fixture(scope="module")
def teacher(task):
    shape = translating.shape(CONFIG, 1, 32)
    drawn = models.decoder(shape).init(jax.random.key(0), task.data.train)
    params = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, drawn["params"])
    return Teacher(shape, params, {})


def test_texts_are_read_as_they_were(task):
    assert task.read(task.data.train) == ENGLISH
    assert task.new == 1 + max(len(task.tokenizer.encode(e).ids) for e in ENGLISH)


def test_what_the_teacher_writes_is_stored_in_parts(task, teacher, tmp_path):
    prompts, mask = teacher_texts.prompts_of(task.data.train)
    write = partial(translating.greedily, teacher.shape, 5)
    given = write, teacher.params, prompts, mask, jax.random.key(0)
    settings = {"batch_size": 4, "directory": tmp_path}
    found = teacher_texts.stored(*given, **settings)
    written = generate(teacher.shape, teacher.params, prompts, mask, new=5, end=0)
    answer = [
        [int(t) for t, m in zip(*row, strict=True) if m and t]
        for row in zip(written.tokens, written.mask, strict=True)
    ]
    assert teacher_texts.ids(found, translating.END) == answer
    lengths = task.data.train["prompt_length"]
    np.testing.assert_array_equal(found["prompt_length"], lengths)
    parts = sorted(tmp_path.glob("*/*.npz"))
    assert [p.name for p in parts] == ["0.npz", "1.npz"]
    parts[0].unlink()  # as if it had been interrupted
    times = parts[1].stat().st_mtime_ns
    again = teacher_texts.stored(*given, **settings)
    jax.tree.map(np.testing.assert_array_equal, again, found)
    assert parts[0].is_file() and parts[1].stat().st_mtime_ns == times


def test_all_candidates_are_those_of_the_beam(task, teacher):
    train = task.data.train
    prompts, mask = teacher_texts.prompts_of(train)
    copies = [np.repeat(array, translating.BEAMS, 0) for array in (prompts, mask)]
    every = translating.all_of_beam(teacher.shape, 4, teacher.params, *copies, None)
    best = beam_search(
        teacher.shape, teacher.params, prompts, mask, new=4, beams=5, end=0
    )
    np.testing.assert_array_equal(every.tokens[::5], best.tokens)
    assert len(np.unique(np.asarray(every.tokens[:5]), axis=0)) == 5


def test_the_candidate_most_like_the_truth_is_taken(task):
    train = task.data.train
    copies = {n: np.repeat(a, translating.BEAMS, 0) for n, a in train.items()}
    wrong = np.random.default_rng(0).integers(5, size=len(ENGLISH))
    for row, place in enumerate(wrong):
        own = np.arange(5) != place
        copies["label"][row * 5 : row * 5 + 5][own] = train["label"][(row + 1) % 3]
    assert translation.most_alike(task, copies).tolist() == wrong.tolist()


def test_translations_are_scored_by_their_words(task, teacher):
    label = task.data.train["label"]
    own = np.full((6, task.new), -1)
    for row, ids in enumerate(label):
        kept = ids[ids >= 0]
        own[row, : len(kept)] = kept
    other = own[[1, 0, 2, 4, 3, 5]]
    found = {"greedy": own[None], "beam": other[None], "sampled": own[None]}
    scores = translation.scored(task, teacher, found | {"coverage": np.array([2.5])})
    row = scores.iloc[0]
    assert row["bleu_greedy"] == pytest.approx(100) and row["coverage_risk"] == 2.5
    swapped = [ENGLISH[i] for i in (1, 0, 2, 4, 3, 5)]
    expected = BLEU().corpus_score(swapped, [ENGLISH]).score
    assert row["bleu_beam"] == pytest.approx(expected) and expected < 90
    model = models.decoder(teacher.shape)
    # The sampled translations are the true ones, of which the teacher has this risk.
    risk = translation.nll(model, teacher.params, task.data.train)
    assert row["likelihood_risk"] == pytest.approx(float(risk), rel=1e-4)


def test_decoding_in_blocks_is_decoding(task, teacher, monkeypatch):
    monkeypatch.setattr(translation, "BLOCK", 4)
    given = task.new, *teacher_texts.prompts_of(task.data.test)
    found = translation.decoded(
        teacher.shape, *given, translating.greedily, teacher.params
    )
    whole = generate(
        teacher.shape, teacher.params, *given[1:], new=task.new, end=translating.END
    )
    np.testing.assert_array_equal(found, np.where(whole.mask, whole.tokens, -1))


def test_a_student_translates_without_its_peer(task, teacher, monkeypatch):
    monkeypatch.setattr(translation, "WAYS", {"greedy": translating.greedily})
    extras = translation.of_students(CONFIG, task, task.data.train)
    peer = jax.tree.map(jax.numpy.zeros_like, teacher.params)
    alone, beside = (
        extras({"params": params}, None)
        for params in (teacher.params, {"student": teacher.params, "peer": peer})
    )
    chex.assert_trees_all_equal(alone, beside)


def test_texts_of_several_samples_have_room_for_the_longest(task):
    one = task.data.train
    short = {n: a[:, :9] if a.ndim > 1 else a for n, a in one.items()}
    both = translating.together(short, one)
    assert both["tokens"].shape == (12, one["tokens"].shape[1])
    assert (both["label"][:6, 9:] == -1).all() and not both["mask"][:6, 9:].any()
    np.testing.assert_array_equal(both["label"][6:], one["label"])


def test_claims_compare_what_they_say():
    greedy = {"true": 30, "beam": 33, "word": 31, "sample": 29, "like_true": 34}
    greedy |= {"word_and_beam": 35, "long": 32, "mutual": 33.5}
    runs = pd.DataFrame(
        [
            {"method": m, "seed": s, "bleu_greedy": b + s, "bleu_beam": 36 + s}
            for m, b in greedy.items()
            for s in range(3)
        ]
    )
    runs.loc[runs["method"] == "beam", "bleu_beam"] += 1
    expected = {"beam_greedy": 3, "beam_beam": 1, "closes": 2, "word": 1}
    expected |= {"loses": 2, "together": 2, "search": 4, "like_true": 1}
    expected |= {"worth": 3, "mutual": 2.5, "mutual_worth": 1.5}
    assert expected.keys() == translation.CLAIMS.keys()
    for name, value in expected.items():
        found = claims.measured(translation.CLAIMS[name], {"runs": runs})
        assert found.value == pytest.approx(value), name
        poor = runs.assign(bleu_greedy=runs["bleu_greedy"] / 4)  # 7.75 for the true
        found = claims.measured(translation.CLAIMS[name], {"runs": poor})
        assert np.isnan(found.value), name
