"""Handlers of aten ops over volumes [N, C, D, H, W], by those over images: a volume is a sequence of images."""

from __future__ import annotations

from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import inner, known_size, padded, reshaped, sliced, triple
from pyqinfer.frontend.aten.layers import convolution
from pyqinfer.frontend.aten.movement import concatenated
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _convolution_3d(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A convolution over depth, height and width: at each depth one over images, whose channels are those of all depths that it sees."""
    x, weight = reader.activation(a["input"], "input"), a["weight"]
    if len(x.shape) != 5:
        raise NotSupportedHere(f"needs an input of rank 5 (N, C, D, H, W), got rank {len(x.shape)}")
    stride, dilation = (triple(a[key]) for key in ("stride", "dilation"))
    if isinstance(a["padding"], str):
        raise NotSupportedHere(f"padding {a['padding']!r} over three dimensions")
    front = triple(a["padding"])[0]
    if not isinstance(weight, Tensor):
        raise NotSupportedHere("quantized weights over three dimensions")
    outputs, inputs, depth, *kernel = weight.shape
    if front:
        x = inner(padded(reader, node, x, [0, 0, front, 0, 0], [0, 0, front, 0, 0]))
    size, reach = known_size(x, 2), dilation[0] * (depth - 1) + 1
    images: Arguments = {**a, "weight": weight.reshape(outputs, inputs * depth, *kernel)}
    images |= {key: list(triple(a[key])[1:]) for key in ("stride", "padding", "dilation")}
    n, channels, _, height, width = x.shape
    channels = known_size(x, 1)
    planes = []
    for start in range(0, size - reach + 1, stride[0]):
        seen = sliced(reader, node, x, 2, start, start + reach, dilation[0])
        image = inner(reshaped(reader, node, seen, (n, channels * depth, height, width), "reshape"))
        y = inner(convolution(reader, node, {**images, "input": image}))
        planes.append(inner(reshaped(reader, node, y, (*y.shape[:2], 1, *y.shape[2:]), "unsqueeze")))
    result = concatenated(reader, node, planes, 2)
    result.origin = node.name
    return result


HANDLERS: dict[str, Handler] = {"conv3d": _convolution_3d}
