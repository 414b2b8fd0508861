"""What PyTorch's loops share: Hinton's loss, and the answers to requests."""

from collections.abc import Callable
import sys

import numpy as np
import torch
from torch.nn import functional

Data = dict[str, torch.Tensor]


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


def serve(train: Callable[[Data, str, int], float], data: Data) -> None:
    """Answers each line "STUDENT STEPS" with the seconds that these steps take."""
    print(torch.__version__, torch.get_num_threads(), flush=True)
    for line in sys.stdin:
        name, steps = line.split()
        train(data, name, 3)
        print(train(data, name, int(steps)), flush=True)
