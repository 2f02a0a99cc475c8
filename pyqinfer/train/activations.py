"""Quantizers of activations in training, one on each edge that :mod:`pyqinfer.quantization.placement` chooses."""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor, nn

from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.train.fake_quant import above, round_to_grid
from pyqinfer.train.weights import STEP_FLOOR


class TrainedActivation(nn.Module):
    """Affine codes with one learned step for the tensor; the zero point stays what calibration found, so that zero stays exact.

    Args:
        params: scale, zero point and codes at the start.
    """

    floor: Tensor

    def __init__(self, params: ActivationParams) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.tensor([params.scale], dtype=torch.float32))
        self.register_buffer("floor", self.step.detach() * STEP_FLOOR)
        self.zero_point, self.quant_min, self.quant_max = params.zero_point, params.quant_min, params.quant_max

    def forward(self, x: Tensor) -> Tensor:
        factor = 1 / sqrt(max(1, prod(x.shape[1:])) * max(1, self.high))
        return round_to_grid(x, above(self.step, self.floor), self.low, self.high, factor)

    @property
    def low(self) -> int:
        """The least code, relative to the zero point."""
        return self.quant_min - self.zero_point

    @property
    def high(self) -> int:
        """The largest code, relative to the zero point."""
        return self.quant_max - self.zero_point

    def scale(self) -> float:
        """The step as it is now."""
        return float(above(self.step, self.floor).detach())

    def params(self) -> ActivationParams:
        """Parameters for the graph."""
        return ActivationParams(self.scale(), self.zero_point, self.quant_min, self.quant_max)

    def get_extra_state(self) -> tuple[int, int, int]:
        return self.zero_point, self.quant_min, self.quant_max

    def set_extra_state(self, state: tuple[int, int, int]) -> None:
        self.zero_point, self.quant_min, self.quant_max = state

    def extra_repr(self) -> str:
        return f"codes={self.quant_min}..{self.quant_max}, zero_point={self.zero_point}"
