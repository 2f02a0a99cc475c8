"""Tables of codes, which the engine has and torch has not: an op of our own, and what the graph reader makes of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import activation_quant
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere


@torch.library.custom_op("pyqinfer::look_up", mutates_args=())
def look_up(
    x: Tensor, table: Tensor, read_scale: float, read_zero_point: int, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    """What the table has for the codes of ``x``, which were read with the first scale and zero point, dequantized with the second.

    ``table``: [256], or [channels, 256] for channels on axis 1.
    """
    places = (torch.round(x * (1.0 / read_scale)) + read_zero_point).long()
    if table.ndim == 2:
        places = places + 256 * torch.arange(len(table)).reshape([-1, *[1] * (x.ndim - 2)])
    codes = table.reshape(-1)[places].clamp(quant_min, quant_max)
    return (codes.to(torch.float32) - zero_point) * scale


@look_up.register_fake
def _(
    x: Tensor, table: Tensor, read_scale: float, read_zero_point: int, scale: float, zero_point: int, quant_min: int, quant_max: int
) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def read_look_up(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The table over the codes behind the operand's dequantize."""
    x = reader.activation(a["x"], "input")
    if x.producer is None or x.producer.op != "dequantize" or not isinstance(a["table"], Tensor):
        raise NotSupportedHere("a table that is computed, or over something that is no codes")
    codes = x.producer.inputs[0]
    quant, _ = activation_quant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], torch.uint8)
    table = a["table"].clamp(a["quant_min"], a["quant_max"]).numpy().copy()
    y = reader.emit("table", node, [codes], codes.shape, {}, {"table": table}, quant)
    return reader.emit("dequantize", node, [y], y.shape)
