"""Decoders in the folders of Hugging Face: Llama and Qwen2, in safetensors.

Nothing is unpickled.
"""

import json
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
import numpy as np

from kdjax import files
from kdjax.models.decoder import DecoderShape, LanguageModel, sizes
from kdjax.models.decoder_files import assembled
from kdjax.models.hugging_face import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    InvalidCheckpoint,
    check_config,
    check_parameters,
)

INDEX = "model.safetensors.index.json"  # of weights in several files
_LAYER = "model.layers.{}."
_NAMES = {
    "words": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "output": "lm_head.weight",
    "layers.attention_norm": _LAYER + "input_layernorm.weight",
    "layers.query": _LAYER + "self_attn.q_proj.weight",
    "layers.key": _LAYER + "self_attn.k_proj.weight",
    "layers.value": _LAYER + "self_attn.v_proj.weight",
    "layers.query_bias": _LAYER + "self_attn.q_proj.bias",
    "layers.key_bias": _LAYER + "self_attn.k_proj.bias",
    "layers.value_bias": _LAYER + "self_attn.v_proj.bias",
    "layers.attention_out": _LAYER + "self_attn.o_proj.weight",
    "layers.norm": _LAYER + "post_attention_layernorm.weight",
    "layers.gate": _LAYER + "mlp.gate_proj.weight",
    "layers.up": _LAYER + "mlp.up_proj.weight",
    "layers.down": _LAYER + "mlp.down_proj.weight",
}
# Settings, and the values with which a checkpoint is what `decoder` computes.
_SUPPORTED: dict[str, tuple] = {
    "model_type": ("llama", "qwen2"),
    "hidden_act": ("silu",),
    "attention_bias": (False,),
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
}
_IGNORED = "rotary_emb.inv_freq"  # a buffer of older checkpoints


def load(folder: str | Path) -> LanguageModel:
    """Opens a checkpoint of Llama or Qwen2, with its weights in float32.

    Args:
      folder: Contains ``config.json`` and ``model.safetensors``, or the files that its
        ``model.safetensors.index.json`` names.

    Raises:
      FileNotFoundError: if one of the files is missing.
      InvalidCheckpoint: naming the tensors that are missing, misshapen or unknown, or
        the setting that is not supported.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint: it has no {CONFIG}")
    shape = _shape(json.loads((folder / CONFIG).read_text()), folder / CONFIG)
    tensors = _tensors(folder)
    found = {
        name: array.shape
        for name, array in tensors.items()
        if not name.endswith(_IGNORED)
    }
    return assembled(folder, shape, _NAMES, found, tensors.__getitem__)


def save(
    folder: str | Path,
    model: LanguageModel,
    tokenizer: Any = None,
    *,
    end: int | None = None,
) -> None:
    """Writes a model that transformers opens: as Qwen2 if it has biases, or as Llama.

    Args:
      folder: Made if necessary. Files of the same names are replaced.
      model: Its sizes and parameters, with any order of ``pairs``.
      tokenizer: A ``tokenizer.json`` to copy, or a Tokenizer of the package tokenizers.
      end: The token that ends a text, at which transformers stops to generate.

    Raises:
      FileNotFoundError: if there is no such tokenizer.
      ValueError: naming the parameters that are missing, misshapen or unknown.
    """
    from safetensors.numpy import save_file

    takes: Any = flatten_dict(sizes(model.shape))
    check_parameters(model.params, takes)
    text = tokenizer
    if isinstance(tokenizer, str | Path):
        text = Path(tokenizer).read_text("utf-8")
    elif tokenizer is not None:
        text = tokenizer.to_str()
    shape, tensors = model.shape, {}
    leaves: Any = flatten_dict(_in_halves(model), sep=".")
    for name, array in leaves.items():
        if name.startswith("layers."):
            parts = {_NAMES[name].format(i): each for i, each in enumerate(array)}
        else:
            parts = {_NAMES[name]: array}
        tensors |= {n: np.ascontiguousarray(part) for n, part in parts.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    written = {CONFIG: json.dumps(_config(shape, end), indent=2) + "\n"}
    if text is not None:
        written[TOKENIZER] = text
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
        written["tokenizer_config.json"] = json.dumps(settings) + "\n"
    for name, content in written.items():
        with files.atomic(folder / name) as path:
            path.write_text(content, "utf-8")


def _in_halves(model: LanguageModel) -> Any:
    """The parameters with the numbers of each head in Hugging Face's order."""
    if model.shape.pairs == "halves":
        return model.params
    half = model.shape.head_width // 2
    order = np.arange(2 * half).reshape(half, 2).T.ravel()

    def turned(array: Any) -> np.ndarray:
        by_head = np.reshape(array, (len(array), -1, 2 * half, *array.shape[2:]))
        return by_head[:, :, order].reshape(array.shape)

    layers = dict(model.params["layers"])
    for name in ("query", "key", "query_bias", "key_bias"):
        if name in layers:
            layers[name] = turned(layers[name])
    return {**model.params, "layers": layers}


def _config(shape: DecoderShape, end: int | None) -> dict[str, Any]:
    family, name = ("qwen2", "Qwen2") if shape.biases else ("llama", "Llama")
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": family,
        "hidden_act": "silu",
        "vocab_size": shape.vocabulary,
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_heads,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rotary_base},
        "rope_theta": shape.rotary_base,  # for transformers before 5
        "tie_word_embeddings": shape.tied,
        "rms_norm_eps": shape.epsilon,
        "bos_token_id": None,
        "eos_token_id": end,
        "dtype": "float32",
    }


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.flax import load_file  # which knows bfloat16, unlike NumPy's

    parts = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text())
        parts = sorted(set(index["weight_map"].values()))
    found = {}
    for part in parts:
        if not (folder / part).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint: it has no {part}")
        found |= load_file(folder / part)
    return found


def _shape(config: dict, path: Path) -> DecoderShape:
    check_config(config, path, _SUPPORTED)
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rotary.get("rope_type", rotary.get("type", "default"))
    if kind != "default":
        raise InvalidCheckpoint(f"rope_type is {kind} in {path}, but takes default")
    width, heads = config["hidden_size"], config["num_attention_heads"]
    if (own := config.get("head_dim") or width // heads) * heads != width:
        raise InvalidCheckpoint(
            f"head_dim is {own} in {path}, but takes {width} / {heads}"
        )
    try:
        return DecoderShape(
            vocabulary=config["vocab_size"],
            layers=config["num_hidden_layers"],
            width=width,
            heads=heads,
            key_heads=config.get("num_key_value_heads") or heads,
            feed_forward=config["intermediate_size"],
            context=config["max_position_embeddings"],
            rotary_base=rotary.get("rope_theta", config.get("rope_theta", 10_000.0)),
            tied=config.get("tie_word_embeddings", False),
            biases=config.get("model_type") == "qwen2",
            epsilon=config.get("rms_norm_eps", 1e-6),
        )
    except ValueError as error:
        raise InvalidCheckpoint(f"{path}: {error}") from error
