"""Residual networks with torchvision's layer names and parameter shapes, so that its state dicts load.

ResNet-18 and ResNet-50 follow He et al. 2016 (arXiv 1512.03385); ResNet-50 is "v1.5": the stride of a bottleneck sits in its
3x3 convolution. ResNet-20 is the CIFAR network of the same paper (3x3 stem, three stages), with the same names and with
1x1 projections where the shape changes (the paper's option B): a projection is a convolution, so all of it can be quantized.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, flatten, nn


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: ``[N, inputs, H, W] -> [N, width, H/stride, W/stride]``."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut: ``[N, inputs, H, W] -> [N, 4*width, H/stride, W/stride]``."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, width * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, width * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


def _stage(block: type[BasicBlock | Bottleneck], inputs: int, width: int, depth: int, stride: int) -> nn.Sequential:
    first = block(inputs, width, stride)
    return nn.Sequential(first, *(block(width * block.expansion, width, 1) for _ in range(depth - 1)))


def _he_init(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class ImageNetResNet(nn.Module):
    """7x7 stem, max-pool, four stages: ``[N, 3, H, W] -> [N, num_classes]``."""

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(3, 64, 7, 2)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        e = block.expansion
        self.layer1 = _stage(block, 64, 64, depths[0], 1)
        self.layer2 = _stage(block, 64 * e, 128, depths[1], 2)
        self.layer3 = _stage(block, 128 * e, 256, depths[2], 2)
        self.layer4 = _stage(block, 256 * e, 512, depths[3], 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512 * e, num_classes)
        _he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


class SmallImageResNet(nn.Module):
    """3x3 stem and three stages of basic blocks, for images of about 8x8 to 64x64: ``[N, C, H, W] -> [N, num_classes]``."""

    def __init__(self, width: int, depth: int, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(BasicBlock, width, width, depth, 1)
        self.layer2 = _stage(BasicBlock, width, 2 * width, depth, 2)
        self.layer3 = _stage(BasicBlock, 2 * width, 4 * width, depth, 2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(4 * width, num_classes)
        _he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(flatten(self.avgpool(x), 1))  # type: ignore[no-any-return]


def resnet18(num_classes: int = 1000) -> ImageNetResNet:
    """ResNet-18: 11,689,512 parameters and 1,814,073,344 MACs at 224x224 (1000 classes)."""
    return ImageNetResNet(BasicBlock, (2, 2, 2, 2), num_classes)


def resnet50(num_classes: int = 1000) -> ImageNetResNet:
    """ResNet-50 v1.5: 25,557,032 parameters and 4,089,184,256 MACs at 224x224 (1000 classes)."""
    return ImageNetResNet(Bottleneck, (3, 4, 6, 3), num_classes)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> SmallImageResNet:
    """ResNet-20 for small images: stages of 16, 32 and 64 channels, three basic blocks each."""
    return SmallImageResNet(16, 3, in_channels, num_classes)


def resnet20_wide(num_classes: int = 10, in_channels: int = 3) -> SmallImageResNet:
    """ResNet-20 of double width: 32, 64 and 128 channels."""
    return SmallImageResNet(32, 3, in_channels, num_classes)
