"""A plain PyTorch training loop: one student, Adam, Hinton's loss, validation.

    python benchmarks/torch_loop.py DATA.npz

Reads lines "WIDTH EPOCHS" and prints the seconds that training took. It does not import
kdjax.
"""

import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional

BATCH, TEMPERATURE, ALPHA = 128, 4.0, 0.9


def train(data: dict[str, torch.Tensor], width: int, epochs: int) -> float:
    x, y, teacher_logits = data["x"], data["y"], data["teacher_logits"]
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Linear(784, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 10),
    )
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    began = time.perf_counter()
    for _ in range(epochs):
        order = torch.randperm(len(y))
        for step in range(len(y) // BATCH):
            i = order[step * BATCH : (step + 1) * BATCH]
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
        with torch.no_grad():
            predicted = student(data["validation_x"]).argmax(-1)
            (predicted == data["validation_y"]).float().mean().item()
    return time.perf_counter() - began


def main(path: str) -> None:
    with np.load(path) as arrays:
        data = {name: torch.from_numpy(array) for name, array in arrays.items()}
    data["y"] = data["y"].long()
    print(torch.__version__, torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        width, epochs = map(int, line.split())
        train(data, width, 1)
        print(train(data, width, epochs), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
