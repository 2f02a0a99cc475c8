"""docs/numerics.md, three times: exact fractions, the NumPy twin and the C++ reference must give the same bits.

The golden vectors come from the exact route (tests/golden_vectors/exact.py); random one-op graphs then compare the twin with
the C++ reference.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyqinfer import _core, reference
from pyqinfer.reference.rounding import fma

VECTORS = Path(__file__).parent / "golden_vectors"
sys.path.insert(0, str(VECTORS))
generate = importlib.import_module("generate")
exact = importlib.import_module("exact")
one_op = importlib.import_module("one_op")
OneOp, Quant = one_op.OneOp, one_op.Quant
sys.path.remove(str(VECTORS))

CASES = json.loads(generate.PATH.read_text())


def decode(entry: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(entry["dtype"])
    data = np.array(entry["data"], np.uint32 if dtype == np.float32 else dtype)
    return (data.view(np.float32) if dtype == np.float32 else data).reshape(entry["shape"])


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


def run_core(graph: dict[str, Any], constants: list[np.ndarray], inputs: dict[str, np.ndarray]) -> np.ndarray:
    data = _core.write_model(json.dumps(graph), constants, "test")
    return _core.Session(_core.Model.from_bytes(data), 1, "reference").run(inputs, [])["y"]


# ---- golden vectors -------------------------------------------------------------------------------------------------


def test_golden_vectors_are_those_of_the_exact_route() -> None:
    assert generate.document() == generate.PATH.read_text()


def test_golden_vectors_cover_every_op_of_the_twin() -> None:
    assert {case["graph"]["nodes"][0]["op"] for case in CASES} == set(reference.executor._OPS)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_twin_meets_the_golden_vector(case: dict[str, Any]) -> None:
    inputs = {name: decode(entry) for name, entry in case["inputs"].items()}
    y = reference.run(case["graph"], [decode(entry) for entry in case["constants"]], inputs)["y"]
    assert same_bits(y, decode(case["output"]))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_cpp_reference_meets_the_golden_vector(case: dict[str, Any]) -> None:
    inputs = {name: decode(entry) for name, entry in case["inputs"].items()}
    y = run_core(case["graph"], [decode(entry) for entry in case["constants"]], inputs)
    assert same_bits(y, decode(case["output"]))


# ---- fma ------------------------------------------------------------------------------------------------------------

floats32 = st.floats(width=32)
short = st.builds(lambda m, e: math.ldexp(m, e), st.integers(-4097, 4097), st.sampled_from([-149, -140, -12, 0, 12, 24]))


def twin_fma(x: float, w: float, t: float) -> np.ndarray:
    with np.errstate(all="ignore"):
        return fma(*(np.array([v], np.float64) for v in (x, w, t))).astype(np.float32)


@settings(max_examples=500)
@given(x=floats32 | short, w=floats32 | short, t=floats32 | short)
def test_twin_fma_rounds_once(x: float, w: float, t: float) -> None:
    assert same_bits(twin_fma(x, w, t), np.array([exact.fma(x, w, t)], np.float32))


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
    assert twin_fma(x, w, t).item() == expected == exact.fma(x, w, t)


# ---- random graphs: twin == C++ reference -----------------------------------------------------------------------------


@st.composite
def quants(draw: st.DrawFn) -> Any:
    qmin = draw(st.sampled_from([0, 0, 1, 20]))
    qmax = draw(st.sampled_from([255, 15 + qmin, 3 + qmin]))
    scale = np.float32(draw(st.floats(2.0**-13, 8, width=32)))
    return Quant(float(scale), draw(st.integers(qmin, qmax)), qmin, qmax)


def codes(rng: np.random.Generator, q: Any, *shape: int) -> np.ndarray:
    return rng.integers(q.qmin, q.qmax + 1, shape, np.uint8)


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = rng.standard_normal(shape).astype(np.float32) * np.float32(2) ** rng.integers(-6, 7, shape).astype(np.float32)
    # Some numbers have few bits, so that ties are exact, and some are special.
    short_bits = (x.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)
    x = np.where(rng.random(shape) < 0.3, short_bits, x)
    return np.where(rng.random(shape) < 0.03, rng.choice(np.array(generate.SPECIAL, np.float32), shape), x)


def tensor(rng: np.random.Generator, q: Any, *shape: int) -> tuple[np.ndarray, Any]:
    return (floats(rng, *shape) if q is None else codes(rng, q, *shape)), q


sizes = st.integers(1, 9)
maybe_quants = st.none() | quants()
activations = st.sampled_from([generate.NONE, generate.RELU, generate.CLAMP])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def weighted(draw: st.DrawFn) -> Any:
    """conv2d and linear: integer or float inputs, any grid of weights, geometry, residual and output."""
    rng = np.random.default_rng(draw(seeds))
    is_conv = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 3])) if is_conv else 1
    outputs, depth = groups * draw(st.integers(1, 20)), draw(st.integers(1, 20))
    x_quant, step = draw(maybe_quants), draw(st.sampled_from([1, 2]))
    kh, kw = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if is_conv else (1, 1)
    stride, dilation = ([draw(st.integers(1, 2)) for _ in range(2)] for _ in range(2))
    padding = [draw(st.integers(0, 2)) for _ in range(4)]
    h, w = draw(sizes), draw(sizes)
    out_h = (h + padding[0] + padding[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (w + padding[1] + padding[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    assume(out_h > 0 and out_w > 0)
    shape = (outputs, kh, kw, depth) if is_conv else (outputs, depth)
    constants: dict[str, np.ndarray] = {}
    if x_quant is not None or draw(st.booleans()):
        bits = draw(st.integers(2, 8))
        constants["weight"] = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, np.int8)
        constants["scale"] = (rng.choice([-1, 1], outputs) * rng.uniform(1e-3, 0.1, outputs)).astype(np.float32)
        if draw(st.booleans()):
            constants["base"] = rng.integers(-20, 21, outputs).astype(np.int32)
    else:
        step = 1
        constants["weight"] = rng.standard_normal(shape).astype(np.float32)
    if draw(st.booleans()):
        constants["bias"] = rng.standard_normal(outputs).astype(np.float32)
    output = draw(maybe_quants) if x_quant is not None else None
    x_shape, y_shape = ((2, h, w, groups * depth), (2, out_h, out_w, outputs)) if is_conv else ((h, w, depth), (h, w, outputs))
    inputs = [tensor(rng, x_quant, *x_shape)]
    if draw(st.booleans()):
        inputs.append(tensor(rng, draw(maybe_quants) if x_quant is not None else None, *y_shape))
    attrs = {"step": step} | draw(activations)
    if is_conv:
        attrs |= {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return OneOp("random", "conv2d" if is_conv else "linear", inputs, output, constants, attrs)


@st.composite
def dynamic(draw: st.DrawFn) -> Any:
    """linear_dynamic, and linear over floats, with a scale per output or per group of inputs."""
    rng = np.random.default_rng(draw(seeds))
    outputs, groups, bits = draw(st.integers(1, 20)), draw(st.integers(1, 4)), draw(st.integers(2, 8))
    inputs = groups * draw(st.integers(1, 12))
    lines = (outputs, groups) if groups > 1 or draw(st.booleans()) else (outputs,)
    constants: dict[str, np.ndarray] = {
        "weight": rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs), np.int8),
        "scale": (rng.choice([-1, 1], lines) * rng.uniform(1e-3, 0.1, lines)).astype(np.float32),
    }
    if draw(st.booleans()):
        constants["base"] = rng.integers(-20, 21, lines).astype(np.int32)
    if draw(st.booleans()):
        constants["bias"] = rng.standard_normal(outputs).astype(np.float32)
    x = tensor(rng, None, draw(sizes), draw(sizes), inputs)
    attrs = {"step": draw(st.sampled_from([1, 2]))} | draw(activations)
    if draw(st.booleans()):
        return OneOp("random", "linear", [x], None, constants, attrs)
    qmin = draw(st.integers(0, 254))
    attrs |= {"mapping": draw(st.sampled_from(["symmetric", "asymmetric"])), "granularity": draw(st.sampled_from(["row", "tensor"]))}
    attrs |= {"qmin": qmin, "qmax": draw(st.integers(qmin + 1, 255)), "eps": draw(st.sampled_from([0x00800000, 0x34000000, 0x3F800000]))}
    return OneOp("random", "linear_dynamic", [x], draw(maybe_quants), constants, attrs)


@st.composite
def elementwise(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(seeds))
    op = draw(
        st.sampled_from(["quantize", "dequantize", "add", "clamp", "affine", "table", "transpose", "reshape", "unary", "prelu", "binary"])
    )
    shape = tuple(draw(st.lists(sizes, min_size=4, max_size=4)))
    x_quant = {
        "dequantize": quants(),
        "table": quants(),
        "add": maybe_quants,
        "transpose": maybe_quants,
        "reshape": maybe_quants,
        "binary": maybe_quants,
    }
    inputs = [tensor(rng, draw(x_quant.get(op, st.none())), *shape)]
    output, constants, attrs = None, {}, {}
    if op == "quantize":
        output, attrs = draw(quants()), {"layout": draw(st.sampled_from(["same", "to_nhwc"]))}
    elif op == "dequantize":
        attrs = {"layout": draw(st.sampled_from(["same", "to_nchw"]))}
    elif op == "add":
        inputs.append(tensor(rng, draw(maybe_quants), *shape))
        output, attrs = draw(maybe_quants), draw(activations)
    elif op == "clamp":
        attrs = {"lo": generate.MINUS_1_BITS, "hi": draw(st.sampled_from([generate.RELU6_BITS, generate.INF_BITS]))}
    elif op == "affine":
        constants = {key: rng.standard_normal(shape[-1]).astype(np.float32) for key in ("scale", "shift")}
    elif op == "table":
        output = draw(quants())
        constants = {"table": codes(rng, output, 256)}
    elif op == "unary":
        output, attrs = draw(maybe_quants), {"function": draw(st.sampled_from(sorted(generate.FUNCTIONS))), "alpha": 0}
        if attrs["function"] in ("elu", "leaky_relu"):
            attrs["alpha"] = draw(st.sampled_from([generate.RELU6_BITS, generate.MINUS_1_BITS]))
    elif op == "binary":
        other = [draw(st.sampled_from([1, n])) for n in shape]
        output, attrs = draw(maybe_quants), {"function": draw(st.sampled_from(generate.BINARY))}
        if draw(st.booleans()):
            constants = {"other": rng.standard_normal(other).astype(np.float32)}
        else:
            inputs.append(tensor(rng, draw(maybe_quants), *other))
    elif op == "prelu":
        constants = {"slope": rng.standard_normal(shape[-1]).astype(np.float32)}
    elif op == "transpose":
        attrs = {"perm": draw(st.permutations(range(4)))}
    else:
        attrs = {"shape": [shape[0], "?", shape[3]]}
    return OneOp("random", op, inputs, output, constants, attrs)


@st.composite
def pools(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(seeds))
    op = draw(st.sampled_from(["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean"]))
    h, w, channels = draw(sizes), draw(sizes), draw(st.integers(1, 20))
    x = tensor(rng, draw(maybe_quants), 2, h, w, channels)
    if op == "mean":
        return OneOp("random", op, [x], draw(maybe_quants), {}, {"keepdim": draw(st.integers(0, 1))})
    if op == "adaptive_avg_pool2d":
        return OneOp("random", op, [x], draw(maybe_quants), {}, {"output": [draw(sizes), draw(sizes)]})
    kernel = [draw(st.integers(1, min(h, 5))), draw(st.integers(1, min(w, 5)))]
    attrs = {"kernel": kernel, "stride": [draw(st.integers(1, 3)) for _ in range(2)], "ceil_mode": draw(st.integers(0, 1))}
    attrs["padding"] = [draw(st.integers(0, kernel[i % 2] // 2)) for i in range(4)]
    if op == "max_pool2d":
        dilation = [1 if k == 1 or (k - 1) * 2 + 1 > n else draw(st.integers(1, 2)) for k, n in zip(kernel, (h, w), strict=True)]
        return OneOp("random", op, [x], None, {}, attrs | {"dilation": dilation})
    return OneOp("random", op, [x], draw(maybe_quants), {}, attrs | {"count_include_pad": draw(st.integers(0, 1))})


@st.composite
def movement(draw: st.DrawFn) -> Any:
    rng = np.random.default_rng(draw(seeds))
    op = draw(st.sampled_from(["concat", "slice", "pad", "upsample", "pixel_shuffle", "expand"]))
    shape, quant = [draw(sizes) for _ in range(4)], draw(maybe_quants)
    x, axis = tensor(rng, quant, *shape), draw(st.integers(0, 3))
    if op == "concat":
        inputs = [x]
        for _ in range(draw(st.integers(0, 3))):
            shape[axis] = draw(sizes)
            inputs.append(tensor(rng, None if quant is None else draw(quants()), *shape))
        return OneOp("random", op, inputs, None if quant is None else draw(quants()), {}, {"axis": axis})
    if op == "expand":
        target = [draw(st.integers(1, 4)) if n == 1 else draw(st.sampled_from([0, n])) for n in shape]
        return OneOp("random", op, [x], None, {}, {"shape": target})
    if op == "slice":
        start = draw(st.integers(0, shape[axis] - 1))
        end = draw(st.sampled_from([start + 1, shape[axis], 2**31 - 1]))
        return OneOp("random", op, [x], None, {}, {"axis": axis, "start": start, "end": end, "step": draw(st.integers(1, 4))})
    if op == "pad":
        mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
        before, after = ([draw(st.integers(0, min(3, n - 1) if mode == "reflect" else 3)) for n in shape] for _ in range(2))
        value = 0 if mode != "constant" else generate.MINUS_1_BITS if quant is None else draw(st.integers(quant.qmin, quant.qmax))
        return OneOp("random", op, [x], None, {}, {"mode": mode, "before": before, "after": after, "value": value})
    if op == "pixel_shuffle":
        factor, crop = [draw(st.integers(1, 3)) for _ in range(2)], [draw(st.integers(0, 2)) for _ in range(4)]
        assume(all(shape[1 + i] * factor[i] > crop[i] + crop[2 + i] for i in range(2)))
        shape[3] *= factor[0] * factor[1]
        attrs = {"factor": factor, "crop": crop, "order": draw(st.sampled_from(["channels", "pixels"]))}
        return OneOp("random", op, [tensor(rng, quant, *shape)], None, {}, attrs)
    by_size, corners = ([draw(st.booleans()) for _ in range(2)] for _ in range(2))
    attrs = {
        "size": [draw(st.integers(1, 20)) if b else 0 for b in by_size],
        "factor": [0 if b else draw(st.integers(1, 4)) for b in by_size],
    }
    if draw(st.booleans()):
        return OneOp("random", op, [x], quant, {}, attrs | {"mode": "nearest", "align_corners": 0, "step": [0, 0x3EAAAAAB]})
    attrs |= {"align_corners": int(corners[0]), "step": [0 if corners[0] or not corners[1] else 0x3F19999A, 0]}
    return OneOp("random", op, [x], draw(maybe_quants), {}, attrs | {"mode": "bilinear"})


@settings(max_examples=250, deadline=None)
@given(case=weighted() | dynamic() | elementwise() | pools() | movement())
def test_twin_and_cpp_reference_agree_on_random_nodes(case: Any) -> None:
    graph, constants, inputs = case.graph(), case.constant_arrays(), case.feeds()
    assert same_bits(reference.run(graph, constants, inputs)["y"], run_core(graph, constants, inputs))


@settings(max_examples=60, deadline=None)
@given(case=weighted() | dynamic() | elementwise() | pools() | movement())
def test_twin_agrees_with_exact_fractions_on_random_nodes(case: Any) -> None:
    assume(case.inputs[0][0].size * case.constants.get("weight", np.empty(1)).size < 20_000)
    assert same_bits(reference.run(case.graph(), case.constant_arrays(), case.feeds())["y"], exact.evaluate(case))


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
