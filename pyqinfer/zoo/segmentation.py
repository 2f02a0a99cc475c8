"""U-Net (Ronneberger et al. 2015, arXiv 1505.04597) with padded convolutions and BatchNorm, so that the mask is as large as the image."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

UPSAMPLINGS = ("bilinear", "nearest", "transposed")


def _double_conv(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Up(nn.Module):
    """Doubles height and width, puts the encoder's map of that size in front, and convolves: ``inputs`` to ``outputs`` channels."""

    def __init__(self, inputs: int, skip: int, outputs: int, upsampling: str) -> None:
        super().__init__()
        self.up: nn.Module
        if upsampling == "transposed":
            self.up, inputs = nn.ConvTranspose2d(inputs, inputs // 2, 2, stride=2), inputs // 2
        elif upsampling == "bilinear":
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.conv = _double_conv(skip + inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], dim=1))  # type: ignore[no-any-return]


class UNet(nn.Module):
    """``[N, C, H, W] -> [N, num_classes, H, W]``; H and W are multiples of ``2^depth``."""

    def __init__(self, num_classes: int, in_channels: int, width: int, depth: int, upsampling: str) -> None:
        super().__init__()
        if upsampling not in UPSAMPLINGS:
            raise ValueError(f"upsampling: expected one of {', '.join(UPSAMPLINGS)}, got {upsampling!r}")
        widths = [width << i for i in range(depth + 1)]
        self.stem = _double_conv(in_channels, width)
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(_double_conv(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Up(b, a, a, upsampling) for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for down in self.down:
            maps.append(down(self.pool(maps[-1])))
        y = maps.pop()
        for up in self.up:
            y = up(y, maps.pop())
        return self.head(y)  # type: ignore[no-any-return]


def unet(num_classes: int = 2, in_channels: int = 3, width: int = 32, depth: int = 4, upsampling: str = "bilinear") -> UNet:
    """U-Net with ``width`` channels at full size and twice as many after each of ``depth`` poolings.

    Args:
        upsampling: "bilinear" or "nearest" in front of the convolutions, or "transposed" convolutions of stride 2 that halve the channels.

    Raises:
        ValueError: another kind of upsampling.
    """
    return UNet(num_classes, in_channels, width, depth, upsampling)
