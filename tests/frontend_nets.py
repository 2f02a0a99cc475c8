"""Networks that the tests of frontends share: ResNet-18's parts at 64x64, and a multilayer perceptron."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer import zoo


class Block(nn.Module):
    """A residual block whose activations are functions: torchao's X86 quantizer refuses a ReLU module that is called twice."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.an = nn.BatchNorm2d(width)
        self.b = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.down = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.b(F.relu(self.an(self.a(x)))))
        return F.relu(y + (x if self.down is None else self.down(x)))


class SmallResNet(nn.Module):
    """7x7 stem, max-pool, blocks with and without projection, pool, linear; 8 convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 7, 2, 3, bias=False), nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1))
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(F.relu(self.bn(self.stem(x))), 3, 2, 1)
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.blocks(y), 1), 1))


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return zoo.randomize_batchnorm(SmallResNet(), 0)


def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 4)).eval()


# For each name: the network in evaluation mode, and the shape of its input.
FAMILIES = {"resnet": (resnet, (2, 3, 64, 64)), "mlp": (mlp, (8, 64))}
