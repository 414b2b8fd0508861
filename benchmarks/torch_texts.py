"""A PyTorch user's loop for texts: one encoder, fused AdamW, Hinton's loss.

    python benchmarks/torch_texts.py DATA.npz    # then a line "STUDENT STEPS" a request

Answers each with the seconds that these steps took. It does not import kdjax.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional
import torch_hinton

BATCH, TEMPERATURE, ALPHA, DROPOUT = 32, 4.0, 0.5, 0.1
STUDENTS = {"2x128": (2, 128, 4), "4x192": (4, 192, 12), "6x384": (6, 384, 12)}


class Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, 1e-12)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        texts, length, width = x.shape
        by_head = self.attention(x).view(texts, length, 3, self.heads, -1)
        queries, keys, values = by_head.permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen, dropout_p=DROPOUT
        )
        context = context.transpose(1, 2).reshape(texts, length, width)
        x = self.attention_norm(x + self.drop(self.attention_out(context)))
        return self.norm(x + self.drop(self.down(functional.gelu(self.up(x)))))


class Encoder(nn.Module):
    def __init__(self, vocabulary: int, layers: int, width: int, heads: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(512, width)
        self.segments = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, 1e-12)
        self.drop = nn.Dropout(DROPOUT)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.pooler = nn.Linear(width, width)
        self.classifier = nn.Linear(width, 2)

    def forward(self, tokens, mask, segments) -> torch.Tensor:
        x = self.words(tokens) + self.segments(segments)
        x = self.drop(self.norm(x + self.positions.weight[: tokens.shape[1]]))
        seen = mask[:, None, None, :] != 0
        for layer in self.layers:
            x = layer(x, seen)
        return self.classifier(self.drop(torch.tanh(self.pooler(x[:, 0]))))


def begin(data: torch_hinton.Data, name: str) -> torch_hinton.Begun:
    student = Encoder(int(data["vocabulary"]), *STUDENTS[name])
    rows = torch_hinton.batches(len(data["label"]), BATCH)

    def next_loss() -> torch.Tensor:
        i = next(rows)
        logits = student(data["tokens"][i], data["mask"][i], data["segments"][i])
        soft, label = data["teacher_logits"][i], data["label"][i]
        return torch_hinton.loss(logits, soft, label, TEMPERATURE, ALPHA)

    return torch.optim.AdamW(student.parameters(), 1e-4, fused=True), next_loss


def main() -> None:
    data = torch_hinton.arrays()
    for name in ("tokens", "segments", "label"):
        data[name] = data[name].long()
    torch_hinton.serve(torch_hinton.training(partial(begin, data)))


if __name__ == "__main__":
    main()
