"""MACs, BOPs and bytes, counted from the engine's own graph: what is reported is what runs.

Convention ``mac*bw*ba/v1``: a conv or linear layer costs MACs x weight bits x activation bits; every other op costs nothing. Float is
32 bit, ternary is 2 bit. A layer whose input is float runs in float, whatever its weights are stored in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from pyqinfer.ops import OPS, Reads

BOPS_CONVENTION = "mac*bw*ba/v1"


@dataclass(frozen=True)
class LayerCost:
    """What one node of the graph costs. ``bytes``: what its constants take in the file."""

    name: str
    op: str
    output_shape: tuple[int, ...]
    weight_bits: int  # 32 for float weights, 0 for an op that is no layer
    act_bits: int  # 32 for a float input
    macs: int
    params: int
    bytes: int
    float_reason: str = ""  # why a conv or linear layer runs in float

    @property
    def integer(self) -> bool:
        return self.act_bits < 32

    @property
    def bops(self) -> int:
        return self.macs * self.weight_bits * self.act_bits


def layer_costs(graph: Mapping[str, Any], shapes: Sequence[tuple[int, ...]], constant_bytes: Sequence[int]) -> list[LayerCost]:
    """Give the costs of every node. ``graph``: the dict of docs/format.md; ``shapes``: concrete shape of each value."""
    constants, values, quants = graph["constants"], graph["values"], graph["quants"]
    costs = []
    for node in graph["nodes"]:
        x, traits = values[(node["inputs"] or node["outputs"])[0]], OPS[node["op"]]
        if traits.quantizes_input:
            act_bits = int(node["attrs"]["qmax"]).bit_length()
        else:
            act_bits = quants[x["quant"]]["bits"] if x["dtype"] == "u8" else 32
        output_shape = tuple(shapes[node["outputs"][0]])
        weight = constants[node["constants"]["weight"]] if traits.is_layer else None
        weight_bits = macs = params = 0
        if weight is not None:
            weight_bits = weight["bits"] if weight["dtype"] == "code" and act_bits < 32 else 32
            macs = prod(output_shape) * prod(weight["shape"][1:])
            params = prod(weight["shape"])
        reason = "" if weight is None else float_reason(graph, node)
        size = sum(constant_bytes[i] for i in node["constants"].values())
        costs.append(LayerCost(node["name"], node["op"], output_shape, weight_bits, act_bits, macs, params, size, reason))
    return costs


def float_reason(graph: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """Say why a conv or linear node runs in float, as far as its operands tell; "" where it runs in integers."""
    if OPS[node["op"]].quantizes_input or graph["values"][node["inputs"][0]]["dtype"] == "u8":
        return ""
    quantized_weights = graph["constants"][node["constants"]["weight"]]["dtype"] == "code"
    return "its weights are quantized but its input is not" if quantized_weights else "its weights are not quantized"


def in_float(graph: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    """Say why a node computes in float; "" for one that works on codes, and for one that only moves, copies or quantizes values."""
    traits = OPS[node["op"]]
    if traits.is_layer:
        reason = float_reason(graph, node)
    elif node["inputs"] and graph["values"][node["inputs"][0]]["dtype"] == "f32" and not traits.is_quantizer and not traits.picks_elements:
        reason = "the op has no form for codes" if traits.reads is Reads.FLOATS and not traits.has_table else "its input is not quantized"
    else:
        reason = ""
    return reason and f"in float: {reason}"
