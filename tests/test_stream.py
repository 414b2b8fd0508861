"""A causal transformer that learns the next token from a stream of text."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

from kdjax import losses
from kdjax.data import Data, Stream
from kdjax.data.source import feeder
from kdjax.models import from_linen
from kdjax.training import programs, train
from tests import small

grain = pytest.importorskip("grain")

TEXT = "the quick brown fox jumps over the lazy dog. " * 40
VOCABULARY = sorted(set(TEXT))
LENGTH = 12


class Decoder(nn.Module):
    """A transformer of two layers and one head; logits ``[B, LENGTH, vocabulary]``."""

    @nn.compact
    def __call__(self, tokens, *, train):
        place = self.param("place", nn.initializers.normal(0.1), (LENGTH, 16))
        x = nn.Embed(len(VOCABULARY), 16)(tokens) + place[None]
        for _ in range(2):
            q, k, v = jnp.split(nn.Dense(48)(nn.RMSNorm()(x)), 3, axis=-1)
            seen = jnp.tril(jnp.ones((1, LENGTH, LENGTH), bool))
            scores = jnp.where(seen, q @ k.swapaxes(1, 2) / 4, -1e9)
            x = x + nn.Dense(16)(jax.nn.softmax(scores) @ v)
            x = x + nn.Dense(16)(nn.relu(nn.Dense(32)(x)))
        return nn.Dense(len(VOCABULARY))(x)


def next_token(student, teacher, batch):
    nll = losses.cross_entropy(student.logits, batch["label"])
    return jnp.mean(nll, axis=1)


def rows():
    """All windows of the text, and the same shifted by a token."""
    ids = np.array([VOCABULARY.index(letter) for letter in TEXT], np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(ids, LENGTH + 1)
    return [{"tokens": w[:-1], "label": w[1:]} for w in windows]


def batches(seed):
    return (
        grain.MapDataset.source(rows()[:1600])
        .seed(seed)
        .shuffle()
        .repeat()
        .batch(16)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=3))
    )


def stacked(some):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *some)


TEXTS = Data(Stream(batches, steps=4), stacked(rows()[1650:1700]))
TRAINING = small.training(
    next_token,
    model=from_linen(Decoder(), inputs=("tokens",)),
    epochs=10,
    optimizer=optax.adam,
)


def trained(directory, **options):
    key = jax.random.fold_in(jax.random.key(0), 0)  # of a sweep's seed 0
    options = {"data": TEXTS, "key": key, "checkpoint_steps": 2} | options
    return train(TRAINING, {"learning_rate": 0.03}, directory=directory, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("whole"))


def test_a_transformer_learns_the_next_token(whole):
    assert whole.curves.train_loss[9] < whole.curves.train_loss[0] / 2
    assert whole.curves.validation_accuracy[9] > 0.6
    tokens = TEXTS.validation["tokens"][:1]
    changed = np.where(np.arange(LENGTH) < 6, tokens, 0)
    before, after = (
        TRAINING.model.apply(whole.variables, {"tokens": t})[0].logits
        for t in (tokens, changed)
    )
    np.testing.assert_allclose(before[:, :6], after[:, :6], atol=1e-5)  # causal


def test_it_resumes_in_an_epoch_to_the_same_bits(whole, tmp_path):
    with small.stopped_after(saves=3):
        trained(tmp_path)
    assert len(list(tmp_path.glob("*/6.json"))) == 1  # two steps into an epoch of four
    rest = trained(tmp_path)
    chex.assert_trees_all_equal(rest[:2], whole[:2])
    curves = [result.curves.drop(columns="seconds") for result in (rest, whole)]
    pd.testing.assert_frame_equal(*curves, check_exact=True)


def test_side_by_side_each_run_sees_the_same_stream(whole, tmp_path):
    columns = {"learning_rate": [0.01, 0.03]}
    pair = small.swept(tmp_path, columns, TRAINING, data=TEXTS, seeds=[0])
    slow, fast = pair.curves.train_loss.to_numpy().reshape(2, 10)
    np.testing.assert_allclose(fast, whole.curves.train_loss, rtol=1e-3)
    assert slow[9] < slow[0] and (slow != fast).all()


# The following tests do not depend on the model.
PLAIN = small.training(optimizer=optax.sgd(0.1))
COLUMNS = {"temperature": [4.0], "alpha": [0.9]}
AT_ONCE = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)


def streamed(change=lambda dataset, seed: dataset.seed(seed).shuffle().repeat()):
    """The examples of the small task in batches of 40."""

    def make(seed):
        arrays = small.data().train
        rows = [jax.tree.map(lambda a, i=i: a[i], arrays) for i in range(200)]
        dataset = change(grain.MapDataset.source(rows), seed)
        return dataset.batch(40, batch_fn=stacked).to_iter_dataset(AT_ONCE)

    return make


def swept(directory, make, *, steps=2, training=PLAIN, **options):
    data = small.data()._replace(train=Stream(make, steps))
    options = {"data": data, "checkpoint_steps": 1} | options
    return small.swept(directory, COLUMNS, training, **options)


def test_each_seed_reads_the_stream_in_an_order_of_its_own(tmp_path):
    told, plain = [], streamed()

    def make(seed):
        told.append(seed)
        return plain(seed)

    runs = swept(tmp_path, make).runs
    drawn = [seed for seed in told if seed]  # without those that provide shapes
    assert len(drawn) == len(set(drawn)) == 2
    assert runs.test_nll_last.nunique() == 2


def test_an_order_without_chance_is_that_of_the_resident_examples(tmp_path):
    told = []

    def listing(student, teacher, batch):
        jax.debug.callback(told.append, batch["image"][:, 0], ordered=True)
        return small.HINTON(student, teacher, batch, temperature=4.0, alpha=0.9)

    training = small.training(listing, optimizer=optax.sgd(0.1), epochs=2)
    data = small.data()._replace(train=Stream(streamed(lambda d, _: d.repeat()), 5))
    train(training, {}, data=data, key=jax.random.key(0), directory=tmp_path)
    jax.effects_barrier()
    twice = np.tile(small.data().train["image"][:, 0], 2)
    np.testing.assert_array_equal(np.concatenate(told), twice)


def test_another_stream_or_a_longer_epoch_starts_anew(tmp_path):
    backwards = streamed(lambda dataset, _: dataset[::-1].repeat())
    results = [
        swept(tmp_path, make, steps=steps, seeds=[0])
        for make, steps in ((streamed(), 2), (backwards, 2), (streamed(), 3))
    ]
    assert len(list(tmp_path.glob("*/*.npz"))) == 3
    assert len({result.runs.test_nll_last[0] for result in results}) == 3


def test_a_stream_that_comes_to_its_end_is_said_to(tmp_path):
    ending = streamed(lambda dataset, seed: dataset)
    with pytest.raises(ValueError, match="stream.*has ended.*repeat"):
        swept(tmp_path, ending, seeds=[0], steps=4)


def test_no_more_of_a_stream_is_fed_at_once_than_memory_should_hold():
    def calls(pixels):
        rows = {"image": np.zeros((8, pixels)), "label": np.zeros(8, np.int32)}
        feed = feeder(Stream(lambda seed: [rows], steps=600), 8)
        return programs.phase(PLAIN, feed).steps_a_call

    assert calls(10) == 300  # two calls of an epoch's 600 steps
    assert calls(2**19) == 7  # of 32 MiB each
    assert calls(2**23) == 1


def test_a_stream_over_four_devices_is_that_over_one_but_for_rounding(tmp_path):
    data = small.data()._replace(train=Stream(streamed(), 5))
    one, four = (
        train(
            PLAIN,
            {name: values[0] for name, values in COLUMNS.items()},
            data=data,
            key=jax.random.key(0),
            directory=tmp_path,
            devices=jax.devices()[:many],
        )
        for many in (1, 4)
    )
    chex.assert_trees_all_close(one[:2], four[:2], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="batch_size is 40.*multiple of the 3 devices"):
        train(
            PLAIN,
            {"temperature": 4, "alpha": 1},
            data=data,
            key=jax.random.key(0),
            directory=tmp_path,
            devices=jax.devices()[:3],
        )
