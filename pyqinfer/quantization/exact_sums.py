"""A quantized graph in torch with its sums taken over integers, as docs/numerics.md defines them.

Called as it is, the graph multiplies and adds dequantized floats, whose last bit depends on the order. A value on the edge between two
codes may then get the other one, a few in a million in each layer, and in a deep network a single such code grows: on the glyph
MobileNetV2 at 8/8, 0.6 codes in a million differ behind the first layer and 7 in a hundred behind the last. Here the layers add integers,
which have one sum, and multiply by the scales afterwards; all other nodes run as torch has them.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name
from pyqinfer.quantization.graph import operand, output_axis

_OPS = torch.ops.quantized_decomposed
_PER_TENSOR, _PER_CHANNEL = _OPS.dequantize_per_tensor.default, _OPS.dequantize_per_channel.default
_EXACT_IN_FLOAT32 = 2**24  # float32 holds every integer up to this one


class ExactSums(Interpreter):
    """Callable like the graph, without gradients.

    Convolutions and linear layers whose two operands are dequantized, and means over whole axes of a dequantized tensor, are computed from
    the integers; bias, scales and everything else in float32. Torch's own convolutions on the CPU add products (no Winograd), so that
    float32 holds the sums of a layer exactly where its weights prove them to stay below 2**24; other layers run in float64.

    Args:
        graph: quantized graph, the result of :func:`pyqinfer.quantize`.
    """

    def __init__(self, graph: GraphModule) -> None:
        super().__init__(graph)
        self._types: dict[Node, torch.dtype] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        with torch.no_grad():
            return self.run(*inputs)

    def run_node(self, n: Node) -> Any:
        op = op_name(n)
        if kind_of(n) is Kind.LAYER and _is_dequantized(n.args[0], _PER_TENSOR) and _is_dequantized(n.args[1], _PER_TENSOR, _PER_CHANNEL):
            return self._layer(n)
        if op in ("mean", "adaptive_avg_pool2d") and _is_dequantized(n.args[0], _PER_TENSOR):
            return self._mean(n, op)
        return super().run_node(n)

    def _layer(self, n: Node) -> Tensor:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        weight_scale = self._scale(n.args[1])
        x = _integers(args[0], self._scale(n.args[0]))
        weight = _integers(args[1], weight_scale)
        if n not in self._types:
            self._types[n] = torch.float32 if self._largest_sum(n, weight) < _EXACT_IN_FLOAT32 else torch.float64
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        rest = {key: value for key, value in kwargs.items() if key != "bias"}
        sums = super().call_function(n.target, (x.to(self._types[n]), weight.to(self._types[n]), None, *args[3:]), rest).float()
        channels = (-1,) if op_name(n) == "linear" else (-1, *[1] * (sums.ndim - 2))
        y: Tensor = sums * (self._scale(n.args[0]) * weight_scale.flatten()).reshape(channels)
        if bias is not None:
            y = y + bias.reshape(channels)
        return y

    def _mean(self, n: Node, op: str) -> Any:
        args, _ = self.fetch_args_kwargs_from_env(n)
        x = args[0]
        if op == "mean":
            axes, keep = args[1], len(args) > 2 and args[2]
        elif set(args[1]) == {1}:
            axes, keep = [-2, -1], True
        else:
            return super().run_node(n)
        scale = self._scale(n.args[0])
        count = prod(x.shape[axis] for axis in axes)
        sums = _integers(x, scale).double().sum(axes, keepdim=keep).float()
        return sums * (scale.double() / count).float()

    def _scale(self, dequantize: Any) -> Tensor:
        """The float32 step between the values of a dequantize node: a number, or one per channel that broadcasts over the operand.

        Values of a grid without zero, whose zero point is a half, are odd multiples of half a step, so half a step is taken.
        """
        value = dequantize.args[1]
        if dequantize.target is _PER_TENSOR:
            return self._constant(value)
        axis, rank = dequantize.args[3], self._constant(dequantize.args[0]).ndim
        halves = self._constant(dequantize.args[2]) % 1 != 0
        return torch.where(halves, 0.5, 1.0).mul(self._constant(value)).reshape([-1 if i == axis else 1 for i in range(rank)])

    def _constant(self, value: Any) -> Tensor:
        if not isinstance(value, Node):
            return torch.tensor(value, dtype=torch.float32)
        found = self.fetch_attr(str(value.target))
        assert isinstance(found, Tensor)
        return found.float()

    def _largest_sum(self, n: Node, weight: Tensor) -> float:
        """Bound on every partial sum of a layer."""
        args: Any = operand(n).args
        zero_point, low, high = args[2:5]
        axis = output_axis(n, weight)
        per_channel = weight.abs().double().sum([i for i in range(weight.ndim) if i != axis])
        return float(per_channel.max()) * float(max(zero_point - low, high - zero_point))


def _is_dequantized(value: Any, *kinds: Any) -> bool:
    return isinstance(value, Node) and value.target in kinds


def _integers(x: Tensor, scale: Tensor) -> Tensor:
    """The integers ``q - z`` behind dequantized values ``(q - z) * scale``; ``2*(q - z)`` for half a scale."""
    return torch.round(x / scale)
