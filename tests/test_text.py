"""Texts become tokens, and batches of similar length that resume where they were."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from kdjax import data, losses, models
from kdjax.data import Data, text
from kdjax.models import Outputs
from kdjax.objectives import on_logits
from kdjax.sweep import sweep
from kdjax.training import Training, train
from tests.published import MINILM, needs_minilm

TOKENIZER = MINILM / "tokenizer.json"


@needs_minilm
def test_texts_and_pairs_have_the_tokens_of_bert():
    found = data.tokenized(TOKENIZER, ["A cat.", "The cat sat on it."], longest=20)
    assert found["tokens"].tolist() == [
        [101, 1037, 4937, 1012, 102, 0, 0, 0],
        [101, 1996, 4937, 2938, 2006, 2009, 1012, 102],
    ]
    assert found["mask"].sum(1).tolist() == [5, 8] and not found["segments"].any()
    pairs = data.tokenized(TOKENIZER, ["A cat."], ["It sat."], longest=20)
    assert pairs["tokens"][0].tolist() == [101, 1037, 4937, 1012, 102, 2009, 2938] + [
        *(1012, 102)
    ]
    assert pairs["segments"][0].tolist() == 5 * [0] + 4 * [1]
    assert all(array.dtype == np.int32 for array in pairs.values())


@needs_minilm
def test_a_long_text_loses_its_end():
    found = data.tokenized(TOKENIZER, ["cat " * 30], longest=7)
    assert found["tokens"].tolist() == [[101, *5 * [4937], 102]]
    found = data.tokenized(TOKENIZER, ["cat " * 30], ["it"], longest=7)
    assert found["tokens"].tolist() == [[101, *3 * [4937], 102, 2009, 102]]


@needs_minilm
def test_texts_that_cannot_be_tokenized_are_refused():
    says = "tokenizer has 30522 tokens, but the table of embeddings has 60 rows"
    with pytest.raises(ValueError, match=says):
        data.tokenized(TOKENIZER, ["A cat."], longest=9, vocabulary=60)
    with pytest.raises(ValueError, match="others has 1 texts, but takes 2"):
        data.tokenized(TOKENIZER, ["A cat.", "A dog."], ["It."], longest=9)
    with pytest.raises(ValueError, match="texts is empty"):
        data.tokenized(TOKENIZER, [], longest=9)
    with pytest.raises(TypeError, match="texts is a string, but takes a sequence"):
        data.tokenized(TOKENIZER, "A cat.", longest=9)
    with pytest.raises(ValueError, match="longest is 3, but takes more than 3"):
        data.tokenized(TOKENIZER, ["A cat."], ["It."], longest=3)


def texts(lengths, width=None):
    """Texts of these lengths, each with its own number as tokens."""
    lengths = np.asarray(lengths)
    mask = np.arange(width or max(lengths)) < lengths[:, None]
    number = np.arange(len(lengths))
    return {
        "tokens": (mask * (1 + number[:, None])).astype(np.int32),
        "mask": mask.astype(np.int32),
        "segments": np.zeros_like(mask, np.int32),
        "label": (number % 2).astype(np.int32),
        "teacher": Outputs(np.stack([number, -number], 1).astype(np.float32)),
    }


@pytest.mark.parametrize(
    "lengths, padding, expected",
    [
        ([8, 8, 8, 64], 0.0, [8, 64]),
        ([5, 6, 7, 60], 0.2, [8, 60]),
        ([8, 16, 16, 24], 0.2, [16, 24]),
        ([8, 16, 16, 24], 0.4, [24]),
        ([8, 16, 16, 24], 0.0, [8, 16, 24]),
        ([8] * 9 + [16] + [24] * 9, 0.05, [8, 24]),
        ([5, 5, 9], 0.2, [6, 10]),
    ],
)
def test_buckets_are_the_fewest_that_leave_little_padding(lengths, padding, expected):
    assert data.bucket_lengths(np.array(lengths), padding=padding) == expected


def test_buckets_are_as_good_as_any_others():
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.05, 300)
    sizes = sorted({int(2 * -(-n // 2)) for n in lengths})

    def places(chosen):
        return np.asarray(chosen)[np.searchsorted(chosen, lengths)].sum()

    found = data.bucket_lengths(lengths, padding=0.0, most=3)
    others = itertools.combinations(sizes[:-1], 2)
    best = min(places([*some, sizes[-1]]) for some in others)
    assert len(found) == 3 and places(found) == best


def batches(stream, count, seed=0):
    return list(itertools.islice(stream.make(seed), count))


def test_an_epoch_has_each_text_once_in_the_shortest_bucket():
    split = texts([3] * 12 + [9] * 8, width=30)
    stream = data.bucketed(split, 4, lengths=[4, 10])
    assert stream.steps == 5
    epoch = batches(stream, 5)
    assert sorted(np.concatenate([b["index"] for b in epoch])) == list(range(20))
    assert [b["tokens"].shape for b in epoch].count((4, 4)) == 3
    assert [b["tokens"].shape for b in epoch].count((4, 10)) == 2
    for batch in epoch:
        rows = batch["index"]
        np.testing.assert_array_equal(batch["tokens"][:, 0], 1 + rows)
        np.testing.assert_array_equal(batch["label"], rows % 2)
        np.testing.assert_array_equal(batch["teacher"].logits[:, 0], rows)
        np.testing.assert_array_equal(batch["mask"].sum(1), np.where(rows < 12, 3, 9))
    share = 1 - (12 * 3 + 8 * 9) / (12 * 4 + 8 * 10)
    assert text.padding_share(stream) == pytest.approx(share)


def test_a_batch_across_buckets_has_the_length_of_the_longer_one():
    stream = data.bucketed(texts([3, 3, 9, 9, 9], width=12), 4, lengths=[4, 10])
    for batch in batches(stream, 6):  # one of the five texts is left out of each
        assert batch["tokens"].shape == (4, 10)
    left_out = {frozenset(b["index"].tolist()) for b in batches(stream, 20)}
    assert len(left_out) > 1


def test_epochs_and_seeds_have_orders_of_their_own():
    stream = data.bucketed(texts([3] * 40), 10, lengths=[8])
    first, second = batches(stream, 4), batches(stream, 8)[4:]
    order = [np.concatenate([b["index"] for b in e]).tolist() for e in (first, second)]
    assert order[0] != order[1]
    again, other = batches(stream, 4), batches(stream, 4, seed=1)
    same = [np.concatenate([b["index"] for b in e]).tolist() for e in (again, other)]
    assert same[0] == order[0] and same[1] not in order


def test_short_epochs_have_texts_drawn_anew():
    stream = data.bucketed(texts([3] * 40), 10, lengths=[8], steps=2)
    assert stream.steps == 2
    epochs = [batches(stream, 4)[:2], batches(stream, 4)[2:]]
    first, second = (set(np.concatenate([b["index"] for b in e])) for e in epochs)
    assert len(first) == len(second) == 20 and first != second
    with pytest.raises(ValueError, match="steps is 5, but takes 1 to 4"):
        data.bucketed(texts([3] * 40), 10, lengths=[8], steps=5)


def test_a_stream_goes_on_at_its_position():
    stream = data.bucketed(texts([3] * 12 + [9] * 8), 4, lengths=[4, 10])
    iterator = stream.make(5)
    for _ in range(7):
        next(iterator)
    state = iterator.get_state()
    rest = [next(iterator)["index"] for _ in range(9)]
    resumed = stream.make(5)
    resumed.set_state(state)
    for one in rest:
        np.testing.assert_array_equal(next(resumed)["index"], one)


def test_bad_buckets_are_refused():
    split = texts([3, 9])
    with pytest.raises(ValueError, match="lengths ends at 8, but a text has 9"):
        data.bucketed(split, 1, lengths=[4, 8])
    with pytest.raises(ValueError, match="batch_size is 3, but .* the 2 texts"):
        data.bucketed(split, 3, lengths=[16])
    with pytest.raises(ValueError, match=r"lengths is \[16, 8\], but takes ascending"):
        data.bucketed(split, 1, lengths=[16, 8])
    with pytest.raises(ValueError, match="arrays of lengths .*'label': 3"):
        data.bucketed({**split, "label": np.zeros(3, np.int32)}, 1, lengths=[16])
    left = {n: a[:, ::-1] for n, a in split.items() if n in text.TOKEN_ARRAYS}
    with pytest.raises(ValueError, match="padding before a token, but takes it at the"):
        data.bucketed(split | left, 1, lengths=[16])


def test_texts_are_cut_with_what_a_teacher_says_of_their_tokens():
    split = texts([3] * 4 + [9] * 4)
    size = split["tokens"].shape
    logits = np.arange(size[0] * size[1] * 5, dtype=np.float32).reshape(*size, 5)
    first = np.zeros((len(logits), size[1]), np.float32)  # as many numbers as places
    split["teacher"] = models.Outputs(logits, extras={"pooled": first})
    batches = iter(data.bucketed(split, 4, lengths=[4, 10]).make(0))
    found = [next(batches) for _ in range(2)]
    assert {b["tokens"].shape[1] for b in found} == {4, size[1]}
    for batch in found:
        length, rows = batch["tokens"].shape[1], batch["index"]
        theirs = batch["teacher"]
        np.testing.assert_array_equal(theirs.logits, logits[rows, :length])
        assert theirs.extras["pooled"].shape == (4, size[1])


def test_the_example_is_the_longest_batch():
    stream = data.bucketed(texts([3] * 12 + [9] * 4), 4, lengths=[4, 10])
    assert stream.example["tokens"].shape == (4, 9)


SHAPE = models.Shape(60, layers=1, width=8, heads=2, feed_forward=8, positions=32)


def trained(split, lengths, validation=None, **more):
    """A tiny encoder on these texts, and the metrics of its last epoch."""
    stream = data.bucketed(split, 8, lengths=lengths)
    training = Training(
        models.bert(SHAPE), on_logits(losses.cross_entropy), epochs=3, batch_size=8
    )
    rate, key = {"learning_rate": 3e-3}, jax.random.key(0)
    return train(
        training, rate, data=Data(stream, validation or split), key=key, **more
    )


@pytest.fixture(scope="module")
def words():
    """Texts of which the first token says the label."""
    rng = np.random.default_rng(0)
    split = texts(rng.integers(2, 20, 40))
    del split["teacher"]
    tokens = rng.integers(3, 60, split["tokens"].shape).astype(np.int32)
    tokens[:, 0] = 1 + split["label"]
    return {**split, "tokens": tokens * split["mask"]}


def test_a_network_learns_the_same_from_a_longer_bucket(words):
    model = models.bert(SHAPE)

    @jax.jit
    def gradients(params, batch):
        logits = model.apply({"params": params, "state": {}}, batch)[0].logits
        return losses.cross_entropy(logits, batch["label"]).mean()

    short = {n: a[:8, :20] for n, a in words.items() if n != "label"}
    longer = {n: np.pad(a, ((0, 0), (0, 9))) for n, a in short.items()}
    params = model.init(jax.random.key(0), short)["params"]
    found = [
        jax.value_and_grad(gradients)(params, {**rows, "label": words["label"][:8]})
        for rows in (short, longer)
    ]
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_label_outside_of_the_example_is_refused(words):
    label, lengths = words["label"].copy(), [8, 20]
    example = data.bucketed(words, 8, lengths=lengths).example["index"]
    label[np.setdiff1d(np.arange(len(label)), example)[0]] = 7
    with pytest.raises(ValueError, match=r"train labels are in \[0, 7\], but a model"):
        trained({**words, "label": label}, lengths, validation=words)


def test_other_texts_or_buckets_are_trained_anew(words, tmp_path):
    changed = {**words, "label": words["label"].copy()}
    first = data.bucketed(words, 8, lengths=[8, 24]).example["index"]
    changed["label"][np.setdiff1d(np.arange(40), first)[0]] ^= 1
    for split, lengths in (
        (words, [8, 24]),
        (changed, [8, 24]),
        (words, [16, 24]),
        (words, [8, 24]),
    ):
        trained(split, lengths, validation=words, directory=tmp_path)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 3


def test_training_on_buckets_resumes_to_the_bit(words, tmp_path):
    class Stop(Exception):
        pass

    def stop(metrics):
        if metrics["epoch"] == 2:
            raise Stop

    whole = trained(words, [8, 24], directory=tmp_path / "whole")
    with pytest.raises(Stop):
        trained(
            words,
            [8, 24],
            directory=tmp_path / "cut",
            checkpoint_steps=3,
            on_epoch=stop,
        )
    resumed = trained(words, [8, 24], directory=tmp_path / "cut")
    same = jax.tree.map(np.array_equal, whole.variables, resumed.variables)
    assert all(jax.tree.leaves(same))
    curves = [each.curves.drop(columns="seconds") for each in (whole, resumed)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_a_sweep_trains_on_buckets(words):
    stream = data.bucketed(words, 8, lengths=[8, 24])
    training = Training(
        models.bert(SHAPE), on_logits(losses.cross_entropy), epochs=1, batch_size=8
    )
    found = sweep(
        training,
        {"learning_rate": [1e-3, 3e-3]},
        data=Data(stream, words),
        seeds=[0, 1],
    ).runs
    single = train(
        training,
        {"learning_rate": 1e-3},
        data=Data(stream, words),
        key=jax.random.fold_in(jax.random.key(0), 1),
    ).curves
    assert len(found) == 4 and np.isfinite(found["validation_nll_last"]).all()
    run = found.query("seed == 1 and learning_rate < 2e-3")
    nll = jnp.float32(single["validation_nll"].iloc[-1])
    np.testing.assert_allclose(run["validation_nll_last"], nll, rtol=1e-4)


def test_several_devices_do_not_take_a_ragged_stream(words):
    with pytest.raises(ValueError, match="ragged stream, which takes one device"):
        trained(words, [8, 24], devices=jax.devices()[:2])
