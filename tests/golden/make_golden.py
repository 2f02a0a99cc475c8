"""Makes the golden files of the current format version. Run once per version; files of released versions are never made again.

    python tests/golden/make_golden.py

Each file carries sample inputs and the outputs that the reference gave; `SHA256SUMS` holds the files' hashes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

import pyqinfer as pq

HERE = Path(__file__).resolve().parent
VERSION = "1.1"


class Everything(nn.Module):
    """One of each op of a ResNet: strides, padding, groups, depthwise, residual, pools, float and quantized parts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU6())
        self.grouped = nn.Sequential(nn.Conv2d(8, 16, 3, 1, 2, dilation=2, groups=2), nn.ReLU())
        self.left = nn.Conv2d(16, 12, 1, 2)
        self.right = nn.Conv2d(16, 12, 3, 2, 1)
        self.pool = nn.AvgPool2d(2, ceil_mode=True)
        self.head = nn.Linear(12, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.grouped(self.depthwise(self.stem(x)))
        x = torch.relu(self.left(x) + self.right(x))
        return self.head(self.pool(x).mean((2, 3)))


class Skip(nn.Module):
    """A U-Net of one level, whose heights and widths have to be even."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(11, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = torch.relu(self.down(nn.functional.max_pool2d(x, 2)))
        return self.up(torch.cat([x, nn.functional.interpolate(small, scale_factor=2.0)], 1))


def main() -> None:
    """Makes what version 1.1 added: entropy-coded trits, of a network most of whose weights are zeros, and conditions on sizes."""
    make_sparse()
    make_conditions()


def make_conditions() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 14)
    quantized = pq.quantize(Skip().eval(), pq.PTQ(), example_inputs=(x,), calibration=[(x,)], dynamic_size=True)
    save(pq.convert(quantized, example_inputs=(x,), samples=2), f"v{VERSION}-conditions.pqi")


def save(model: pq.Model, name: str) -> None:
    path = HERE / name
    model.save(path)
    sums = HERE / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")


def make_sparse() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 37, 29)
    model = Everything()
    pq.zoo.randomize_batchnorm(model, seed=0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data[parameter.abs() < parameter.abs().quantile(0.85)] = 0
    method = pq.PTQ(weight_bits="ternary", first_last=None)
    quantized = pq.quantize(model.eval(), method, example_inputs=(x,), calibration=[(x,)])
    save(pq.convert(quantized, example_inputs=(x,), samples=2), f"v{VERSION}-sparse-ternary-a8.pqi")


if __name__ == "__main__":
    main()
