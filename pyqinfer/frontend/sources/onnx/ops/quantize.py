"""QuantizeLinear and DequantizeLinear, the quantizers of QONNX, and weights in blocks (MatMulNBits)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler, axis_of
from pyqinfer.frontend.sources.onnx.graph import Initializer
from pyqinfer.frontend.sources.onnx.lookup import look_up
from pyqinfer.frontend.sources.onnx.ops.integers import run_time_quantized
from pyqinfer.frontend.sources.onnx.values import (
    Array,
    Coded,
    CodedRows,
    Codes,
    Const,
    LookedUp,
    RuntimeCodes,
    RuntimeScale,
    RuntimeZeroPoint,
    Scales,
    Value,
)
from pyqinfer.frontend.sources.onnx.weights import code_range, dequantized, quantized_numbers, tight
from pyqinfer.frontend.values import NotSupportedHere

# Element types of ONNX by their number, as far as codes have them.
_OUTPUT_TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}


def scales_of(c: Call, scale_at: int, zero_at: int, kind: str, shape: Any, axis: int = 1, block: int = 0) -> Scales:
    """The parameters in a node's operands, for codes of a type.

    Raises:
        NotSupportedHere: parameters computed from the input, or of another form than one, one per slice, or one per block.
    """
    scale = c.array(scale_at, "scale").astype(np.float32)
    low, high = code_range(kind)
    zero = c.array(zero_at, "zero point") if c.has(zero_at) else np.zeros(scale.shape, np.int64)
    zero = np.asarray(zero.astype(np.int64))
    if not np.isfinite(scale).all() or (scale == 0).any():
        raise ValueError("a scale that is 0 or not finite")
    if zero.size != scale.size:
        raise ValueError(f"{scale.size} scales and {zero.size} zero points")
    if scale.size == 1 and not block:
        return Scales(scale.reshape(1), zero.reshape(1), low, high)
    axis = axis_of(axis, len(shape))
    if block:
        blocks = [-(-n // block) if i == axis else n for i, n in enumerate(shape)]
        if list(scale.shape) != blocks:
            raise ValueError(f"scales of shape {list(scale.shape)} for blocks of {block} along axis {axis} of {list(shape)}")
        return Scales(scale, zero.reshape(scale.shape), low, high, axis, block)
    if scale.size != shape[axis]:
        raise ValueError(f"{scale.size} scales for {shape[axis]} slices along axis {axis}")
    return Scales(scale.reshape(-1), zero.reshape(-1), low, high, axis)


def quantized(x: Value, scales: Scales, kind: str) -> Value:
    """``x`` behind a quantize: constants at once, activations when they are read."""
    if isinstance(x, Const):
        numbers = quantized_numbers(x.array, scales)
        wide = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}.get(kind, kind)
        return Initializer(numbers.astype(wide), kind)
    if not isinstance(x, Tensor):
        raise NotSupportedHere("quantizes what is quantized already")
    return Codes(x, scales)


def _quantize(c: Call) -> Value:
    x = c.value(0)
    kind = c.value(2).kind if isinstance(c.value(2), Const) else _OUTPUT_TYPES.get(int(c.attribute("output_dtype", 0)) or 2, "another type")
    if isinstance(x, (Codes, Coded)):
        x = values_of(x)
    shape = x.array.shape if isinstance(x, Const) else c.tensor(0).shape if not isinstance(x, Tensor) else x.shape
    return quantized(x, scales_of(c, 1, 2, kind, shape, int(c.attribute("axis", 1)), int(c.attribute("block_size", 0))), kind)


def values_of(x: Value) -> Tensor:
    """What codes stand for."""
    return x.values() if isinstance(x, Codes) else dequantized(x)


def read_codes(c: Call, at: int, scale_at: int, zero_at: int, axis: int = 1, block: int = 0) -> Value:
    """Operand ``at``, codes, as what they stand for under other operands' parameters: a tensor, or constant codes with their scales."""
    x = c.value(at)
    if isinstance(x, Const):
        return _coded(x, scales_of(c, scale_at, zero_at, x.kind, x.array.shape, axis, block))
    if isinstance(x, CodedRows):
        return F.embedding(x.indices, dequantized(_coded(x.table, scales_of(c, scale_at, zero_at, x.table.kind, (1,)))))
    if isinstance(x, RuntimeCodes):
        scale, zero = c.value(scale_at), c.value(zero_at)
        known = isinstance(scale, RuntimeScale) and scale.x is x.x and isinstance(zero, RuntimeZeroPoint) and zero.x is x.x
        if not known or not np.all(scale.factor == 1):
            raise NotSupportedHere("dequantizes with other parameters than the codes were quantized with")
        return run_time_quantized(x.x)
    if isinstance(x, LookedUp):
        return _values_of_table(x, scales_of(c, scale_at, zero_at, "uint8", ()))
    if isinstance(x, Tensor) and not x.is_floating_point():
        scale, zero = scales_of(c, scale_at, zero_at, "int32", x.shape, axis, block).broadcast(x.ndim)
        return (x.to(torch.float32) - zero) * scale
    if not isinstance(x, Codes):
        raise NotSupportedHere("dequantizes something that no QuantizeLinear wrote")
    if not x.scales.equals(scales_of(c, scale_at, zero_at, "int64", x.x.shape, axis, block)):
        raise NotSupportedHere("dequantizes with other parameters than the codes were quantized with")
    return x.values() if x.scales.axis is None else x.by_channel()


def _values_of_table(x: LookedUp, s: Scales) -> Tensor:
    read = x.codes.scales
    numbers = (float(read.scale[0]), int(read.zero_point[0]), float(s.scale[0]), int(s.zero_point[0]), x.low, x.high)
    table = torch.tensor(x.table.tolist(), dtype=torch.uint8)
    y: Tensor = look_up(x.codes.values(), table, *numbers)
    return y


def _coded(x: Const, s: Scales) -> Coded:
    low, high = tight(x.array, s.low, s.high) if s.high - s.low <= 255 else (s.low, s.high)
    return Coded(x.tensor, Scales(s.scale, s.zero_point, low, high, s.axis, s.block))


def _dequantize(c: Call) -> Value:
    return read_codes(c, 0, 1, 2, int(c.attribute("axis", 1)), int(c.attribute("block_size", 0)))


def _quant(c: Call) -> Value:
    """QONNX's Quant: x, scale, zero point, bits; signed, narrow, rounding_mode."""
    mode = str(c.attribute("rounding_mode", "ROUND")).upper()
    if mode not in ("ROUND", "HALF_EVEN"):
        raise NotSupportedHere(f"rounding mode {mode}")
    bits = c.number(3, "number of bits")
    if bits != int(bits) or not 1 <= bits <= 32:
        raise NotSupportedHere(f"{bits} bits")
    bits, signed, narrow = int(bits), bool(c.attribute("signed", 1)), bool(c.attribute("narrow", 0))
    low, high = (-(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1 - narrow)
    scale, zero = (c.array(i, "quantization parameter").astype(np.float32) for i in (1, 2))
    shape = c.value(0).array.shape if isinstance(c.value(0), Const) else tuple(c.tensor(0).shape)
    scales = _broadcast_scales(scale, zero, shape, low, high)
    x = c.value(0)
    if not isinstance(x, Const):
        return Codes(c.tensor(0), scales).values()
    return Coded(torch.tensor(quantized_numbers(x.array, scales).tolist(), dtype=torch.int32).reshape(shape), scales)


def _broadcast_scales(scale: Array, zero: Array, shape: tuple[int, ...], low: int, high: int) -> Scales:
    """Parameters that broadcast with a tensor, as one or as one per slice of one axis."""
    if (zero != np.rint(zero)).any():
        raise NotSupportedHere("a zero point that is no integer")
    if scale.size == 1 and zero.size == 1:
        return Scales(scale.reshape(1), zero.reshape(1).astype(np.int64), low, high)
    full = np.broadcast_shapes(scale.shape, zero.shape)
    full = (1,) * (len(shape) - len(full)) + full
    axes = [i for i, n in enumerate(full) if n != 1]
    if len(axes) != 1:
        raise NotSupportedHere("quantization parameters along several axes")
    scale, zero = (np.broadcast_to(a, full).reshape(-1) for a in (scale, zero))
    return Scales(scale, zero.astype(np.int64), low, high, axes[0])


def _bipolar(c: Call) -> Value:
    """QONNX's BipolarQuant: 1 where x >= 0, else -1, times the scale; as weights only."""
    x = c.value(0)
    if not isinstance(x, Const):
        raise NotSupportedHere("activations of one bit, -1 and 1")
    scale = c.array(1, "scale").astype(np.float32)
    scales = _broadcast_scales(scale, np.zeros(1, np.float32), x.array.shape, -1, 1)
    codes = np.where(x.array >= 0, 1, -1)
    return Coded(torch.tensor(codes.tolist(), dtype=torch.int32).reshape(x.array.shape), scales)


def _matmul_bits(c: Call) -> Tensor:
    """com.microsoft.MatMulNBits: A, packed codes [N, blocks, bytes], scales [N, blocks], [zero points], [places], [bias]."""
    bits, block = int(c.attribute("bits", 4)), int(c.attribute("block_size", 32))
    inputs, outputs = int(c.attribute("K", 0)), int(c.attribute("N", 0))
    if bits not in (2, 4, 8) or block < 1 or inputs < 1 or outputs < 1:
        raise NotSupportedHere(f"{bits} bits in blocks of {block}")
    if c.has(4) and not np.array_equal(c.array(4, "places"), np.arange(inputs) // block):
        raise NotSupportedHere("weights whose columns are not in the order of their blocks (g_idx)")
    blocks = -(-inputs // block)
    codes = _unpacked(c.array(1, "weight").reshape(outputs, -1), bits)[:, :inputs]
    scale = c.array(2, "scale").astype(np.float32).reshape(outputs, blocks)
    zero = np.full(scale.shape, 1 << (bits - 1), np.int64)
    if c.has(3):
        given = c.array(3, "zero point")
        if given.dtype.kind == "f":
            zero = np.rint(given.reshape(scale.shape)).astype(np.int64)
            if (zero != given.reshape(scale.shape)).any():
                raise NotSupportedHere("zero points that are no integers")
        else:
            zero = _unpacked(given.reshape(outputs, -1), bits)[:, :blocks].astype(np.int64)
    if codes.shape[1] != inputs or zero.shape != scale.shape:
        raise ValueError(f"{codes.shape[1]} weights and {zero.shape[1]} zero points per output; {inputs} and {blocks} are expected")
    scales = Scales(scale, zero, 0, (1 << bits) - 1, 1, block)
    weight = dequantized(Coded(torch.tensor(codes.tolist(), dtype=torch.uint8), scales))
    return F.linear(c.tensor(0), weight, c.tensor(5) if c.has(5) else None)


def _unpacked(packed: Array, bits: int) -> Array:
    """Codes of rows of bytes, the first in a byte's lowest bits."""
    per_byte = 8 // bits
    parts = [(packed.astype(np.uint8) >> (bits * i)) & ((1 << bits) - 1) for i in range(per_byte)]
    return np.stack(parts, -1).reshape(len(packed), -1)


def _trunc(c: Call) -> Any:
    raise NotSupportedHere("truncated codes; export the model with an average pool that quantizes its output instead")


ROWS: dict[str, Handler] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
QONNX_ROWS: dict[str, Handler] = {"Quant": _quant, "IntQuant": _quant, "BipolarQuant": _bipolar, "Trunc": _trunc}
MICROSOFT_ROWS: dict[str, Handler] = {**ROWS, "MatMulNBits": _matmul_bits}
