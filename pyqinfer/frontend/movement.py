"""Handlers of aten ops that move elements."""

from __future__ import annotations

from collections.abc import Sequence

from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.reader import GraphReader, NotSupportedHere


def reshaped(reader: GraphReader, node: Node, x: ir.Value, target: Sequence[ir.Dim], op: str) -> ir.Value:
    """The elements of ``x`` under another shape, which may hold one -1 or None; ``x`` itself where nothing changes."""
    shape = shapes.reshape(x.shape, target)
    if shape is None:
        raise NotSupportedHere(f"reshape of {x.shape} to {tuple(target)}: more than one unknown dimension")
    if shape == x.shape and None not in shape:
        return x
    return reader.emit("reshape", node, [x], shape, {"shape": shape}, name=reader.namer.name(node, op))


def inner(value: ir.Value) -> ir.Value:
    """A value that no single tensor of torch's graph stands for."""
    value.origin = ""
    return value
