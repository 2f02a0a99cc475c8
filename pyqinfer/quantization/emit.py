"""The only place that puts quantize and dequantize nodes into a graph: ``torch.ops.quantized_decomposed``, as PT2E has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from torch.fx import Node

from pyqinfer.bits import FLOAT, BitConfig
from pyqinfer.frontend.sources.dynamic import QUANTIZE_DEQUANTIZE
from pyqinfer.quantization.graph import Layer, TracedModel, operand, readers_of_values
from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.quantization.placement import Placement
from pyqinfer.quantization.weights import WeightCodes

_SMALLEST_STEP = float(torch.finfo(torch.float32).eps)  # of a row that is all zeros
_META = ("nn_module_stack", "stack_trace", "source_fn_stack")


def emit_weight(traced: TracedModel, layer: Layer, weight: WeightCodes) -> Node:
    """The layer reads ``dequantize_per_channel(codes)`` in place of its float weight. Returns that node."""
    codes = weight.codes.transpose(0, 1).contiguous() if layer.axis == 1 else weight.codes
    zero_point = torch.full((len(weight.scale),), weight.zero_point, dtype=torch.float32 if weight.zero_point else torch.int64)
    constants = {"codes": codes, "scale": weight.scale, "zero_point": zero_point}
    operands = [traced.add_constant(f"{layer.name}.weight_{key}", tensor, layer.node) for key, tensor in constants.items()]
    with traced.module.graph.inserting_before(layer.node):
        value = traced.module.graph.call_function(
            torch.ops.quantized_decomposed.dequantize_per_channel.default, (*operands, layer.axis, weight.low, weight.high, torch.int8)
        )
    _copy_meta(layer.node, value)
    layer.node.update_arg(1, value)
    return value


def emit_activations(traced: TracedModel, placement: Placement, params: Mapping[Node, ActivationParams]) -> None:
    """One quantize behind every placed tensor and a dequantize for each of its readers."""
    for node in placement.bits:
        _quantize_behind(traced, node, params[node])
    for node, source in placement.shared.items():
        _quantize_behind(traced, node, params[source])


def emit_dynamic_activations(traced: TracedModel, layers: Sequence[Layer], config: BitConfig) -> None:
    """The layers read activations that are quantized row by row while the model runs; layers of one tensor and width share its codes."""
    found: dict[tuple[Node, int], Node] = {}
    for layer in layers:
        node, bits = operand(layer.node), config[layer.name].act
        if bits == FLOAT:
            continue
        if (node, bits) not in found:
            with traced.module.graph.inserting_after(node):
                found[node, bits] = traced.module.graph.call_function(
                    QUANTIZE_DEQUANTIZE, (node, "asymmetric", "row", 0, 2**bits - 1, _SMALLEST_STEP)
                )
            _copy_meta(node, found[node, bits])
        layer.node.update_arg(0, found[node, bits])


def _quantize_behind(traced: TracedModel, node: Node, params: ActivationParams) -> None:
    graph = traced.module.graph
    readers = readers_of_values(node)
    arguments = (params.scale, params.zero_point, params.quant_min, params.quant_max, torch.uint8)
    with graph.inserting_after(node):
        codes = graph.call_function(torch.ops.quantized_decomposed.quantize_per_tensor.default, (node, *arguments))
    _copy_meta(node, codes)
    for reader in readers:
        with graph.inserting_before(reader):
            value = graph.call_function(torch.ops.quantized_decomposed.dequantize_per_tensor.default, (codes, *arguments))
        _copy_meta(node, value)
        reader.replace_input_with(node, value)


def _copy_meta(source: Node, target: Node) -> None:
    target.meta.update({key: source.meta[key] for key in _META if key in source.meta})
