"""How much of a quantized graph's arithmetic runs in integers: multiply-adds of layers and of products of two activations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from pyqinfer.bits import BitConfig
from pyqinfer.frontend.guards import numbers_of
from pyqinfer.frontend.naming import Namer, attribute_of
from pyqinfer.quantization.aten_traits import op_name

# A graph with a smaller share of integer arithmetic than this is not what the user asked for.
_EXPECTED_SHARE = 0.95
_NAMED = 5
_PRODUCTS = frozenset({"linear", "addmm", "mm", "matmul", "bmm", "baddbmm"})


def warn_of_float_arithmetic(graph: GraphModule, config: BitConfig) -> None:
    """Warn if less than 95 % of the multiply-adds run in integers, naming the largest of the others.

    Layers that are in float because the user asked for that do not count, and where all are nobody is warned.

    Args:
        graph: quantized graph.
        config: bits that were asked for.
    """
    kept = {name for name, bits in config.items() if not bits.is_integer}
    if config and len(kept) == len(config):
        return
    found = [(name, op, macs, integer) for name, op, macs, integer in _arithmetic(graph) if name not in kept]
    total = sum(macs for _, _, macs, _ in found)
    floats = sorted((entry for entry in found if not entry[3]), key=lambda entry: -entry[2])
    lost = sum(macs for _, _, macs, _ in floats)
    if total == 0 or lost <= (1 - _EXPECTED_SHARE) * total:
        return
    named = ", ".join(f"{name} ({op}, {100 * macs / total:.1f} %)" for name, op, macs, _ in floats[:_NAMED])
    more = f" and {len(floats) - _NAMED} more" if len(floats) > _NAMED else ""
    warnings.warn(f"{100 * lost / total:.1f} % of the multiply-adds stay in float: {named}{more}", stacklevel=3)


def _arithmetic(graph: GraphModule) -> Iterator[tuple[str, str, int, bool]]:
    """Name, operation and multiply-adds of everything that multiplies matrices, and whether both its operands are codes."""
    namer = Namer()
    for node in graph.graph.nodes:
        op = op_name(node)
        macs = _macs(node, op)
        if macs:
            operands = node.args[1:3] if op in ("addmm", "baddbmm") else node.args[:2]
            yield namer.name(node, op), op, macs, all(_is_dequantized(operand) for operand in operands)


def _is_dequantized(value: Any) -> bool:
    return isinstance(value, Node) and "dequantize" in str(value.target)  # the one of codes that are chosen at run time too


def _macs(node: Node, op: str) -> int:
    """Multiply-adds for the sizes that the graph was traced with."""
    output = node.meta.get("val")
    if not isinstance(output, Tensor):
        return 0
    if op.startswith("conv"):
        weight = _shape(node.args[1])
        # Each input element of a transposed convolution, each output element of another one, meets the weights of one channel.
        moved = _shape(node.args[0]) if "transpose" in op else numbers_of(output.shape)
        return math.prod(moved) * math.prod(weight[1:])
    if op in _PRODUCTS:
        left = _shape(node.args[1 if op in ("addmm", "baddbmm") else 0])
        return math.prod(numbers_of(output.shape)) * (left[-1] if left else 1)
    if op == "scaled_dot_product_attention":
        queries, keys, values = (_shape(argument) for argument in node.args[:3])
        return math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])
    return 0


def _shape(value: Any) -> list[int]:
    """A node's shape; a quantizer's that of what it stands for."""
    while isinstance(value, Node) and not isinstance(value.meta.get("val"), Tensor) and value.all_input_nodes:
        value = value.all_input_nodes[0]
    if not isinstance(value, Node):
        return []
    if isinstance(value.meta.get("val"), Tensor):
        return list(numbers_of(value.meta["val"].shape))
    owner = value.graph.owning_module
    assert isinstance(owner, GraphModule)
    return list(attribute_of(owner, value).shape)
