"""Handlers of quantized_decomposed ops, and what their parameters mean in the engine (docs/numerics.md, "Quantized values")."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, QuantizedConstant, RuntimeQuantized

_SCALE_MIN, _SCALE_MAX = 2.0**-100, 2.0**100


def activation_quant(scale: Any, zero_point: Any, quant_min: Any, quant_max: Any, dtype: torch.dtype) -> tuple[ir.Quant, int]:
    """The engine's parameters of a per-tensor quantizer, and what to add to torch's codes to get the engine's u8 codes.

    Raises:
        NotSupportedHere: parameters computed from the input, or more than 8 bits. ValueError: parameters that mean nothing.
    """
    scale, zero_point, low, high = (_scalar(v) for v in (scale, zero_point, quant_min, quant_max))
    scale32 = float(np.float32(scale)) if abs(scale) < 1e38 else scale
    if not (math.isfinite(scale32) and _SCALE_MIN <= scale32 <= _SCALE_MAX):
        raise ValueError(f"activation scale {scale!r} is not a positive float32 in [2^-100, 2^100]")
    if zero_point != int(zero_point):
        raise NotSupportedHere(f"an activation zero point that is no integer ({zero_point})")
    low, high, zero = int(low), int(high), int(zero_point)
    if not low < high:
        raise ValueError(f"quant_min {low} is not below quant_max {high}")
    if not low <= zero <= high:
        raise ValueError(f"zero point {zero} lies outside [{low}, {high}]")
    shift = code_shift(low, high)
    if high + shift > 255:
        raise NotSupportedHere(f"activations of more than 8 bits (range [{low}, {high}], {dtype})")
    return ir.Quant(scale32, zero + shift, low + shift, high + shift), shift


def code_shift(low: int, high: int) -> int:
    """What to add to torch's codes in [low, high] to get the engine's u8 codes."""
    return 1 << (_signed_bits(low, high) - 1) if low < 0 else 0


def _signed_bits(low: int, high: int) -> int:
    """Smallest b >= 2 with [low, high] within [-2^(b-1), 2^(b-1) - 1]."""
    return max(2, max(-low - 1, high).bit_length() + 1)


def _scalar(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, (int, float)):
        return value
    raise NotSupportedHere("quantization parameters computed from another tensor than the one they quantize")


def advance(a: Arguments, following: str) -> RuntimeQuantized:
    """The next stage of an activation that is quantized at run time, where all operands belong to the same one."""
    chosen, operand = a["scale"], a["input"]
    x = operand.x if isinstance(operand, RuntimeQuantized) else operand
    same = isinstance(chosen, RuntimeQuantized) and a["zero_point"] is chosen and x is chosen.x
    if not same or (a["quant_min"], a["quant_max"]) != (chosen.quant_min, chosen.quant_max):
        raise NotSupportedHere("quantization parameters computed from another tensor than the one they quantize")
    result: RuntimeQuantized = replace(chosen, stage=following)
    return result


def _quantize_per_tensor(reader: GraphReader, node: Node, a: Arguments) -> ir.Value | RuntimeQuantized:
    if isinstance(a["scale"], RuntimeQuantized) and isinstance(a["input"], ir.Value):
        return advance(a, "codes")
    x = reader.activation(a["input"], "input")
    quant, _ = activation_quant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], a["dtype"])
    return reader.emit("quantize", node, [x], x.shape, quant=quant)


def _dequantize_per_tensor(reader: GraphReader, node: Node, a: Arguments) -> Any:
    codes = a["input"]
    if isinstance(codes, RuntimeQuantized) and codes.stage == "codes":
        return advance(a, "values")
    if isinstance(codes, Tensor):
        scale, zero_point = (torch.as_tensor(_scalar(a[k]), dtype=torch.float64).reshape(1) for k in ("scale", "zero_point"))
        return _constant(node, a, codes, scale, zero_point, None)
    if not isinstance(codes, ir.Value) or codes.quant is None:
        raise NotSupportedHere("dequantizes something that no quantize op wrote")
    quant, _ = activation_quant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], a["dtype"])
    if quant != codes.quant:
        raise NotSupportedHere(f"dequantizes with other parameters ({quant}) than the codes were quantized with ({codes.quant})")
    return reader.emit("dequantize", node, [codes], codes.shape)


def _quantize_per_channel(reader: GraphReader, node: Node, a: Arguments) -> Any:
    raise NotSupportedHere("activations quantized per channel")


def _dequantize_per_channel(reader: GraphReader, node: Node, a: Arguments) -> Any:
    codes, scales = a["input"], a["scales"]
    if not isinstance(codes, Tensor) or not isinstance(scales, Tensor):
        raise NotSupportedHere("activations quantized per channel")
    zero_points = a["zero_points"] if a["zero_points"] is not None else torch.zeros_like(scales)
    return _constant(node, a, codes, scales.double(), zero_points.double(), int(a["axis"]))


def _dequantize_per_channel_group(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Weights with a scale per group of neighbouring inputs: scale and zero point are [O, G]."""
    codes, scales, zero_points = a["input"], a["scales"], a["zero_points"]
    if not isinstance(codes, Tensor) or not isinstance(scales, Tensor):
        raise NotSupportedHere("activations quantized per group")
    value = node.target(*a.values())  # type: ignore[operator]
    zero_points = torch.zeros_like(scales) if zero_points is None else zero_points
    scale, zero_point = (t.double().reshape(codes.shape[0], -1) for t in (scales, zero_points))
    return QuantizedConstant(codes, scale, zero_point, 0, int(a["quant_min"]), int(a["quant_max"]), value)


def _constant(node: Node, a: Arguments, codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> QuantizedConstant:
    value = node.target(*node_arguments(a))  # type: ignore[operator]
    low, high = int(_scalar(a["quant_min"])), int(_scalar(a["quant_max"]))
    return QuantizedConstant(codes, scale, zero_point, axis, low, high, value)


def node_arguments(a: Arguments) -> list[Any]:
    """The positional arguments of a dequantize op (``out_dtype`` is keyword-only and float32 by default)."""
    if a.get("out_dtype") not in (None, torch.float32):
        raise NotSupportedHere(f"dequantizes to {a['out_dtype']}")
    return [value for name, value in a.items() if name != "out_dtype"]


def weight_constant(reader: GraphReader, operand: Any) -> ir.Weight | ir.FloatArray:
    """Weights of a conv or linear layer: quantized where the engine's form can say it exactly, else float32."""
    weight = _as_weight(operand) if isinstance(operand, QuantizedConstant) else None
    return weight if weight is not None else reader.constant(operand, "weight")


def _as_weight(constant: QuantizedConstant) -> ir.Weight | None:
    """None: another axis than 0, more than 8 bits, or zero points that are no multiple of 1/2."""
    channels = constant.codes.shape[0] if constant.codes.ndim else 0
    if constant.axis not in (0, None) or not channels:
        return None
    codes = constant.codes.to(torch.int64).numpy()
    low = min(constant.quant_min, int(codes.min(initial=0)))
    high = max(constant.quant_max, int(codes.max(initial=0)))
    # An unsigned range moves down by half, codes and zero points alike.
    shift = -(1 << (max(2, high.bit_length()) - 1)) if low >= 0 and high > 1 else 0
    bits = _signed_bits(low + shift, high + shift)
    lines = tuple(constant.scale.shape) if constant.scale.ndim == 2 else (channels,)
    zero = np.broadcast_to(constant.zero_point.numpy(), lines) + shift
    scale = np.broadcast_to(constant.scale.numpy(), lines)
    codes = codes + shift
    # Weights that are all 0 have a scale of next to nothing in torchao, smaller than the engine's; any other is as good.
    dead = (codes.reshape(scale.size, -1) == zero.reshape(-1, 1)).all(1).reshape(lines) & (np.abs(scale) < _SCALE_MIN)
    scale = np.where(dead, 1, scale)
    step = 1 if np.all(zero == np.round(zero)) else 2
    base = -step * zero
    if bits > 8 or np.any(base != np.round(base)) or np.abs(base).max(initial=0) > 2**20:
        return None
    scale32 = (scale / step).astype(np.float32)
    if not np.all(np.isfinite(scale32) & (np.abs(scale32) >= _SCALE_MIN) & (np.abs(scale32) <= _SCALE_MAX)):
        raise ValueError(f"weight scales must be float32 of magnitude 2^-100 to 2^100, got {scale.min()!r} to {scale.max()!r}")
    ternary = low + shift >= -1 and high + shift <= 1
    return ir.Weight(
        codes=codes.astype(np.int8),
        scale=scale32,
        base=base.astype(np.int32) if np.any(base) else None,
        step=step,
        bits=2 if ternary else bits,
        ternary=ternary,
    )


HANDLERS: dict[str, Handler] = {
    "quantize_per_tensor": _quantize_per_tensor,
    "dequantize_per_tensor": _dequantize_per_tensor,
    "quantize_per_channel": _quantize_per_channel,
    "dequantize_per_channel": _dequantize_per_channel,
    "dequantize_per_channel_group": _dequantize_per_channel_group,
}
