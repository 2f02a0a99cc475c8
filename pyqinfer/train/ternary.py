"""Weights on their way to ternary: normalized, pruned, then projected to {-a, 0, a}.

After "Pruning Ternary Quantization" (Liu et al., arXiv 2107.10998), whose abstract gives the parts (L2 normalization, pruning, a projection
to ternary bases, weight decay, a straight-through estimator) and whose text gives no more; thresholds and schedule are this library's.

A latent weight ``w`` acts through its direction ``u = w / ||w||``. The largest of ``|u|`` are kept. While the network is being pruned the
layer multiplies by ``||w_0|| * u`` where it is kept, w_0 being the weight at the start; afterwards by ``a * sign(u)``, where a begins as
``||w_0|| / sqrt(kept)``: both have the norm that the layer had, or nearly so, and ``sign(u) / sqrt(kept)`` has norm 1. Pruning comes first
because it is what brings the two near each other: of normal weights the cosine between the kept and their signs is 0.80 with nothing
pruned and 0.98 with 88 % pruned.

Gradients go straight through sign and mask, on all entries, so that a pruned weight can return; through the normalization they go exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pyqinfer.bits import LayerBits
from pyqinfer.quantization.weights import WeightCodes
from pyqinfer.train.fake_quant import above
from pyqinfer.train.pruning import Scope, magnitude_masks
from pyqinfer.train.weights import STEP_FLOOR, TrainedWeight, step_factor

_SMALLEST_NORM = 1e-12


class Stage(IntEnum):
    """What the layer multiplies by."""

    PRUNED = 0  # the kept weights as they are
    TERNARY = 1  # their signs, which follow the latent weights
    FIXED = 2  # signs that change no more, while scales and BatchNorms settle


class TernaryWeight(TrainedWeight):
    """A weight that is pruned, then ternary.

    Args:
        latent, bits: see :class:`~pyqinfer.train.weights.TrainedWeight`.
        per_channel: a scale for each output channel in place of one for the tensor.

    Attributes:
        step: the scale a, learned once the weight is ternary.
        kept: buffer of booleans, which weights are not zero.
        signs: buffer of int8, the codes once they are fixed.
        stage: see :class:`Stage`.
    """

    kept: Tensor
    signs: Tensor
    first_norm: Tensor

    def __init__(self, latent: Tensor, bits: LayerBits, per_channel: bool) -> None:
        super().__init__(latent, bits)
        self._axes = list(range(1 if per_channel else 0, latent.ndim))
        self.register_buffer("kept", torch.ones_like(latent, dtype=torch.bool))
        self.register_buffer("signs", torch.zeros_like(latent, dtype=torch.int8))
        self.register_buffer("first_norm", latent.detach().square().sum(self._axes, keepdim=True).sqrt().clamp_min(_SMALLEST_NORM))
        self.step = nn.Parameter(self._first_step())
        self.stage = Stage.PRUNED
        self._factor = step_factor(latent.numel() // self.step.numel(), 1)

    @property
    def direction(self) -> Tensor:
        """The normalized latent weight u, without gradients."""
        latent = self.effective().detach()
        return latent.div(latent.norm().clamp_min(_SMALLEST_NORM))

    def _first_step(self) -> Tensor:
        count = self.kept.sum(self._axes, keepdim=True).clamp_min(1)
        return self.first_norm / count.sqrt()

    def keep(self, kept: Tensor) -> None:
        """Say which weights are not zero; once signs are fixed nothing changes."""
        if self.stage is not Stage.FIXED:
            self.kept.copy_(kept)

    def make_ternary(self) -> None:
        """Multiply by signs from now on; later calls do nothing."""
        if self.stage is Stage.PRUNED:
            with torch.no_grad():
                self.step.copy_(self._first_step())
            self.stage = Stage.TERNARY

    def fix(self) -> None:
        """Let the signs be what they are from now on; later calls do nothing."""
        self.make_ternary()
        if self.stage is Stage.TERNARY:
            self.signs.copy_(self._signs())
            self.stage = Stage.FIXED

    def _signs(self) -> Tensor:
        return self.signs if self.stage is Stage.FIXED else (self.effective().detach().sign() * self.kept).to(torch.int8)

    @property
    def scale(self) -> Tensor:
        """The scale a, of the tensor or of each channel; never below a share of its first value, and never negative."""
        return above(self.step, self._first_step() * STEP_FLOOR)

    def quantized(self, latent: Tensor) -> Tensor:
        if self.stage is Stage.FIXED:
            # The latent weight has a gradient, of 0, because DistributedDataParallel waits for one of every parameter.
            return self.signs * self.scale + 0 * latent
        whole = self.first_norm.square().sum().sqrt()
        result: Tensor = _Projected.apply(latent, self.scale, self.kept, whole, self.stage is Stage.TERNARY, self._factor)  # type: ignore[no-untyped-call]
        return result

    def codes(self) -> WeightCodes:
        """Signs and scales, also of a weight that is not ternary yet."""
        with torch.no_grad():
            scale = self._first_step() if self.stage is Stage.PRUNED else self.scale
            channels = scale.expand(len(self.latent), *[1] * (self.latent.ndim - 1)).reshape(-1)
            return WeightCodes(self._signs().cpu(), channels.float().cpu(), -1, 1)

    def get_extra_state(self) -> int:
        return int(self.stage)

    def set_extra_state(self, state: int) -> None:
        self.stage = Stage(state)


class _Projected(Function):
    """The weight behind normalization and mask, ternary or not; see the module's text for both directions."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, scale: Tensor, kept: Tensor, whole: Tensor, ternary: bool, factor: float) -> Tensor:
        norm = latent.norm().clamp_min(_SMALLEST_NORM)
        signs = latent.sign() * kept if ternary else None
        ctx.save_for_backward(latent, norm, whole, signs)
        ctx.factor, ctx.scale_shape = factor, scale.shape
        return latent * kept * (whole / norm) if signs is None else signs * scale

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        latent, norm, whole, signs = ctx.saved_tensors
        along = (latent * dy).sum() / norm.square()
        dlatent = (dy - latent * along) * (whole / norm)
        if signs is None:
            return dlatent, dy.new_zeros(ctx.scale_shape), None, None, None, None
        dscale = None
        if ctx.needs_input_grad[1]:
            shared = [axis for axis, size in enumerate(ctx.scale_shape) if size == 1]
            dscale = (dy * signs).sum(shared, keepdim=True) * ctx.factor
        return dlatent, dscale, None, None, None, None


def prune_weights(weights: Sequence[TernaryWeight], sparsity: float, scope: Scope) -> None:
    """Keep the largest ``round((1 - sparsity) * N)`` latent weights of each tensor, or of all.

    Globally, weights compete in units of their tensor's root mean square: their directions alone would favour small tensors, whose
    elements are larger because there are fewer.
    """
    found = [weight.direction * (sqrt(weight.latent.numel()) if scope == "global" else 1) for weight in weights]
    for weight, mask in zip(weights, magnitude_masks(found, sparsity, scope), strict=True):
        weight.keep(mask.bool())
