"""Ops over [N, C, L], by the handlers of those over [N, C, H, W]: the input becomes an image one row high, the output loses its height."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant

# What arguments of an op over one dimension become for the height, of which there is one position.
_OF_HEIGHT = {"stride": 1, "padding": 0, "dilation": 1, "kernel_size": 1, "output_size": 1, "output_padding": 0, "scale_factors": 1.0}


def in_one_dimension(handler: Handler) -> Handler:
    """A handler for [N, C, L] that hands an image one row high to the one for [N, C, H, W]."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        key = "input" if "input" in a else "self"
        x = reader.activation(a[key], "input")
        if len(x.shape) != 3:
            raise NotSupportedHere(f"needs an input of rank 3 (N, C, L), got rank {len(x.shape)}")
        n, channels, length = x.shape
        image = _reshape(reader, node, x, (n, channels, 1, length))
        image.origin = ""
        y = handler(reader, node, {**a, **_of_images(a), key: image})
        y.origin = ""
        row = _reshape(reader, node, y, (y.shape[0], y.shape[1], y.shape[3]))
        row.origin = node.name
        return row

    return run


def in_one_or_two_dimensions(two: Handler) -> Handler:
    """A handler for an op that takes [N, C, L] as well as images."""
    one = in_one_dimension(two)

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        x = a.get("input", a.get("self"))
        return (one if isinstance(x, ir.Value) and len(x.shape) == 3 else two)(reader, node, a)

    return run


def _reshape(reader: GraphReader, node: Node, x: ir.Value, shape: ir.Shape) -> ir.Value:
    return reader.emit("reshape", node, [x], shape, {"shape": shape}, name=reader.namer.unique(f"{node.name}.reshape"))


def _of_images(a: Mapping[str, Any]) -> Arguments:
    changed: Arguments = {}
    for key, height in _OF_HEIGHT.items():
        value = a.get(key)
        if isinstance(value, int):
            changed[key] = [height, value]
        elif isinstance(value, (list, tuple)) and len(value) == 1:
            changed[key] = [height, value[0]]
    weight = a.get("weight")
    if isinstance(weight, Tensor) and weight.ndim == 3:
        changed["weight"] = weight.unsqueeze(2)
    elif isinstance(weight, QuantizedConstant) and weight.codes.ndim == 3:
        changed["weight"] = replace(weight, codes=weight.codes.unsqueeze(2), value=weight.value.unsqueeze(2))
    return changed
