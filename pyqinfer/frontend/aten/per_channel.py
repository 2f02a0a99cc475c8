"""A layer's output times, over, plus or minus one constant per channel: a BatchNorm in the IR, which folds into the layer.

Quantization-aware training writes a BatchNorm behind a convolution as ``conv(x, w*g) / g + b``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler


def or_per_channel(op: str, otherwise: Handler) -> Handler:
    """A handler of "mul", "div", "add" or "sub" that leaves all but a layer's output and a constant per channel to ``otherwise``."""

    def handler(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        x, constant = a["self"], a["other"]
        if isinstance(x, Tensor) and op in ("mul", "add"):
            x, constant = constant, x
        channels = _channels_of_layer(x)
        if isinstance(constant, Tensor) and channels and _is_per_channel(constant, x.shape, channels) and a.get("alpha", 1) == 1:
            values = reader.constant(constant, "operand").astype(np.float64).reshape(channels)
            if op == "div" and not values.all():
                raise ValueError("divides by 0")
            scale, shift = _scale_and_shift(op, values)
            return reader.emit("batch_norm", node, [x], x.shape, {}, {"scale": scale, "shift": shift})
        result: ir.Value = otherwise(reader, node, a)
        return result

    return handler


def _scale_and_shift(op: str, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if op in ("mul", "div"):
        return (values if op == "mul" else 1 / values), np.zeros_like(values)
    return np.ones_like(values), (values if op == "add" else -values)


def _channels_of_layer(x: object) -> int:
    """Channels of the output of a conv, linear or BatchNorm layer whose channels lie on axis 1, else 0."""
    layer = x.producer if isinstance(x, ir.Value) else None
    if layer is None or not (layer.op == "batch_norm" or (layer.traits.is_layer and not layer.traits.quantizes_input)):
        return 0
    shape = layer.output.shape
    channels = shape[1] if len(shape) in (2, 4) else None
    return channels if isinstance(channels, int) else 0


def _is_per_channel(constant: Tensor, shape: ir.Shape, channels: int) -> bool:
    """Whether a constant varies along axis 1 only: [C, 1, 1], [1, C, 1, 1] or, beside rank 2, [C] and [1, C]."""
    full = (1,) * (len(shape) - constant.ndim) + tuple(constant.shape)
    return len(full) == len(shape) and full[1] == channels and all(d == 1 for i, d in enumerate(full) if i != 1)
