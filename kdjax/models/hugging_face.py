"""Encoders in the folders of Hugging Face: ``config.json`` and safetensors.

Nothing is unpickled. A folder written by `save` opens in the package transformers.
"""

from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path
from typing import Any, NamedTuple

from flax.traverse_util import flatten_dict, unflatten_dict
import jax
import numpy as np

from kdjax import files
from kdjax.models.bert import Shape, bert

Sizes = dict[tuple[str, ...], tuple[int, ...]]  # of parameters, by path
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_OLD = {"gamma": "weight", "beta": "bias"}  # of layer normalisation
_LAYERS = {  # of a layer, where the two forms differ
    "bert": {
        "attention": [f"attention.self.{n}" for n in ("query", "key", "value")],
        "attention_out": ["attention.output.dense"],
        "attention_norm": ["attention.output.LayerNorm"],
    },
    "mpnet": {
        "attention": [f"attention.attn.{n}" for n in "qkv"],
        "attention_out": ["attention.attn.o"],
        "attention_norm": ["attention.LayerNorm"],
    },
}
_BOTH = {
    "up": ["intermediate.dense"],
    "down": ["output.dense"],
    "norm": ["output.LayerNorm"],
}
_WORD_HEADS = {
    "bert": ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm"),
    "mpnet": ("lm_head.dense", "lm_head.layer_norm"),
}
_SIZES = (
    *("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings"),
)
# Buffers, copies of tied tensors, and the head of a task that only pretraining has.
_IGNORED = (
    *("embeddings.position_ids", "cls.predictions.decoder.", "lm_head.decoder."),
    "cls.seq_relationship.",
)
_HEADS = ("pooler", "classifier")  # which a checkpoint may lack
_WORD_BIAS = {"bert": "cls.predictions.bias", "mpnet": "lm_head.bias"}


class Pretrained(NamedTuple):
    """An encoder's sizes, and the parameters of it that are there."""

    shape: Shape
    params: dict[str, Any]


class InvalidCheckpoint(ValueError):
    """A folder lacks what an encoder needs, or holds something else."""


def load(folder: str | Path) -> Pretrained:
    """Opens a checkpoint of BERT or MPNet.

    The encoder must be whole. Of the pooler, the classifier and the head for words,
    only those are among the parameters that the checkpoint has.

    Args:
      folder: Contains ``config.json`` and ``model.safetensors``.

    Raises:
      FileNotFoundError: if one of the files is missing.
      InvalidCheckpoint: naming the tensors that are missing, misshapen or unknown, or
        the setting that is not supported.
    """
    from safetensors.numpy import load_file

    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no checkpoint: it has no {name}")
    config, path = json.loads((folder / CONFIG).read_text()), folder / WEIGHTS
    tensors = {_plain(name): array for name, array in load_file(path).items()}
    kind, shape = _read(config, folder / CONFIG, tensors)
    params, wrong = _placed(tensors, shape, kind)
    if wrong:
        raise InvalidCheckpoint(f"{path} does not fit its {CONFIG}: {'; '.join(wrong)}")
    return Pretrained(shape, params)


def save(
    folder: str | Path, trained: Pretrained, tokenizer: str | Path | None = None
) -> None:
    """Writes an encoder with a classifier as ``BertForSequenceClassification``.

    Args:
      folder: Made if necessary. Files of the same names are replaced.
      trained: Its sizes and parameters.
      tokenizer: A ``tokenizer.json`` to copy.

    Raises:
      FileNotFoundError: if there is no such tokenizer.
      ValueError: for other forms, such as MPNet's, which has another classifier there,
        or naming parameters that are missing, unknown or misshaped.
    """
    from safetensors.numpy import save_file

    folder, shape, tensors = Path(folder), trained.shape, {}
    if shape.buckets or shape.first_position or not shape.segments:
        raise ValueError("shape is not BERT's, the only form that can be saved")
    leaves: Any = flatten_dict(trained.params)
    classes = len(leaves.get(("classifier", "bias"), (0, 1)))
    check_parameters(trained.params, _sizes(shape, classes))
    for where, names in _names(shape, "bert"):
        parts = np.split(leaves[where], len(names), -1)
        for name, part in zip(names, parts, strict=True):
            head = name.startswith(("cls.", "classifier."))
            turned = part.T if where[-1] == "kernel" else part
            tensors[name if head else f"bert.{name}"] = np.ascontiguousarray(turned)
    copied = None if tokenizer is None else Path(tokenizer).read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    with files.atomic(folder / WEIGHTS) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    with files.atomic(folder / CONFIG) as path:
        path.write_text(json.dumps(_config(shape, classes), indent=2) + "\n")
    if copied is not None:
        with files.atomic(folder / TOKENIZER) as path:
            path.write_bytes(copied)
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            # By default, the second text of a pair would have the first one's segment.
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        }
        with files.atomic(folder / "tokenizer_config.json") as path:
            path.write_text(json.dumps(settings) + "\n")


def check_parameters(params: Any, sizes: Sizes) -> None:
    """Raises ValueError naming the parameters that are not of these sizes."""
    leaves: Any = flatten_dict(params)
    has = {where: np.shape(leaf) for where, leaf in leaves.items()}
    if wrong := sorted(w for w in {**has, **sizes} if has.get(w) != sizes.get(w)):
        names = ", ".join("/".join(where) for where in wrong)
        raise ValueError(f"the parameters do not fit the shape: {names}")


def _sizes(shape: Shape, classes: int) -> Sizes:
    """The sizes of an encoder's parameters, by path."""
    row = dict.fromkeys(("tokens", "mask", "segments"), np.zeros((1, 2), np.int32))
    drawn = jax.eval_shape(bert(shape, classes=classes).init, jax.random.key(0), row)
    leaves: Any = flatten_dict(drawn["params"])
    return {where: leaf.shape for where, leaf in leaves.items()}


def with_layers(encoder: Pretrained, layers: tuple[int, ...]) -> Pretrained:
    """The encoder with only these of its layers, in this order, as DistilBERT begins.

    Raises:
      ValueError: if it has no such layer.
    """
    for layer in layers:
        if not 0 <= layer < encoder.shape.layers:
            raise ValueError(
                f"layers has {layer}, but the encoder has {encoder.shape.layers}"
            )
    params = {n: p for n, p in encoder.params.items() if not n.startswith("layer")}
    for new, old in enumerate(layers):
        params[f"layer{new}"] = encoder.params[f"layer{old}"]
    return Pretrained(replace(encoder.shape, layers=len(layers)), params)


def _plain(name: str) -> str:
    """The name without the prefix of a model with a head, in its present form."""
    name = name.removeprefix("bert.").removeprefix("mpnet.")
    start, _, last = name.rpartition(".")
    return f"{start}.{_OLD.get(last, last)}"


def _read(config: dict, path: Path, tensors: dict) -> tuple[str, Shape]:
    """The form of a checkpoint, and its sizes."""
    kind = config.get("model_type", "bert")
    supported = {
        "model_type": tuple(_LAYERS),
        "hidden_act": ("gelu",),
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "tie_word_embeddings": (True,),
    }
    check_config(config, path, supported)
    mpnet = kind == "mpnet"
    shape = Shape(
        vocabulary=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        feed_forward=config["intermediate_size"],
        positions=config["max_position_embeddings"],
        first_position=2 if mpnet else 0,
        segments=0 if mpnet else config.get("type_vocab_size", 2),
        buckets=config.get("relative_attention_num_buckets", 32) if mpnet else 0,
        epsilon=config.get("layer_norm_eps", 1e-12),
        word_head=_WORD_BIAS[kind] in tensors,
    )
    return kind, shape


def check_config(config: dict, path: Path, supported: dict[str, tuple]) -> None:
    """Raises `InvalidCheckpoint` for another setting, or if a size is missing.

    Args:
      config: What ``config.json`` says.
      path: This file.
      supported: The values that a setting may have, the first if it is not there.
    """
    for name, known in supported.items():
        if (value := config.get(name, known[0])) not in known:
            takes = " or ".join(map(str, known))
            raise InvalidCheckpoint(f"{name} is {value} in {path}, but takes {takes}")
    if absent := [name for name in _SIZES if name not in config]:
        raise InvalidCheckpoint(f"{path} lacks {', '.join(absent)}")


def _config(shape: Shape, classes: int) -> dict[str, Any]:
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": shape.vocabulary,
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.width,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.feed_forward,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.segments,
        "layer_norm_eps": shape.epsilon,
        "hidden_act": "gelu",
        "id2label": {str(i): f"LABEL_{i}" for i in range(classes)},
    }


def _names(shape: Shape, kind: str) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Paths of our parameters, and the tensors of which each consists."""

    def layer(where: tuple[str, ...], names: list[str], norm: bool) -> Iterator:
        yield (*where, "scale" if norm else "kernel"), [f"{n}.weight" for n in names]
        yield (*where, "bias"), [f"{n}.bias" for n in names]

    embeddings = {
        "words": "embeddings.word_embeddings",
        "positions": "embeddings.position_embeddings",
    }
    if shape.segments:
        embeddings["segments"] = "embeddings.token_type_embeddings"
    if shape.buckets:
        embeddings["relative_positions"] = "encoder.relative_attention_bias"
    for ours, name in embeddings.items():
        yield (ours, "embedding"), [f"{name}.weight"]
    yield from layer(("norm",), ["embeddings.LayerNorm"], True)
    for i in range(shape.layers):
        for part, names in (_LAYERS[kind] | _BOTH).items():
            names = [f"encoder.layer.{i}.{name}" for name in names]
            yield from layer((f"layer{i}", part), names, part.endswith("norm"))
    yield from layer(("pooler",), ["pooler.dense"], False)
    yield from layer(("classifier",), ["classifier"], False)
    if shape.word_head:
        dense, norm = _WORD_HEADS[kind]
        yield from layer(("word_dense",), [dense], False)
        yield from layer(("word_norm",), [norm], True)
        yield ("word_bias",), [_WORD_BIAS[kind]]


def _placed(tensors: dict, shape: Shape, kind: str) -> tuple[dict, list[str]]:
    """The tensors as our parameters, and in words what is wrong with them."""
    classes = len(tensors.get("classifier.weight", (0, 1)))
    expected = _sizes(shape, classes)
    leaves: dict[tuple[str, ...], np.ndarray] = {}
    wrong, known = [], set()
    for where, names in _names(shape, kind):
        known.update(names)
        there = [name for name in names if name in tensors]
        if where[0] in _HEADS and not there:
            continue
        wrong += [f"{name} is missing" for name in names if name not in there]
        sizes = expected[where]
        sizes = (*sizes[:-1], sizes[-1] // len(names))
        sizes = sizes[::-1] if where[-1] == "kernel" else sizes
        bad = [name for name in there if tensors[name].shape != sizes]
        wrong += [f"{n} has shape {tensors[n].shape}, not {sizes}" for n in bad]
        if not bad and len(there) == len(names):
            joined = np.concatenate([tensors[name] for name in names])
            leaf = joined.T if where[-1] == "kernel" else joined
            leaves[where] = np.asarray(leaf, np.float32)
    others = sorted(n for n in tensors.keys() - known if not n.startswith(_IGNORED))
    return unflatten_dict(leaves), wrong + [f"{name} has no place" for name in others]
