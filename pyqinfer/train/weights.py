"""Weights in training: a latent float parameter, what the layer multiplies by, and the codes that it ends with.

A parametrization is a class derived from :class:`TrainedWeight`. It says how the latent weight becomes the one that is used
(:meth:`~TrainedWeight.quantized`) and which codes stand for it (:meth:`~TrainedWeight.codes`). What all of them share lies here: a mask
on the latent weight, perturbations in front of the quantizer and behind it, and one evaluation per forward pass for layers that share a
weight.
"""

from __future__ import annotations

from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor, nn

from pyqinfer.bits import LayerBits
from pyqinfer.quantization.weights import WeightCodes, quantize_weight
from pyqinfer.train.fake_quant import above, round_to_grid

# A learned step never falls below this share of its first value, whatever an optimizer does.
STEP_FLOOR = 1 / 64


class TrainedWeight(nn.Module):
    """Base of all parametrizations.

    Args:
        latent: float32, output channels on axis 0.
        bits: what the layer's weights and its input have.

    Attributes:
        latent: the parameter. mask: a buffer of its shape, 1 where weights may live and 0 where they are pruned; None: nothing is pruned.
        shift, delta: tensors that are added in front of the quantizer and behind it, for methods that look around a network; None: nothing
            is. They are not part of the state.
        keeps_zeros: whether weights that are exactly 0 at the start stay so, because they were pruned; False for grids without zero, and
            for methods that prune by themselves.
        divisor: by what the latent weight is divided for good in front of the quantizer; the statistics of the BatchNorm behind start as
            those of so much smaller sums.
        watched: whether the next forward pass keeps what goes into the quantizer and what comes out in ``seen``, with their gradients.
    """

    keeps_zeros: ClassVar[bool] = False
    mask: Tensor | None

    def __init__(self, latent: Tensor, bits: LayerBits) -> None:
        super().__init__()
        self.latent = nn.Parameter(latent.detach().clone())
        self.bits = bits
        self.register_buffer("mask", None)
        self.divisor = 1.0
        self.shift: Tensor | None = None
        self.delta: Tensor | None = None
        self.watched = False
        self.seen: tuple[Tensor, Tensor] | None = None
        self._shared: Tensor | None = None
        self._sharing = False

    def normalized(self, latent: Tensor) -> Tensor:
        """What goes into the quantizer, from the masked latent weight; differentiable."""
        return latent

    def quantized(self, normalized: Tensor) -> Tensor:
        """The weight that the layer multiplies by; differentiable."""
        raise NotImplementedError

    def codes(self) -> WeightCodes | None:
        """The codes of :meth:`quantized`; None for a weight that stays float."""
        raise NotImplementedError

    def effective(self) -> Tensor:
        """The latent weight behind its mask."""
        return self.latent if self.mask is None else self.latent * self.mask

    def set_mask(self, mask: Tensor | None) -> None:
        """Prune the weights where ``mask`` is 0; the mask is part of the state and of what is exported. Zero must be on the grid."""
        self.mask = None if mask is None else mask.to(self.latent)

    def forward(self) -> Tensor:
        if self._shared is not None:
            return self._shared
        before = self.normalized(self.effective())
        if self.watched:
            before = before * 1  # a tensor of its own, whose gradient is kept
        if self.shift is not None:
            before = before + self.shift
        weight = self.quantized(before)
        if self.watched:
            before.retain_grad()
            weight.retain_grad()
            self.seen = before, weight
        if self.delta is not None:
            weight = weight + self.delta
        if self._sharing:
            self._shared = weight
        return weight

    def begin_pass(self) -> None:
        """From here to :meth:`end_pass` the weight is computed once, for all layers that read it."""
        self._shared, self._sharing = None, True

    def end_pass(self) -> None:
        """See :meth:`begin_pass`."""
        self._shared, self._sharing = None, False

    def extra_repr(self) -> str:
        return f"{'x'.join(map(str, self.latent.shape))}, bits={self.bits}"

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        # A mask that was set after the module was made has to exist before it can be loaded, and one that was not saved goes.
        saved = state_dict.get(f"{prefix}mask")
        self.mask = None if saved is None else torch.ones_like(self.latent)
        super()._load_from_state_dict(state_dict, prefix, *args)


class FloatWeight(TrainedWeight):
    """A weight that is not quantized."""

    keeps_zeros = True

    def quantized(self, normalized: Tensor) -> Tensor:
        return normalized

    def codes(self) -> WeightCodes | None:
        return None


class SteppedWeight(TrainedWeight):
    """Symmetric codes with a learned step per output channel (LSQ); ternary weights are those of codes -1, 0 and 1.

    Args:
        latent, bits: see :class:`TrainedWeight`.
        step: float32 [channels], the first steps.
    """

    keeps_zeros = True
    floor: Tensor

    def __init__(self, latent: Tensor, bits: LayerBits, step: Tensor) -> None:
        super().__init__(latent, bits)
        shaped = step.detach().clone().reshape(-1, *[1] * (latent.ndim - 1))
        self.step = nn.Parameter(shaped)
        self.register_buffer("floor", shaped * STEP_FLOOR)
        self.low, self.high = bits.weight_range
        self._factor = step_factor(latent[0].numel(), self.high)

    def quantized(self, normalized: Tensor) -> Tensor:
        return round_to_grid(normalized, above(self.step, self.floor), self.low, self.high, self._factor)

    def codes(self) -> WeightCodes:
        with torch.no_grad():
            step = above(self.step, self.floor)
            codes = (self.effective() * (1.0 / step)).round().clamp(self.low, self.high)
            return WeightCodes(codes.to(torch.int8).cpu(), step.reshape(-1).float().cpu(), self.low, self.high)


def step_factor(count: int, high: int) -> float:
    """Factor of a step's gradient, for a step that ``count`` weights of codes up to ``high`` share.

    LSQ's ``1 / sqrt(count * high)``, but at most ``1 / high**2``: then the range ``high * step`` moves by the learning rate times its
    gradient, as a weight does. LSQ's alone moves the range of a channel of few weights and many bits hundreds of times as fast.
    """
    return min(1 / sqrt(max(1, count) * high), 1 / high**2)


def first_steps(weight: Tensor, bits: LayerBits, search: bool) -> Tensor:
    """The scales that post-training quantization gives a weight, float32 [channels]."""
    return quantize_weight(weight, bits, search)[1]
