"""Integer products of activations that DynamicQuantizeLinear quantizes: they become layers whose input is quantized at run time.

ONNX Runtime writes such a layer as DynamicQuantizeLinear, MatMulInteger, Cast and two Muls by scales; the values between say what is
known so far, and the Mul that brings both scales together makes the layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.dynamic import quantize_dequantize_dynamic
from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.values import (
    Array,
    Coded,
    Const,
    IntegerProduct,
    RuntimeCodes,
    RuntimeScale,
    RuntimeZeroPoint,
    Scales,
    Value,
)
from pyqinfer.frontend.sources.onnx.weights import code_range, dequantized, tight, transposed
from pyqinfer.frontend.values import NotSupportedHere

# A scale of 0 (all activations are 0) is one of this size: the codes are those of 0 either way.
_LEAST_SCALE = float(np.finfo(np.float32).tiny)


def run_time_quantized(x: Tensor) -> Tensor:
    """What the codes of DynamicQuantizeLinear stand for."""
    y: Tensor = quantize_dequantize_dynamic(x, "asymmetric", "tensor", 0, 255, _LEAST_SCALE)
    return y


def _dynamic_quantize(c: Call) -> tuple[Value, ...]:
    x = c.tensor(0)
    return RuntimeCodes(x), RuntimeScale(x, np.ones((), np.float32)), RuntimeZeroPoint(x)


def _weight(c: Call, i: int, zero_at: int) -> tuple[Const, Array]:
    weight = c.value(i)
    if not isinstance(weight, Const):
        raise NotSupportedHere("an integer product of two computed matrices")
    zero = c.array(zero_at, "zero point") if c.has(zero_at) else np.zeros(1, np.int64)
    return weight, zero.astype(np.int64)


def _matmul_integer(c: Call) -> IntegerProduct:
    x = c.value(0)
    if not isinstance(x, RuntimeCodes):
        raise NotSupportedHere("an integer product whose left operand is not that of DynamicQuantizeLinear")
    if not isinstance(c.value(2), RuntimeZeroPoint) or c.value(2).x is not x.x:
        raise NotSupportedHere("a zero point that is not that of DynamicQuantizeLinear")
    weight, zero = _weight(c, 1, 3)
    return IntegerProduct(x.x, weight.tensor, zero, *tight(weight.array, *code_range(weight.kind)))


def multiplied(left: Value, right: Value) -> Value:
    """The product of run-time scales and integer products with one another and with constants; None for other operands."""
    if isinstance(right, (RuntimeScale, IntegerProduct)) and not isinstance(left, IntegerProduct):
        left, right = right, left
    if isinstance(left, RuntimeScale) and isinstance(right, Const):
        return RuntimeScale(left.x, left.factor * right.array.astype(np.float32))
    if isinstance(left, IntegerProduct) and isinstance(right, RuntimeScale):
        if left.x is not right.x:
            raise NotSupportedHere("an integer product with the scale of another tensor")
        return _layer(left.x, left.codes, left.zero_point, right.factor, left.low, left.high)
    return None


def _layer(x: Tensor, codes: Tensor, zero_point: Array, scale: Array, low: int, high: int, bias: Tensor | None = None) -> Tensor:
    """x @ weights, with codes [K, N] and a scale and a zero point of one or of N elements."""
    if codes.ndim != 2:
        raise NotSupportedHere(f"quantized weights of rank {codes.ndim}")
    outputs = codes.shape[1]
    axis = 1 if max(scale.size, zero_point.size) > 1 else None
    if axis is not None:
        scale, zero_point = (np.broadcast_to(a.reshape(-1), (outputs,)) for a in (scale, zero_point))
    weight = transposed(Coded(codes, Scales(scale, zero_point, low, high, axis)))
    return F.linear(run_time_quantized(x), dequantized(weight), bias)


def _dynamic_matmul(c: Call) -> Tensor:
    """com.microsoft.DynamicQuantizeMatMul: A, B, B's scale, [B's zero point], [bias]."""
    weight, zero = _weight(c, 1, 3)
    bias = c.tensor(4) if c.has(4) else None
    scale = c.array(2, "scale").astype(np.float32)
    return _layer(c.tensor(0), weight.tensor, zero, scale, *tight(weight.array, *code_range(weight.kind)), bias)


def _matmul_to_float(c: Call) -> Tensor:
    """com.microsoft.MatMulIntegerToFloat: A, B, A's scale, B's scale, [A's zero point], [B's zero point], [bias]."""
    x = c.value(0)
    if not isinstance(x, RuntimeCodes) or not isinstance(c.value(2), RuntimeScale) or c.value(2).x is not x.x:
        raise NotSupportedHere("an integer product whose left operand is not that of DynamicQuantizeLinear")
    weight, zero = _weight(c, 1, 5)
    bias = c.tensor(6) if c.has(6) else None
    scale = c.array(3, "scale").astype(np.float32) * c.value(2).factor
    return _layer(x.x, weight.tensor, zero, scale, *tight(weight.array, *code_range(weight.kind)), bias)


def _conv_integer(c: Call) -> Any:
    raise NotSupportedHere("a convolution whose input is quantized at run time; quantize it statically (quantize_static)")


ROWS: dict[str, Handler] = {
    "DynamicQuantizeLinear": _dynamic_quantize,
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
}
MICROSOFT_ROWS: dict[str, Handler] = {"DynamicQuantizeMatMul": _dynamic_matmul, "MatMulIntegerToFloat": _matmul_to_float}
