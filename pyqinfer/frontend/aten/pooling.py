"""Handlers of aten ops that pool over windows of an image."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import image_operand, pair
from pyqinfer.frontend.aten.one_row import in_one_dimension
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, SymbolicSize


def _max_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = image_operand(reader, a)
    kernel, padding, dilation = pair(a["kernel_size"]), pair(a["padding"]), pair(a["dilation"])
    stride, ceil_mode = pair(a["stride"] or kernel), bool(a["ceil_mode"])
    attrs: dict[str, ir.Attr] = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding + padding,
        "dilation": dilation,
        "ceil_mode": int(ceil_mode),
    }
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], 2 * padding[i], dilation[i], ceil_mode) for i in (0, 1)]
    return reader.emit("max_pool2d", node, [x], (x.shape[0], x.shape[1], *size), attrs)


def _max_pool_tuple(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    return (_max_pool(reader, node, a), None)


def _adaptive_max_pool(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    """Largest elements of windows that divide the image evenly; a second result, their places, is not computed."""
    x, output = image_operand(reader, a), pair(a["output_size"])
    if output == (1, 1):
        attrs: dict[str, ir.Attr] = {"function": "amax", "axes": (2, 3), "keepdim": 1}
        return (reader.emit("reduce", node, [x], (*x.shape[:2], 1, 1), attrs), None)
    sizes = x.shape[2:]
    if not all(isinstance(size, int) and size % n == 0 for size, n in zip(sizes, output, strict=True)):
        raise NotSupportedHere(f"an adaptive max pool of {tuple(sizes)} to {output}, whose windows differ in size")
    kernel = [size // n for size, n in zip(sizes, output, strict=True) if isinstance(size, int)]
    windows: Arguments = {"self": x, "kernel_size": kernel, "stride": kernel, "padding": [0, 0], "dilation": [1, 1], "ceil_mode": False}
    return (_max_pool(reader, node, windows), None)


def _avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = image_operand(reader, a)
    if a.get("divisor_override") is not None:
        raise NotSupportedHere("average pool with divisor_override")
    kernel, padding = pair(a["kernel_size"]), pair(a["padding"])
    stride, ceil_mode = pair(a["stride"] or kernel), bool(a["ceil_mode"])
    attrs: dict[str, ir.Attr] = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding + padding,
        "ceil_mode": int(ceil_mode),
        "count_include_pad": int(bool(a["count_include_pad"])),
    }
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], 2 * padding[i], 1, ceil_mode) for i in (0, 1)]
    return reader.emit("avg_pool2d", node, [x], (x.shape[0], x.shape[1], *size), attrs)


def _adaptive_avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = image_operand(reader, a)
    output = a["output_size"]
    if any(isinstance(d, SymbolicSize) for d in output):
        raise NotSupportedHere("an output size that depends on the input's")
    size = pair(output)
    return reader.emit("adaptive_avg_pool2d", node, [x], (x.shape[0], x.shape[1], *size), {"output": size})


HANDLERS: dict[str, Handler] = {
    "max_pool1d": in_one_dimension(_max_pool),
    "max_pool2d": _max_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "max_pool2d_with_indices": _max_pool_tuple,
    "avg_pool1d": in_one_dimension(_avg_pool),
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool1d": in_one_dimension(_adaptive_avg_pool),
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
}
