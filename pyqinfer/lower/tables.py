"""Tables of 256 codes for elementwise functions between dequantize and quantize. torch computes them: no entry differs from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pyqinfer.ir import Node, Quant, Value, clamp_bounds, real

_FUNCTIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "exp": lambda x, _: torch.exp(x),
    "sigmoid": lambda x, _: torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x),
    "erf": lambda x, _: torch.erf(x),
    "silu": lambda x, _: F.silu(x),
    "gelu": lambda x, _: F.gelu(x),
    "gelu_tanh": lambda x, _: F.gelu(x, approximate="tanh"),
    "hardsigmoid": lambda x, _: F.hardsigmoid(x),
    "hardswish": lambda x, _: F.hardswish(x),
    "elu": lambda x, alpha: F.elu(x, alpha),
    "leaky_relu": lambda x, alpha: F.leaky_relu(x, alpha),
    "sqrt": lambda x, _: torch.sqrt(x),
    "rsqrt": lambda x, _: torch.rsqrt(x),
    "abs": lambda x, _: torch.abs(x),
    "log": lambda x, _: torch.log(x),
    "softplus": lambda x, _: F.softplus(x),
    "sin": lambda x, _: torch.sin(x),
    "cos": lambda x, _: torch.cos(x),
    "floor": lambda x, _: torch.floor(x),
    "ceil": lambda x, _: torch.ceil(x),
    "round": lambda x, _: torch.round(x),
}

_ARITHMETIC: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "rsub": lambda x, y: y - x,
    "rdiv": lambda x, y: y / x,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}


def has_table(node: Node) -> bool:
    """Whether a node maps each element by itself, so that it can be part of a table: operands are single numbers, or do not broadcast."""
    other = node.constants.get("other")
    alike = all(value.shape == node.output.shape for value in node.inputs)
    return node.traits.has_table and alike and (other is None or (isinstance(other, np.ndarray) and other.size == 1))


def code_of(value: float, quant: Quant) -> int | None:
    """Give the code that stands for exactly this value, if there is one."""
    code = round(value / quant.scale) + quant.zero_point if abs(value) <= 256 * quant.scale else quant.qmax + 1
    exact = np.float32(code - quant.zero_point) * np.float32(quant.scale) == np.float32(value)
    return code if exact and quant.qmin <= code <= quant.qmax else None


def code_table(source: Quant, chain: Sequence[Node], target: Quant) -> NDArray[np.uint8]:
    """Compute ``table[q] = quantize(chain(dequantize(q)))`` for q = 0..255.

    The chain's nodes are in order of execution; what no other one of them writes is the dequantized code.
    """
    codes = np.arange(256, dtype=np.int32)
    x = y = torch.from_numpy((codes - source.zero_point).astype(np.float32) * np.float32(source.scale))
    values: dict[Value, Tensor] = {}
    with torch.no_grad():
        for node in chain:
            y = values[node.output] = _apply(node, [values.get(value, x) for value in node.inputs])
    return quantized(y.numpy(), target)


def quantized(y: NDArray[np.float32], target: Quant) -> NDArray[np.uint8]:
    """Give the codes of float32 values (docs/numerics.md, "Quantize")."""
    nan = np.isnan(y)
    v = np.where(nan, np.float32(0), y) * np.float32(1.0 / target.scale)
    v = np.maximum(v, np.float32(target.qmin - target.zero_point))
    v = np.minimum(v, np.float32(target.qmax - target.zero_point))
    table = np.where(nan, target.zero_point, np.rint(v).astype(np.int32) + target.zero_point)
    result: NDArray[np.uint8] = table.astype(np.uint8)
    return result


def _apply(node: Node, inputs: Sequence[Tensor]) -> Tensor:
    x = inputs[0]
    if node.op == "clamp":
        lo, hi = clamp_bounds(node)
        return x.clamp(lo, hi)
    if node.op == "unary":
        return _FUNCTIONS[str(node.attrs["function"])](x, real(node, "alpha"))
    other = inputs[1] if len(inputs) == 2 else torch.from_numpy(np.asarray(node.constants["other"], np.float32).reshape(()))
    return _ARITHMETIC["add" if node.op == "add" else str(node.attrs["function"])](x, other)
