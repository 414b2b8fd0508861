"""Decoders give what those of transformers give, and bad files are explained."""

from dataclasses import replace
from functools import partial
import json
from pathlib import Path
import shutil
import struct

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kdjax import models
from kdjax.models import hugging_face_decoders, llama2c
from kdjax.models.decoder import LanguageModel, continued, empty_cache, sizes
from kdjax.models.hugging_face import InvalidCheckpoint
from kdjax.models.linear import linear

STORED = Path(__file__).parents[1] / "peers/decoders"
FAMILIES = ("llama", "qwen2")
SHAPE = models.DecoderShape(20, 2, 16, 4, 2, 24, context=32)


def given(family):
    """The batch, and what transformers gives for it."""
    with np.load(STORED / family / "outputs.npz") as arrays:
        found = dict(arrays)
    return {n: found.pop(n) for n in ("tokens", "mask")}, found


def applied(loaded, rows):
    variables = {"params": loaded.params, "state": {}}
    return models.decoder(loaded.shape).apply(variables, rows)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_everything_is_as_in_transformers(family):
    rows, expected = given(family)
    loaded = hugging_face_decoders.load(STORED / family)
    found = applied(loaded, rows)
    there = rows["mask"] != 0
    np.testing.assert_allclose(
        found.logits[there], expected["logits"][there], atol=1e-4
    )
    # The last of theirs is normalised.
    ours = np.stack(found.features[:-1])
    np.testing.assert_allclose(
        ours[:, there], expected["hidden"][:-1][:, there], atol=1e-4
    )
    seen = np.tri(20, dtype=bool) & there[:, None, None]
    for scores, attention in zip(found.attention, expected["attention"], strict=True):
        weights = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf), -1)
        rows_there = np.broadcast_to(there[:, None, :, None], weights.shape)
        np.testing.assert_allclose(
            weights[rows_there], attention[rows_there], atol=1e-4
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cache_gives_the_logits_of_the_whole_text(family):
    rows, _ = given(family)
    loaded = hugging_face_decoders.load(STORED / family)
    whole = applied(loaded, rows).logits
    tokens = rows["tokens"]
    cache = empty_cache(loaded.shape, 2, 24)
    positions = jnp.broadcast_to(jnp.arange(20), (2, 20))
    parts = []
    for first, last in ((0, 7), (7, 8), (8, 20)):
        part = slice(first, last)
        logits, cache = continued(
            loaded.shape, loaded.params, cache, tokens[:, part], positions[:, part]
        )
        parts.append(logits)
    found = jnp.concatenate(parts, 1)
    there = rows["mask"] != 0
    np.testing.assert_allclose(found[there], whole[there], atol=1e-4)
    again, _ = continued(
        loaded.shape,
        loaded.params,
        empty_cache(loaded.shape, 2, 20),
        tokens,
        positions,
        rows["mask"].sum(1) - 1,
    )
    last = np.asarray(whole)[[0, 1], rows["mask"].sum(1) - 1]
    np.testing.assert_allclose(again, last, atol=1e-4)


def test_padding_and_the_future_change_nothing():
    model = models.decoder(SHAPE)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 20, (2, 10)).astype(np.int32)
    rows = {"tokens": tokens, "mask": np.ones_like(tokens)}
    variables = model.init(jax.random.key(0), rows)
    variables = jax.tree.map(lambda a: a if a.ndim == 1 else 20 * a, variables)
    logits = model.apply(variables, rows)[0].logits
    changed = rows | {"tokens": np.where(np.arange(10) < 6, tokens, 3)}
    other = model.apply(variables, changed)[0].logits
    np.testing.assert_allclose(logits[:, :6], other[:, :6], atol=1e-6)
    assert not np.allclose(logits[:, 6:], other[:, 6:], atol=1e-2)


def test_a_batch_longer_than_the_context_is_refused():
    rows = {n: np.ones((1, 33), np.int32) for n in ("tokens", "mask")}
    with pytest.raises(ValueError, match="tokens has 33 places, but the context is 32"):
        models.decoder(SHAPE).apply({"params": {"words": None}, "state": {}}, rows)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"layers": 0}, "layers is 0, but takes at least 1"),
        ({"heads": 3}, "heads is 3, but must divide width, 16"),
        ({"key_heads": 3}, "key_heads is 3, but must divide heads, 4"),
        ({"heads": 16, "key_heads": 16}, "heads have width 1, but takes even ones"),
        ({"pairs": "odd"}, "pairs is 'odd', but takes one of halves, neighbours"),
    ],
)
def test_bad_shapes_are_named(change, says):
    with pytest.raises(ValueError, match=says):
        replace(SHAPE, **change)


def copied(tmp_path, family="llama", **settings):
    """A stored checkpoint with other settings, to be damaged."""
    folder = shutil.copytree(STORED / family, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text()) | settings
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "gpt2"}, "model_type is gpt2 in .*, but takes llama or qwen2"),
        ({"hidden_act": "gelu"}, "hidden_act is gelu .* takes silu"),
        ({"attention_bias": True}, "attention_bias is True .* takes False"),
        ({"head_dim": 8}, "head_dim is 8 .* takes 16 / 4"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
            "rope_type is yarn",
        ),
        ({"num_key_value_heads": 3}, "key_heads is 3, but must divide heads"),
    ],
)
def test_settings_that_are_not_supported_are_named(settings, says, tmp_path):
    with pytest.raises(InvalidCheckpoint, match=says):
        hugging_face_decoders.load(copied(tmp_path, **settings))


def test_tensors_that_do_not_fit_are_named(tmp_path):
    folder = copied(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.norm.weight"] = np.zeros(3, np.float32)
    tensors["other"] = np.zeros(3, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(InvalidCheckpoint) as raised:
        hugging_face_decoders.load(folder)
    for says in (
        "model.layers.1.mlp.up_proj.weight is missing",
        r"model.norm.weight has shape (3,), not (16,)",
        "other has no place",
    ):
        assert says in str(raised.value)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="it has no model.safetensors"):
        hugging_face_decoders.load(folder)
    with pytest.raises(FileNotFoundError, match="it has no config.json"):
        hugging_face_decoders.load(tmp_path)


def test_weights_in_several_files_are_put_together(tmp_path):
    folder = copied(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for part, some in parts.items():
        save_file({name: tensors[name] for name in some}, folder / part)
    index = {name: part for part, some in parts.items() for name in some}
    (folder / "model.safetensors").unlink()
    (folder / hugging_face_decoders.INDEX).write_text(json.dumps({"weight_map": index}))
    whole = hugging_face_decoders.load(STORED / "llama").params
    found = hugging_face_decoders.load(folder).params
    jax.tree.map(np.testing.assert_array_equal, whole, found)
    (folder / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="it has no b.safetensors"):
        hugging_face_decoders.load(folder)
    other = jax.tree.map(lambda array: 2 * array, whole)  # saved beside old parts
    shape = hugging_face_decoders.load(STORED / "llama").shape
    hugging_face_decoders.save(folder, LanguageModel(shape, other))
    found = hugging_face_decoders.load(folder).params
    jax.tree.map(np.testing.assert_array_equal, other, found)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_decoder_is_the_one_of_transformers(family, tmp_path):
    loaded = hugging_face_decoders.load(STORED / family)
    (tmp_path / "tokenizer.json").write_text('{"é": 1}', "utf-8")
    new = tmp_path / "new"
    hugging_face_decoders.save(new, loaded, tmp_path / "tokenizer.json", end=2)
    ours, theirs = (
        load_file(folder / "model.safetensors") for folder in (new, STORED / family)
    )
    assert ours.keys() == theirs.keys()
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    config = json.loads((STORED / family / "config.json").read_text())
    found = json.loads((new / "config.json").read_text())
    assert found.pop("eos_token_id") == 2 and found.pop("rope_theta") > 1
    assert {n: config[n] for n in found} == found
    assert json.loads((new / "tokenizer.json").read_text("utf-8")) == {"é": 1}
    again = hugging_face_decoders.load(new)
    assert again.shape == loaded.shape
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)


@pytest.mark.parametrize("biases", [False, True])
def test_a_decoder_of_neighbours_is_saved_in_halves(biases, tmp_path):
    # Heads of eight numbers: of four, either order is its own inverse.
    shape = replace(SHAPE, heads=2, key_heads=1, pairs="neighbours", biases=biases)
    drawn = jax.tree.map(
        lambda size: np.random.default_rng(len(size)).normal(size=size).astype("f4"),
        sizes(shape),
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    one = LanguageModel(shape, drawn)
    hugging_face_decoders.save(tmp_path / "new", one)
    other = hugging_face_decoders.load(tmp_path / "new")
    assert other.shape == replace(shape, pairs="halves")
    tokens = np.arange(8)[None]
    rows = {"tokens": tokens, "mask": np.ones_like(tokens)}
    same = applied(one, rows).logits, applied(other, rows).logits
    np.testing.assert_allclose(*same, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_saved_is_named(tmp_path):
    loaded = hugging_face_decoders.load(STORED / "llama")
    with pytest.raises(ValueError, match="not fit the shape: layers/up, norm$"):
        layers = dict(loaded.params["layers"])
        layers["up"] = layers["up"][:1]
        some = {n: a for n, a in loaded.params.items() if n != "norm"}
        bad = loaded._replace(params={**some, "layers": layers})
        hugging_face_decoders.save(tmp_path / "new", bad)
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        hugging_face_decoders.save(tmp_path / "new", loaded, "nowhere.json")
    assert not (tmp_path / "new").exists()


def written(path, tied):
    """A file of llama2.c, and the parameters in it."""
    shape = replace(SHAPE, pairs="neighbours", tied=tied)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda size: rng.normal(size=size).astype(np.float32),
        sizes(shape),
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    order = ("attention_norm", "query", "key", "value", "attention_out", "norm")
    layers = [params["layers"][name] for name in (*order, "gate", "down", "up")]
    arrays = [params["words"], *layers, params["norm"], np.zeros(32 * 4, np.float32)]
    arrays += [] if tied else [params["output"]]
    header = struct.pack("<7i", 16, 24, 2, 4, 2, 20 if tied else -20, 32)
    path.write_bytes(header + b"".join(array.tobytes() for array in arrays))
    return shape, params


@pytest.mark.parametrize("tied", [True, False])
def test_files_of_llama2c_are_opened(tied, tmp_path):
    shape, params = written(tmp_path / "model.bin", tied)
    found = llama2c.load(tmp_path / "model.bin")
    assert found.shape == shape
    jax.tree.map(np.testing.assert_array_equal, found.params, params)


def test_files_of_llama2c_that_were_cut_short_are_refused(tmp_path):
    path = tmp_path / "model.bin"
    written(path, tied=True)
    data = path.read_bytes()
    path.write_bytes(data[:-4])
    with pytest.raises(ValueError, match="but its header asks for"):
        llama2c.load(path)
    path.write_bytes(data[:20])
    with pytest.raises(ValueError, match="has 20 bytes, but takes a header of 28"):
        llama2c.load(path)
    path.write_bytes(struct.pack("<7i", 16, 24, 2, 3, 2, 20, 32))
    with pytest.raises(ValueError, match="no model of llama2.c: heads is 3"):
        llama2c.load(path)


def test_neighbours_are_halves_in_another_order():
    """The two layouts of rotary embeddings differ by the order of a head's numbers."""
    halves = hugging_face_decoders.load(STORED / "llama")
    rows, _ = given("llama")
    head = halves.shape.head_width
    order = np.arange(head).reshape(2, -1).T.ravel()

    def turned(weights):
        by_head = weights.reshape(len(weights), -1, head, weights.shape[-1])
        return by_head[:, :, order].reshape(weights.shape)

    layers = dict(halves.params["layers"])
    layers |= {name: turned(layers[name]) for name in ("query", "key")}
    shape = replace(halves.shape, pairs="neighbours")
    other = halves._replace(shape=shape, params={**halves.params, "layers": layers})
    same = applied(halves, rows).logits, applied(other, rows).logits
    np.testing.assert_allclose(*same, atol=1e-4)


@pytest.mark.parametrize("axes", [(5,), (2, 3), (2, 3, 4)])
def test_linear_has_the_values_and_gradients_of_a_product(axes):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (*axes, 6))
    matrix = jax.random.normal(keys[1], (7, 6))
    weights = jax.random.normal(keys[2], (*axes, 7))

    def value(product, x, matrix):
        return jnp.sum(weights * product(x, matrix) ** 2)

    ours, usual = (
        jax.value_and_grad(partial(value, product), argnums=(0, 1))(x, matrix)
        for product in (linear, lambda x, matrix: x @ matrix.T)
    )
    chex.assert_trees_all_close(ours, usual, rtol=1e-5, atol=1e-5)
