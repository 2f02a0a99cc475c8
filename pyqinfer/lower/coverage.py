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


def layer_coverage(graph: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> list[LayerCoverage]:
    """One entry per conv2d and linear node of a graph as docs/format.md describes it; ``notes``: reasons by layer."""
    constants, values = graph["constants"], graph["values"]
    result = []
    for node in graph["nodes"]:
        if node["op"] not in ("conv2d", "linear"):
            continue
        integer = values[node["inputs"][0]]["dtype"] == "u8"
        quantized_weights = constants[node["constants"]["weight"]]["dtype"] == "code"
        reason = (notes or {}).get(node["name"]) or _reason(quantized_weights)
        result.append(LayerCoverage(node["name"], integer, "" if integer else reason))
    return result


def _reason(quantized_weights: bool) -> str:
    return "its weights are quantized but its input is not" if quantized_weights else "its weights are not quantized"
