"""Runs the decoders of transformers, and compares with ``decoders/`` or writes it.

    python -m peers.decoders            # fails on any difference
    python -m peers.decoders --write    # after a new version

Small decoders with random weights are stored as transformers saves them, with what they
give for two texts, and what they write after them by greedy search. The tests of
decoders and of generation compare kdjax with them.
"""

import argparse
from pathlib import Path
import sys

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
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
    if write:
        stored.write(ROOT, found)
    lines = stored.differences(ROOT, found)
    if lines:
        sys.exit("\n".join(["transformers differs from decoders/:", *lines]))
    print(f"{len(found)} decoders give what decoders/ says")


if __name__ == "__main__":
    main()
