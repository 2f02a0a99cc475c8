"""Models of a few nodes, written as graphs: for tests of what surrounds a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

import pyqinfer as pq
from pyqinfer import _core

Values = dict[str, tuple[str, list[Any]]]


def model(inputs: Values, nodes: Sequence[dict[str, Any]], constants: dict[str, np.ndarray[Any, Any]] | None = None) -> pq.Model:
    """Make a model of nodes that read and write float32 values by name; the last node's value is its output.

    Args:
        inputs: name -> dtype and shape.
        nodes: each with ``op``, ``name`` (also that of its value), ``inputs`` (names), ``attrs`` and ``constants`` (key -> name).
        constants: name -> float32 array.
    """
    stored = constants or {}
    names = [*inputs, *(node["name"] for node in nodes)]
    graph = {
        "symbols": sorted({d for _, shape in inputs.values() for d in shape if isinstance(d, str)}),
        "quants": [],
        "constants": [{"name": name, "dtype": "f32", "shape": list(array.shape)} for name, array in stored.items()],
        "values": [{"name": name, "dtype": dtype, "shape": shape} for name, (dtype, shape) in inputs.items()]
        + [{"name": node["name"], "dtype": "f32"} for node in nodes],
        "nodes": [
            {
                "op": node["op"],
                "name": node["name"],
                "inputs": [names.index(name) for name in node["inputs"]],
                "outputs": [names.index(node["name"])],
                "constants": {key: list(stored).index(name) for key, name in node.get("constants", {}).items()},
                "attrs": node["attrs"],
            }
            for node in nodes
        ],
        "inputs": [{"name": name, "value": i} for i, name in enumerate(inputs)],
        "outputs": [{"name": nodes[-1]["name"], "value": names.index(nodes[-1]["name"])}],
        "samples": [],
    }
    return pq.Model.from_bytes(_core.write_model(json.dumps(graph), list(stored.values()), "test"))


def chain(layers: int) -> pq.Model:
    """Make a model of so many functions of x [N, 1000], one after the other."""
    nodes = [
        {"op": "unary", "name": f"layer{i}", "inputs": [f"layer{i - 1}" if i else "x"], "attrs": {"function": "tanh", "alpha": 0}}
        for i in range(layers)
    ]
    return model({"x": ("f32", ["N", 1000])}, nodes)


def embedding() -> pq.Model:
    """Make a model that gives a row of ones for each index i [N] below 16."""
    node = {"op": "embedding", "name": "y", "inputs": ["i"], "constants": {"weight": "w"}, "attrs": {"step": 1}}
    return model({"i": ("i32", ["N"])}, [node], {"w": np.ones((16, 16), np.float32)})
