"""Which conv and linear layers run in integers, and why the others do not: read off the engine's graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCoverage:
    """``reason``: why the layer runs in float, "" where it runs in integers."""

    name: str
    integer: bool
    reason: str


def layer_coverage(graph: Mapping[str, Any]) -> list[LayerCoverage]:
    """One entry per conv2d and linear node of a graph as docs/format.md describes it."""
    constants, values = graph["constants"], graph["values"]
    result = []
    for node in graph["nodes"]:
        if node["op"] not in ("conv2d", "linear"):
            continue
        integer = values[node["inputs"][0]]["dtype"] == "u8"
        quantized_weights = constants[node["constants"]["weight"]]["dtype"] == "code"
        reason = "its weights are quantized but its input is not" if quantized_weights else "its weights are not quantized"
        result.append(LayerCoverage(node["name"], integer, "" if integer else reason))
    return result
