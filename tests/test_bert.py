"""Encoders give what those of transformers give, and bad folders are explained."""

from dataclasses import replace
import json
from pathlib import Path
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kdjax import models
from kdjax.models import hugging_face
from kdjax.models.bert import dropped
from kdjax.models.hugging_face import InvalidCheckpoint
from tests.published import MINILM, needs_minilm

STORED = Path(__file__).parents[1] / "peers/encoders"
OF_WORDS = ("words", "mpnet_words")
FOLDERS = {name: STORED / name for name in ("classes", "mpnet", *OF_WORDS)}
FOLDERS["minilm"] = MINILM
SHAPE = models.Shape(60, layers=2, width=16, heads=2, feed_forward=24, positions=40)


def given(name):
    """The batch, and what transformers gives for it."""
    with np.load(STORED / name / "outputs.npz") as arrays:
        found = dict(arrays)
    return {n: found.pop(n) for n in ("tokens", "mask", "segments")}, found


def applied(encoder, rows, **settings):
    model = models.bert(encoder.shape, **settings)
    variables = model.init(jax.random.key(0), rows)
    params = {**variables["params"], **encoder.params}
    return jax.jit(model.apply)({"params": params, "state": {}}, rows)[0]


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=needs_minilm if n == "minilm" else ()) for n in FOLDERS],
)
def test_hidden_states_and_attention_are_those_of_transformers(name):
    rows, expected = given(name)
    encoder = hugging_face.load(FOLDERS[name])
    settings = {"logits": "words"} if name in OF_WORDS else {"classes": 3}
    if name != "classes":
        encoder.params.pop("classifier", None)
    outputs = applied(encoder, rows, **settings)
    real, keys = rows["mask"] != 0, rows["mask"][None, :, None, None] != 0
    hidden = np.stack(outputs.features)
    apart = hidden.shape[-1] // expected["hidden"].shape[-1]
    stored = expected["hidden"][:, real]
    np.testing.assert_allclose(hidden[:, real, ::apart], stored, atol=1e-4)
    scores = np.stack(outputs.attention)
    attention = jax.nn.softmax(jnp.where(keys, scores, -jnp.inf), -1)
    apart = attention.shape[-2] // expected["attention"].shape[-2]
    queries = real[None, :, None, ::apart, None]
    stored = np.where(queries, expected["attention"], 0)
    found = np.where(queries, attention[..., ::apart, :], 0)
    np.testing.assert_allclose(found, stored, atol=1e-4)
    if "pooler_output" in expected:
        stored = expected["pooler_output"]
        np.testing.assert_allclose(outputs.extras["pooled"], stored, atol=1e-4)
    if name == "classes":
        np.testing.assert_allclose(outputs.logits, expected["logits"], atol=1e-4)
    if name in OF_WORDS:
        stored = expected["logits"][real]
        np.testing.assert_allclose(outputs.logits[real], stored, atol=1e-4)


def test_scores_are_those_of_the_queries_and_keys():
    rows, _ = given("classes")
    outputs = applied(hugging_face.load(FOLDERS["classes"]), rows, classes=3)
    for layer in range(2):
        q, k, v = (outputs.extras[n][layer] for n in ("queries", "keys", "values"))
        assert q.shape == k.shape == v.shape == (2, 20, 16)
        q, k = (np.asarray(x).reshape(2, 20, 2, 8) for x in (q, k))
        scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8)
        np.testing.assert_allclose(outputs.attention[layer], scores, atol=1e-5)


def test_padding_changes_nothing_for_the_other_tokens():
    encoder = hugging_face.load(FOLDERS["mpnet"])
    rows = {n: a[:, :20] for n, a in given("mpnet")[0].items()}
    rows["mask"] = np.ones_like(rows["mask"])
    longer = {n: np.pad(a, ((0, 0), (0, 9))) for n, a in rows.items()}
    longer["tokens"][:, 20:] = 7
    short, padded = (applied(encoder, each) for each in (rows, longer))
    for one, other in zip(short.features, padded.features, strict=True):
        np.testing.assert_allclose(one, other[:, :20], atol=1e-5)
    np.testing.assert_allclose(short.logits, padded.logits, atol=1e-5)


def test_training_mode_drops_with_the_key():
    rows, _ = given("classes")
    model = models.bert(SHAPE, classes=3, dropout=0.5)
    variables = model.init(jax.random.key(0), rows)
    keys = [None, None, *jax.random.split(jax.random.key(1))]
    found = [model.apply(variables, rows, key)[0].logits for key in keys]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2]) and not np.allclose(found[2], found[3])


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_keeps_its_share_and_the_mean(rate):
    x = jnp.ones((33, 1001))
    first, second = (dropped(x, rate, jax.random.key(seed)) for seed in (0, 1))
    kept = first != 0
    error = 4 * (rate * (1 - rate) / x.size) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < error
    np.testing.assert_allclose(first[kept], 1 / (1 - rate), rtol=1e-4)
    # Halves of one draw, and draws of two keys, agree as often as by chance.
    chance = rate**2 + (1 - rate) ** 2
    half = x.size // 2
    halves = kept.ravel()[:half], kept.ravel()[-half:]
    for one, other in (halves, (kept, second != 0)):
        assert abs((one == other).mean() - chance) < 6 / x.size**0.5
    gradients = jax.grad(lambda x: dropped(x, rate, jax.random.key(0)).sum())(x)
    np.testing.assert_array_equal(gradients, first)


def test_words_and_classes_have_the_same_parameters():
    rows, shape = given("classes")[0], replace(SHAPE, word_head=True)
    of_words, of_text = (models.bert(shape, logits=n) for n in ("words", "classes"))
    variables = of_words.init(jax.random.key(0), rows)
    other = of_text.init(jax.random.key(0), rows)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, other)
    assert of_words.apply(variables, rows)[0].logits.shape == (2, 20, 60)
    assert of_text.apply(variables, rows)[0].logits.shape == (2, 2)


def test_padding_may_be_outside_the_vocabulary():
    rows = given("classes")[0]
    other = np.where(rows["mask"] != 0, rows["tokens"], 10_000)
    assert (other != rows["tokens"]).any()
    model = models.bert(SHAPE)
    variables = model.init(jax.random.key(0), rows)
    same, found = (
        model.apply(variables, {**rows, "tokens": tokens})[0].logits
        for tokens in (rows["tokens"], other)
    )
    np.testing.assert_array_equal(found, same)


@needs_minilm
def test_every_other_layer_begins_a_student():
    encoder = hugging_face.load(MINILM)
    half = hugging_face.with_layers(encoder, (0, 2, 4))
    assert half.shape == replace(encoder.shape, layers=3)
    assert half.params["layer1"] is encoder.params["layer2"]
    rows, _ = given("minilm")
    whole, some = applied(encoder, rows), applied(half, rows)
    assert len(some.features) == 4
    np.testing.assert_array_equal(whole.features[1], some.features[1])
    with pytest.raises(ValueError, match="layers has 6, but the encoder has 6"):
        hugging_face.with_layers(encoder, (0, 6))


@needs_minilm
@pytest.mark.parametrize("name", ["classes", "words"])
def test_what_is_saved_has_the_names_and_values_of_transformers(name, tmp_path):
    encoder = hugging_face.load(FOLDERS[name])
    if name == "words":  # which lacks what a classifier needs
        with pytest.raises(ValueError, match="classifier/kernel, pooler/bias"):
            hugging_face.save(tmp_path, encoder)
        assert not list(tmp_path.iterdir())
        for part, width in (("pooler", 16), ("classifier", 3)):
            dense = {"kernel": np.ones((16, width)), "bias": np.zeros(width)}
            encoder.params[part] = dense
    hugging_face.save(tmp_path, encoder, MINILM / "tokenizer.json")
    theirs = load_file(FOLDERS[name] / "model.safetensors")
    ours = load_file(tmp_path / "model.safetensors")
    assert theirs.keys() <= ours.keys()
    for tensor, array in theirs.items():
        np.testing.assert_array_equal(ours[tensor], array)
    config = json.loads((FOLDERS[name] / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    kept = written.keys() - {"architectures", "id2label"}
    assert {n: config[n] for n in kept} == {n: written[n] for n in kept}
    again = hugging_face.load(tmp_path)
    assert again.shape == encoder.shape
    same = jax.tree.map(np.array_equal, again.params, encoder.params)
    assert all(jax.tree.leaves(same))
    before = (tmp_path / "model.safetensors").read_bytes()
    for change in ({"layers": encoder.shape.layers - 1}, {"positions": 64}):
        bad = encoder._replace(shape=replace(encoder.shape, **change))
        with pytest.raises(
            ValueError, match="not fit the shape: (layer|positions/emb)"
        ):
            hugging_face.save(tmp_path, bad)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    copied = (tmp_path / "tokenizer.json").read_bytes()
    assert copied == (MINILM / "tokenizer.json").read_bytes()
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "token_type_ids" in settings["model_input_names"]


def test_a_missing_tokenizer_costs_no_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        encoder = hugging_face.load(FOLDERS["classes"])
        hugging_face.save(tmp_path / "new", encoder, "nowhere.json")
    assert not (tmp_path / "new").exists()


def test_the_form_of_mpnet_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="the only form that can be saved"):
        hugging_face.save(tmp_path, hugging_face.load(FOLDERS["mpnet"]))


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FOLDERS["classes"], tmp_path / "copy"))


def changed(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_old_names_of_normalisation_are_known(folder):
    def rename(tensors):
        for name in list(tensors):
            if "LayerNorm" in name:
                new = name.replace("weight", "gamma").replace("bias", "beta")
                tensors[new] = tensors.pop(name)

    before = hugging_face.load(folder)
    changed(folder, rename)
    same = jax.tree.map(np.array_equal, hugging_face.load(folder), before)
    assert all(jax.tree.leaves(same.params))


def remove(tensors):
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    del tensors["bert.encoder.layer.0.attention.self.key.weight"]


def misshape(tensors):
    tensors["bert.embeddings.word_embeddings.weight"] = np.zeros((59, 16), np.float32)
    tensors["bert.encoder.layer.0.intermediate.dense.weight"] = np.zeros((16, 24))


def add(tensors):
    tensors["bert.encoder.layer.2.output.dense.bias"] = np.zeros(16, np.float32)


def add_head(tensors):
    tensors["classifier.out_proj.weight"] = np.zeros((3, 16), np.float32)


@pytest.mark.parametrize(
    "change, says",
    [
        (
            remove,
            r"layer.0.attention.self.key.weight is missing; "
            r"encoder.layer.1.output.dense.bias is missing",
        ),
        (
            misshape,
            r"word_embeddings.weight has shape \(59, 16\), not \(60, 16\); "
            r"encoder.layer.0.intermediate.dense.weight has shape \(16, 24\), "
            r"not \(24, 16\)",
        ),
        (add, "encoder.layer.2.output.dense.bias has no place"),
        (add_head, "classifier.out_proj.weight has no place"),
    ],
)
def test_tensors_that_do_not_fit_are_named(change, says, folder):
    changed(folder, change)
    with pytest.raises(InvalidCheckpoint, match=says):
        hugging_face.load(folder)


@pytest.mark.parametrize(
    "setting, says",
    [
        ({"model_type": "roberta"}, "model_type is roberta in .* takes bert or mpnet"),
        ({"hidden_act": "relu"}, "hidden_act is relu in .*, but takes gelu"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is"),
        ({"is_decoder": True}, "is_decoder is True in .*, but takes False"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False in"),
        ({"num_hidden_layers": 0}, "layers is 0, but takes at least 1"),
        ({"num_attention_heads": 3}, "heads is 3, but must divide the width, 16"),
    ],
)
def test_settings_that_are_not_supported_are_named(setting, says, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | setting))
    with pytest.raises(ValueError, match=says):
        hugging_face.load(folder)


def test_sizes_that_are_missing_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidCheckpoint, match="config.json lacks hidden_size"):
        hugging_face.load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_a_file_is_no_checkpoint(name, folder):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"no checkpoint: it has no {name}"):
        hugging_face.load(folder)


def test_a_text_longer_than_the_positions_is_refused():
    rows = {n: np.zeros((1, 41), np.int32) for n in ("tokens", "mask", "segments")}
    with pytest.raises(ValueError, match="tokens has 41 places, but .* has 40"):
        models.bert(SHAPE).init(jax.random.key(0), rows)


def test_weights_of_half_precision_are_computed_in_it():
    rows, _ = given("classes")
    model = models.bert(SHAPE)
    variables = model.init(jax.random.key(0), rows)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), variables)
    assert model.apply(half, rows)[0].logits.dtype == jnp.bfloat16


def test_words_need_a_head():
    with pytest.raises(
        ValueError, match="logits is 'word', but takes one of classes, "
    ):
        models.bert(SHAPE, logits="word")
    with pytest.raises(ValueError, match="but the shape has word_head=False"):
        models.bert(SHAPE, logits="words")


def test_masked_words_have_the_logits_of_their_places():
    shape = replace(SHAPE, word_head=True)
    rows = {n: a[:, :9] for n, a in given("classes")[0].items()}
    every, some = (models.bert(shape, logits=n) for n in ("words", "masked_words"))
    variables = some.init(jax.random.key(0), rows)
    expected = every.apply(variables, rows)[0].logits
    places = np.array([[3, 0], [8, 8]])[: len(expected)]
    found = some.apply(variables, {**rows, "places": places})[0].logits
    for i, row in enumerate(places):
        np.testing.assert_allclose(found[i], expected[i, row], atol=1e-5)
