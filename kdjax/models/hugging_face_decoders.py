"""Decoders in the folders of Hugging Face: Llama and Qwen2, in safetensors.

Nothing is unpickled.
"""

from collections.abc import Iterator
import json
from pathlib import Path
from typing import Any

import numpy as np

from kdjax.models.decoder import DecoderShape, LanguageModel, sizes
from kdjax.models.hugging_face import CONFIG, WEIGHTS, InvalidCheckpoint, check_config

INDEX = "model.safetensors.index.json"  # of weights in several files
_LAYER = {
    "attention_norm": "input_layernorm.weight",
    "query": "self_attn.q_proj.weight",
    "key": "self_attn.k_proj.weight",
    "value": "self_attn.v_proj.weight",
    "query_bias": "self_attn.q_proj.bias",
    "key_bias": "self_attn.k_proj.bias",
    "value_bias": "self_attn.v_proj.bias",
    "attention_out": "self_attn.o_proj.weight",
    "norm": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}
_WHOLE = {
    "words": "model.embed_tokens.weight",
    "norm": "model.norm.weight",
    "output": "lm_head.weight",
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
    params: dict[str, Any] = {"layers": {}}
    wrong, known = [], set()
    whole = sizes(shape)
    for where, names, size in _places(shape, whole):
        known.update(names)
        missing = [name for name in names if name not in tensors]
        wrong += [f"{name} is missing" for name in missing]
        bad = [n for n in names if n in tensors and tensors[n].shape != size]
        wrong += [f"{n} has shape {tensors[n].shape}, not {size}" for n in bad]
        if missing or bad:
            continue
        if len(where) == 2:
            params["layers"][where[1]] = np.stack([tensors[name] for name in names])
        else:
            params[where[0]] = tensors[names[0]]
    if shape.tied:
        known.add(_WHOLE["output"])  # a copy
    others = sorted(n for n in tensors.keys() - known if not n.endswith(_IGNORED))
    wrong += [f"{name} has no place" for name in others]
    if wrong:
        raise InvalidCheckpoint(
            f"{folder} does not fit its {CONFIG}: {'; '.join(wrong)}"
        )
    return LanguageModel(shape, params)


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.flax import load_file  # which knows bfloat16, unlike NumPy's

    parts = [WEIGHTS]
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text())
        parts = sorted(set(index["weight_map"].values()))
    found = {}
    for part in parts:
        if not (folder / part).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint: it has no {part}")
        found |= load_file(folder / part)
    return {name: np.asarray(array, np.float32) for name, array in found.items()}


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


def _places(
    shape: DecoderShape, whole: dict[str, Any]
) -> Iterator[tuple[tuple[str, ...], list[str], tuple[int, ...]]]:
    """Paths of our parameters, the tensors of which each consists, and their shape."""
    for ours, name in _WHOLE.items():
        if ours in whole:
            yield (ours,), [name], whole[ours]
    for ours, size in whole["layers"].items():
        every = range(shape.layers)
        names = [f"model.layers.{i}.{_LAYER[ours]}" for i in every]
        yield ("layers", ours), names, size[1:]
