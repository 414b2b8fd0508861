"""The loop that a PyTorch user writes: one student, Adam, Hinton's loss.

    python benchmarks/torch_loop.py DATA.npz    # then a line "WIDTH STEPS" a request

Answers each with the seconds that these steps took. It imports nothing of kdjax.
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH, TEMPERATURE, ALPHA = 128, 4.0, 0.9


def train(x, y, teacher_logits, width: int, steps: int) -> float:
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    per_epoch = len(y) // BATCH
    began = time.perf_counter()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(y))
        i = order[step % per_epoch * BATCH :][:BATCH]
        logits = student(x[i])
        soft = functional.kl_div(
            functional.log_softmax(logits / TEMPERATURE, -1),
            functional.log_softmax(teacher_logits[i] / TEMPERATURE, -1),
            reduction="batchmean",
            log_target=True,
        )
        hard = functional.cross_entropy(logits, y[i])
        loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()
    return time.perf_counter() - began


def main(path: str) -> None:
    with np.load(path) as data:
        x, y, teacher_logits = (
            torch.from_numpy(data[n]) for n in ("x", "y", "teacher_logits")
        )
    print(torch.__version__, torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        width, steps = map(int, line.split())
        train(x, y.long(), teacher_logits, width, 20)
        print(train(x, y.long(), teacher_logits, width, steps), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
