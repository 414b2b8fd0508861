"""Generation with transformers, greedily, by a decoder of SmolLM2's sizes.

    python benchmarks/torch_generation.py DATA.npz    # then lines "BATCH TOKENS"

Answers each with the seconds that so many tokens for each text took. It does not import
kdjax.
"""

import time

import torch
import torch_hinton
from transformers import LlamaConfig, LlamaForCausalLM


def main() -> None:
    data = torch_hinton.arrays()
    vocabulary, layers, width, heads, key_heads, inner = data["sizes"].tolist()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()

    def write(batch: str, new: int) -> float:
        prompts = data["tokens"][: int(batch)].long()
        began = time.perf_counter()
        model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            do_sample=False,
            min_new_tokens=new,
            max_new_tokens=new,
        )
        return time.perf_counter() - began

    with torch.inference_mode():
        torch_hinton.serve(write)


if __name__ == "__main__":
    main()
