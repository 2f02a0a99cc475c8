"""Operators on shapes: sizes of the input are computed with as torch computes with them, so that open ones stay open."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pyqinfer.frontend.sources.onnx.call import Call, Handler, check_count
from pyqinfer.frontend.sources.onnx.graph import Initializer
from pyqinfer.frontend.sources.onnx.values import Const, Sizes, Value, as_tensor
from pyqinfer.frontend.values import NotSupportedHere

Objects = NDArray[np.object_]


def objects(numbers: Sequence[Any], shape: tuple[int, ...] | None = None) -> Objects:
    """An array of integers and sizes."""
    array = np.empty(len(numbers), object)
    array[:] = list(numbers)
    return array if shape is None else array.reshape(shape)


def as_objects(value: Value) -> Objects | None:
    """A value as integers and sizes; None where it is something else."""
    if isinstance(value, Sizes):
        return value.array
    if isinstance(value, Const) and value.array.dtype.kind in "iub" and value.array.size <= 1 << 16:
        return objects(value.array.reshape(-1).tolist(), value.array.shape)
    return None


def _truncated(x: Any, y: Any) -> Any:
    if isinstance(x, int) and isinstance(y, int):
        return int(x / y) if (x < 0) != (y < 0) else x // y
    return x // y  # sizes are not negative


def _chosen(condition: Any, x: Any, y: Any) -> Any:
    return x if condition else y


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": _truncated,
    "Mod": operator.mod,
    "Min": lambda x, y: torch.sym_min(x, y),  # type: ignore[no-untyped-call]
    "Max": lambda x, y: torch.sym_max(x, y),  # type: ignore[no-untyped-call]
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "And": lambda x, y: bool(x) and bool(y),
    "Or": lambda x, y: bool(x) or bool(y),
    "Where": _chosen,
}


def combined_sizes(name: str, operands: Sequence[Value]) -> Sizes | None:
    """An elementwise operation of sizes; None where no operand is a size, or one is a tensor."""
    if not any(isinstance(value, Sizes) for value in operands) or name not in _FUNCTIONS:
        return None
    arrays = [as_objects(value) for value in operands]
    known = [array for array in arrays if array is not None]
    if len(known) < len(arrays):
        return None
    function = _FUNCTIONS[name]
    shape = np.broadcast_shapes(*[array.shape for array in known])
    rows = zip(*[np.broadcast_to(array, shape).reshape(-1) for array in known], strict=True)
    if name == "Where":
        return Sizes(objects([function(*row) for row in rows], shape))
    return Sizes(objects([reduce(function, row) for row in rows], shape))


def _shape(c: Call) -> Sizes:
    sizes = list(c.tensor(0).shape)
    start, end = int(c.attribute("start", 0)), c.attribute("end")
    return Sizes(objects(sizes[start : len(sizes) if end is None else int(end)]))


def _size(c: Call) -> Sizes:
    return Sizes(objects([prod(c.tensor(0).shape)], ()))


def _constant(c: Call) -> Any:
    if c.attribute("value") is not None:
        return c.initializer("value")
    for name, kind in (("value_float", "float"), ("value_floats", "float"), ("value_int", "int64"), ("value_ints", "int64")):
        if (given := c.attribute(name)) is not None:
            return Initializer(np.array(given, np.float32 if kind == "float" else np.int64), kind)
    raise NotSupportedHere(f"a constant of {', '.join(c.operation.attributes)}")


def _constant_of_shape(c: Call) -> Any:
    shape = c.sizes(0, "shape")
    check_count(shape)
    given = c.attribute("value")
    value = as_tensor(given.array).reshape(-1)[0] if isinstance(given, Initializer) else torch.tensor(0.0)
    if isinstance(c.value(0), Sizes) and not value.is_floating_point() and len(shape) == 1 and isinstance(shape[0], int):
        return Sizes(objects([int(value)] * shape[0]))
    return torch.full(shape, value.item(), dtype=value.dtype)


def _range(c: Call) -> Any:
    bounds = [as_objects(value) for value in c.operands]
    numbers = [array.reshape(-1)[0] for array in bounds if array is not None]
    if len(numbers) == 3:
        if any(isinstance(value, Sizes) for value in c.operands):
            check_count([len(range(*numbers))] if all(isinstance(n, int) for n in numbers) else [])
            return torch.arange(*numbers)
        check_count([len(range(*numbers))])
        return torch.arange(*numbers, dtype=c.tensor(0).dtype)
    start, end, step = (c.number(i, "bound") for i in range(3))
    check_count([max(0, int((end - start) / step) + 1)])
    return torch.arange(start, end, step, dtype=c.tensor(0).dtype)


ROWS: dict[str, Handler] = {
    "Shape": _shape,
    "Size": _size,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
}
