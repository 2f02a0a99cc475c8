"""The whole networks of tests/test_networks.py: small ones of every family, and the sizes that people run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pyqinfer import zoo


class TwoHeaded(nn.Module):
    """ResNet-20's trunk with a classifier and a map of scores that share it."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = zoo.resnet20(num_classes=10)
        self.scores = nn.Conv2d(64, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        t = self.trunk
        y = t.layer3(t.layer2(t.layer1(torch.relu(t.bn1(t.conv1(x))))))
        return t.fc(torch.flatten(t.avgpool(y), 1)), self.scores(y)


@dataclass(frozen=True)
class Network:
    """A network to test, and with what.

    Args:
        size: height and width of the images in a session's first run.
        other: height and width in the session's second run; None where the network takes one size only.
        share: the least share of MACs that PTQ must leave in integers.
    """

    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, int]
    other: tuple[int, int] | None = None
    share: float = 0.99

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        model = self.build()
        if not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
            return model.eval()
        return zoo.randomize_batchnorm(model, 0, images=torch.randn(8, 3, *self.size))

    def images(self, count: int, size: tuple[int, int] | None = None) -> Tensor:
        return torch.randn(count, 3, *(size or self.size), generator=torch.Generator().manual_seed(1))


SMALL = [
    Network("resnet20", zoo.resnet20, (32, 32), (24, 40)),
    Network("resnet18", lambda: zoo.resnet18(10), (24, 24), (48, 40)),
    Network("resnet50", lambda: zoo.resnet50(10), (24, 24), (33, 31)),
    Network("mobilenet_v2", lambda: zoo.mobilenet_v2(10), (32, 32), (48, 33)),
    Network("two_headed", TwoHeaded, (20, 28), (24, 16)),
    Network("unet-bilinear", lambda: zoo.unet(width=8, depth=2), (20, 28), (24, 12)),
    Network("unet-nearest", lambda: zoo.unet(width=8, depth=2, upsampling="nearest"), (20, 28), (24, 12)),
    Network("unet-transposed", lambda: zoo.unet(width=8, depth=2, upsampling="transposed"), (20, 28), (24, 12)),
    Network("vit", lambda: zoo.vit_small(10, 32, 8, 2, 48, 4), (32, 32)),
]
LARGE = [
    Network("resnet18-224", zoo.resnet18, (224, 224), (160, 192)),
    Network("resnet50-224", zoo.resnet50, (224, 224), (160, 192)),
    Network("mobilenet_v2-224", zoo.mobilenet_v2, (224, 224), (160, 192)),
    Network("unet-224", lambda: zoo.unet(width=16), (224, 224), (160, 192)),
    Network("vit_small-224", zoo.vit_small, (224, 224)),
]
