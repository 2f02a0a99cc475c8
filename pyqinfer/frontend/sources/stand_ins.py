"""Modules in ops that torch.export can trace and the graph reader knows, for sources to put in the place of their own."""

from __future__ import annotations

from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor, nn

from pyqinfer.frontend.codes import FakeQuant


class QuantizeDequantize(nn.Module):
    """What :class:`FakeQuant` says, in the ops that the graph reader knows; any codes fit int32, the range carries the bits."""

    def __init__(self, params: FakeQuant) -> None:
        super().__init__()
        self.low, self.high, self.axis = params.quant_min, params.quant_max, params.axis
        scale, zero_point = torch.as_tensor(params.scale).detach().float(), torch.as_tensor(params.zero_point).detach()
        if bool((zero_point.double() != zero_point.double().round()).any()):
            raise ValueError("a zero point that is no integer")
        if params.axis is None:
            if scale.numel() != 1 or zero_point.numel() != 1:
                raise ValueError(f"{scale.numel()} scales and {zero_point.numel()} zero points without an axis")
            self.scale: Any = float(scale)
            self.zero_point: Any = int(zero_point)
        else:
            self.register_buffer("scale", scale.reshape(-1))
            self.register_buffer("zero_point", zero_point.reshape(-1).to(torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return quantize_dequantize(x, self.scale, self.zero_point, self.low, self.high, self.axis)


def quantize_dequantize(x: Tensor, scale: Any, zero_point: Any, low: int, high: int, axis: int | None = None) -> Tensor:
    """Codes and back: per tensor with numbers or tensors of one element, per slice along ``axis`` with tensors."""
    ops = torch.ops.quantized_decomposed
    result: Tensor
    if axis is None and (isinstance(scale, Tensor) or isinstance(zero_point, Tensor)):
        scale, zero_point = torch.as_tensor(scale), torch.as_tensor(zero_point)
        codes = ops.quantize_per_tensor.tensor(x, scale, zero_point, low, high, torch.int32)
        result = ops.dequantize_per_tensor.tensor(codes, scale, zero_point, low, high, torch.int32)
    elif axis is None:
        codes = ops.quantize_per_tensor(x, scale, zero_point, low, high, torch.int32)
        result = ops.dequantize_per_tensor(codes, scale, zero_point, low, high, torch.int32)
    else:
        codes = ops.quantize_per_channel(x, scale, zero_point, axis, low, high, torch.int32)
        result = ops.dequantize_per_channel(codes, scale, zero_point, axis, low, high, torch.int32)
    return result


class CodedLinear(nn.Module):
    """``F.linear`` with weights ``(codes - zero_point[o]) * scale[o]`` of [O, I], between ``before`` (of the input) and ``after``.

    Scale and zero point of shape [O, G], G > 1, belong to groups of ``I/G`` inputs; all others have one for each output, or one for all.
    """

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        low: int,
        high: int,
        bias: Tensor | None,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.register_buffer("codes", codes)
        self.group_size = codes.shape[1] // scale.shape[1] if scale.ndim == 2 and scale.shape[1] > 1 else 0
        lines = tuple(scale.shape) if self.group_size else (codes.shape[0],)
        for name, tensor in (("scale", scale.float()), ("zero_point", zero_point.to(torch.int64))):
            self.register_buffer(name, (tensor if self.group_size else tensor.reshape(-1)).expand(lines).contiguous())
        self.bias: Tensor | None
        self.register_buffer("bias", None if bias is None else bias.detach())
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        ops = torch.ops.quantized_decomposed
        if self.group_size:
            parameters = (self.scale, self.zero_point, self.low, self.high, self.codes.dtype, self.group_size, torch.float32)
            weight = ops.dequantize_per_channel_group(self.codes, *parameters)
        else:
            weight = ops.dequantize_per_channel(self.codes, self.scale, self.zero_point, 0, self.low, self.high, self.codes.dtype)
        y = nn.functional.linear(x if self.before is None else self.before(x), weight, self.bias)
        return y if self.after is None else self.after(y)
