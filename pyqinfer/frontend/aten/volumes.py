"""Handlers of aten ops over volumes [N, C, D, H, W], by those over images: a volume is a sequence of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten import pooling
from pyqinfer.frontend.aten.build import inner, known_size, padded, reshaped, sliced, triple
from pyqinfer.frontend.aten.layers import conv_transpose, convolution
from pyqinfer.frontend.aten.movement import concatenated
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant


def volume_operand(reader: GraphReader, a: Arguments) -> ir.Value:
    """The first operand, which has to be [N, C, D, H, W]."""
    x = reader.activation(a.get("self", a.get("input")), "input")
    if len(x.shape) != 5:
        raise NotSupportedHere(f"needs an input of rank 5 (N, C, D, H, W), got rank {len(x.shape)}")
    return x


def _reshaped_weight(weight: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Weights, float or quantized, whose dimensions behind the first two are changed."""
    if isinstance(weight, Tensor):
        return change(weight)
    if not isinstance(weight, QuantizedConstant) or weight.scale.ndim == 2 or weight.axis not in (None, 0, 1):
        raise NotSupportedHere("weights over three dimensions that are quantized in groups, or computed from the input")
    return replace(weight, codes=change(weight.codes), value=change(weight.value))


def _planes_of(x: ir.Value, planes: list[ir.Value], reader: GraphReader, node: Node) -> ir.Value:
    """Images as the depths of one volume."""
    deep = [inner(reshaped(reader, node, y, (*y.shape[:2], 1, *y.shape[2:]), "unsqueeze")) for y in planes]
    result = concatenated(reader, node, deep, 2)
    result.origin = node.name
    return result


def _seen(reader: GraphReader, node: Node, x: ir.Value, start: int, count: int, step: int = 1) -> ir.Value:
    """``count`` depths of a volume as channels of one image."""
    part = sliced(reader, node, x, 2, start, start + (count - 1) * step + 1, step)
    n, _, _, height, width = x.shape
    return inner(reshaped(reader, node, part, (n, known_size(x, 1) * count, height, width), "reshape"))


def _convolution_3d(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A convolution over depth, height and width: at each depth one over images, whose channels are those of all depths that it sees."""
    x = volume_operand(reader, a)
    stride, dilation = (triple(a[key]) for key in ("stride", "dilation"))
    if isinstance(a["padding"], str):
        raise NotSupportedHere(f"padding {a['padding']!r} over three dimensions")
    front = triple(a["padding"])[0]
    depth = int(_shape(a["weight"])[2])
    if front:
        x = inner(padded(reader, node, x, [0, 0, front, 0, 0], [0, 0, front, 0, 0]))
    reach = dilation[0] * (depth - 1) + 1
    images: Arguments = {**a, "weight": _reshaped_weight(a["weight"], lambda w: w.flatten(1, 2))}
    images |= {key: list(triple(a[key])[1:]) for key in ("stride", "padding", "dilation")}
    starts = range(0, known_size(x, 2) - reach + 1, stride[0])
    planes = [convolution(reader, node, {**images, "input": _seen(reader, node, x, i, depth, dilation[0])}) for i in starts]
    return _planes_of(x, [inner(y) for y in planes], reader, node)


def _conv_transpose_3d(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A transposed convolution over volumes: output depth ``o`` sums over the input depths ``(o + padding - k) / stride``, which are the
    channels of one over images."""
    x = volume_operand(reader, a)
    stride, padding, dilation, more = (triple(a[key]) for key in ("stride", "padding", "dilation", "output_padding"))
    depth, size = int(_shape(a["weight"])[2]), known_size(x, 2)
    if dilation[0] != 1 or depth < stride[0]:
        raise NotSupportedHere("a transposed convolution over volumes that is dilated in depth, or strides over more than its kernel")
    images: Arguments = {key: list(triple(a[key])[1:]) for key in ("stride", "padding", "dilation", "output_padding")}
    images |= {"bias": a["bias"], "groups": a["groups"]}
    # Taps of phase r are k = r, r + stride, ...: the last one meets the first of the depths that they see.
    weights = [_reshaped_weight(a["weight"], partial(_phase, first=r, step=stride[0])) for r in range(stride[0])]
    outputs = (size - 1) * stride[0] - 2 * padding[0] + depth - 1 + more[0] + 1
    front = -(-depth // stride[0]) - 1
    behind = max(0, (outputs - 1 + padding[0]) // stride[0] - size + 1)
    if front or behind:
        x = inner(padded(reader, node, x, [0, 0, front, 0, 0], [0, 0, behind, 0, 0]))
    planes = []
    for position in range(padding[0], padding[0] + outputs):
        weight = weights[position % stride[0]]
        taps = int(_shape(weight)[0]) // known_size(x, 1)
        seen = _seen(reader, node, x, front + position // stride[0] - taps + 1, taps)
        planes.append(inner(conv_transpose(reader, node, {**images, "weight": weight, "input": seen})))
    return _planes_of(x, planes, reader, node)


def _phase(weight: Tensor, first: int, step: int) -> Tensor:
    return weight[:, :, first::step].flip(2).transpose(1, 2).flatten(0, 1)


def _shape(weight: Any) -> Any:
    return weight.codes.shape if isinstance(weight, QuantizedConstant) else weight.shape


def _over_planes(reader: GraphReader, node: Node, a: Arguments, handler: Handler, on_images: Arguments, on_depth: Arguments) -> ir.Value:
    """Windows over volumes as windows over height and width of all depths, then windows over depth at each position."""
    x = volume_operand(reader, a)
    n, (channels, depth, height, width) = x.shape[0], (known_size(x, axis) for axis in (1, 2, 3, 4))

    def step(shape: ir.Shape, value: ir.Value, arguments: Arguments) -> ir.Value:
        image = inner(reshaped(reader, node, value, shape, "reshape"))
        y = handler(reader, node, {**a, **arguments, "self": image})
        return inner(y[0] if isinstance(y, tuple) else y)

    y = step((n, channels * depth, height, width), x, on_images)
    height, width = known_size(y, 2), known_size(y, 3)
    z = step((n, channels, depth, height * width), y, on_depth)
    result = reshaped(reader, node, z, (n, channels, known_size(z, 2), height, width), "reshape")
    result.origin = node.name
    return result


def _window(handler: Handler) -> Handler:
    """A handler for windows over volumes, of one for windows over images that can be taken axis by axis."""
    nothing = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}  # the window along the axis beside depth

    def run(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        a = {**a, "stride": a["stride"] or a["kernel_size"]}
        windows = {key: triple(a[key]) for key in nothing if key in a}
        on_images: Arguments = {key: list(value[1:]) for key, value in windows.items()}
        on_depth: Arguments = {key: [value[0], nothing[key]] for key, value in windows.items()}
        return _over_planes(reader, node, a, handler, on_images, on_depth)

    return run


def _adaptive(handler: Handler) -> Handler:
    """A handler for a pool of volumes to a size, of one for images."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        depth, height, width = triple(a["output_size"])
        return _over_planes(reader, node, a, handler, {"output_size": [height, width]}, {"output_size": [depth, height * width]})

    return run


def _and_nothing(handler: Handler) -> Handler:
    """A handler for an op that has a second result, which is not computed."""
    return lambda reader, node, a: (handler(reader, node, a), pooling.PLACES)


_MAX_POOL, _ADAPTIVE_MAX_POOL = _window(pooling.max_pool), _adaptive(pooling.adaptive_max_pool)
HANDLERS: dict[str, Handler] = {
    "conv3d": _convolution_3d,
    "conv_transpose3d": _conv_transpose_3d,
    "max_pool3d": _MAX_POOL,
    "max_pool3d_with_indices": _and_nothing(_MAX_POOL),
    "avg_pool3d": _window(pooling.avg_pool),
    "adaptive_avg_pool3d": _adaptive(pooling.adaptive_avg_pool),
    "_adaptive_avg_pool3d": _adaptive(pooling.adaptive_avg_pool),
    "adaptive_max_pool3d": _and_nothing(_ADAPTIVE_MAX_POOL),
}
