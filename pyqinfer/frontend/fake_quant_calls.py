"""Calls of torch's fake-quantize functions, turned into quantize and dequantize while a model is traced.

torch has no shape function for them with a symbolic batch, so that their own graphs would fix it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pyqinfer.frontend.fake_quant import learned_zero_point
from pyqinfer.frontend.surrogates import quantize_dequantize


class DecomposeFakeQuant(TorchFunctionMode):
    """A context in which fake-quantize functions run as the ops that the graph reader knows."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _FUNCTIONS.get(func, func)(*args, **(kwargs or {}))


def _per_tensor(input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Tensor:
    return quantize_dequantize(input, scale, zero_point, quant_min, quant_max)


def _per_channel(input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int) -> Tensor:
    return quantize_dequantize(input, scale, zero_point.to(torch.int64), quant_min, quant_max, axis)


def _learnable_per_tensor(
    input: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Tensor:
    zero = learned_zero_point(zero_point, quant_min, quant_max, per_channel=False)
    return quantize_dequantize(input, scale, zero, quant_min, quant_max)


def _learnable_per_channel(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Tensor:
    zero = learned_zero_point(zero_point, quant_min, quant_max, per_channel=True)
    return quantize_dequantize(input, scale, zero, quant_min, quant_max, axis)


_FUNCTIONS: dict[Any, Callable[..., Tensor]] = {
    torch.fake_quantize_per_tensor_affine: _per_tensor,
    torch.fake_quantize_per_channel_affine: _per_channel,
    torch._fake_quantize_learnable_per_tensor_affine: _learnable_per_tensor,
    torch._fake_quantize_learnable_per_channel_affine: _learnable_per_channel,
}
