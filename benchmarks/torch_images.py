"""A PyTorch user's loop for images: one student, SGD, Hinton's loss, channels last.

    python benchmarks/torch_images.py DATA.npz    # then a line "MODEL STEPS" a request

Answers each with the seconds that these steps took. It does not import kdjax.
"""

from functools import partial

import torch
from torch import nn
from torch.nn import functional
import torch_hinton

BATCH, TEMPERATURE, ALPHA = 128, 4.0, 0.9


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm0(self.conv0(x)))
        y = self.norm1(self.conv1(y))
        if y.shape != x.shape:
            more = (y.shape[1] - x.shape[1]) // 2
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
        return functional.relu(y + x)


def resnet(depth: int) -> nn.Module:
    widths = (16, 16, 32, 64)
    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            first = block == 0
            inputs = widths[stage - 1] if first else widths[stage]
            layers.append(Block(inputs, widths[stage], 2 if first and stage > 1 else 1))
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)
    )


def plain2() -> nn.Module:
    layers = []
    for inputs in (3, 16):
        layers += [nn.Conv2d(inputs, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1024, 10))


MODELS = {
    "plain-2": plain2,
    "resnet-8": lambda: resnet(8),
    "resnet-20": lambda: resnet(20),
}


def begin(data: torch_hinton.Data, name: str) -> torch_hinton.Begun:
    student = MODELS[name]().to(memory_format=torch.channels_last)
    rows = torch_hinton.batches(len(data["y"]), BATCH)

    def next_loss() -> torch.Tensor:
        i = next(rows)
        logits = student(data["x"][i].contiguous(memory_format=torch.channels_last))
        soft = data["teacher_logits"][i]
        return torch_hinton.loss(logits, soft, data["y"][i], TEMPERATURE, ALPHA)

    return torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9), next_loss


def main() -> None:
    data = torch_hinton.arrays()
    data["x"] = data["x"].movedim(-1, 1).contiguous(memory_format=torch.channels_last)
    data["y"] = data["y"].long()
    torch_hinton.serve(torch_hinton.training(partial(begin, data)))


if __name__ == "__main__":
    main()
