"""Handlers of aten ops with weights: convolutions, transposed ones, linear layers and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import image_operand, pair
from pyqinfer.frontend.aten.lookup import along
from pyqinfer.frontend.aten.one_row import in_one_dimension, in_one_or_two_dimensions
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import weight_constant
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant, RuntimeQuantized


def convolution(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A convolution over images."""
    if a.get("transposed"):
        return conv_transpose(reader, node, a)
    x, weight = image_operand(reader, a), weight_constant(reader, a["weight"])
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    if len(shape) != 4:
        raise NotSupportedHere(f"convolution over {len(shape) - 2} dimensions")
    kernel, stride, dilation = shape[2:], pair(a["stride"]), pair(a["dilation"])
    padding = _conv_padding(a["padding"], kernel, stride, dilation)
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], padding[i] + padding[i + 2], dilation[i]) for i in (0, 1)]
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    attrs: dict[str, ir.Attr] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": int(a["groups"])}
    return reader.emit("conv2d", node, [x], (x.shape[0], shape[0], *size), attrs, constants)


def _conv_padding(padding: Any, kernel: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """Padding as (top, left, bottom, right). Where "same" pads an odd number, torch puts one more at the bottom and right."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise NotSupportedHere('padding "same" with a stride')
        total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    top, left = pair(padding)
    return (top, left, top, left)


def conv_transpose(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A transposed convolution over images."""
    x = reader.activation(a["input"], "input")
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    groups = int(a["groups"])
    weight = weight_constant(reader, _outputs_first(a["weight"], groups))
    outputs, _, *kernel = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    stride, padding, dilation, more = (pair(a[key]) for key in ("stride", "padding", "dilation", "output_padding"))
    size = [
        (d - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + more[i] + 1 if isinstance(d, int) else None
        for i, d in enumerate(x.shape[2:])
    ]
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    attrs: dict[str, ir.Attr] = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": more, "groups": groups}
    return reader.emit("conv_transpose2d", node, [x], (x.shape[0], outputs, *size), attrs, constants)


def _outputs_first(weight: Any, groups: int) -> Any:
    """Weights of a transposed convolution, turned from [I, O/groups, kh, kw] to [O, I/groups, kh, kw], which is the order of other layers.

    Quantized ones stay so with one scale for all, with a scale for each index of axis 1, or depthwise with a scale for each channel.
    """
    if isinstance(weight, Tensor):
        return _turned(weight, groups)
    if not isinstance(weight, QuantizedConstant):
        return weight
    value = _turned(weight.value, groups)
    if weight.axis == 0 and groups == len(weight.codes) and weight.codes.shape[1] == 1:
        return replace(weight, codes=_turned(weight.codes, groups), value=value)
    if weight.axis not in (None, 1):
        return value  # a scale for each input channel, which no integer layer has
    scale, zero_point = weight.scale, weight.zero_point
    if weight.axis == 1:
        scale, zero_point = scale.repeat(groups), zero_point.repeat(groups)
    axis = None if weight.axis is None else 0
    return replace(weight, codes=_turned(weight.codes, groups), value=value, scale=scale, zero_point=zero_point, axis=axis)


def _turned(weight: Tensor, groups: int) -> Tensor:
    inputs, per_group, *kernel = weight.shape
    parts = weight.reshape(groups, inputs // groups, per_group, *kernel).transpose(1, 2)
    return torch.flatten(parts, 0, 1).contiguous()


def _linear(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if isinstance(a["input"], RuntimeQuantized):
        return _linear_dynamic(reader, node, a)
    x, weight = reader.activation(a["input"], "input"), weight_constant(reader, a["weight"])
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    return reader.emit("linear", node, [x], (*x.shape[:-1], shape[0]), {}, constants)


def _linear_dynamic(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """``aten.linear`` whose input is quantized at run time."""
    operand, weight = a["input"], weight_constant(reader, a["weight"])
    assert isinstance(operand, RuntimeQuantized)
    if operand.stage != "values":
        raise NotSupportedHere("its input is integer codes without a dequantize op in front")
    if not isinstance(weight, ir.Weight):
        raise NotSupportedHere("its activations are quantized at run time, its weights are not quantized")
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    x = operand.x
    return reader.emit("linear_dynamic", node, [x], (*x.shape[:-1], weight.codes.shape[0]), dict(operand.attrs), constants)


def _embedding(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Rows of a constant table. The arguments left aside, such as ``padding_idx``, matter in training alone."""
    x = reader.tensor(a["indices"], "indices")
    if not x.integer:
        raise NotSupportedHere("its indices are no integers")
    if isinstance(a["weight"], ir.Value):
        return along(reader, node, reader.activation(a["weight"], "table"), x, 0, "embedding")
    weight = weight_constant(reader, a["weight"])
    if isinstance(weight, ir.Weight) and weight.grouped:
        weight = weight.expand()
    width = (weight.codes if isinstance(weight, ir.Weight) else weight).shape[1]
    return reader.emit("embedding", node, [x], (*x.shape, width), {}, {"weight": weight})


def _with_weights(handler: Handler, computed: Callable[..., Tensor]) -> Handler:
    """A handler of a layer, which is made of others where its weights are computed in a run."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        return composed(reader, node, computed, a) if isinstance(a["weight"], ir.Value) else handler(reader, node, a)

    return run


def _product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = torch.matmul(input, weight.mT)
    return y if bias is None else y + bias


def _product_of_windows(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, **_: Any
) -> Tensor:
    """A convolution as products of windows, which are columns of a matrix for each group, with its weights."""
    n, outputs, kernel = input.shape[0], weight.shape[0], weight.shape[2:]
    top, left, bottom, right = _conv_padding(padding, kernel, pair(stride), pair(dilation))
    x = F.pad(input, (left, right, top, bottom)) if top + left + bottom + right else input
    rows, columns = ((x.shape[2 + i] - pair(dilation)[i] * (kernel[i] - 1) - 1) // pair(stride)[i] + 1 for i in (0, 1))
    windows = F.unfold(x, kernel, dilation=pair(dilation), stride=pair(stride))
    windows = windows.reshape(n, groups, windows.shape[1] // groups, rows * columns)
    y = torch.matmul(weight.reshape(groups, outputs // groups, -1), windows).reshape(n, outputs, rows, columns)
    return y if bias is None else y + bias.reshape(-1, 1, 1)


HANDLERS: dict[str, Handler] = {
    "convolution": in_one_or_two_dimensions(convolution),
    "conv1d": in_one_dimension(convolution),
    "conv2d": _with_weights(convolution, _product_of_windows),
    "conv_transpose1d": in_one_dimension(conv_transpose),
    "conv_transpose2d": conv_transpose,
    "linear": _with_weights(_linear, _product),
    "embedding": _embedding,
}
