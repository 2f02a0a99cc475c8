"""Transposed convolutions: weights turned to [O, I/groups, kh, kw], output channels first as in every other layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.quantized import weight_constant
from pyqinfer.frontend.reader import Arguments, GraphReader, NotSupportedHere, QuantizedConstant


def conv_transpose2d(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.activation(a["input"], "input")
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    groups = int(a["groups"])
    weight = weight_constant(reader, _outputs_first(a["weight"], groups))
    outputs, _, *kernel = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    stride, padding, dilation, more = (_pair(a[key]) for key in ("stride", "padding", "dilation", "output_padding"))
    size = [
        (d - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + more[i] + 1 if isinstance(d, int) else None
        for i, d in enumerate(x.shape[2:])
    ]
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    attrs: dict[str, ir.Attr] = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": more, "groups": groups}
    return reader.emit("conv_transpose2d", node, [x], (x.shape[0], outputs, *size), attrs, constants)


def _pair(value: Any) -> tuple[int, int]:
    items = [value] if isinstance(value, int) else list(value)
    return (int(items[0]), int(items[-1]))


def _outputs_first(weight: Any, groups: int) -> Any:
    """[I, O/groups, kh, kw] to [O, I/groups, kh, kw], as constants: a quantized one per tensor or with a scale per column of axis 1."""
    if isinstance(weight, Tensor):
        return _turned(weight, groups)
    if not isinstance(weight, QuantizedConstant):
        return weight
    value = _turned(weight.value, groups)
    if weight.axis not in (None, 1):
        return value  # a scale per input channel: no integer layer can say it
    scale, zero_point = weight.scale, weight.zero_point
    if weight.axis == 1:
        scale, zero_point = scale.repeat(groups), zero_point.repeat(groups)
    axis = None if weight.axis is None else 0
    return replace(weight, codes=_turned(weight.codes, groups), value=value, scale=scale, zero_point=zero_point, axis=axis)


def _turned(weight: Tensor, groups: int) -> Tensor:
    inputs, per_group, *kernel = weight.shape
    parts = weight.reshape(groups, inputs // groups, per_group, *kernel).transpose(1, 2)
    return torch.flatten(parts, 0, 1).contiguous()
