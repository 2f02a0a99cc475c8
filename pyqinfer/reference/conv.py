"""conv2d, linear and embedding, integer and float (docs/numerics.md, "conv2d and linear")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, activation, centred, dequantize, store
from pyqinfer.reference.rounding import F32, F64, f32, fma
from pyqinfer.reference.windows import patches, row_blocks

_MATMUL_BLOCK = 1 << 22  # how many numbers a matrix of windows holds at a time, which bounds memory
_CHAIN_BLOCK = 1 << 15  # how many outputs of float chains are computed at a time: temporaries then stay in the cache


@dataclass(frozen=True)
class Geometry:
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


def conv2d(node: NodeArgs) -> Tensor:
    a = node.attrs
    geometry = Geometry(tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"]), a["groups"])
    return _weighted(node, node.inputs[0], node.constants["weight"], geometry)


def linear(node: NodeArgs) -> Tensor:
    """Run a linear layer over rows, which is a 1x1 convolution over an image one row high."""
    x, weight = node.inputs[0], node.constants["weight"]
    *leading, inputs = x.data.shape
    image = Tensor(x.data.reshape(1, 1, -1, inputs), x.quant)
    y = _weighted(node, image, weight[:, None, None, :], Geometry())
    return Tensor(y.data.reshape(*leading, len(weight)), y.quant)


def embedding(node: NodeArgs) -> Tensor:
    """Look rows of a table up. Raises ValueError for an index outside it."""
    indices, weight = node.inputs[0].data, node.constants["weight"]
    if indices.size and not 0 <= indices.min() <= indices.max() < len(weight):
        raise ValueError(f"an index is outside [0, {len(weight)})")
    return store(_float_weight(weight, node.constants, node.attrs["step"])[indices], node.output)


def _weighted(node: NodeArgs, x: Tensor, weight: NDArray[Any], geometry: Geometry) -> Tensor:
    if x.quant is None:
        y = _float_chains(x.data, _float_weight(weight, node.constants, node.attrs["step"]), geometry)
    else:
        acc = _accumulate(x, weight, node.constants.get("base"), node.attrs["step"], geometry)
        y = f32(acc) * (x.quant.scale * f32(node.constants["scale"]))
    if "bias" in node.constants:
        y = y + f32(node.constants["bias"])
    if len(node.inputs) > 1:
        y = y + dequantize(node.inputs[1]).reshape(y.shape)
    return store(activation(y, node.attrs), node.output)


def _accumulate(x: Tensor, code: NDArray[Any], base: NDArray[Any] | None, step: int, geometry: Geometry) -> F64:
    """Compute ``step * sum((q - z) * code) + base * sum(q - z)``, ``[N, out_h, out_w, O]``.

    Computed in double: every partial sum is an integer below 2^53, so a BLAS may add in any order and contract as it likes.
    """

    def block(rows: F64, weight: F64, outputs: slice) -> F64:
        acc = step * (rows @ weight)
        if base is not None:
            acc += rows.sum(1, keepdims=True) * base[outputs].astype(np.float64)
        return acc

    return _by_groups(centred(x).astype(np.float64), code, geometry, _MATMUL_BLOCK // code[0].size, block)


def _float_chains(x: F32, weight: F32, geometry: Geometry) -> F32:
    """Compute a chain of fused multiply-adds per output in ascending (kh, kw, cin) order from 0, ``[N, out_h, out_w, O]``."""

    def block(rows: F64, weight: F64, _outputs: slice) -> F64:
        t = np.zeros((len(rows), weight.shape[1]))
        columns = np.ascontiguousarray(rows.T)
        for column, taps in zip(columns, weight, strict=True):
            t = fma(column[:, None], taps[None, :], t)
        return t

    outputs = len(weight) // geometry.groups
    return f32(_by_groups(x.astype(np.float64), weight, geometry, max(1, _CHAIN_BLOCK // outputs), block))


def _by_groups(x: F64, weight: NDArray[Any], geometry: Geometry, rows_per_block: int, block: Any) -> F64:
    """Apply ``block(rows [P, K], weight [K, O/groups], output channels) -> [P, O/groups]`` to all windows of each group."""
    outputs, kh, kw, depth = weight.shape
    per_group = outputs // geometry.groups
    view = patches(x, (kh, kw), geometry.stride, geometry.padding, geometry.dilation, False, 0.0)
    y = np.empty((int(np.prod(view.shape[:3])), outputs))
    for group in range(geometry.groups):
        channels = slice(group * per_group, (group + 1) * per_group)
        columns = weight[channels].reshape(per_group, -1).T.astype(np.float64)
        part = view[..., group * depth : (group + 1) * depth]
        for rows, values in row_blocks(part, rows_per_block * kh * kw * depth):
            y[rows, channels] = block(values, columns, channels)
    return y.reshape(*view.shape[:3], outputs)


def _float_weight(weight: NDArray[Any], constants: Mapping[str, NDArray[Any]], step: int) -> F32:
    """Give float weights as they are, and codes as ``f32(f32(step*code + base) * s_w)``, with a scale per output or per group of it."""
    if "scale" not in constants:
        return f32(weight)
    lines = (constants["scale"].size, -1)
    value = step * weight.astype(np.int64).reshape(lines)
    if "base" in constants:
        value = value + constants["base"].astype(np.int64).reshape(-1, 1)
    return f32(f32(value) * f32(constants["scale"]).reshape(-1, 1)).reshape(weight.shape)


OPS: Mapping[str, Op] = {
    "conv2d": conv2d,
    "linear": linear,
    "embedding": embedding,
}
