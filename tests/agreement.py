"""An engine graph against torch's graph, layer by layer on identical inputs, and the native engine against the NumPy twin.

The bounds are those of docs/numerics.md, "What follows".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves
from traces import traced_once

from pyqinfer import reference
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.frontend.tracing import trace
from pyqinfer.layerwise import Difference, LayerByLayer
from pyqinfer.lower.emit import EngineGraph
from pyqinfer.model import Model
from pyqinfer.ops import OPS, Agreement
from pyqinfer.session import Session


def differences(module: GraphModule, engine: EngineGraph, *inputs: Tensor, native: Model | None = None) -> dict[str, Difference]:
    """By engine node; also asserts that the outputs are those of the last nodes, in torch's order of dimensions.

    ``native``: runs instead of the twin, for networks that take NumPy minutes.
    """
    names = [node["name"] for node in engine.graph["nodes"]]
    arrays = {port["name"]: x.numpy() for port, x in zip(engine.graph["inputs"], inputs, strict=True)}
    native_run = None if native is None else Session(native).run(arrays, capture=names)
    values = native_run or reference.run(engine.graph, engine.constants, arrays, names)
    runner = LayerByLayer(module, engine, values)
    with torch.no_grad():
        outputs = tree_leaves(runner.run(*inputs))
    for port, output in zip(engine.graph["outputs"], outputs, strict=True):
        if output.dtype == torch.float32 and values[port["name"]].dtype == np.float32:
            np.testing.assert_allclose(values[port["name"]], output.numpy(), rtol=1e-4, atol=2e-5 * float(output.abs().max()))
    return runner.differences


def assert_agrees_with_torch(graph: GraphModule, *inputs: Tensor, **options: bool) -> None:
    """The engine graph of a traced or quantized graph agrees with it layer by layer; ``options``: of build_engine_graph."""
    assert_within_bounds(differences(graph, build_engine_graph(graph, inputs, **options), *inputs))


def assert_converts_and_agrees(model: nn.Module, *inputs: Tensor, fallback: str = "error") -> EngineGraph:
    """torch runs the graph that is imported as it runs the model; the engine agrees with it layer by layer, and with the twin."""
    with traced_once(model):
        graph = trace(model, inputs)
        engine = build_engine_graph(model, inputs, fallback=fallback)
        converted = convert(model, example_inputs=inputs)
    with torch.no_grad():
        assert_equal_but_for_flips(graph(*inputs), model(*inputs))
    assert engine.to_json() == build_engine_graph(graph, inputs).to_json()
    assert_within_bounds(differences(graph, engine, *inputs))
    assert_engine_equals_twin(converted, *inputs)
    return engine


def assert_equal_but_for_flips(got: Any, expected: Any) -> None:
    """Two evaluations of a quantized model in float: a value next to a tie may fall the other way, and move what reads it."""
    for a, b in zip(tree_leaves(got), tree_leaves(expected), strict=True):
        assert float((a - b).norm()) <= 0.02 * float(b.norm())


def assert_within_bounds(found: dict[str, Difference]) -> None:
    for name, d in found.items():
        assert d.relative < 2e-5, (name, d)
        if OPS[d.op].agreement is Agreement.EXACT:
            assert d.codes == 0, (name, d)
        else:
            assert d.worst <= 1, (name, d)
            assert d.codes <= max(0.0003 * d.elements, 3), (name, d)
    pooled = [d for d in found.values() if OPS[d.op].agreement is not Agreement.EXACT]
    elements = sum(d.elements for d in pooled)
    assert elements < 10**6 or sum(d.codes for d in pooled) <= 1e-4 * elements


def assert_engine_equals_twin(model: Model, *inputs: Tensor) -> None:
    names = [node["name"] for node in model.graph["nodes"]]
    arrays = {name: x.numpy() for name, x in zip(model.inputs, inputs, strict=True)}
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    expected = reference.run(model.graph, constants, arrays, names)
    got = Session(model, threads=1).run(arrays, capture=names)
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)
