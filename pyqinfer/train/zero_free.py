"""Quantizers with learned clips: the grid without zero of SAQ's weights, and activations (Liu et al. 2021, arXiv 2111.12273).

With ``n = 2^b - 1`` and a clip ``a`` a weight becomes one of ``2^b`` levels ``a * (2*u - 1)``, ``u`` in ``0, 1/n .. 1``: they lie
symmetrically around zero, and zero is none of them. As codes ``k`` from ``-2^(b-1)`` to ``2^(b-1) - 1`` they are
``(k + 1/2) * 2a/n``, which the engine has as a zero point of -1/2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pyqinfer.bits import LayerBits
from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.quantization.weights import WeightCodes
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.fake_quant import above, round_to_grid
from pyqinfer.train.weights import STEP_FLOOR, TrainedWeight

_CANDIDATES = 64
_TINY = 1e-12


class ZeroFreeWeight(TrainedWeight):
    """Weights on the grid without zero, with one learned clip for the tensor.

    Args:
        latent, bits: see :class:`~pyqinfer.train.weights.TrainedWeight`; 2 to 8 bits.
        standardize: whether the weights are divided by their standard deviation in front of the quantizer, a number that no gradient
            goes through. It is not multiplied back: the BatchNorm behind the layer takes it up. Their mean stays, unlike in the paper:
            it multiplies the sum of all that a window sees, which no BatchNorm can make good.

    Raises:
        ValueError: ternary weights, of which zero is one.
    """

    floor: Tensor

    def __init__(self, latent: Tensor, bits: LayerBits, standardize: bool) -> None:
        super().__init__(latent, bits)
        if bits.weight == "ternary":
            raise ValueError("SAQ's grid has no zero, so it has no ternary weights: take 2 bits or more, or pq.PrunedTernary")
        self.standardize = standardize
        if standardize:
            self.divisor = float(_deviation(self.latent))
        self.clip = nn.Parameter(best_clip(self.normalized(self.latent).detach(), bits.weight).reshape(1))
        self.register_buffer("floor", self.clip.detach() * STEP_FLOOR)

    @property
    def width(self) -> int:
        """Bits of a weight."""
        assert isinstance(self.bits.weight, int)
        return self.bits.weight

    def clip_now(self) -> Tensor:
        """The clip that is in use, above 0."""
        return above(self.clip, self.floor)

    def set_mask(self, mask: Tensor | None) -> None:
        """Raises ValueError for a mask: a pruned weight is zero, which the grid lacks."""
        if mask is not None:
            raise ValueError("SAQ's grid has no zero, so its weights cannot be pruned: take pq.QAT or pq.PrunedTernary")
        super().set_mask(mask)

    def normalized(self, latent: Tensor) -> Tensor:
        if not self.standardize:
            return latent
        return latent / _deviation(latent)

    def quantized(self, normalized: Tensor) -> Tensor:
        return on_grid(normalized, self.clip_now(), self.width)

    def codes(self) -> WeightCodes:
        with torch.no_grad():
            low, high = -(2 ** (self.width - 1)), 2 ** (self.width - 1) - 1
            step = spacing(self.clip_now(), self.width)
            codes = ((self.normalized(self.latent) - step / 2) * (1.0 / step)).round().clamp(low, high).to(torch.int8)
            return WeightCodes(codes.cpu(), step.expand(len(codes)).contiguous().cpu(), low, high, -0.5)


def _deviation(latent: Tensor) -> Tensor:
    """Standard deviation of all weights together, a constant to gradients."""
    return latent.detach().std().clamp_min(_TINY)


def spacing(clip: Tensor, width: int) -> Tensor:
    """Distance between two levels."""
    return clip * (2.0 / float(2**width - 1))


def on_grid(x: Tensor, clip: Tensor, width: int) -> Tensor:
    """``x`` at the nearest of the ``2^width`` levels from ``-clip`` to ``clip``.

    Gradients go straight through inside the clip; the clip's is ``(2u - 1) - x/clip`` inside and +-1 outside, summed.
    """
    step = spacing(clip, width)
    return round_to_grid(x - step / 2, step, -(2 ** (width - 1)), 2 ** (width - 1) - 1, 1.0) + step / 2


def best_clip(x: Tensor, width: int) -> Tensor:
    """The clip of least squared error among fractions of the largest magnitude."""
    largest = x.abs().max().clamp_min(_TINY)
    clips = largest * torch.arange(1, _CANDIDATES + 1, device=x.device) / _CANDIDATES
    errors = torch.stack([(on_grid(x, clip.reshape(1), width) - x).square().sum() for clip in clips])
    return clips[int(errors.argmin())]


class ClippedActivation(TrainedActivation):
    """An activation's quantizer whose parameter is the largest value it gives, not the step: its gradient is that of a bias, and needs no
    factor.

    Args:
        params: scale, zero point and codes at the start. Behind ReLU the zero point is 0; other tensors, such as the outputs of linear
            bottlenecks, keep their negative values.
    """

    def __init__(self, params: ActivationParams) -> None:
        super().__init__(params)
        del self.step
        self.clip = nn.Parameter(torch.tensor([params.scale * self._levels], dtype=torch.float32))

    @property
    def _levels(self) -> int:
        """How many steps lie between zero and the clip; a tensor without positive values counts its negative ones."""
        return self.high or -self.low

    def step_now(self) -> Tensor:
        """The step that is in use, above 0."""
        return above(self.clip / self._levels, self.floor)

    def forward(self, x: Tensor) -> Tensor:
        return round_to_grid(x, self.step_now(), self.low, self.high, 1.0)

    def scale(self) -> float:
        return float(self.step_now().detach())
