"""A network of inverted residual blocks, trained on scikit-learn's digits, and ways to spoil its weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trained import load

import pyqinfer as pq
from pyqinfer.quantization.equalize import find_pairs
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel

_WIDTHS = (16, 16, 24, 24, 32, 32)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = 3 * inputs
        self.expand, self.bn1 = nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.depthwise, self.bn2 = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden)
        self.project, self.bn3 = nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.expand(x)))
        y = self.bn3(self.project(F.relu(self.bn2(self.depthwise(y)))))
        return x + y if self.shortcut else y


class DigitsNet(nn.Module):
    """``[N, 1, 16, 16] -> [N, 10]``, 20,000 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, _WIDTHS[0], 3, padding=1, bias=False), nn.BatchNorm2d(_WIDTHS[0])
        self.blocks = nn.Sequential(*(InvertedResidual(a, b, 1 if a == b else 2) for a, b in pairwise(_WIDTHS)))
        self.fc = nn.Linear(_WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(F.relu(self.bn(self.stem(x)))).mean((2, 3)))


@cache
def data(split: str) -> tuple[Tensor, Tensor]:
    """Digits enlarged to ``[N, 1, 16, 16]``, and labels."""
    images, labels = pq.zoo.digits(split)
    return F.interpolate(torch.from_numpy(images), size=16, mode="bilinear"), torch.from_numpy(labels)


@cache
def trained() -> DigitsNet:
    """The trained network in evaluation mode, 99.4 % right on the test images. Tests must leave it as it is."""
    return load("digits_net", DigitsNet())


def accuracy(model: Callable[[Tensor], Tensor]) -> float:
    """Top-1 in per cent on the test images."""
    images, labels = data("test")
    with torch.no_grad():
        return 100 * float((model(images).argmax(1) == labels).double().mean())


def folded(model: nn.Module) -> TracedModel:
    """The model traced, with BatchNorm folded."""
    traced = TracedModel(model, (data("train")[0][:2],))
    fold_batch_norm(traced)
    return traced


def imbalance(traced: TracedModel, seed: int = 0, decades: float = 1.5) -> None:
    """Scale the channels between layers by random factors ``10^U(-decades, decades)``; the network stays the same function."""
    generator = torch.Generator().manual_seed(seed)
    for pair in find_pairs(traced):
        first, second = (next(layer for layer in traced.layers if layer.name == p.name) for p in (pair.first, pair.second))
        s = 10 ** ((2 * torch.rand(len(first.weight), generator=generator) - 1) * decades)
        traced.replace_weight(first, first.weight * s.reshape(-1, 1, 1, 1))
        bias = traced.bias(first)
        assert bias is not None
        traced.replace_bias(first, bias * s)
        depthwise = second.weight.shape[1] == 1 and len(s) > 1
        shape = (-1, 1, 1, 1) if depthwise else (1, -1, *[1] * (second.weight.ndim - 2))
        traced.replace_weight(second, second.weight / s.reshape(shape))


def with_rounded_weights(traced: TracedModel, bits: int, per_channel: bool) -> TracedModel:
    """A copy whose weights are symmetric codes of the largest magnitude's range, as floats; activations stay float."""
    copy = traced.copy()
    top = 2 ** (bits - 1) - 1
    for layer in copy.layers:
        rows = layer.weight.flatten(1)
        largest = rows.abs().amax(1, keepdim=True) if per_channel else rows.abs().max().reshape(1, 1)
        scale = largest.clamp_min(1e-12) / top
        copy.replace_weight(layer, ((rows / scale).round().clamp(-top, top) * scale).reshape(layer.weight.shape))
    return copy


def run(traced: TracedModel) -> Callable[[Tensor], Tensor]:
    traced.module.recompile()
    return traced.module
