"""Reads off the engine's graph which conv and linear layers run in integers, and why the others do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyqinfer.accounting import float_reason
from pyqinfer.ops import OPS


@dataclass(frozen=True)
class LayerCoverage:
    """How one layer runs. ``reason``: why it runs in float, "" where it runs in integers."""

    name: str
    integer: bool
    reason: str


def layer_coverage(graph: Mapping[str, Any]) -> list[LayerCoverage]:
    """Give one entry per conv and linear node of a graph as docs/format.md describes it."""
    result = []
    for node in graph["nodes"]:
        if not OPS[node["op"]].is_layer:
            continue
        reason = float_reason(graph, node)
        result.append(LayerCoverage(node["name"], not reason, reason))
    return result
