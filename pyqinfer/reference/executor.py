"""Walks an engine graph (docs/format.md, "Graph") node by node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference import conv, elementwise, functions, integers, linear_dynamic, matmul, movement, norms, pool
from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Quant, Tensor
from pyqinfer.terms import Term, holds, number_of, term_text, text_of

OPS: Mapping[str, Op] = {
    **conv.OPS,
    **linear_dynamic.OPS,
    **elementwise.OPS,
    **functions.OPS,
    **pool.OPS,
    **norms.OPS,
    **matmul.OPS,
    **movement.OPS,
    **integers.OPS,
}


def run(
    graph: Mapping[str, Any],
    constants: Sequence[NDArray[Any]],
    inputs: Mapping[str, NDArray[Any]],
    capture: Sequence[str] = (),
) -> dict[str, NDArray[Any]]:
    """Run an engine graph in NumPy.

    Args:
        graph: the parsed JSON of docs/format.md, section "Graph" (``json.loads(model.graph_json)``).
        constants: logical arrays, one for each entry of the graph's ``constants`` (int8 for ``code``); the entry named
            ``activation_scales`` holds the scales of the quants.
        inputs: one array for each graph input, by name: float32, uint8 codes or int32 indices, in the shape the graph declares.
        capture: names of nodes whose outputs are wanted as well.

    Returns:
        The graph's outputs by name, then the captured values by node name, as the engine holds them: float32, or uint8
        codes; spatial values are NHWC.

    Raises:
        ValueError: an input is missing, unknown or of the wrong shape; `capture` names no node; an op is unknown; an index
            lies outside its table.
        TypeError: an input has the wrong dtype.
    """
    missing = set(capture) - {node["name"] for node in graph["nodes"]}
    if missing:
        raise ValueError(f"capture: the graph has no node named {', '.join(sorted(missing))}")
    quants = _quants(graph, constants)
    values: dict[int, Tensor] = {}
    symbols = _bind_inputs(graph, inputs, quants, values)
    kept = {port["value"] for port in graph["outputs"]}
    last_use = {v: i for i, node in enumerate(graph["nodes"]) for v in node["inputs"] if v not in kept}
    captured: dict[str, NDArray[Any]] = {}
    for i, node in enumerate(graph["nodes"]):
        (output,) = node["outputs"]
        values[output] = _run_node(graph, node, constants, quants, symbols, values)
        if node["name"] in capture:
            captured[node["name"]] = values[output].data
        for v in set(node["inputs"]):
            if last_use.get(v) == i:
                del values[v]
    outputs = {port["name"]: values[port["value"]].data for port in graph["outputs"]}
    return outputs | {name: captured[name] for name in capture}


def _run_node(
    graph: Mapping[str, Any],
    node: Mapping[str, Any],
    constants: Sequence[NDArray[Any]],
    quants: Sequence[Quant],
    symbols: Mapping[str, int],
    values: Mapping[int, Tensor],
) -> Tensor:
    op = OPS.get(node["op"])
    if op is None:
        raise ValueError(f"node {node['name']!r}: unknown op {node['op']!r}; the twin has {', '.join(OPS)}")
    quant = graph["values"][node["outputs"][0]].get("quant")
    args = NodeArgs(
        inputs=[values[v] for v in node["inputs"]],
        constants={key: constants[index] for key, index in node.get("constants", {}).items()},
        attrs=node.get("attrs", {}),
        output=None if quant is None else quants[quant],
        symbols=symbols,
    )
    with np.errstate(all="ignore"):  # infinities and NaN are results like any other
        result = op(args)
    return Tensor(np.asarray(result.data, order="C"), result.quant)


def _quants(graph: Mapping[str, Any], constants: Sequence[NDArray[Any]]) -> list[Quant]:
    index = {entry["name"]: i for i, entry in enumerate(graph["constants"])}
    quants = graph.get("quants", [])
    if not quants:
        return []
    scales = constants[index["activation_scales"]]
    return [Quant(np.float32(scale), q["zero_point"], q["qmin"], q["qmax"]) for q, scale in zip(quants, scales, strict=True)]


def _bind_inputs(
    graph: Mapping[str, Any], inputs: Mapping[str, NDArray[Any]], quants: Sequence[Quant], values: dict[int, Tensor]
) -> dict[str, int]:
    """Check the inputs, store them in `values`, and return what number each symbol stands for."""
    names = [port["name"] for port in graph["inputs"]]
    if set(names) != set(inputs):
        raise ValueError(f"inputs: expected {', '.join(names)}, got {', '.join(inputs)}")
    symbols: dict[str, int] = {}
    for port in graph["inputs"]:
        value, array = graph["values"][port["value"]], inputs[port["name"]]
        dtype = {"f32": "float32", "u8": "uint8", "i32": "int32"}[value["dtype"]]
        if array.dtype != dtype:
            raise TypeError(f"input {port['name']!r}: expected {dtype}, got {array.dtype}")
        declared = value["shape"]
        bound = [symbols.setdefault(d, n) if isinstance(d, str) else d for d, n in zip(declared, array.shape, strict=False)]
        if len(declared) != array.ndim or tuple(bound) != array.shape:
            raise ValueError(f"input {port['name']!r}: expected shape {declared}, got {list(array.shape)}")
        values[port["value"]] = Tensor(array, quants[value["quant"]] if "quant" in value else None)
    for condition in graph.get("conditions", []):
        if not holds(condition, symbols):
            raise ValueError(f"the model holds only where {text_of(condition)}, and the inputs have {symbols}")
    return symbols | {name: _size(term, symbols) for name, term in graph.get("sizes", [])}


def _size(term: Term, symbols: Mapping[str, int]) -> int:
    number = number_of(term, symbols)
    if number < 0:
        raise ValueError(f"the model computes with the size {term_text(term)}, which is {number} here")
    return number
