"""Graphs of torch.export with quantized_decomposed ops around the layers, from whatever PT2E quantizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import activation_quant, advance, scalar
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.sources.fake_quant import is_fake_quant
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant, RuntimeQuantized


def _graph_of(model: object) -> GraphModule | ExportedProgram | None:
    if isinstance(model, ExportedProgram):
        return model
    return model if isinstance(model, GraphModule) and _is_exported(model) else None


def _is_exported(module: GraphModule) -> bool:
    """Whether a graph is made of operators, as those of torch.export are; submodules are called only where a PT2E quantizer put them, or
    torch guards shapes."""
    if any(node.op == "call_method" for node in module.graph.nodes):
        return False
    called = [
        module.get_submodule(str(node.target)) for node in module.graph.nodes if node.op == "call_module" and node.target != "_guards_fn"
    ]
    if not all(is_fake_quant(m) or type(m).__name__.endswith("Observer") for m in called):
        return False
    functions = [node.target for node in module.graph.nodes if node.op == "call_function"]
    return not functions or any(isinstance(target, OpOverload) for target in functions)


def _quantize_per_tensor(reader: GraphReader, node: Node, a: Arguments) -> ir.Value | RuntimeQuantized:
    if isinstance(a["scale"], RuntimeQuantized) and isinstance(a["input"], ir.Value):
        return advance(a, "codes")
    x = reader.activation(a["input"], "input")
    quant, _ = activation_quant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], a["dtype"])
    return reader.emit("quantize", node, [x], x.shape, quant=quant)


def _dequantize_per_tensor(reader: GraphReader, node: Node, a: Arguments) -> Any:
    codes = a["input"]
    if isinstance(codes, RuntimeQuantized) and codes.stage == "codes":
        return advance(a, "values")
    if isinstance(codes, Tensor):
        scale, zero_point = (torch.as_tensor(scalar(a[k]), dtype=torch.float64).reshape(1) for k in ("scale", "zero_point"))
        return _constant(node, a, codes, scale, zero_point, None)
    if not isinstance(codes, ir.Value) or codes.quant is None:
        raise NotSupportedHere("dequantizes something that no quantize op wrote")
    quant, _ = activation_quant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], a["dtype"])
    if quant != codes.quant:
        raise NotSupportedHere(f"dequantizes with other parameters ({quant}) than the codes were quantized with ({codes.quant})")
    return reader.emit("dequantize", node, [codes], codes.shape)


def _quantize_per_channel(reader: GraphReader, node: Node, a: Arguments) -> Any:
    raise NotSupportedHere("activations quantized per channel")


def _dequantize_per_channel(reader: GraphReader, node: Node, a: Arguments) -> Any:
    codes, scales = a["input"], a["scales"]
    if not isinstance(codes, Tensor) or not isinstance(scales, Tensor):
        raise NotSupportedHere("activations quantized per channel")
    zero_points = a["zero_points"] if a["zero_points"] is not None else torch.zeros_like(scales)
    return _constant(node, a, codes, scales.double(), zero_points.double(), int(a["axis"]))


def _dequantize_per_channel_group(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Weights with a scale per group of neighbouring inputs: scale and zero point are [O, G]."""
    codes, scales, zero_points = a["input"], a["scales"], a["zero_points"]
    if not isinstance(codes, Tensor) or not isinstance(scales, Tensor):
        raise NotSupportedHere("activations quantized per group")
    value = node.target(*a.values())  # type: ignore[operator]
    zero_points = torch.zeros_like(scales) if zero_points is None else zero_points
    scale, zero_point = (t.double().reshape(codes.shape[0], -1) for t in (scales, zero_points))
    return QuantizedConstant(codes, scale, zero_point, 0, int(a["quant_min"]), int(a["quant_max"]), value)


def _constant(node: Node, a: Arguments, codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int | None) -> QuantizedConstant:
    value = node.target(*_positional(a))  # type: ignore[operator]
    low, high = int(scalar(a["quant_min"])), int(scalar(a["quant_max"]))
    return QuantizedConstant(codes, scale, zero_point, axis, low, high, value)


def _positional(a: Arguments) -> list[Any]:
    """The positional arguments of a dequantize op (``out_dtype`` is keyword-only and float32 by default)."""
    if a.get("out_dtype") not in (None, torch.float32):
        raise NotSupportedHere(f"dequantizes to {a['out_dtype']}")
    return [value for name, value in a.items() if name != "out_dtype"]


SOURCE = Source(
    "pt2e",
    graph_of=_graph_of,
    handlers={
        "quantized_decomposed::quantize_per_tensor": _quantize_per_tensor,
        "quantized_decomposed::dequantize_per_tensor": _dequantize_per_tensor,
        "quantized_decomposed::quantize_per_channel": _quantize_per_channel,
        "quantized_decomposed::dequantize_per_channel": _dequantize_per_channel,
        "quantized_decomposed::dequantize_per_channel_group": _dequantize_per_channel_group,
    },
)
