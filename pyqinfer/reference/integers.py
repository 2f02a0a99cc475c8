"""Integers and truth values (docs/numerics.md, "Integers")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, centred, dequantize, store
from pyqinfer.reference.rounding import f32

_LEAST, _LARGEST = -(2**31), 2**31 - 1
_RELATIONS: Mapping[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[np.bool_]]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def cast(node: NodeArgs) -> Tensor:
    x = node.inputs[0]
    if x.quant is not None:
        return Tensor(centred(x))
    if x.data.dtype == np.int32:
        return Tensor(f32(x.data))
    whole = np.trunc(np.where(np.isnan(x.data), 0, x.data).astype(np.float64))
    return Tensor(np.clip(whole, _LEAST, _LARGEST).astype(np.int32))


def compare(node: NodeArgs) -> Tensor:
    a, b = (x.data if x.data.dtype == np.int32 else dequantize(x) for x in _operands(node))
    return store(f32(_RELATIONS[node.attrs["function"]](a, b)), node.output)


def where(node: NodeArgs) -> Tensor:
    condition, a, b = node.inputs
    return Tensor(np.where(centred(condition) != 0, a.data, b.data), node.output)


def integer(node: NodeArgs) -> Tensor:
    a, b = (x.data.astype(np.int64) for x in _operands(node))
    return Tensor(_wrapped(_COMBINED[node.attrs["function"]](a, b)))


def arange(node: NodeArgs) -> Tensor:
    count = node.inputs[0].data.shape[node.attrs["axis"]]
    start = node.attrs["start"]
    first = node.symbols[start] if isinstance(start, str) else start
    return Tensor(_wrapped(first + node.attrs["step"] * np.arange(count, dtype=np.int64)))


def gather(node: NodeArgs) -> Tensor:
    (x, index), axis = node.inputs, node.attrs["axis"]
    if index.data.size and not 0 <= index.data.min() <= index.data.max() < x.data.shape[axis]:
        raise ValueError(f"an index is outside [0, {x.data.shape[axis]})")
    shape = [n if d == axis else length for d, (n, length) in enumerate(zip(index.data.shape, x.data.shape, strict=True))]
    return Tensor(np.take_along_axis(x.data, np.broadcast_to(index.data, shape), axis), x.quant)


def argmax(node: NodeArgs) -> Tensor:
    find = np.argmax if node.attrs["function"] == "max" else np.argmin  # both take the first NaN where there is one
    return Tensor(find(node.inputs[0].data, axis=node.attrs["axis"], keepdims=bool(node.attrs["keepdim"])).astype(np.int32))


def _operands(node: NodeArgs) -> list[Tensor]:
    return node.inputs if len(node.inputs) == 2 else [node.inputs[0], Tensor(node.constants["other"])]


def _wrapped(x: NDArray[np.int64]) -> NDArray[np.int32]:
    """Give the int32 that is equal modulo 2^32."""
    return x.astype(np.uint32).view(np.int32)


def _divided(function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]], a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    return np.where(b == 0, 0, function(a, np.where(b == 0, 1, b)))


_COMBINED: Mapping[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "floor_divide": lambda a, b: _divided(np.floor_divide, a, b),
    "remainder": lambda a, b: _divided(np.remainder, a, b),
    "maximum": np.maximum,
    "minimum": np.minimum,
}

OPS: Mapping[str, Op] = {
    "cast": cast,
    "compare": compare,
    "where": where,
    "integer": integer,
    "arange": arange,
    "gather": gather,
    "argmax": argmax,
}
