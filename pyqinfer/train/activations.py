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
        low, high = self.quant_min - self.zero_point, self.quant_max - self.zero_point
        factor = 1 / sqrt(max(1, prod(x.shape[1:])) * max(1, high))
        return round_to_grid(x, above(self.step, self.floor), low, high, factor)

    def params(self) -> ActivationParams:
        """Parameters for the graph."""
        scale = float(above(self.step, self.floor).detach())
        return ActivationParams(scale, self.zero_point, self.quant_min, self.quant_max)

    def get_extra_state(self) -> tuple[int, int, int]:
        return self.zero_point, self.quant_min, self.quant_max

    def set_extra_state(self, state: tuple[int, int, int]) -> None:
        self.zero_point, self.quant_min, self.quant_max = state

    def extra_repr(self) -> str:
        return f"codes={self.quant_min}..{self.quant_max}, zero_point={self.zero_point}"
