"""Operators of ONNX one by one: what the engine gives against the onnx package's reference, also for another batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import pyqinfer as pq
from pyqinfer.errors import UnsupportedError

pytest.importorskip("onnx", reason="needs the onnx package")
from onnx import TensorProto
from onnx_nets import model, module, node, normal, reference

F, I64 = np.float32, np.int64


def places(low: int, high: int, *shape: int, seed: int = 3) -> Any:
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(I64)


def check(proto: Any, *inputs: Any) -> None:
    """Convert on the first array and run on all."""
    converted = pq.convert(module(proto), example_inputs=(torch.from_numpy(inputs[0]),), samples=0)
    session = pq.Session(converted, threads=1)
    for x in inputs:
        expected = reference(proto, x)
        np.testing.assert_allclose(session(x), expected, rtol=2e-5, atol=2e-5 * max(1e-3, float(np.abs(expected).max())))


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "options"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1}), ("RNN", {})], ids=str)
@pytest.mark.parametrize("output", ["y", "- y"])
def test_recurrent_layers(op: str, options: dict[str, Any], direction: str, output: str) -> None:
    count, size, gates = 1 + (direction == "bidirectional"), 5, GATES[op]
    constants = {
        "w": 0.5 * normal(count, gates * size, 3, seed=1),
        "r": 0.5 * normal(count, gates * size, size, seed=2),
        "b": normal(count, 2 * gates * size, seed=3),
    }
    proto = model([node(op, "x w r b", output, hidden_size=size, direction=direction, **options)], constants, [4, "N", 3], opset=22)
    check(proto, normal(4, 2, 3), normal(4, 3, 3, seed=7))


def test_a_recurrent_layer_with_a_state_and_without_biases() -> None:
    constants = {"w": normal(1, 20, 3, seed=1), "r": normal(1, 20, 5, seed=2), "h": normal(1, 2, 5, seed=3), "c": normal(1, 2, 5, seed=4)}
    check(model([node("LSTM", "x w r - - h c", "- - y", hidden_size=5)], constants, [4, 2, 3], opset=22), normal(4, 2, 3))


@pytest.mark.parametrize(
    ("operands", "options", "words"),
    [
        ("x w r - s", {}, "several lengths"),
        ("x w r", {"clip": 1.0}, "clipped"),
        ("x w r", {"activations": ["Relu", "Tanh", "Tanh"]}, "activations relu"),
        ("x w r - - - - p", {}, "peephole"),
    ],
)
def test_forms_of_recurrent_layers_that_are_refused(operands: str, options: dict[str, Any], words: str) -> None:
    constants = {"w": normal(1, 20, 3), "r": normal(1, 20, 5), "s": np.array([4, 2], np.int32), "p": normal(1, 15)}
    kept = {name: constants[name] for name in operands.split() if name in constants}
    proto = model([node("LSTM", operands, "y", hidden_size=5, **options)], kept, [4, 2, 3], opset=22)
    with pytest.raises(UnsupportedError, match=words):
        pq.convert(module(proto), example_inputs=(torch.from_numpy(normal(4, 2, 3)),))


X = normal(2, 3, 6, 5)
GRID = np.random.default_rng(5).uniform(-1.3, 1.3, (2, 4, 4, 2)).astype(F)
OPERATORS: dict[str, tuple[Any, ...]] = {
    **{
        f"GridSample {mode} {padding} {corners}": (
            [node("GridSample", "x g", "y", mode=mode, padding_mode=padding, align_corners=corners)],
            {"g": GRID},
            X,
        )
        for mode in ("linear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for corners in (0, 1)
    },
    "GatherElements": ([node("GatherElements", "x i", "y", axis=2)], {"i": places(-6, 5, 2, 3, 4, 5)}, X),
    "GatherND": ([node("GatherND", "x i", "y")], {"i": places(-2, 1, 4, 3)}, X),
    "GatherND of a batch": ([node("GatherND", "x i", "y", batch_dims=1)], {"i": places(0, 2, 2, 4, 2)}, X),
    "ScatterElements": ([node("ScatterElements", "x i u", "y", axis=3)], {"i": places(0, 4, 2, 3, 6, 1), "u": normal(2, 3, 6, 1)}, X),
    "ScatterElements added": (
        [node("ScatterElements", "x i u", "y", axis=1, reduction="add")],
        {"i": places(-3, 2, 2, 4, 6, 5), "u": normal(2, 4, 6, 5, seed=9)},
        X,
    ),
    "ScatterND": ([node("ScatterND", "x i u", "y")], {"i": np.array([[0, 2], [1, -3]]), "u": normal(2, 6, 5, seed=4)}, X),
    "ScatterND added": (
        [node("ScatterND", "x i u", "y", reduction="add")],
        {"i": np.array([[0, 2], [0, 2], [1, 0]]), "u": normal(3, 6, 5, seed=4)},
        X,
    ),
    "ReverseSequence": (
        [node("ReverseSequence", "x n", "y", batch_axis=0, time_axis=2)],
        {"n": np.array([3, 6])},
        X,
    ),
    **{
        f"CumProd {reverse} {exclusive}": (
            [node("CumProd", "x a", "y", reverse=reverse, exclusive=exclusive)],
            {"a": np.array(2)},
            X,
            26,
        )
        for reverse in (0, 1)
        for exclusive in (0, 1)
    },
    "CenterCropPad": ([node("CenterCropPad", "x s", "y", axes=[2, 3])], {"s": np.array([3, 10])}, X),
    "Col2Im": (
        [node("Col2Im", "x i k", "y", pads=[1, 0, 1, 0], strides=[2, 1])],
        {"i": np.array([5, 6]), "k": np.array([3, 2])},
        normal(2, 12, 15),
    ),
    "DFT": ([node("DFT", "x - a", "y")], {"a": np.array(1)}, normal(2, 7, 3, 1)),
    "DFT inverse": ([node("DFT", "x - a", "y", inverse=1)], {"a": np.array(1)}, normal(2, 7, 3, 2)),
    "DFT of half": ([node("DFT", "x - a", "y", onesided=1)], {"a": np.array(2)}, normal(2, 7, 8, 1)),
    "AffineGrid": ([node("AffineGrid", "x s", "y", align_corners=1)], {"s": np.array([2, 3, 4, 5])}, normal(2, 2, 3)),
    "a window of a signal": (
        [node("HannWindow", "n", "w"), node("Mul", "x w", "y")],
        {"n": np.array(8)},
        normal(2, 8),
    ),
    "BitwiseNot": ([node("Cast", "x", "i", to=6), node("BitwiseNot", "i", "j"), node("Cast", "j", "y", to=1)], {}, 10 * X),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str) -> None:
    nodes, constants, x, *opset = OPERATORS[name]
    check(model(nodes, constants, list(x.shape), *(opset or [21])), x)


# ---- integers of 8 and 16 bits --------------------------------------------------------------------------------------


def test_inputs_and_outputs_of_codes_are_int32_in_the_engine() -> None:
    constants = {"s": F(0.05), "z": np.uint8(100), "w": normal(4, 3, seed=1), "t": F(0.2), "u": np.uint8(90)}
    nodes = [
        node("DequantizeLinear", "x s z", "f"),
        node("Gemm", "f w", "g", transB=1),
        node("QuantizeLinear", "g t u", "y"),
    ]
    proto = model(nodes, constants, ["N", 3], kind=TensorProto.UINT8)
    x = np.random.default_rng(0).integers(0, 256, (5, 3)).astype(np.uint8)
    converted = pq.convert(module(proto), example_inputs=(torch.from_numpy(x.astype(np.int32)),), samples=0)
    got = pq.Session(converted, threads=1)(x.astype(np.int32))
    assert got.dtype == np.int32
    assert np.abs(got - reference(proto, x).astype(np.int32)).max() <= 1


def test_arithmetic_in_few_bits_is_refused_and_what_keeps_them_is_not() -> None:
    for nodes in ([node("Add", "x x", "i")], [node("Flatten", "x", "f"), node("BitwiseNot", "f", "i")]):
        proto = model([*nodes, node("Cast", "i", "y", to=1)], {}, [2, 3], kind=TensorProto.UINT8)
        with pytest.raises(UnsupportedError, match="arithmetic in uint8; put a Cast in front"):
            module(proto)
    proto = model([node("Flatten", "x", "f"), node("Max", "f x", "m"), node("Cast", "m", "y", to=1)], {}, [2, 3], kind=TensorProto.UINT8)
    module(proto)
