"""An engine graph against torch's graph, layer by layer on identical inputs, and the native engine against the NumPy twin.

The bounds are those of docs/numerics.md, "What follows".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_leaves, tree_map
from traces import traced_once

from pyqinfer import reference
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.frontend.tracing import trace
from pyqinfer.lower.emit import EngineGraph
from pyqinfer.model import Model
from pyqinfer.ops import OPS, Agreement
from pyqinfer.session import Session

NORMALIZATIONS = {torch.ops.aten.group_norm.default, torch.ops.aten.layer_norm.default}


@dataclass
class Difference:
    """One engine node against torch: how many codes differ and by how much; ``relative``: the same for a float output."""

    op: str
    codes: int
    elements: int
    worst: int
    relative: float


def in_torch_order(engine: EngineGraph, captured: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Captured values with NHWC ones turned to NCHW."""
    turned = {name: value.transpose(0, 3, 1, 2) if name in engine.nhwc else value for name, value in captured.items()}
    return {name: np.ascontiguousarray(value) for name, value in turned.items()}


class LayerByLayer(Interpreter):
    """Runs torch's graph; after each node that an engine node stands for, compares and goes on with the engine's value."""

    def __init__(self, module: GraphModule, engine: EngineGraph, captured: dict[str, NDArray[Any]]) -> None:
        super().__init__(module)
        self.engine, self.captured = engine, in_torch_order(engine, captured)
        self.names: dict[str, list[str]] = {}
        for engine_node, origin in engine.origins.items():
            self.names.setdefault(origin, []).append(engine_node)
        self.nodes = {node["name"]: node for node in engine.graph["nodes"]}
        self.scales = dict(zip([c["name"] for c in engine.graph["constants"]], engine.constants, strict=True)).get("activation_scales")
        self.differences: dict[str, Difference] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """The engine's values are contiguous: a view that was traced for other strides becomes a reshape.

        Normalizations in float64: in float32 torch takes the difference of two large sums for some memory formats. The input of a
        convolution with plain strides: torch 2.13 reads address 0 for [3, 1, 5, 1] with strides (5, 1, 1, 1).
        """
        if target is torch.ops.aten.view.default:
            target = torch.ops.aten.reshape.default
        if target is torch.ops.aten.conv2d.default and args[0].is_contiguous():
            args = (torch.empty(args[0].shape, dtype=args[0].dtype).copy_(args[0]), *args[1:])
        if target in NORMALIZATIONS:
            wide = tree_map(lambda a: a.double() if isinstance(a, Tensor) else a, (args, kwargs))
            return super().call_function(target, *wide).float()
        return super().call_function(target, args, kwargs)

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        names = self.names.get(n.name)
        if names is None or not isinstance(value, Tensor):
            return value
        # The first: the tensor may be there as floats and then as codes. Others are its elements in another shape.
        name = next((name for name in names if self.captured[name].shape == tuple(value.shape)), None)
        if name is None:
            return value
        node, got = self.nodes[name], self.captured[name]
        entry = self.engine.graph["values"][node["outputs"][0]]
        if entry["dtype"] == "f32":
            largest = np.abs(got).max(initial=1e-6)
            relative = float(np.abs(value.numpy() - got).max(initial=0) / largest)
            self.differences[name] = Difference(node["op"], 0, got.size, 0, relative)
            return torch.from_numpy(got)
        quant, scale = self.engine.graph["quants"][entry["quant"]], self.scales[entry["quant"]]
        if value.dtype == torch.float32:
            expected = np.clip(np.rint(value.numpy() / scale).astype(np.int64) + quant["zero_point"], quant["qmin"], quant["qmax"])
            again = torch.from_numpy((got.astype(np.int32) - quant["zero_point"]).astype(np.float32) * scale)
        else:
            shift = quant["qmin"] - int(n.args[3])
            expected = value.numpy().astype(np.int64) + shift
            again = torch.from_numpy(got.astype(np.int64) - shift).to(value.dtype)
        difference = np.abs(expected - got)
        if OPS[node["op"]].agreement is Agreement.AVERAGES:
            before = value if value.dtype == torch.float32 else self.fetch_args_kwargs_from_env(n)[0][0]
            difference = difference[~ties(before, scale)]
        self.differences[name] = Difference(node["op"], np.count_nonzero(difference), got.size, int(difference.max(initial=0)), 0.0)
        return again


def ties(x: Tensor, scale: np.float32) -> NDArray[np.bool_]:
    """Where a float value lies on an exact tie between two codes."""
    codes = x.numpy().astype(np.float64) / scale
    return np.abs(codes - np.floor(codes) - 0.5) < 1e-4


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
