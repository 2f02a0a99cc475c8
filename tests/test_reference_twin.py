"""docs/numerics.md, three times: exact fractions, the NumPy twin and the C++ reference must give the same bits.

The golden vectors come from the exact route (tests/op_rows); random one-op graphs then compare the twin with the C++ reference.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import op_rows
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from op_rows import exact_scalar
from op_rows.one_op import OneOp

from pyqinfer import _core, reference
from pyqinfer.reference.rounding import fma

CASES = json.loads(op_rows.GOLDEN.read_text())


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Shapes, dtypes and bits; any NaN equals any NaN."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype != np.float32:
        return np.array_equal(a, b)
    nan = np.isnan(a)
    return np.array_equal(nan, np.isnan(b)) and np.array_equal(
        np.ascontiguousarray(a[~nan]).view(np.uint32), np.ascontiguousarray(b[~nan]).view(np.uint32)
    )


def run_core(graph: dict[str, Any], constants: list[np.ndarray], inputs: dict[str, np.ndarray], isa: str = "reference") -> np.ndarray:
    data = _core.write_model(json.dumps(graph), constants, "test")
    return _core.Session(_core.Model.from_bytes(data), 1, isa).run(inputs, [])["y"]


# ---- golden vectors -------------------------------------------------------------------------------------------------


def test_golden_vectors_are_those_of_the_exact_route() -> None:
    assert op_rows.document() == op_rows.GOLDEN.read_text()


def test_a_case_draws_the_same_arrays_whatever_other_cases_there_are() -> None:
    cases = {case.name: case for case in op_rows.CASES}
    assert len(cases) == len(op_rows.CASES), "names seed the arrays: each may occur once"
    alone = cases["concat: to few bits"]
    before = alone.node().feeds()
    for other in op_rows.CASES[::7]:
        other.node()
    assert all(np.array_equal(before[name], array) for name, array in alone.node().feeds().items())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_twin_meets_the_golden_vector(case: dict[str, Any]) -> None:
    inputs = {name: op_rows.decode(entry) for name, entry in case["inputs"].items()}
    y = reference.run(case["graph"], [op_rows.decode(entry) for entry in case["constants"]], inputs)["y"]
    assert same_bits(y, op_rows.decode(case["output"]))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_isa_meets_the_golden_vector(case: dict[str, Any]) -> None:
    constants = [op_rows.decode(entry) for entry in case["constants"]]
    inputs = {name: op_rows.decode(entry) for name, entry in case["inputs"].items()}
    expected = op_rows.decode(case["output"])
    isas = _core.cpu_info()["isas"]
    assert isas[0] == "reference"
    assert [isa for isa in isas if not same_bits(run_core(case["graph"], constants, inputs, isa), expected)] == []


# ---- fma ------------------------------------------------------------------------------------------------------------

floats32 = st.floats(width=32)
short = st.builds(lambda m, e: math.ldexp(m, e), st.integers(-4097, 4097), st.sampled_from([-149, -140, -12, 0, 12, 24]))


def twin_fma(x: float, w: float, t: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return fma(*(np.array([v], np.float64) for v in (x, w, t))).astype(np.float32)


@settings(max_examples=500)
@given(x=floats32 | short, w=floats32 | short, t=floats32 | short)
def test_twin_fma_rounds_once(x: float, w: float, t: float) -> None:
    assert same_bits(twin_fma(x, w, t), np.array([exact_scalar.fma(x, w, t)], np.float32))


# Products and sums for which rounding to double first, then to float32, gives another number.
DOUBLE_ROUNDING = [
    (1 + 2.0**-12, 1 + 2.0**-12, 2.0**-60, 1 + 2.0**-11 + 2.0**-23),
    (1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-60), 1 + 2.0**-11),
    (-(1 + 2.0**-12), 1 + 2.0**-12, 2.0**-60, -(1 + 2.0**-11)),
    ((2**23 + 1) * 2.0**-98, (2**23 - 1) * 2.0**-98, 2.0**-127 + 2.0**-149, 2.0**-127 + 2.0**-149),
    (2.0**127, 2.0, -(2.0**100), math.inf),
]


@pytest.mark.parametrize(("x", "w", "t", "expected"), DOUBLE_ROUNDING)
def test_twin_fma_is_not_rounded_twice(x: float, w: float, t: float, expected: float) -> None:
    assert twin_fma(x, w, t).item() == expected == exact_scalar.fma(x, w, t)


# ---- random nodes: twin == C++ reference ------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(node=op_rows.nodes())
def test_twin_and_cpp_reference_agree_on_random_nodes(node: OneOp) -> None:
    graph, constants, inputs = node.graph(), node.constant_arrays(), node.feeds()
    assert same_bits(reference.run(graph, constants, inputs)["y"], run_core(graph, constants, inputs))


@settings(max_examples=80, deadline=None)
@given(node=op_rows.nodes())
def test_twin_agrees_with_exact_fractions_on_random_nodes(node: OneOp) -> None:
    assume(node.inputs[0][0].size * node.constants.get("weight", np.empty(1)).size < 20_000)
    assert same_bits(reference.run(node.graph(), node.constant_arrays(), node.feeds())["y"], op_rows.evaluate(node))


# ---- whole networks: twin == C++ reference == every kernel set, layer by layer -------------------------------------------

NETWORKS = [
    ("resnet20", (5, 3, 28, 28), True),
    ("resnet20", (2, 3, 13, 11), False),
    ("resnet18", (2, 3, 64, 64), True),
    ("resnet50", (1, 3, 224, 224), True),
    ("mobilenet_v2", (1, 3, 64, 64), True),
]


@pytest.mark.parametrize(("name", "shape", "quantized"), NETWORKS)
def test_twin_and_every_isa_agree_on_each_layer_of_a_network(name: str, shape: tuple[int, ...], quantized: bool) -> None:
    torch = pytest.importorskip("torch")
    import pyqinfer as pq

    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = pq.zoo.randomize_batchnorm(getattr(pq.zoo, name)(), seed=1)
    if quantized:
        model = pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    native = _core.Model.from_bytes(pq.convert(model, example_inputs=(x,)).to_bytes())
    graph = json.loads(native.graph_json)
    layers = [node["name"] for node in graph["nodes"]]
    feeds = {graph["inputs"][0]["name"]: x.numpy()}
    expected = reference.run(graph, [native.constant(i) for i in range(len(graph["constants"]))], feeds, layers)
    for isa in _core.cpu_info()["isas"]:
        actual = _core.Session(native, 1, isa).run(feeds, layers)
        assert [key for key in expected if not same_bits(expected[key], actual[key])] == [], isa


# ---- the executor ---------------------------------------------------------------------------------------------------

GRAPH: dict[str, Any] = {
    "symbols": ["N"],
    "quants": [{"bits": 8, "zero_point": 4, "qmin": 0, "qmax": 255}],
    "constants": [{"name": "activation_scales", "dtype": "f32", "shape": [1]}],
    "values": [
        {"name": "x", "dtype": "f32", "shape": ["N", 1, 2, 2]},
        {"name": "x_q", "dtype": "u8", "quant": 0},
        {"name": "pooled", "dtype": "u8", "quant": 0},
        {"name": "y", "dtype": "u8", "quant": 0},
    ],
    "nodes": [
        {"op": "quantize", "name": "enter", "inputs": [0], "outputs": [1], "constants": {}, "attrs": {"layout": "to_nhwc"}},
        {"op": "mean", "name": "pool", "inputs": [1], "outputs": [2], "constants": {}, "attrs": {"keepdim": 0}},
        {"op": "reshape", "name": "y", "inputs": [2], "outputs": [3], "constants": {}, "attrs": {"shape": ["N", "?"]}},
    ],
    "inputs": [{"name": "x", "value": 0}],
    "outputs": [{"name": "logits", "value": 3}],
    "samples": [],
}
SCALES = [np.array([0.5], np.float32)]
X = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2)


def test_run_returns_outputs_and_captured_codes() -> None:
    result = reference.run(GRAPH, SCALES, {"x": X}, capture=["enter"])
    assert list(result) == ["logits", "enter"]
    assert np.array_equal(result["enter"], (X * 2 + 4).astype(np.uint8).reshape(3, 2, 2, 1))
    assert np.array_equal(result["logits"], np.array([[7], [15], [23]], np.uint8))


BAD_CALLS = [
    ({"z": X}, (), ValueError, "expected x, got z"),
    ({"x": X.astype(np.float64)}, (), TypeError, "expected float32, got float64"),
    ({"x": X.reshape(3, 2, 2, 1)}, (), ValueError, "expected shape"),
    ({"x": X[0]}, (), ValueError, "expected shape"),
    ({"x": X}, ("conv9",), ValueError, "no node named conv9"),
]


@pytest.mark.parametrize(("inputs", "capture", "error", "message"), BAD_CALLS)
def test_run_refuses_what_does_not_fit_the_graph(inputs: Any, capture: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reference.run(GRAPH, SCALES, inputs, capture)
