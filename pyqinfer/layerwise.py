"""A torch graph against the engine's, layer by layer on identical inputs: differences do not add up from layer to layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_map

from pyqinfer.lower.emit import EngineGraph
from pyqinfer.ops import OPS, Agreement

_NORMALIZATIONS = {torch.ops.aten.group_norm.default, torch.ops.aten.layer_norm.default}
_LOWEST = np.finfo(np.float32).min
_TIE = 1e-4  # how close to the middle between two codes a float is an exact tie, which float32 sums may miss


@dataclass(frozen=True)
class Difference:
    """One engine node against torch.

    Attributes:
        op: the node's operation.
        codes: how many codes differ. elements: of how many. worst: by how many steps at most.
        relative: for a float output, the largest difference as a share of the output's largest element.
    """

    op: str
    codes: int
    elements: int
    worst: int
    relative: float


class LayerByLayer(Interpreter):
    """Runs torch's graph; after each node that an engine node stands for, it compares, and goes on with the engine's value.

    Args:
        module: the torch graph.
        engine: the engine's graph, made from it.
        captured: the output of every engine node, as the engine holds it.

    Attributes:
        differences: by engine node, in the order of execution.
    """

    def __init__(self, module: GraphModule, engine: EngineGraph, captured: Mapping[str, NDArray[Any]]) -> None:
        super().__init__(module)
        self.engine, self.captured = engine, _in_torch_order(engine, captured)
        self.names: dict[str, list[str]] = {}
        for engine_node, origin in engine.origins.items():
            self.names.setdefault(origin, []).append(engine_node)
        self.nodes = {node["name"]: node for node in engine.graph["nodes"]}
        constants = dict(zip([c["name"] for c in engine.graph["constants"]], engine.constants, strict=False))
        self.scales = constants.get("activation_scales")
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
        if target in _NORMALIZATIONS:
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
            self.differences[name] = Difference(node["op"], 0, got.size, 0, relative_difference(value.numpy(), got))
            return torch.from_numpy(got)
        assert self.scales is not None
        quant, scale = self.engine.graph["quants"][entry["quant"]], self.scales[entry["quant"]]
        if value.dtype == torch.float32:
            expected = np.clip(np.rint(value.numpy() / scale).astype(np.int64) + quant["zero_point"], quant["qmin"], quant["qmax"])
            again = torch.from_numpy((got.astype(np.int32) - quant["zero_point"]).astype(np.float32) * scale)
        else:
            lowest: Any = n.args[3]
            shift = quant["qmin"] - int(lowest)
            expected = value.numpy().astype(np.int64) + shift
            again = torch.from_numpy(got.astype(np.int64) - shift).to(value.dtype)
        difference = np.abs(expected - got)
        if OPS[node["op"]].agreement is Agreement.AVERAGES:
            before = value if value.dtype == torch.float32 else self.fetch_args_kwargs_from_env(n)[0][0]
            difference = difference[~_ties(before, scale)]
        self.differences[name] = Difference(node["op"], int(np.count_nonzero(difference)), got.size, int(difference.max(initial=0)), 0.0)
        return again


def relative_difference(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """The largest difference as a share of the largest element of ``got``; infinite where only one of the two is finite.

    The engine has the lowest float32 for the minus infinity of a mask.
    """
    expected = np.where(np.isneginf(expected) & (got == _LOWEST), got, expected)
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(got)):
        return float("inf")
    largest = np.abs(got[finite]).max(initial=1e-6)
    return float(np.abs(expected[finite] - got[finite]).max(initial=0) / largest)


def _in_torch_order(engine: EngineGraph, captured: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Captured values with NHWC ones turned to NCHW."""
    turned = {name: value.transpose(0, 3, 1, 2) if name in engine.nhwc else value for name, value in captured.items()}
    return {name: np.ascontiguousarray(value) for name, value in turned.items()}


def _ties(x: Tensor, scale: np.float32) -> NDArray[np.bool_]:
    """Where a float value lies on an exact tie between two codes."""
    codes = x.numpy().astype(np.float64) / scale
    result: NDArray[np.bool_] = np.abs(codes - np.floor(codes) - 0.5) < _TIE
    return result
