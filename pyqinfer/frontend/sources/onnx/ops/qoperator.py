"""Operators on codes (ONNX Runtime's QOperator form): the layer over what the codes stand for, between a dequantize and a quantize."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.graph import Operation
from pyqinfer.frontend.sources.onnx.ops import layers, pooling
from pyqinfer.frontend.sources.onnx.ops.quantize import quantized, read_codes, scales_of
from pyqinfer.frontend.sources.onnx.values import Coded, Codes, Const, Scales, Value
from pyqinfer.frontend.sources.onnx.weights import dequantized
from pyqinfer.frontend.values import NotSupportedHere


def _floats(value: Value) -> Tensor:
    return dequantized(value) if isinstance(value, Coded) else value


def _written(c: Call, y: Tensor, scale_at: int, zero_at: int, like: Value = None) -> Value:
    """``y`` quantized with operands' parameters; the type of its codes is the zero point's, or that of ``like``."""
    zero = c.value(zero_at)
    kind = zero.kind if isinstance(zero, Const) else like.kind if isinstance(like, Const) else "uint8"
    return quantized(y, scales_of(c, scale_at, zero_at, kind, y.shape), kind)


def _bias(c: Call, at: int, x_scale_at: int, weight: Value) -> Tensor | None:
    """A bias of integers in steps of the input's scale times the weights', as a float per output."""
    if not c.has(at):
        return None
    if not isinstance(weight, Coded):
        raise NotSupportedHere("an integer bias beside weights that are computed")
    codes = c.array(at, "bias").reshape(-1)
    step = c.array(x_scale_at, "scale").astype(np.float64).reshape(-1) * weight.scales.scale.astype(np.float64).reshape(-1)
    return torch.tensor((codes * step).astype(np.float32).tolist())


def _with(c: Call, operands: list[Value], **attributes: Any) -> Call:
    """The same node with other operands, for the handler of the operator on floats."""
    operation: Operation = replace(c.operation, attributes={**c.operation.attributes, **attributes})
    return Call(operation, operands, c.looked_at)


def _conv(c: Call) -> Value:
    x, weight = read_codes(c, 0, 1, 2), read_codes(c, 3, 4, 5, axis=0)
    y = layers.conv(_with(c, [_floats(x), weight, _bias(c, 8, 1, weight)]))
    return _written(c, y, 6, 7)


def _matmul(c: Call) -> Value:
    x, weight = read_codes(c, 0, 1, 2), read_codes(c, 3, 4, 5, axis=-1)
    return _written(c, layers.matmul(_with(c, [_floats(x), weight])), 6, 7)


def _gemm(c: Call) -> Value:
    """com.microsoft.QGemm: A, its scale and zero point, B, its scale and zero point, [C], [output's scale], [zero point]."""
    if c.attribute("transA", 0) or float(c.attribute("alpha", 1.0)) != 1:
        raise NotSupportedHere("transA or alpha")
    x, weight = read_codes(c, 0, 1, 2), read_codes(c, 3, 4, 5, axis=0 if c.attribute("transB", 0) else 1)
    y = layers.gemm(_with(c, [_floats(x), weight, _bias(c, 6, 1, weight)], beta=1.0))
    return _written(c, y, 7, 8) if c.has(7) else y


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    """Operands: A, scale, zero point, B, scale, zero point, the output's scale and zero point."""

    def handler(c: Call) -> Value:
        y = function(_floats(read_codes(c, 0, 1, 2)), _floats(read_codes(c, 3, 4, 5)))
        return _written(c, y, 6, 7)

    return handler


def _one(function: Callable[[Call, Tensor], Tensor]) -> Handler:
    """Operands: X, scale, zero point, the output's scale and zero point."""

    def handler(c: Call) -> Value:
        x = _floats(read_codes(c, 0, 1, 2))
        if not c.attribute("channels_last", 0):
            return _written(c, function(c, x), 3, 4)
        y = function(c, x.permute(0, x.ndim - 1, *range(1, x.ndim - 1)))
        return _written(c, y.permute(0, *range(2, x.ndim), 1), 3, 4)

    return handler


def _concat(c: Call) -> Value:
    """The output's scale and zero point, then for each input its codes, scale and zero point."""
    parts = [_floats(read_codes(c, i, i + 1, i + 2)) for i in range(2, len(c.operands), 3)]
    return _written(c, torch.cat(parts, int(c.attribute("axis", 0))), 0, 1)


def _softmax(c: Call, x: Tensor) -> Tensor:
    axis = int(c.attribute("axis", -1 if int(c.attribute("opset", 13)) >= 13 else 1))
    if int(c.attribute("opset", 13)) < 13 and axis % x.ndim != x.ndim - 1:
        raise NotSupportedHere("a softmax over several axes")
    return F.softmax(x, axis)


def _mean(c: Call, x: Tensor) -> Tensor:
    axes = c.attribute("axes") or range(x.ndim)
    return x.mean(list(axes), keepdim=bool(c.attribute("keepdims", 1)))


def unchanged(handler: Handler) -> Handler:
    """A handler of an operator that only moves elements, for codes as well: they are moved under the same parameters."""

    def run(c: Call) -> Any:
        coded = [value for value in c.operands if isinstance(value, Codes)]
        if not coded:
            return handler(c)
        scales: Scales = coded[0].scales
        if not all(value.scales.equals(scales) for value in coded):
            raise NotSupportedHere("codes of several scales")
        results = handler(Call(c.operation, [value.values() if isinstance(value, Codes) else value for value in c.operands], c.looked_at))
        if isinstance(results, tuple):
            return tuple(result and Codes(result, scales) for result in results)
        return Codes(results, scales)

    return run


ROWS: dict[str, Handler] = {"QLinearConv": _conv, "QLinearMatMul": _matmul}
MICROSOFT_ROWS: dict[str, Handler] = {
    "QLinearConv": _conv,
    "QLinearAdd": _elementwise(torch.add),
    "QLinearMul": _elementwise(torch.mul),
    "QLinearSigmoid": _one(lambda c, x: torch.sigmoid(x)),
    "QLinearLeakyRelu": _one(lambda c, x: F.leaky_relu(x, c.attribute("alpha", 0.01))),
    "QLinearGlobalAveragePool": _one(lambda c, x: pooling.global_average(x)),
    "QLinearAveragePool": _one(lambda c, x: pooling.average(_with(c, [x]))),
    "QLinearReduceMean": _one(_mean),
    "QLinearSoftmax": _one(_softmax),
    "QLinearConcat": _concat,
    "QGemm": _gemm,
}
