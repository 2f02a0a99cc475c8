"""Handlers of aten ops that cut an image into windows and put windows together again: unfold (im2col) and fold (col2im)."""

from __future__ import annotations

import torch
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import image_operand, inner, known_size, operand, padded, pair, permuted, reshaped, sliced
from pyqinfer.frontend.aten.layers import conv_transpose
from pyqinfer.frontend.aten.movement import concatenated
from pyqinfer.frontend.aten.picking import picked
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _unfold(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Windows as columns: channels times places of the window, and the windows in order.

    Windows that lie side by side are the image under another shape; else each place of the window is a slice of the image.
    """
    x = image_operand(reader, a)
    kernel, dilation, padding, stride = (pair(a[key]) for key in ("kernel_size", "dilation", "padding", "stride"))
    if any(padding):
        x = inner(padded(reader, node, x, [0, 0, *padding], [0, 0, *padding]))
    n, (channels, height, width) = x.shape[0], (known_size(x, axis) for axis in (1, 2, 3))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    rows, columns = ((size - r) // s + 1 for size, r, s in zip((height, width), reach, stride, strict=True))
    if stride == kernel and dilation == (1, 1) and (rows * kernel[0], columns * kernel[1]) == (height, width):
        split = inner(reshaped(reader, node, x, (n, channels, rows, kernel[0], columns, kernel[1]), "reshape"))
        places = inner(permuted(reader, node, split, (0, 1, 3, 5, 2, 4)))
    else:
        pieces = []
        for top in range(0, reach[0], dilation[0]):
            lines = inner(_every(reader, node, x, 2, top, rows, stride[0]))
            for left in range(0, reach[1], dilation[1]):
                piece = inner(_every(reader, node, lines, 3, left, columns, stride[1]))
                pieces.append(inner(reshaped(reader, node, piece, (n, channels, 1, rows, columns), "unsqueeze")))
        places = inner(concatenated(reader, node, pieces, 2))
    y = reshaped(reader, node, places, (n, channels * kernel[0] * kernel[1], rows * columns), "reshape")
    y.origin = node.name
    return y


def _every(reader: GraphReader, node: Node, x: ir.Value, axis: int, start: int, count: int, step: int) -> ir.Value:
    piece = sliced(reader, node, x, axis, start, start + (count - 1) * step + 1, step)
    # ``inner`` would take the name from a value that stays what it was.
    return piece if piece is not x else reshaped(reader, node, x, x.shape, "reshape")


def _fold(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Sums of what all windows have at each place: a transposed convolution with one weight of 1 for each place of the window."""
    x = operand(reader, a)
    if len(x.shape) != 3:
        raise NotSupportedHere(f"needs an input of rank 3 (N, channels times places, windows), got rank {len(x.shape)}")
    size, kernel, dilation, padding, stride = (pair(a[key]) for key in ("output_size", "kernel_size", "dilation", "padding", "stride"))
    count = kernel[0] * kernel[1]
    channels = known_size(x, 1) // count
    fits = [size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1 for i in (0, 1)]
    rows, columns = (span // s + 1 for span, s in zip(fits, stride, strict=True))
    image = inner(reshaped(reader, node, x, (x.shape[0], channels * count, rows, columns), "reshape"))
    weight = torch.eye(count).reshape(count, 1, *kernel).repeat(channels, 1, 1, 1)
    windows: Arguments = {"stride": stride, "padding": padding, "dilation": dilation, "groups": channels, "bias": None}
    more = [span % s for span, s in zip(fits, stride, strict=True)]
    return conv_transpose(reader, node, {**windows, "input": image, "weight": weight, "output_padding": more})


def _windows(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Windows along one dimension: their number takes its place, and what they hold comes last."""
    x, size, step = operand(reader, a), int(a["size"]), int(a["step"])
    axis = int(a["dimension"]) % len(x.shape)
    if not isinstance(x.shape[axis], int):
        found: ir.Value = composed(reader, node, lambda self: _looked_up(self, axis, size, step), {"self": a["self"]})
        return found
    count = (known_size(x, axis) - size) // step + 1
    flat = picked(reader, node, x, axis, [i * step + j for i in range(count) for j in range(size)])
    flat = flat if flat is x else inner(flat)
    y = inner(reshaped(reader, node, flat, (*x.shape[:axis], count, size, *x.shape[axis + 1 :]), "unflatten"))
    rank = len(y.shape)
    y = permuted(reader, node, y, [i for i in range(rank) if i != axis + 1] + [axis + 1])
    y.origin = node.name
    return y


def _looked_up(x: torch.Tensor, axis: int, size: int, step: int) -> torch.Tensor:
    """Windows along an open dimension, of which each element is looked up."""
    count = (x.shape[axis] - size) // step + 1
    places = torch.arange(count).unsqueeze(1) * step + torch.arange(size)
    found = x.index_select(axis, places.reshape(-1))
    found = found.reshape([*x.shape[:axis], count, size, *x.shape[axis + 1 :]])
    return found.permute([i for i in range(found.ndim) if i != axis + 1] + [axis + 1])


HANDLERS: dict[str, Handler] = {"unfold": _windows, "im2col": _unfold, "col2im": _fold}
