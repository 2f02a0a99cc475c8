"""Handlers of aten ops that write the elements of a dimension in another place: rolled, turned, or with others around them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import TO_END, inner, known_size, operand, padded, sliced
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
    """A concatenation of slices of one element, last first; for short dimensions only."""
    x = operand(reader, a)
    for axis in {d % len(x.shape) for d in a["dims"]}:
        if known_size(x, axis) > 64:
            raise NotSupportedHere(f"flips a dimension of {x.shape[axis]}, more than 64")
        pieces = [inner(sliced(reader, node, x, axis, i, i + 1)) for i in reversed(range(known_size(x, axis)))]
        x = inner(concatenated(reader, node, pieces, axis))
    return x


def _pad(reader: GraphReader, node: Node, a: Arguments, mode: str) -> ir.Value:
    x = operand(reader, a)
    amounts: Any = a.get("pad", a.get("padding"))
    if any(isinstance(n, SymbolicSize) for n in amounts):
        raise NotSupportedHere("padding that depends on the input's size")
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
