"""Handlers of aten ops that pool over windows of an image."""

from __future__ import annotations

from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import image_operand, inner, known_size, pair, sliced
from pyqinfer.frontend.aten.movement import concatenated
from pyqinfer.frontend.aten.one_row import in_one_dimension
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import Absent, NotSupportedHere, SymbolicSize

PLACES = Absent("the places of largest elements, which the engine does not compute")


def max_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Largest elements of windows."""
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


def adaptive_max_pool(reader: GraphReader, node: Node, a: Arguments) -> tuple[ir.Value, Absent]:
    """Largest elements of windows that divide the image, along one axis after the other; a second result, their places, is not computed."""
    x, output = image_operand(reader, a), pair(a["output_size"])
    if output == (1, 1):
        return (_largest(reader, node, x, (2, 3)), PLACES)
    if x.shape[2] != output[0]:
        y = _largest_along(reader, node, x, 2, output[0])
        x = y if x.shape[3] == output[1] else inner(y)
    return (x if x.shape[3] == output[1] else _largest_along(reader, node, x, 3, output[1]), PLACES)


def _largest_along(reader: GraphReader, node: Node, x: ir.Value, axis: int, n: int) -> ir.Value:
    """``n`` windows along an axis, each from floor(i * size / n) to ceil((i + 1) * size / n)."""
    if n == 1:
        return _largest(reader, node, x, (axis,))
    size = known_size(x, axis)
    if size % n == 0:
        kernel = [size // n if a == axis else 1 for a in (2, 3)]
        windows: Arguments = {"self": x, "kernel_size": kernel, "stride": kernel, "padding": [0, 0], "dilation": [1, 1], "ceil_mode": False}
        return max_pool(reader, node, windows)
    ends = [(i * size // n, -(-(i + 1) * size // n)) for i in range(n)]
    rows = [inner(_largest(reader, node, inner(sliced(reader, node, x, axis, start, end)), (axis,))) for start, end in ends]
    return concatenated(reader, node, rows, axis)


def _largest(reader: GraphReader, node: Node, x: ir.Value, axes: tuple[int, ...]) -> ir.Value:
    shape = tuple(1 if axis in axes else d for axis, d in enumerate(x.shape))
    return reader.emit("reduce", node, [x], shape, {"function": "amax", "axes": axes, "keepdim": 1}, name=reader.namer.name(node, "amax"))


def avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Means of windows."""
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


def adaptive_avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Means of windows that divide the image."""
    x = image_operand(reader, a)
    output = a["output_size"]
    if any(isinstance(d, SymbolicSize) for d in output):
        raise NotSupportedHere("an output size that depends on the input's")
    size = pair(output)
    return reader.emit("adaptive_avg_pool2d", node, [x], (x.shape[0], x.shape[1], *size), {"output": size})


HANDLERS: dict[str, Handler] = {
    "max_pool1d": in_one_dimension(max_pool),
    "max_pool2d": max_pool,
    "adaptive_max_pool2d": adaptive_max_pool,
    "avg_pool1d": in_one_dimension(avg_pool),
    "avg_pool2d": avg_pool,
    "adaptive_avg_pool1d": in_one_dimension(adaptive_avg_pool),
    "adaptive_avg_pool2d": adaptive_avg_pool,
    "_adaptive_avg_pool2d": adaptive_avg_pool,
}
