"""Networks that normalize concatenations: they stay in codes, their pieces share parameters, and earlier concatenations are read again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_agrees_with_torch
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import _core, ir
from pyqinfer.conversion import build_engine_graph
from pyqinfer.lower.concats import read_earlier_concats
from pyqinfer.quantization.concats import share_with_concats
from pyqinfer.quantization.observers import affine_params

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class DenseBlock(nn.Module):
    """``gains``: by what the output of each layer is multiplied."""

    def __init__(self, gains: tuple[float, ...] = (1.0, 1.0, 1.0)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8 + 4 * len(gains), 5, 1)
        widths = [8 + 4 * i for i in range(len(gains) + 1)]
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.layers = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in widths[:-1])
        for norm in self.norms:
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.2, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        with torch.no_grad():
            for layer, gain in zip(self.layers, gains, strict=True):
                layer.weight *= gain

    def forward(self, x: Tensor) -> Tensor:
        pieces = [self.stem(x)]
        for norm, layer in zip(self.norms, self.layers, strict=False):
            pieces.append(layer(F.relu(norm(torch.cat(pieces, 1)))))
        return self.last(F.relu(self.norms[-1](torch.cat(pieces, 1))))


def engine(model: nn.Module, **options: Any) -> tuple[torch.fx.GraphModule, dict[str, Any]]:
    graph = pq.quantize(model.eval(), pq.PTQ(**options), example_inputs=(X,), calibration=[X])
    return graph, build_engine_graph(graph, (X,)).graph


def concats(graph: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in graph["nodes"] if node["op"] == "concat"]


def quant(graph: dict[str, Any], value: int) -> Any:
    return graph["values"][value].get("quant")


def test_a_dense_block_has_no_float_between_its_layers_and_moves_each_piece_once() -> None:
    graph, found = engine(DenseBlock((2.0, 2.0, 2.0)), smooth=True)
    assert [len(node["inputs"]) for node in concats(found)] == [2, 2, 2]
    assert all(found["values"][node["outputs"][0]]["dtype"] == "u8" for node in concats(found))
    assert {node["op"] for node in found["nodes"]} <= {"quantize", "conv2d", "affine", "concat", "transpose"}
    assert_agrees_with_torch(graph, X)


def test_without_smooth_normalizations_read_floats() -> None:
    _, found = engine(DenseBlock(), smooth=False)
    assert all(found["values"][node["outputs"][0]]["dtype"] == "f32" for node in concats(found))


@pytest.mark.parametrize("gains", [(1.0, 1.0, 1.0), (0.05, 20.0, 1.0)])
def test_blocks_of_even_and_of_uneven_ranges_are_as_exact_as_floats_between_them(gains: tuple[float, ...]) -> None:
    model = DenseBlock(gains)
    errors = []
    with torch.no_grad():
        expected = model.eval()(X)
        for smooth in (False, "auto"):
            graph, _ = engine(model, smooth=smooth)
            errors.append(float((graph(X) - expected).norm() / expected.norm()))
    assert errors[1] <= 2 * errors[0] + 0.01


def test_a_network_that_normalizes_before_it_convolves_stays_in_codes() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
            self.conv, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.last(x + self.conv(F.relu(self.norm(x))))

    graph, found = engine(Residual(), smooth=True)
    floats = [node["op"] for node in found["nodes"] if found["values"][node["outputs"][0]]["dtype"] == "f32"]
    assert floats == ["conv2d", "transpose"]
    assert_agrees_with_torch(graph, X)


# ---- parameters ------------------------------------------------------------------------------------------------------


def joined(*ranges: tuple[float, float], bits: int = 8) -> list[Any]:
    """Parameters of pieces and, last, of their concatenation, after sharing."""
    graph = torch.fx.Graph()
    pieces = [graph.placeholder(f"p{i}") for i in range(len(ranges))]
    concat = graph.call_function(torch.ops.aten.cat.default, (pieces, 1))
    params = {piece: affine_params(*ends, bits) for piece, ends in zip(pieces, ranges, strict=True)}
    params[concat] = affine_params(min(low for low, _ in ranges), max(high for _, high in ranges), bits)
    share_with_concats(params, {}, set())
    return list(params.values())


def test_a_piece_takes_the_concatenations_parameters_where_it_loses_a_bit_at_most() -> None:
    wide, near, far, whole = joined((-1, 3), (-0.5, 2), (-0.1, 1))
    assert wide == near == whole
    assert far != whole
    wide, near, whole = joined((-1, 3), (-0.5, 2), bits=4)
    assert near != whole


def test_a_tensor_that_keeps_its_parameters_keeps_them() -> None:
    graph = torch.fx.Graph()
    a, b = graph.placeholder("a"), graph.placeholder("b")
    concat = graph.call_function(torch.ops.aten.cat.default, ([a, b], 1))
    params = {a: affine_params(-1, 2, 8), b: affine_params(-1, 2.5, 8), concat: affine_params(-1, 3, 8)}
    before = dict(params)
    share_with_concats(params, {}, {a})
    assert params == {**before, b: before[concat]}


# ---- the pass --------------------------------------------------------------------------------------------------------


def chain(*inputs: list[str], axes: list[int] | None = None, quants: list[Any] | None = None) -> list[list[str]]:
    """Names of the inputs of concatenations c0, c1, ... after the pass; other names are inputs of the graph."""
    values: dict[str, ir.Value] = {}
    nodes = []
    for i, names in enumerate(inputs):
        for name in names:
            values.setdefault(name, ir.Value(name, (2, 3)))
        values[f"c{i}"] = ir.Value(f"c{i}", (2, 3 * len(names)), quants[i] if quants else None)
        axis = axes[i] if axes else 1
        nodes.append(ir.Node("concat", f"c{i}", [values[name] for name in names], values[f"c{i}"], {"axis": axis}))
    graph = ir.Graph([], [v for name, v in values.items() if not name.startswith("c")], [("y", nodes[-1].output)], nodes)
    read_earlier_concats(graph)
    return [[value.name for value in node.inputs] for node in nodes]


def test_the_longest_earlier_concatenation_is_read_wherever_it_stands() -> None:
    assert chain(["a", "b"], ["a", "b", "d"], ["e", "a", "b", "d", "f"]) == [["a", "b"], ["c0", "d"], ["e", "c1", "f"]]
    assert chain(["a", "b"], ["a", "b", "a", "b"], ["b", "a"]) == [["a", "b"], ["c0", "c0"], ["b", "a"]]
    assert chain(["a"], ["a", "b"]) == [["a"], ["a", "b"]]
    assert chain(["a", "b"], ["a", "b"]) == [["a", "b"], ["c0"]]


def test_concatenations_along_other_axes_or_of_other_parameters_are_left_alone() -> None:
    assert chain(["a", "b"], ["a", "b", "d"], axes=[0, 1]) == [["a", "b"], ["a", "b", "d"]]
    one, other = ir.Quant(0.5, 3, 0, 255), ir.Quant(0.25, 3, 0, 255)
    assert chain(["a", "b"], ["a", "b", "d"], quants=[one, other]) == [["a", "b"], ["a", "b", "d"]]
    assert chain(["a", "b"], ["a", "b", "d"], quants=[one, one]) == [["a", "b"], ["c0", "d"]]


def test_bits_of_a_dense_block_are_those_of_every_isa() -> None:
    graph, _ = engine(DenseBlock(), smooth=True)
    model = pq.convert(graph, example_inputs=(X,))
    results = [np.asarray(pq.Session(model, threads=1, isa=isa)(X)) for isa in _core.cpu_info()["isas"]]
    assert all(np.array_equal(results[0], result) for result in results)
