"""A network whose layers can change their bits at any time: one weight tensor for all, clips and BatchNorms for each (SAQ's super-net)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.quantization.fold import FoldedNorm
from pyqinfer.quantization.graph import Layer
from pyqinfer.quantization.observers import ActivationParams, affine_params
from pyqinfer.quantization.pipeline import Settings
from pyqinfer.quantization.placement import place
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.fake_quant import above, round_to_grid
from pyqinfer.train.layers import TrainedNorm
from pyqinfer.train.prepare import Parts
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.weights import STEP_FLOOR, FloatWeight, TrainedWeight
from pyqinfer.train.zero_free import ClippedActivation, ZeroFreeWeight, best_clip


class SwitchableWeight(ZeroFreeWeight):
    """A weight with one clip for each number of bits; ``bits`` says which is in use."""

    def __init__(self, latent: Tensor, options: Sequence[LayerBits], standardize: bool) -> None:
        super().__init__(latent, options[0], standardize)
        del self.clip, self.floor
        self.widths = sorted({option.weight for option in options if isinstance(option.weight, int)})
        start = [best_clip(self.normalized(self.latent).detach(), width) for width in self.widths]
        self.clips = nn.ParameterList(nn.Parameter(clip.reshape(1)) for clip in start)
        self.register_buffer("floor", torch.stack(start) * STEP_FLOOR)

    def clip_now(self) -> Tensor:
        i = self.widths.index(self.width)
        return above(self.clips[i], self.floor[i : i + 1])


class SwitchableActivation(TrainedActivation):
    """A quantizer with one clip for each number of bits, over the range that calibration found for the most bits."""

    def __init__(self, params: ActivationParams, widths: Sequence[int]) -> None:
        super().__init__(params)
        del self.step, self.floor
        low, high = ((code - params.zero_point) * params.scale for code in (params.quant_min, params.quant_max))
        self.quantizers = nn.ModuleDict({str(width): ClippedActivation(affine_params(low, high, width)) for width in widths})
        self.select(max(widths))

    def select(self, width: int) -> None:
        """Use this many bits from now on."""
        self.width = width
        now = self._now()
        self.zero_point, self.quant_min, self.quant_max = now.zero_point, now.quant_min, now.quant_max

    def _now(self) -> ClippedActivation:
        found = self.quantizers[str(self.width)]
        assert isinstance(found, ClippedActivation)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return round_to_grid(x, self._now().step_now(), self.low, self.high, 1.0)

    def scale(self) -> float:
        return self._now().scale()


class SwitchableNorm(nn.Module):
    """A BatchNorm for each of a layer's options: sums of other bits have other statistics."""

    def __init__(self, norm: FoldedNorm, options: Sequence[LayerBits]) -> None:
        super().__init__()
        self.options = list(options)
        self.norms = nn.ModuleList(TrainedNorm(norm) for _ in options)
        self.chosen = 0

    def forward(self, x: Tensor) -> Any:
        return self.norms[self.chosen](x)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Of the one in use."""
        norm = self.norms[self.chosen]
        assert isinstance(norm, TrainedNorm)
        return norm.affine()


class SwitchableParts(Parts):
    """Parts for a super-net.

    Args:
        settings: see :class:`~pyqinfer.train.prepare.Parts`.
        options: bits that the layers which choose may take, by name; filled before the first part is asked for.
        widths: every number of bits that an activation may have.
    """

    def __init__(self, settings: Settings, options: Mapping[str, Sequence[LayerBits]], widths: Sequence[int]) -> None:
        super().__init__(settings)
        self.options, self.widths = options, sorted(set(widths))

    def weight(self, layer: Layer, latent: Tensor, gain: Tensor | None, bits: LayerBits) -> TrainedWeight:
        if layer.name in self.options:
            return SwitchableWeight(latent, self.options[layer.name], gain is not None)
        return FloatWeight(latent, bits) if bits.is_float else ZeroFreeWeight(latent, bits, gain is not None)

    def activation(self, params: ActivationParams, readers: tuple[str, ...]) -> TrainedActivation:
        return SwitchableActivation(params, self.widths)

    def norm(self, norm: FoldedNorm, layer: str | None) -> nn.Module:
        return SwitchableNorm(norm, self.options[layer]) if layer is not None and layer in self.options else TrainedNorm(norm)


def select_bits(prepared: Prepared, config: Mapping[str, LayerBits]) -> None:
    """Give a super-net's layers and edges other bits. ``prepared.bits`` says what runs, and whoever counts BOPs reads it there."""
    bits = BitConfig({name: config[name] for name in prepared.bits})
    for name, chosen in bits.items():
        layer = prepared.layer(name)
        if isinstance(layer.weight, SwitchableWeight):
            layer.weight.bits = chosen
        if isinstance(layer.norm, SwitchableNorm):
            layer.norm.chosen = layer.norm.options.index(chosen)
    placement = place(prepared.blueprint.traced, bits, smooth=prepared.blueprint.placement.smooth)
    for node, width in placement.bits.items():
        activation = prepared.graph.get_submodule(prepared.blueprint.edges[node.name])
        assert isinstance(activation, SwitchableActivation)
        activation.select(width)
    prepared.blueprint = replace(prepared.blueprint, bits=bits, placement=placement)
