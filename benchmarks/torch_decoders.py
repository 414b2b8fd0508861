"""A PyTorch loop for language models: fused AdamW, Hinton's loss, a live teacher.

    python benchmarks/torch_decoders.py DATA.npz    # then lines "STUDENT STEPS"

Answers each with the seconds that these steps took. It does not import kdjax.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional
import torch_hinton

# Vocabulary, layers, width, heads of queries and of keys, hidden units: of each student
# and of its teacher; then texts of a batch and tokens of each.
STUDENTS = {
    "2x128": ((4096, 2, 128, 4, 4, 344), (4096, 4, 256, 8, 8, 680), 64, 48),
    "10x576": ((49152, 10, 576, 9, 3, 1536), (49152, 30, 576, 9, 3, 1536), 8, 64),
}
ALPHA = 0.5


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int, inner: int):
        super().__init__()
        self.heads, self.key_heads, self.size = heads, key_heads, width // heads
        self.attention_norm, self.norm = nn.RMSNorm(width), nn.RMSNorm(width)
        narrow = key_heads * self.size
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, narrow, bias=False)
        self.value = nn.Linear(width, narrow, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(*x.shape[:2], -1, self.size).transpose(1, 2)

    def forward(self, x: torch.Tensor, turn: tuple[torch.Tensor, ...]) -> torch.Tensor:
        y = self.attention_norm(x)
        queries, keys = (
            rotated(self.split(project(y)), *turn) for project in (self.query, self.key)
        )
        context = functional.scaled_dot_product_attention(
            queries,
            keys,
            self.split(self.value(y)),
            is_causal=True,
            enable_gqa=self.heads != self.key_heads,
        )
        x = x + self.attention_out(context.transpose(1, 2).reshape(x.shape))
        y = self.norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


def rotated(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return x * cosine + torch.cat([-b, a], -1) * sine


class Decoder(nn.Module):
    def __init__(self, vocabulary, layers, width, heads, key_heads, inner):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        each = width, heads, key_heads, inner
        self.layers = nn.ModuleList(Layer(*each) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        half = width // heads // 2
        self.register_buffer("speeds", 10_000.0 ** (-torch.arange(half) / half))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        angles = torch.arange(tokens.shape[1])[:, None] * self.speeds
        angles = torch.cat([angles, angles], -1)
        turn = angles.cos(), angles.sin()
        x = self.words(tokens)
        for layer in self.layers:
            x = layer(x, turn)
        x = x[:, :-1].flatten(0, 1)  # nothing is to be predicted at the last place
        return functional.linear(self.norm(x), self.words.weight).log_softmax(-1)


def begin(data: torch_hinton.Data, name: str) -> torch_hinton.Begun:
    own, taught, texts, length = STUDENTS[name]
    student, teacher = Decoder(*own), Decoder(*taught).requires_grad_(False)
    tokens = data["tokens"][:, :length] % own[0]
    rows = torch_hinton.batches(len(tokens), texts)

    def next_loss() -> torch.Tensor:
        batch = tokens[next(rows)]
        with torch.no_grad():
            soft = teacher(batch)
        log_q = student(batch)
        hard = functional.nll_loss(log_q, batch[:, 1:].flatten())
        given = {"reduction": "batchmean", "log_target": True}
        return ALPHA * functional.kl_div(log_q, soft, **given) + (1 - ALPHA) * hard

    return torch.optim.AdamW(student.parameters(), 1e-4, fused=True), next_loss


def main() -> None:
    data = torch_hinton.arrays()
    data["tokens"] = data["tokens"].long()
    torch_hinton.serve(torch_hinton.training(partial(begin, data)))


if __name__ == "__main__":
    main()
