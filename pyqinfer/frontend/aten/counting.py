"""Integers that count along a dimension: numbers only in a run, yet what an index or a bound is can be proved of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import TO_END
from pyqinfer.frontend.aten.integers import as_kind
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, Places, SymbolicSize


def _arange(reader: GraphReader, node: Node, a: Arguments) -> Any:
    start, step, dtype = a.get("start", 0), a.get("step", 1), node.meta["val"].dtype
    shape = reader.named_shape(node)
    if isinstance(start, float) and step == 1 and shape is not None:
        return _from_fraction(reader, node, shape[0], start)
    if shape is None or not isinstance(step, int) or not isinstance(start, (int, SymbolicSize)):
        raise NotSupportedHere("counts to a number that is computed from the input's sizes")
    length = shape[0]
    if isinstance(start, SymbolicSize) or isinstance(length, int):
        counted = reader.counted(length, reader.size(start), step)
        return as_kind(reader, node, counted, "float") if dtype.is_floating_point else counted
    places = Places(length, 1, 0, start, step)
    return as_kind(reader, node, places, "float") if dtype.is_floating_point else places


def _from_fraction(reader: GraphReader, node: Node, length: int | str, start: float) -> ir.Value:
    """start, start + 1, ... for a start between whole numbers."""
    counted = as_kind(reader, node, reader.counted(length, 0, 1), "float")
    other = np.full(1, start, np.float32)
    return reader.emit("binary", node, [counted], counted.shape, {"function": "add"}, {"other": other})


def view_of_places(a: Arguments, op: str) -> Places | None:
    """What is left of places under a view, or None: only more dimensions of 1 leave them what they are."""
    x: Places = a["self"]
    if op == "unsqueeze":
        axis = int(a["dim"]) % (x.rank + 1)
        return Places(x.dim, x.rank + 1, x.axis + (axis <= x.axis), x.start, x.step)
    end = a["end"]
    to_end = end is None or end == SymbolicSize(x.dim) or (isinstance(end, int) and end >= TO_END)
    return x if a["start"] in (None, 0) and a["step"] == 1 and to_end else None


def piece_of_counted(reader: GraphReader, a: Arguments) -> Any:
    """A slice, up to a size of the input, of a constant that counts along its axis or is the same all along; None for any other slice.

    Models keep such constants for the longest input, so that the size has to be one that the constant has.
    """
    x, end = a["self"], a["end"]
    if not isinstance(end, SymbolicSize) or a["start"] not in (None, 0) or a["step"] != 1 or x.is_floating_point() or not x.ndim:
        return None
    axis, size = int(a["dim"]) % x.ndim, reader.size(end)
    rows = x.movedim(axis, 0).flatten(1)
    steps = rows.to(torch.int64).diff(dim=0)
    if len(rows) < 2 or not bool((steps == steps[:1, :1]).all()):
        return None
    step, length = int(steps[0, 0]), int(x.shape[axis])
    if step and rows.shape[1] != 1:
        return None
    reader.conditions.append(("<=", size, length))
    return Places(str(size), x.ndim, axis, int(rows[0, 0]), step) if step else x.narrow(axis, 0, 1)


def covers(index: Any, dim: ir.Dim) -> int | None:
    """The axis along which an index counts through all places of a dimension in order; None for any other index."""
    if isinstance(index, Places):
        return index.axis if (index.dim, index.start, index.step) == (dim, 0, 1) else None
    if not isinstance(index, Tensor) or index.dtype == torch.bool or index.numel() != dim or not isinstance(dim, int):
        return None
    if dim == 1:
        return None if int(index) else index.ndim - 1
    axis = next((i for i, n in enumerate(index.shape) if n == dim), None)
    return axis if axis is not None and torch.equal(index.flatten(), torch.arange(dim)) else None


HANDLERS: dict[str, Handler] = {"arange": _arange}
