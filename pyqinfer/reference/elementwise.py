"""Conversions and operations on single elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, activation, clamp, dequantize, float_attribute, store
from pyqinfer.reference.rounding import F32, f32, fma

_TO_NHWC = (0, 2, 3, 1)
_TO_NCHW = (0, 3, 1, 2)
_BINARY: Mapping[str, Callable[[F32, F32], NDArray[Any]]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": lambda a, b: np.where(np.isnan(a) | (a > b), a, b),
    "minimum": lambda a, b: np.where(np.isnan(a) | (a < b), a, b),
}


def quantize(node: NodeArgs) -> Tensor:
    x = node.inputs[0].data
    return store(x.transpose(_TO_NHWC) if node.attrs["layout"] == "to_nhwc" else x, node.output)


def dequantize_values(node: NodeArgs) -> Tensor:
    y = dequantize(node.inputs[0])
    return Tensor(y.transpose(_TO_NCHW) if node.attrs["layout"] == "to_nchw" else y)


def add(node: NodeArgs) -> Tensor:
    a, b = (dequantize(x) for x in node.inputs)
    return store(activation(a + b, node.attrs), node.output)


def binary(node: NodeArgs) -> Tensor:
    a = dequantize(node.inputs[0])
    b = f32(node.constants["other"]) if len(node.inputs) == 1 else dequantize(node.inputs[1])
    function = node.attrs["function"]
    if function in ("rsub", "rdiv"):
        a, b, function = b, a, function[1:]
    return store(f32(_BINARY[function](a, b)), node.output)


def clamp_values(node: NodeArgs) -> Tensor:
    return Tensor(clamp(node.inputs[0].data, float_attribute(node.attrs["lo"]), float_attribute(node.attrs["hi"])))


def affine(node: NodeArgs) -> Tensor:
    x, scale, shift = (v.astype(np.float64) for v in (dequantize(node.inputs[0]), node.constants["scale"], node.constants["shift"]))
    return store(f32(fma(x, scale, shift)), node.output)


def table(node: NodeArgs) -> Tensor:
    entries, codes = node.constants["table"], node.inputs[0].data
    return Tensor(entries[codes] if entries.ndim == 1 else entries[np.arange(len(entries)), codes], node.output)


OPS: Mapping[str, Op] = {
    "quantize": quantize,
    "dequantize": dequantize_values,
    "add": add,
    "clamp": clamp_values,
    "affine": affine,
    "table": table,
    "binary": binary,
}
