"""The IR to the engine's graph: what is folded, fused, moved and permuted, and how it is written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer import ir, reference
from pyqinfer.lower import lower
from pyqinfer.lower.emit import EngineGraph, float_bits
from pyqinfer.lower.tables import code_table

INF = float("inf")
Q = ir.Quant(0.125, 3, 0, 255)
Q2 = ir.Quant(0.25, 0, 0, 15)


class Builder:
    """Writes IR graphs by hand: one call per node."""

    def __init__(self, *shape: ir.Dim) -> None:
        self.x = ir.Value("x", shape)
        self.nodes: list[ir.Node] = []

    def add(self, op: str, *inputs: ir.Value, shape: ir.Shape | None = None, quant: ir.Quant | None = None, **extra: Any) -> ir.Value:
        attrs = {k: v for k, v in extra.items() if not isinstance(v, (np.ndarray, ir.Weight)) and k != "name"}
        constants = {k: v for k, v in extra.items() if isinstance(v, (np.ndarray, ir.Weight))}
        name = extra.get("name", f"{op}{len(self.nodes)}")
        output = ir.Value(name, inputs[0].shape if shape is None else shape, quant)
        self.nodes.append(ir.Node(op, name, list(inputs), output, attrs, constants))
        return output

    def q(self, x: ir.Value, quant: ir.Quant = Q) -> ir.Value:
        return self.add("quantize", x, quant=quant)

    def dq(self, x: ir.Value) -> ir.Value:
        return self.add("dequantize", x)

    def conv(self, x: ir.Value, weight: Any, name: str = "conv", bias: Any = None) -> ir.Value:
        shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
        extra = {} if bias is None else {"bias": bias}
        window: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
        return self.add("conv2d", x, shape=(x.shape[0], shape[0], *x.shape[2:]), name=name, weight=weight, **window, **extra)

    def clamp(self, x: ir.Value, lo: float = 0.0, hi: float = INF) -> ir.Value:
        return self.add("clamp", x, lo=lo, hi=hi)

    def lower(self, *outputs: ir.Value) -> EngineGraph:
        symbols = [d for d in self.x.shape if isinstance(d, str)]
        return lower(ir.Graph(symbols, [self.x], [(f"y{i}", v) for i, v in enumerate(outputs)], self.nodes))


def weight(outputs: int, inputs: int, seed: int = 0, bits: int = 8, base: Any = None, ternary: bool = False, step: int = 1) -> ir.Weight:
    rng = np.random.default_rng(seed)
    top = 1 if ternary else 2 ** (bits - 1) - 1
    codes = rng.integers(-top, top + 1, (outputs, inputs, 1, 1)).astype(np.int8)
    return ir.Weight(codes, rng.uniform(0.01, 0.1, outputs).astype(np.float32), base, step, bits, ternary)


def ops(engine: EngineGraph) -> list[str]:
    return [node["op"] for node in engine.graph["nodes"]]


def dtypes(engine: EngineGraph) -> list[str]:
    return [engine.graph["values"][node["outputs"][0]]["dtype"] for node in engine.graph["nodes"]]


def run(engine: EngineGraph, x: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return list(reference.run(engine.graph, engine.constants, {"x": x}).values())


X = np.random.default_rng(7).normal(size=(2, 3, 4, 5)).astype(np.float32)


def conv_relu_q(b: Builder) -> list[ir.Value]:
    return [b.dq(b.q(b.clamp(b.conv(b.dq(b.q(b.x)), weight(4, 3)))))]


def conv_float_out(b: Builder) -> list[ir.Value]:
    return [b.conv(b.dq(b.q(b.x)), weight(4, 3))]


def weights_only(b: Builder) -> list[ir.Value]:
    return [b.conv(b.x, weight(4, 3))]


def float_weights(b: Builder) -> list[ir.Value]:
    return [b.conv(b.dq(b.q(b.x)), np.ones((4, 3, 1, 1), np.float32))]


def residual(b: Builder) -> list[ir.Value]:
    xq = b.q(b.x)
    return [b.dq(b.q(b.clamp(b.add("add", b.dq(xq), b.conv(b.dq(xq), weight(3, 3))))))]


def residual_of_two_convs(b: Builder) -> list[ir.Value]:
    x = b.dq(b.q(b.x))
    other = b.dq(b.q(b.conv(x, weight(3, 3), "a")))
    return [b.dq(b.q(b.add("add", b.conv(x, weight(3, 3), "b"), other)))]


def relu_then_add(b: Builder) -> list[ir.Value]:
    x = b.dq(b.q(b.x))
    return [b.dq(b.q(b.add("add", b.clamp(b.conv(x, weight(3, 3))), x)))]


def add_of_codes(b: Builder) -> list[ir.Value]:
    x, y = b.dq(b.q(b.x)), b.dq(b.q(b.x, Q2))
    return [b.dq(b.q(b.clamp(b.add("add", x, y))))]


def conv_read_twice(b: Builder) -> list[ir.Value]:
    y = b.conv(b.dq(b.q(b.x)), weight(4, 3))
    return [b.dq(b.q(y)), b.clamp(y)]


def pool_window(b: Builder, x: ir.Value, op: str = "max_pool2d") -> ir.Value:
    extra = {"dilation": (1, 1)} if op == "max_pool2d" else {"count_include_pad": 1}
    window: dict[str, Any] = {"kernel": (2, 2), "stride": (1, 1), "padding": (0, 0, 0, 0), "ceil_mode": 0}
    return b.add(op, x, shape=(*x.shape[:2], 3, 4), **window, **extra)


def max_pool_between(b: Builder) -> list[ir.Value]:
    return [b.conv(b.dq(b.q(pool_window(b, b.dq(b.q(b.x))))), weight(4, 3))]


def max_pool_without_quantizer(b: Builder) -> list[ir.Value]:
    return [b.conv(pool_window(b, b.dq(b.q(b.x))), weight(4, 3))]


def avg_pool(b: Builder) -> list[ir.Value]:
    return [b.dq(b.q(pool_window(b, b.dq(b.q(b.x)), "avg_pool2d"), Q2))]


def requantize(b: Builder) -> list[ir.Value]:
    return [b.conv(b.dq(b.q(b.dq(b.q(b.x)), Q2)), weight(4, 3))]


def requantize_with_relu(b: Builder) -> list[ir.Value]:
    return [b.conv(b.dq(b.q(b.clamp(b.dq(b.q(b.x))), Q2)), weight(4, 3))]


STRUCTURES: list[tuple[Callable[[Builder], list[ir.Value]], str, str]] = [
    (conv_relu_q, "quantize conv2d dequantize", "u8 u8 f32"),
    (conv_float_out, "quantize conv2d transpose", "u8 f32 f32"),
    (weights_only, "transpose conv2d transpose", "f32 f32 f32"),
    (float_weights, "quantize dequantize conv2d transpose", "u8 f32 f32 f32"),
    (residual, "quantize conv2d dequantize", "u8 u8 f32"),
    (residual_of_two_convs, "quantize conv2d conv2d dequantize", "u8 u8 u8 f32"),
    (relu_then_add, "quantize conv2d add dequantize", "u8 f32 u8 f32"),
    (add_of_codes, "quantize quantize add dequantize", "u8 u8 u8 f32"),
    (conv_read_twice, "quantize conv2d quantize dequantize clamp transpose", "u8 f32 u8 f32 f32 f32"),
    (max_pool_between, "quantize max_pool2d conv2d transpose", "u8 u8 f32 f32"),
    (max_pool_without_quantizer, "quantize max_pool2d conv2d transpose", "u8 u8 f32 f32"),
    (avg_pool, "quantize avg_pool2d dequantize", "u8 u8 f32"),
    (requantize, "quantize table conv2d transpose", "u8 u8 f32 f32"),
    (requantize_with_relu, "quantize table conv2d transpose", "u8 u8 f32 f32"),
]


@pytest.mark.parametrize(("build", "expected_ops", "expected_dtypes"), STRUCTURES, ids=lambda v: getattr(v, "__name__", ""))
def test_each_pattern_becomes_these_engine_nodes(
    build: Callable[[Builder], list[ir.Value]], expected_ops: str, expected_dtypes: str
) -> None:
    b = Builder(2, 3, 4, 5)
    engine = b.lower(*build(b))
    assert " ".join(ops(engine)) == expected_ops
    assert " ".join(dtypes(engine)) == expected_dtypes
    assert all(np.isfinite(y).all() for y in run(engine, X))


def test_a_residual_reads_codes_and_the_last_conv_takes_it() -> None:
    b = Builder(2, 3, 4, 5)
    engine = b.lower(*residual_of_two_convs(b))
    first, second = (n for n in engine.graph["nodes"] if n["op"] == "conv2d")
    assert (first["name"], second["name"]) == ("a", "b")
    assert second["inputs"][1] == first["outputs"][0]


def test_names_are_unique_and_conversions_are_named_after_their_input() -> None:
    b = Builder("N", 3, 4, 5)
    x = b.dq(b.q(b.x))
    engine = b.lower(b.conv(b.conv(x, np.ones((3, 3, 1, 1), np.float32), "conv"), weight(2, 3), "conv"))
    assert [n["name"] for n in engine.graph["nodes"]] == ["x.quantize", "x.quantize.dequantize", "conv", "conv_1", "conv_1.transpose"]
    assert [v["name"] for v in engine.graph["values"]] == ["x", *(n["name"] for n in engine.graph["nodes"])]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_batch_norm_folds_into_the_layer_before_it(quantized: bool, with_bias: bool) -> None:
    rng = np.random.default_rng(3)
    w = weight(4, 3, base=np.array([0, 1, -2, 3], np.int32))
    scale, shift = np.array([1.5, -0.5, 0.0, 2.0]), rng.normal(size=4)
    bias = rng.normal(size=4).astype(np.float32) if with_bias else None

    def build(b: Builder, normalized: bool) -> list[ir.Value]:
        x = b.dq(b.q(b.x)) if quantized else b.x
        y = b.conv(x, w if quantized else w.expand(), bias=bias)
        return [b.add("batch_norm", y, scale=scale, shift=shift)] if normalized else [y]

    plain, folded = (b.lower(*build(b, n)) for b, n in ((Builder(2, 3, 4, 5), False), (Builder(2, 3, 4, 5), True)))
    assert ops(plain) == ops(folded)
    expected = run(plain, X)[0] * scale.reshape(1, 4, 1, 1) + shift.reshape(1, 4, 1, 1)
    np.testing.assert_allclose(run(folded, X)[0], expected, rtol=1e-5, atol=1e-5)
    if quantized:
        arrays = dict(zip([c["name"] for c in folded.graph["constants"]], folded.constants, strict=True))
        assert arrays["conv.scale"][1] < 0
        assert arrays["conv.scale"][2] == 1
        assert not arrays["conv.weight"][2].any()
        assert arrays["conv.base"][2] == 0


def test_a_batch_norm_that_cannot_fold_becomes_affine() -> None:
    b = Builder(2, 3, 4, 5)
    y = b.add("batch_norm", b.x, scale=np.array([1.0, 2, 3]), shift=np.array([0.0, 1, 2]))
    engine = b.lower(y)
    assert ops(engine) == ["transpose", "affine", "transpose"]
    np.testing.assert_allclose(run(engine, X)[0], X * [[[[1]], [[2]], [[3]]]] + [[[[0]], [[1]], [[2]]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("bits", "ternary", "packing"),
    [
        (8, False, "none"),
        (7, False, "dense"),
        (5, False, "dense"),
        (4, False, "nibble"),
        (3, False, "dense"),
        (2, False, "dense"),
        (2, True, "trit5"),
    ],
)
def test_packing_follows_the_bits(bits: int, ternary: bool, packing: str) -> None:
    b = Builder(2, 3, 4, 5)
    engine = b.lower(b.conv(b.dq(b.q(b.x)), weight(4, 3, bits=bits, ternary=ternary)))
    entry = engine.graph["constants"][0]
    assert entry == {"name": "conv.weight", "dtype": "code", "shape": [4, 1, 1, 3], "bits": bits, "packing": packing}
    assert engine.constants[0].dtype == np.int8


def test_ternary_codes_are_packed_in_the_smaller_way() -> None:
    b = Builder(2, 64, 4, 5)
    for zeros, packing in ((0.9, "trit_rans"), (0.0, "trit5")):
        w = weight(32, 64, bits=2, ternary=True)
        w.codes.reshape(-1)[: round(zeros * w.codes.size)] = 0
        assert b.lower(b.conv(b.dq(b.q(b.x)), w)).graph["constants"][0]["packing"] == packing


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (0.0, INF, ("relu", 0, 0)),
        (0.0, 6.0, ("clamp", 0, 0x40C00000)),
        (-1.0, 1.0, ("clamp", 0xBF800000, 0x3F800000)),
        (-INF, 1.0, ("clamp", 0xFF800000, 0x3F800000)),
        (-INF, INF, ("none", 0, 0)),
    ],
)
def test_activations_are_written_as_float32_bit_patterns(lo: float, hi: float, expected: tuple[str, int, int]) -> None:
    b = Builder(2, 3, 4, 5)
    attrs = b.lower(b.clamp(b.conv(b.dq(b.q(b.x)), weight(4, 3)), lo, hi)).graph["nodes"][1]["attrs"]
    assert (attrs["activation"], attrs["lo"], attrs["hi"]) == expected


def test_float_bits() -> None:
    assert [float_bits(v) for v in (0.0, 1.0, -2.0, INF)] == [0, 0x3F800000, 0xC0000000, 0x7F800000]


@pytest.mark.parametrize("source", [Q, Q2, ir.Quant(0.03, 128, 1, 255)])
@pytest.mark.parametrize("target", [Q, Q2, ir.Quant(0.031, 200, 0, 255), ir.Quant(1.0, 2, 0, 3)])
@pytest.mark.parametrize(("lo", "hi"), [(-INF, INF), (0.0, INF), (0.0, 6.0)])
def test_tables_equal_torchs_fake_quantized_chain(source: ir.Quant, target: ir.Quant, lo: float, hi: float) -> None:
    d = torch.ops.quantized_decomposed
    codes = torch.arange(256, dtype=torch.uint8)
    x = d.dequantize_per_tensor(codes, source.scale, source.zero_point, 0, 255, torch.uint8)
    expected = d.quantize_per_tensor(torch.clamp(x, lo, hi), target.scale, target.zero_point, target.qmin, target.qmax, torch.uint8)
    clamp = ir.Node("clamp", "clamp", [ir.Value("x", ())], ir.Value("y", ()), {"lo": lo, "hi": hi})
    np.testing.assert_array_equal(code_table(source, [clamp], target), expected.numpy())


def test_a_chain_of_functions_longer_than_pythons_stack_is_one_table() -> None:
    b = Builder(2, 3)
    x = b.dq(b.q(b.x))
    for _ in range(1500):
        x = b.clamp(x)
    assert ops(b.lower(b.dq(b.q(x, Q2)))) == ["quantize", "table", "dequantize"]


@pytest.mark.parametrize("twice", [False, True])
def test_a_value_that_is_read_twice_is_followed_once_and_codes_of_two_values_make_no_table(twice: bool) -> None:
    b = Builder(2, 3)
    first, second = b.dq(b.q(b.x)), b.dq(b.q(b.x, Q2))
    a = b.clamp(first)
    x = b.add("add", a, a if twice else b.clamp(second))
    assert ("table" in ops(b.lower(b.dq(b.q(x, ir.Quant(0.5, 0, 0, 255)))))) == twice


class Flattening(nn.Module):
    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4 * height * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(F.relu(self.conv(x)), 1))


@pytest.mark.parametrize(("height", "width"), [(4, 5), (1, 1), (1, 5), (4, 1)])
def test_flatten_in_front_of_linear_costs_no_transpose(height: int, width: int) -> None:
    from pyqinfer.frontend import import_module

    net = Flattening(height, width)
    x = torch.from_numpy(X[:, :, :height, :width].copy())
    engine = lower(import_module(net, (x,)))
    assert ops(engine) == ["transpose", "conv2d", "reshape", "linear"]
    with torch.no_grad():
        np.testing.assert_allclose(run(engine, x.numpy())[0], net(x).numpy(), rtol=1e-5, atol=1e-5)


def test_quants_are_shared_and_their_scales_are_one_constant() -> None:
    b = Builder(2, 3, 4, 5)
    engine = b.lower(*max_pool_between(b))
    assert len(engine.graph["quants"]) == 1
    assert engine.graph["constants"][-1] == {"name": "activation_scales", "dtype": "f32", "shape": [1]}
    assert engine.constants[-1].tolist() == [0.125]


def test_samples_are_constants_of_the_file() -> None:
    b = Builder(2, 3, 4, 5)
    engine = b.lower(*conv_float_out(b)).with_sample({"x": X}, {"y0": X[:, :1]})
    (sample,) = engine.graph["samples"]
    assert engine.constants[sample["inputs"]["x"]] is not None
    assert engine.graph["constants"][sample["outputs"]["y0"]]["shape"] == [2, 1, 4, 5]
    assert "NaN" not in engine.to_json()


def test_constants_that_are_not_finite_are_refused_by_layer() -> None:
    b = Builder(2, 3, 4, 5)
    y = b.add("batch_norm", b.conv(b.x, np.ones((2, 3, 1, 1), np.float32), "stem"), scale=np.array([1e300, 1]), shift=np.zeros(2))
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=r"layer stem .*weight holds NaN or infinity"):
        b.lower(y)
