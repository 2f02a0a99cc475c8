"""linear_dynamic: linear over float rows that are quantized at run time (docs/numerics.md, "linear_dynamic")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, activation, float_attribute, store
from pyqinfer.reference.rounding import F32, F64, f32


def linear_dynamic(node: NodeArgs) -> Tensor:
    """Quantize the rows of x, which are all axes but the last, and multiply them by the weights."""
    x, weight, a = node.inputs[0].data, node.constants["weight"], node.attrs
    *leading, inputs = x.shape
    rows = f32(x.reshape(-1, inputs))
    scale, zero = row_parameters(rows, a)
    centred = _centred_codes(rows, scale, zero, a)
    y = _scaled_sums(centred, weight, node.constants, a["step"], scale)
    if "bias" in node.constants:
        y = f32(y + f32(node.constants["bias"]))
    return store(activation(y, a).reshape(*leading, len(weight)), node.output)


def row_parameters(rows: F32, attrs: Mapping[str, Any]) -> tuple[F32, NDArray[np.int32]]:
    """Give the scale and the zero point of each row, ``[rows, 1]``."""
    numbers = np.where(np.isnan(rows), np.float32(0), rows)
    axis = 1 if attrs["granularity"] == "row" else None
    low, high = (f32(reduce(numbers, axis=axis, keepdims=True, initial=0)) for reduce in (np.min, np.max))
    steps = np.float32(attrs["qmax"] - attrs["qmin"])
    symmetric = attrs["mapping"] == "symmetric"
    scale = np.maximum(-low, high) / np.float32(steps / 2) if symmetric else (high - low) / steps
    scale = np.minimum(np.maximum(f32(scale), np.float32(float_attribute(attrs["eps"]))), np.finfo(np.float32).max)
    if symmetric:
        zero = np.full(scale.shape, (attrs["qmin"] + attrs["qmax"] + 1) // 2)
    else:
        zero = attrs["qmin"] - np.rint(np.maximum(f32(low / scale), -steps))
    shape = (len(rows), 1)
    return np.broadcast_to(scale, shape), np.broadcast_to(zero.astype(np.int32), shape)


def _centred_codes(rows: F32, scale: F32, zero: NDArray[np.int32], attrs: Mapping[str, Any]) -> F64:
    """Give ``q - z`` of each element, 0 for NaN."""
    reciprocal = f32(1.0 / scale.astype(np.float64))
    v = f32(np.where(np.isnan(rows), np.float32(0), rows)) * reciprocal
    centred: F64 = np.rint(np.minimum(np.maximum(v, f32(attrs["qmin"] - zero)), f32(attrs["qmax"] - zero))).astype(np.float64)
    return centred


def _scaled_sums(centred: F64, weight: NDArray[Any], constants: Mapping[str, NDArray[Any]], step: int, row_scale: F32) -> F32:
    """Add and scale group by group. Sums of a group are exact in double, so a BLAS may add in any order."""
    outputs, inputs = weight.shape
    scale = f32(constants["scale"]).reshape(outputs, -1)
    groups = scale.shape[1]
    base = constants["base"].reshape(outputs, -1).astype(np.float64) if "base" in constants else None
    total: F32 | None = None
    for g, columns in enumerate(np.split(np.arange(inputs), groups)):
        part = centred[:, columns]
        acc = step * (part @ weight[:, columns].T.astype(np.float64))
        if base is not None:
            acc += part.sum(1, keepdims=True) * base[:, g]
        if groups == 1:
            return f32(f32(acc) * row_scale) * scale[:, 0]
        term = f32(acc) * scale[:, g]
        total = term if total is None else total + term
    assert total is not None
    return f32(total * row_scale)


OPS: Mapping[str, Op] = {
    "linear_dynamic": linear_dynamic,
}
