"""Learned rounding of one weight (AdaRound, Nagel et al. 2020, arXiv 2004.10568): each weight goes to the code below it or above it.

The choice is a number h in [0, 1], ``clip(1.2*sigmoid(alpha) - 0.1, 0, 1)``, free at first and driven to 0 or 1 by a penalty:
``weight = scale * clip(floor(w/scale) + h, low, high)``. At the start h is the fraction of ``w/scale``, so that nothing is rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyqinfer.bits import LayerBits

_STRETCH, _SHIFT = 1.2, -0.1  # the sigmoid is stretched beyond 0 and 1, so that h gets there at finite alpha


class SoftRounding:
    """A weight whose rounding is being learned; ``alpha`` is the parameter.

    Args:
        weight: float32, output channels on axis 0.
        scale: float32, one per output channel.
        bits: ``weight_range`` gives the codes.
        axis: where the graph has the output channels; :meth:`weight` and :meth:`codes` return that order.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bits: LayerBits, axis: int = 0) -> None:
        weight = weight.movedim(0, axis)
        self._scale = scale.reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
        self._low, self._high = bits.weight_range
        steps = weight / self._scale
        self._floor = steps.floor()
        self.alpha = torch.logit((steps - self._floor - _SHIFT) / _STRETCH).requires_grad_()

    def _h(self) -> Tensor:
        return (torch.sigmoid(self.alpha) * _STRETCH + _SHIFT).clamp(0, 1)

    def weight(self) -> Tensor:
        """The weight as it is rounded now, with a gradient to ``alpha``."""
        return (self._floor + self._h()).clamp(self._low, self._high) * self._scale

    def penalty(self, beta: float) -> Tensor:
        """Sum of ``1 - |2h - 1|^beta``: 0 where all is decided. A large beta bears on what is nearly decided only."""
        return (1 - (2 * self._h() - 1).abs().pow(beta)).sum()

    def hard_weight(self) -> Tensor:
        """The weight with every h taken to the nearer end."""
        return self.codes() * self._scale

    def codes(self) -> Tensor:
        """int8 codes of the weight, every h taken to the nearer end."""
        with torch.no_grad():
            return (self._floor + (self._h() >= 0.5)).clamp(self._low, self._high).to(torch.int8)
