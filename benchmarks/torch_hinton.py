"""What PyTorch's loops share: Hinton's loss, steps, and the answers to requests."""

from collections.abc import Callable, Iterator
from functools import cache
import sys
import time

import numpy as np
import torch
from torch.nn import functional

Data = dict[str, torch.Tensor]
Begun = tuple[torch.optim.Optimizer, Callable[[], torch.Tensor]]


def loss(
    logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    soft = functional.kl_div(
        functional.log_softmax(logits / temperature, -1),
        functional.log_softmax(teacher_logits / temperature, -1),
        reduction="batchmean",
        log_target=True,
    )
    hard = functional.cross_entropy(logits, labels)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def arrays() -> Data:
    """The arrays of the file that the command line names."""
    with np.load(sys.argv[1]) as found:
        return {name: torch.from_numpy(array) for name, array in found.items()}


def batches(examples: int, size: int) -> Iterator[torch.Tensor]:
    """The places of whole batches, shuffled anew in each epoch."""
    while True:
        yield from torch.randperm(examples).split(size)[: examples // size]


def training(begin: Callable[[str], Begun]) -> Callable[[str, int], float]:
    """Trains students for some steps and returns the seconds, for `serve`.

    Args:
      begin: ``begin(name)`` makes a student, once: its optimizer, and a function that
        returns the loss of the next batch.
    """
    begun = cache(begin)

    def train(name: str, steps: int) -> float:
        optimizer, next_loss = begun(name)
        began = time.perf_counter()
        for _ in range(steps):
            loss = next_loss()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return time.perf_counter() - began

    return train


def serve(seconds: Callable[[str, int], float]) -> None:
    """Answers each line "NAME STEPS" with the seconds that these steps take, warm."""
    print(torch.__version__, torch.get_num_threads(), flush=True)
    torch.manual_seed(0)
    warm = cache(lambda name: seconds(name, 3))
    for line in sys.stdin:
        name, steps = line.split()
        warm(name)
        print(seconds(name, int(steps)), flush=True)
