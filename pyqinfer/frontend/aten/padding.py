"""Handlers of aten ops that write the elements of a dimension in another place: rolled, turned, or with others around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, arange
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.arithmetic import combined
from pyqinfer.frontend.aten.build import TO_END, inner, known_size, operand, padded, reshaped, sliced, tensor_of
from pyqinfer.frontend.aten.integers import as_kind, calculated, compared
from pyqinfer.frontend.aten.lookup import along
from pyqinfer.frontend.aten.movement import concatenated
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, SymbolicSize


def _roll(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = operand(reader, a)
    if len(a["dims"]) != len(a["shifts"]):
        raise NotSupportedHere("roll without dimensions")
    for dim, shift in zip(a["dims"], a["shifts"], strict=True):
        axis = dim % len(x.shape)
        cut = -shift % known_size(x, axis) if isinstance(x.shape[axis], int) else _open_cut(reader, node, axis, shift)
        if cut:
            pieces = [inner(sliced(reader, node, x, axis, cut, TO_END)), inner(sliced(reader, node, x, axis, 0, cut))]
            x = inner(concatenated(reader, node, pieces, axis))
    return x


def _open_cut(reader: GraphReader, node: Node, axis: int, shift: int) -> int | str:
    """Where a roll cuts an open dimension, which has to be at least as long as it is rolled."""
    traced = node.meta.get("val")
    if shift <= 0 or not isinstance(traced, Tensor):
        return -shift
    return reader.named(traced.shape[axis], -shift)


def _flip(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A concatenation of slices of one element, last first; the elements of a long dimension are looked up."""
    x = operand(reader, a)
    for axis in {d % len(x.shape) for d in a["dims"]}:
        if known_size(x, axis) > 64:
            places = inner(tensor_of(reader, node, arange(known_size(x, axis) - 1, -1, -1)))
            x = inner(along(reader, node, x, places, axis))
            continue
        pieces = [inner(sliced(reader, node, x, axis, i, i + 1)) for i in reversed(range(known_size(x, axis)))]
        x = inner(concatenated(reader, node, pieces, axis))
    return x


def _pad(reader: GraphReader, node: Node, a: Arguments, mode: str) -> ir.Value:
    x = operand(reader, a)
    amounts: Any = a.get("pad", a.get("padding"))
    if any(isinstance(n, SymbolicSize) for n in amounts):
        return _padded_by_sizes(reader, node, x, amounts, mode, a.get("value") or 0.0)
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for i in range(len(amounts) // 2):
        before[-1 - i], after[-1 - i] = int(amounts[2 * i]), int(amounts[2 * i + 1])
    for axis in range(len(x.shape)):  # a negative amount of padding cuts elements off
        if min(before[axis], after[axis]) < 0:
            end = known_size(x, axis) + min(after[axis], 0) if after[axis] < 0 else TO_END
            x = inner(sliced(reader, node, x, axis, max(-before[axis], 0), end))
            before[axis], after[axis] = max(before[axis], 0), max(after[axis], 0)
    if not any(before) and not any(after):
        return x
    value = float(np.float32(a.get("value") or 0.0)) if mode == "constant" else 0.0
    return padded(reader, node, x, before, after, mode, value)


def _padded_by_sizes(reader: GraphReader, node: Node, x: ir.Value, amounts: Sequence[Any], mode: str, value: float) -> ir.Value:
    """Padding by computed amounts: each place of the result is looked up, the nearest one for those outside, which are 0 then."""
    shape = reader.named_shape(node)
    source: Any = node.args[0]
    sizes = reader.named_shape(source)
    if shape is None or sizes is None or mode not in ("constant", "replicate") or value:
        raise NotSupportedHere("padding that depends on the input's size, by reflection or with a number")
    for i in range(len(amounts) // 2):
        axis, before = len(shape) - 1 - i, amounts[2 * i]
        if amounts[2 * i : 2 * i + 2] == [0, 0]:
            continue
        place = inner(reader.counted(shape[axis], 0, 1))
        if before != 0:
            place = inner(calculated(reader, node, place, before, "sub"))
        last = calculated(reader, node, _size_value(sizes[axis]), -1, "add") if isinstance(sizes[axis], str) else int(sizes[axis]) - 1
        nearest = inner(calculated(reader, node, inner(calculated(reader, node, place, 0, "maximum")), last, "minimum"))
        x = inner(along(reader, node, x, nearest, axis))
        if mode == "constant":
            inside = as_kind(
                reader,
                node,
                inner(compared(reader, node, inner(calculated(reader, node, nearest, place, "sub")), np.zeros(1, np.int32), "eq")),
                "float",
            )
            inside = inner(reshaped(reader, node, inside, (shape[axis], *(1,) * i), "inside"))
            x = inner(combined(reader, node, x, inside, "mul"))
    x.origin = node.name
    return x


def _size_value(name: int | str) -> SymbolicSize:
    return SymbolicSize(str(name))


def _pad_around(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Padding with what lies at the other end of the dimension."""
    x, amounts = operand(reader, a), a["pad"]
    for i in range(len(amounts) // 2):
        axis, before, after = len(x.shape) - 1 - i, amounts[2 * i], amounts[2 * i + 1]
        if not isinstance(before, int) or not isinstance(after, int) or min(before, after) < 0:
            raise NotSupportedHere(f"circular padding by {before} and {after}")
        size = known_size(x, axis)
        front = [inner(sliced(reader, node, x, axis, size - before, TO_END))] if before else []
        back = [inner(sliced(reader, node, x, axis, 0, after))] if after else []
        if front or back:
            x = inner(concatenated(reader, node, [*front, x, *back], axis))
    x.origin = node.name
    return x


def _pad_by_name(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a["mode"] == "circular":
        return _pad_around(reader, node, a)
    if a["mode"] not in ("constant", "reflect", "replicate"):
        raise NotSupportedHere(f"padding of mode {a['mode']!r}")
    return _pad(reader, node, a, a["mode"])


HANDLERS: dict[str, Handler] = {
    "roll": _roll,
    "flip": _flip,
    "constant_pad_nd": lambda r, n, a: _pad(r, n, a, "constant"),
    "pad": _pad_by_name,
    "reflection_pad1d": lambda r, n, a: _pad(r, n, a, "reflect"),
    "reflection_pad2d": lambda r, n, a: _pad(r, n, a, "reflect"),
    "replication_pad1d": lambda r, n, a: _pad(r, n, a, "replicate"),
    "replication_pad2d": lambda r, n, a: _pad(r, n, a, "replicate"),
}
