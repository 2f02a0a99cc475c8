"""Cross-layer equalization (Nagel et al. 2019, arXiv 1906.04721): the ranges of two neighbouring layers' channels made equal.

Between layers A and B joined by a function with ``f(s*x) = s*f(x)`` for ``s > 0``, channel i of A's output may be divided by any
``s_i > 0`` if B's input channel i is multiplied by it. With ``r1_i`` the largest magnitude among A's weights of output channel i and
``r2_i`` that among B's weights of input channel i, ``s_i = sqrt(r1_i / r2_i)`` makes both ``sqrt(r1_i * r2_i)``. A depthwise layer is
B of one pair and A of the next, so sweeps over all pairs are repeated until nothing moves.

ReLU6 does not scale, and the engine's epilogue has one upper bound for all channels, not ``6/s_i`` for each. Where calibration shows
that the bound hardly ever acts it is replaced by ReLU; otherwise the pair is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.fx import Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer.quantization.aten_traits import Kind, Scaling, op_name, traits_of
from pyqinfer.quantization.calibrate import calibrate
from pyqinfer.quantization.graph import Layer, TracedModel, operand, sole_user

_SWEEPS = 20
_CONVERGED = 1e-3
# A bound may go if what it cuts off has at most this share of its output's energy: one per cent of the root mean square.
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Pair:
    """``second`` is the only reader of ``first``'s output, behind functions among which ``bounds`` are ReLU6 or alike."""

    first: Layer
    second: Layer
    bounds: tuple[Node, ...]
    spread: int  # how many inputs of ``second`` one channel makes: 1, or the pixels of a channel where images were flattened


@dataclass(frozen=True)
class Equalization:
    """What was done: names of the pairs equalized and skipped, how many bounds became ReLU, and after how many sweeps nothing moved.

    ``divisors``: by which number, float64 [channels], each output channel of a layer was divided, for the layers where any was.
    """

    pairs: tuple[tuple[str, str], ...]
    skipped: tuple[tuple[str, str], ...]
    replaced: int
    sweeps: int
    divisors: Mapping[str, Tensor] = field(default_factory=dict)


def find_pairs(traced: TracedModel) -> list[Pair]:
    """Pairs in execution order. BatchNorm stands between layers: fold it first."""
    layers = {layer.node: layer for layer in traced.layers}
    found = (_pair(layer, layers) for layer in layers.values())
    return [pair for pair in found if pair is not None]


def equalize(traced: TracedModel, acting: Collection[str]) -> Equalization:
    """Equalize every pair of a traced model with folded BatchNorm; its outputs change by rounding and by what replaced bounds cut off.

    Args:
        acting: see `acting_bounds`; pairs around one of them are skipped.
    """
    pairs = find_pairs(traced)
    chosen = [pair for pair in pairs if not any(bound.name in acting for bound in pair.bounds)]
    replaced = {bound for pair in chosen for bound in pair.bounds}
    for bound in replaced:
        bound.target, bound.args, bound.kwargs = torch.ops.aten.relu.default, (operand(bound),), {}
    peaks = _peaks(chosen)
    divisors = {pair.first.name: torch.ones(len(pair.first.weight), dtype=torch.float64) for pair in chosen}
    sweeps = 0
    while sweeps < _SWEEPS and _sweep(chosen, peaks, divisors) >= _CONVERGED:
        sweeps += 1
    _apply(traced, chosen, divisors)
    skipped = [pair for pair in pairs if pair not in chosen]
    return Equalization(_names(chosen), _names(skipped), len(replaced), sweeps, divisors)


def _pair(first: Layer, layers: dict[Node, Layer]) -> Pair | None:
    bounds: list[Node] = []
    spread = 1
    node = first.node
    images = first.op != "linear"
    while (reader := sole_user(node)) is not None:
        traits = traits_of(reader)
        if traits.kind is Kind.LAYER:
            second = layers.get(reader)
            if second is None or operand(reader) is not node or (second.op == "linear") == images:
                return None
            return Pair(first, second, tuple(bounds), spread)
        if traits.bounded:
            if _upper_bound(reader) is None:
                return None
            bounds.append(reader)
        elif traits.flattens and images:
            shape, flat = node.meta["val"].shape, reader.meta["val"].shape
            if not all(map(is_concrete_int, (*shape[1:], *flat[1:]))):
                return None
            pixels = math.prod(shape[2:])
            if len(flat) != 2 or flat[1] != shape[1] * pixels:
                return None
            images, spread = False, int(pixels)
        elif op_name(reader) == "mean" and images:
            if not _over_pixels(reader):
                return None
            images = reader.meta["val"].ndim > 2
        elif traits.scaling is Scaling.NO or (traits.scaling is Scaling.IMAGES and not images):
            return None
        node = reader
    return None


def _over_pixels(mean: Node) -> bool:
    """Whether a mean is taken over all spatial axes of images: [N, C, H, W] to [N, C] or [N, C, 1, 1]."""
    rank = operand(mean).meta["val"].ndim
    axes = mean.args[1] if len(mean.args) > 1 else None
    return isinstance(axes, (list, tuple)) and sorted(int(a) % rank for a in axes) == list(range(2, rank))


def _upper_bound(node: Node) -> float | None:
    """What a bounded activation lets through at most, 6 for ReLU6; None if its lower bound is not 0."""
    if op_name(node) == "relu6":
        return 6.0
    low, high = [*node.args[1:3], None, None][:2]
    if op_name(node) == "hardtanh":
        low, high = -1.0 if low is None else low, 1.0 if high is None else high
    if low != 0:
        return None
    return math.inf if high is None else float(high)  # type: ignore[arg-type]


class _Excess:
    """Energy of what a bound cuts off, as a share of the energy that it lets through."""

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self._excess = self._kept = 0.0

    def observe(self, x: Tensor) -> None:
        x = x.detach().float().flatten()
        kept = x.clamp(0, self._bound)
        self._kept += float(torch.dot(kept, kept))
        if x.numel() and float(x.max()) > self._bound:
            excess = x.sub(self._bound).clamp_min_(0)
            self._excess += float(torch.dot(excess, excess))

    @property
    def share(self) -> float:
        return self._excess / self._kept if self._kept else self._excess


def acting_bounds(traced: TracedModel, data: Sequence[tuple[Tensor, ...]] | None) -> set[str]:
    """Names of the bounds between layers, such as ReLU6, that cut something off on calibration batches; of all bounds without any."""
    bounds = [bound for pair in find_pairs(traced) for bound in pair.bounds]
    if not bounds or data is None:
        return {node.name for node in bounds}
    watched = {operand(node): _Excess(_upper_bound(node) or 0.0) for node in bounds}
    calibrate(traced.module, watched, data)
    return {node.name for node in bounds if watched[operand(node)].share > _NEGLIGIBLE}


def _peaks(pairs: Sequence[Pair]) -> dict[str, Tensor]:
    """For each layer the largest magnitude of the weights that join an output and an input channel, [groups, outputs, inputs] of a group.

    A layer that is no pair's second has all its inputs as one. Sweeps scale these in place of the weights.
    """
    found = {pair.second.name: _by_input_channel(pair.second.weight, _groups(pair.second), pair.spread).abs().amax(3) for pair in pairs}
    for layer in (pair.first for pair in pairs):
        if layer.name not in found:
            found[layer.name] = layer.weight.reshape(1, len(layer.weight), -1).abs().amax(2, keepdim=True)
    return found


def _sweep(pairs: Sequence[Pair], peaks: dict[str, Tensor], divisors: dict[str, Tensor]) -> float:
    """Equalize each pair once; returns the largest ``|s - 1|``."""
    moved = 0.0
    for pair in pairs:
        a, b = peaks[pair.first.name], peaks[pair.second.name]
        r1, r2 = a.amax(2).flatten().double(), b.amax(1).flatten().double()
        # A channel that is zero on either side has nothing to equalize.
        s = torch.where((r1 > 0) & (r2 > 0), (r1 / r2).sqrt(), torch.ones_like(r1))
        a.div_(s.float().reshape(len(a), -1, 1))
        b.mul_(s.float().reshape(len(b), 1, -1))
        divisors[pair.first.name] *= s
        moved = max(moved, float((s - 1).abs().max()))
    return moved


def _apply(traced: TracedModel, pairs: Sequence[Pair], divisors: Mapping[str, Tensor]) -> None:
    """Divide the layers' output channels, and multiply those of their readers' inputs, layer by layer."""
    before = {pair.second.name: pair for pair in pairs}
    for layer in {layer.name: layer for pair in pairs for layer in (pair.first, pair.second)}.values():
        weight = layer.weight.double()
        if (pair := before.get(layer.name)) is not None:
            inputs = _by_input_channel(weight, _groups(layer), pair.spread)
            weight = (inputs * divisors[pair.first.name].reshape(len(inputs), 1, -1, 1)).reshape(weight.shape)
        if (divisor := divisors.get(layer.name)) is not None:
            weight = weight / divisor.reshape(-1, *[1] * (weight.ndim - 1))
            bias = traced.bias(layer)
            if bias is not None:
                traced.replace_bias(layer, (bias.double() / divisor).float())
        traced.replace_weight(layer, weight.float())


def _by_input_channel(weight: Tensor, groups: int, spread: int) -> Tensor:
    """The weight as [groups, output channels of a group, input channels of a group, weights that join two such channels]."""
    outputs, inputs = weight.shape[:2]
    return weight.reshape(groups, outputs // groups, inputs // spread, -1)


def _groups(layer: Layer) -> int:
    groups = layer.node.args[6] if layer.op != "linear" and len(layer.node.args) > 6 else 1
    assert isinstance(groups, int)
    return groups


def _names(pairs: Sequence[Pair]) -> tuple[tuple[str, str], ...]:
    return tuple((pair.first.name, pair.second.name) for pair in pairs)
