"""What torch's quantization parameters mean in the engine (docs/numerics.md, "Quantized values" and "linear_dynamic")."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant, RuntimeQuantized

_SCALE_MIN, _SCALE_MAX = 2.0**-100, 2.0**100


@dataclass(frozen=True)
class FakeQuant:
    """What a fake quantizer computes: ``(clamp(round(x/scale) + zero_point, quant_min, quant_max) - zero_point) * scale``.

    ``scale``, ``zero_point``: numbers, or tensors with one element, or one per slice along ``axis`` (weights only).
    """

    scale: Any
    zero_point: Any
    quant_min: int
    quant_max: int
    axis: int | None = None


def activation_quant(scale: Any, zero_point: Any, quant_min: Any, quant_max: Any, dtype: torch.dtype) -> tuple[ir.Quant, int]:
    """The engine's parameters of a per-tensor quantizer, and what to add to torch's codes to get the engine's u8 codes.

    Raises:
        NotSupportedHere: parameters computed from the input, or more than 8 bits. ValueError: parameters that mean nothing.
    """
    scale, zero_point, low, high = (scalar(v) for v in (scale, zero_point, quant_min, quant_max))
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


def scalar(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, (int, float)):
        return value
    raise NotSupportedHere("quantization parameters computed from another tensor than the one they quantize")


def runtime_quantized(
    x: ir.Value, mapping: str, granularity: str, quant_min: int, quant_max: int, eps: float, stage: str
) -> RuntimeQuantized:
    """``x`` through a quantizer with torch's codes in [quant_min, quant_max].

    Raises:
        NotSupportedHere: more than 8 bits, another mapping than "symmetric" and "asymmetric", symmetric codes around another zero point.
    """
    if mapping not in ("symmetric", "asymmetric"):
        raise NotSupportedHere(f"activations quantized {mapping}")
    shift = code_shift(quant_min, quant_max)
    low, high = quant_min + shift, quant_max + shift
    if not 0 <= low < high <= 255:
        raise NotSupportedHere(f"activations of more than 8 bits (range [{quant_min}, {quant_max}])")
    if mapping == "symmetric" and (low + high + 1) // 2 != (quant_min + quant_max + 1) // 2 + shift:
        raise NotSupportedHere(f"symmetric codes in [{quant_min}, {quant_max}]")
    attrs: dict[str, ir.Attr] = {"mapping": mapping, "granularity": granularity, "qmin": low, "qmax": high, "eps": float(eps)}
    return RuntimeQuantized(x, attrs, quant_min, quant_max, stage)


def advance(a: Arguments, following: str) -> RuntimeQuantized:
    """An activation at the next stage of its run-time quantizer, provided that scale, zero point and range are those of that quantizer."""
    chosen, operand = a["scale"], a["input"]
    x = operand.x if isinstance(operand, RuntimeQuantized) else operand
    same = isinstance(chosen, RuntimeQuantized) and a["zero_point"] is chosen and x is chosen.x
    if not same or (a["quant_min"], a["quant_max"]) != (chosen.quant_min, chosen.quant_max):
        raise NotSupportedHere("quantization parameters computed from another tensor than the one they quantize")
    result: RuntimeQuantized = replace(chosen, stage=following)
    return result


def weight_constant(reader: GraphReader, operand: Any) -> ir.Weight | ir.FloatArray:
    """Weights of a conv or linear layer: quantized where the engine's form can say it exactly, else float32."""
    weight = _as_weight(operand) if isinstance(operand, QuantizedConstant) else None
    return weight if weight is not None else reader.constant(operand, "weight")


def _as_weight(constant: QuantizedConstant) -> ir.Weight | None:
    """A constant in the engine's form of weights; None where that cannot say it: scales along another axis than 0, more than 8 bits, or
    zero points that are no multiple of 1/2."""
    channels = constant.codes.shape[0] if constant.codes.ndim else 0
    if constant.axis not in (0, None) or not channels:
        return None
    codes = constant.codes.to(torch.int64).numpy()
    low = min(constant.quant_min, int(codes.min(initial=0)))
    high = max(constant.quant_max, int(codes.max(initial=0)))
    # The engine's weight codes are signed: an unsigned range moves down by half, codes and zero points alike.
    shift = -(1 << (max(2, high.bit_length()) - 1)) if low >= 0 and high > 1 else 0
    bits = _signed_bits(low + shift, high + shift)
    lines = tuple(constant.scale.shape) if constant.scale.ndim == 2 else (channels,)
    zero = np.broadcast_to(constant.zero_point.numpy(), lines) + shift
    scale = np.broadcast_to(constant.scale.numpy(), lines)
    codes = codes + shift
    # torchao gives weights that are all 0 a scale below the least that the engine takes; with any other scale they are 0 as well.
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
