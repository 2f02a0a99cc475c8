"""ONNX files through `convert`: float, QDQ, QOperator, QCDQ, QONNX, run-time and blocked quantization; what is refused; hostile files."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pyqinfer as pq
from pyqinfer.cli.app import app

onnx = pytest.importorskip("onnx", reason="needs the onnx package")
from onnx import TensorProto, helper  # noqa: E402
from onnx_nets import model, module, node, normal, reference  # noqa: E402

from pyqinfer.errors import ModelFormatError, UnsupportedError  # noqa: E402
from pyqinfer.frontend.sources.onnx.module import OnnxModule  # noqa: E402
from pyqinfer.frontend.sources.onnx.reading import read_bytes  # noqa: E402
from pyqinfer.frontend.sources.onnx.table import REFUSED, TABLE  # noqa: E402

F, U8, I8, I32, I64 = np.float32, np.uint8, np.int8, np.int32, np.int64


def run(proto: Any, x: Any) -> tuple[pq.Model, Any]:
    """The converted model and its output; the conversion checks itself against the torch module."""
    tensor = torch.from_numpy(x.astype(I64) if x.dtype == I32 else x)
    converted = pq.convert(module(proto), example_inputs=(tensor,), samples=0)
    return converted, pq.Session(converted, threads=1)(x)


def codes(low: int, high: int, *shape: int, dtype: Any = I8, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(dtype)


def bits_of(converted: pq.Model, op: str) -> list[tuple[Any, Any]]:
    """Bits of weights and of the input of the layers of a kind."""
    graph = converted.graph
    return [
        (graph["constants"][n["constants"]["weight"]].get("bits"), graph["quants"][quant]["bits"] if quant is not None else None)
        for n in graph["nodes"]
        if n["op"] == op
        for quant in [graph["values"][n["inputs"][0]].get("quant")]
    ]


# ---- float ----------------------------------------------------------------------------------------------------------


def small_network(opset: int) -> Any:
    axes = {"axes": [2, 3]} if opset < 18 else {}
    constants = {
        "w": normal(8, 3, 3, 3),
        "b": normal(8),
        "m": normal(8, 4, seed=2),
        "shape": np.array([0, -1], I64),
        "n": np.array([2, 3], I64),
    }
    return model(
        [
            node("Conv", "x w b", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Relu", "c", "r"),
            node("MaxPool", "r", "p", kernel_shape=[2, 2], strides=[2, 2]),
            node("ReduceMean", "p" if opset < 18 else "p n", "g", keepdims=1, **axes),
            node("Reshape", "g shape", "f"),
            node("MatMul", "f m", "y"),
        ],
        constants if opset >= 18 else {key: value for key, value in constants.items() if key != "n"},
        ["N", 3, 16, 16],
        opset,
    )


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21, 24])
def test_a_float_network_of_any_operator_set_computes_what_the_reference_does(opset: int) -> None:
    x = normal(2, 3, 16, 16)
    converted, y = run(small_network(opset), x)
    np.testing.assert_allclose(y, reference(small_network(opset), x), rtol=1e-4, atol=1e-5)
    assert converted.graph["values"][converted.graph["inputs"][0]["value"]]["shape"][0] == "N"
    assert list(converted.inputs) == ["x"]
    assert [n["name"] for n in converted.graph["nodes"] if n["op"] == "conv2d"] == ["conv_c"]


def test_shapes_that_are_computed_from_open_sizes_stay_open() -> None:
    proto = model(
        [
            node("Shape", "x", "s"),
            node("Gather", "s zero", "n", axis=0),
            node("Unsqueeze", "n zeros", "n1"),
            node("Concat", "n1 rest", "target", axis=0),
            node("Reshape", "x target", "r"),
            node("Softmax", "r", "y", axis=-1),
        ],
        {"zero": np.array(0, I64), "zeros": np.array([0], I64), "rest": np.array([4, 6], I64)},
        ["batch", 24],
    )
    converted, _ = run(proto, normal(2, 24))
    for count in (1, 2, 5):
        x = normal(count, 24)
        np.testing.assert_allclose(pq.Session(converted)(x), reference(proto, x), rtol=1e-5, atol=1e-6)


def test_a_sequence_of_open_length_stays_open() -> None:
    proto = model([node("MatMul", "x w", "m"), node("Softmax", "m", "y", axis=1)], {"w": normal(8, 4)}, ["N", "T", 8])
    converted, _ = run(proto, normal(2, 5, 8))
    x = normal(3, 9, 8)
    np.testing.assert_allclose(pq.Session(converted)(x), reference(proto, x), rtol=1e-4, atol=1e-5)


def test_operations_of_constants_are_computed_once() -> None:
    nodes = [node("Mul", "a two", "w"), node("Transpose", "w", "wt", perm=[1, 0]), node("Gemm", "x wt b", "y")]
    converted, y = run(model(nodes, {"a": normal(4, 8), "two": F(2), "b": normal(4)}, [2, 8]), x := normal(2, 8))
    assert [n["op"] for n in converted.graph["nodes"]] == ["linear"]
    np.testing.assert_allclose(y, x @ (2 * normal(4, 8)).T + normal(4), rtol=1e-5, atol=1e-5)


# ---- quantized ------------------------------------------------------------------------------------------------------

SCALES = {"xs": F(0.04), "xz": U8(120), "ws": np.array([0.01, 0.02, 0.015, 0.01], F), "wz": np.zeros(4, I8), "ys": F(0.1), "yz": U8(100)}


def qdq_conv() -> Any:
    return model(
        [
            node("QuantizeLinear", "x xs xz", "xq"),
            node("DequantizeLinear", "xq xs xz", "xd"),
            node("DequantizeLinear", "w ws wz", "wd", axis=0),
            node("DequantizeLinear", "b bs bz", "bd", axis=0),
            node("Conv", "xd wd bd", "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", "c", "r"),
            node("QuantizeLinear", "r ys yz", "rq"),
            node("DequantizeLinear", "rq ys yz", "y"),
        ],
        SCALES
        | {"w": codes(-127, 127, 4, 3, 3, 3), "b": codes(-500, 500, 4, dtype=I32), "bs": SCALES["ws"] * F(0.04), "bz": np.zeros(4, I32)},
        ["N", 3, 8, 8],
    )


def qlinear_conv() -> Any:
    return model(
        [
            node("QuantizeLinear", "x xs xz", "xq"),
            node("QLinearConv", "xq xs xz w ws wz ys yz b", "yq", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("DequantizeLinear", "yq ys yz", "y"),
        ],
        SCALES | {"w": codes(-127, 127, 4, 3, 3, 3), "b": codes(-500, 500, 4, dtype=I32)},
        ["N", 3, 8, 8],
    )


def qlinear_matmul() -> Any:
    return model(
        [
            node("QuantizeLinear", "x xs xz", "xq"),
            node("QLinearMatMul", "xq xs xz w s wz1 ys yz", "yq"),
            node("DequantizeLinear", "yq ys yz", "y"),
        ],
        {key: SCALES[key] for key in ("xs", "xz", "ys", "yz")} | {"w": codes(-127, 127, 16, 4), "s": F(0.02), "wz1": I8(0)},
        ["N", 16],
    )


@pytest.mark.parametrize(
    ("proto", "shape", "op"),
    [(qdq_conv(), (2, 3, 8, 8), "conv2d"), (qlinear_conv(), (2, 3, 8, 8), "conv2d"), (qlinear_matmul(), (5, 16), "linear")],
    ids=["QDQ", "QLinearConv", "QLinearMatMul"],
)
def test_quantized_layers_run_in_integers_within_one_step(proto: Any, shape: tuple[int, ...], op: str) -> None:
    x = normal(*shape)
    converted, y = run(proto, x)
    assert bits_of(converted, op) == [(8, 8)]
    steps = np.abs(y - reference(proto, x)) / SCALES["ys"]
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.01


def test_a_clip_between_quantize_and_dequantize_says_the_bits() -> None:
    proto = model(
        [
            node("QuantizeLinear", "x xs xz", "xq"),
            node("Clip", "xq lo hi", "xc"),
            node("DequantizeLinear", "xc xs xz", "xd"),
            node("QuantizeLinear", "wf ws wz", "wq", axis=0),
            node("Clip", "wq wlo whi", "wc"),
            node("DequantizeLinear", "wc ws wz", "wd", axis=0),
            node("Conv", "xd wd", "y", kernel_shape=[3, 3]),
        ],
        SCALES
        | {"xz": U8(0), "lo": U8(0), "hi": U8(15), "wf": normal(4, 3, 3, 3), "ws": np.full(4, 0.4, F), "wlo": I8(-4), "whi": I8(3)}
        | {"xs": F(0.1)},
        [2, 3, 8, 8],
    )
    x = np.abs(normal(2, 3, 8, 8))
    converted, y = run(proto, x)
    assert bits_of(converted, "conv2d") == [(3, 4)]
    np.testing.assert_allclose(y, reference(proto, x), rtol=1e-5, atol=1e-5)


def test_activations_per_channel_in_front_of_a_depthwise_convolution() -> None:
    scale = np.array([0.02, 0.04, 0.01, 0.03], F)
    nodes = [
        node("QuantizeLinear", "x s z", "q", axis=1),
        node("DequantizeLinear", "q s z", "d", axis=1),
        node("DequantizeLinear", "w ws wz", "wd", axis=0),
        node("Conv", "d wd", "y", kernel_shape=[3, 3], group=4),
    ]
    constants = {"s": scale, "z": np.zeros(4, I8), "w": codes(-127, 127, 4, 1, 3, 3), "ws": SCALES["ws"], "wz": SCALES["wz"]}
    converted, y = run(proto := model(nodes, constants, ["N", 4, 8, 8]), x := normal(2, 4, 8, 8))
    assert bits_of(converted, "conv2d") == [(8, 8)]
    np.testing.assert_allclose(y, reference(proto, x), atol=1.1 * float((scale * SCALES["ws"]).max()) * 127)


def fake_quantized(x: Any, scale: Any, low: int, high: int) -> Any:
    return np.clip(np.rint(x / scale), low, high) * scale


def test_quantizers_of_qonnx_and_of_one_bit_weights() -> None:
    domain = "qonnx.custom_op.general"
    proto = model(
        [
            node("Quant", "x xs zero four", "xq", domain, signed=0, narrow=0, rounding_mode="ROUND"),
            node("Quant", "w ws zero three", "wq", domain, signed=1, narrow=1, rounding_mode="ROUND"),
            node("Gemm", "xq wq", "h", transB=1),
            node("Relu", "h", "r"),
            node("Quant", "r xs zero four", "rq", domain, signed=0, narrow=0, rounding_mode="ROUND"),
            node("BipolarQuant", "v vs", "vq", domain),
            node("Gemm", "rq vq", "y", transB=1),
        ],
        {"xs": F(0.2), "zero": F(0), "four": F(4), "three": F(3), "w": normal(8, 16), "v": normal(4, 8), "vs": F(0.5)}
        | {"ws": np.full((8, 1), 0.3, F)},
        ["N", 16],
    )
    x = np.abs(normal(3, 16))
    converted, y = run(proto, x)
    assert bits_of(converted, "linear") == [(3, 4), (2, 4)]
    h = fake_quantized(x, F(0.2), 0, 15) @ fake_quantized(normal(8, 16), F(0.3), -3, 3).T
    expected = fake_quantized(np.maximum(h, 0), F(0.2), 0, 15) @ np.where(normal(4, 8) >= 0, 0.5, -0.5).T
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("per_channel", [False, True])
def test_matrices_whose_input_is_quantized_at_run_time(per_channel: bool) -> None:
    scale = np.linspace(0.01, 0.02, 6).astype(F) if per_channel else F(0.01)
    zero = np.zeros(6, I8) if per_channel else I8(0)
    proto = model(
        [
            node("DynamicQuantizeLinear", "x", "xq xs xz"),
            node("MatMulInteger", "xq w xz wz", "i"),
            node("Cast", "i", "f", to=TensorProto.FLOAT),
            node("Mul", "xs ws", "s"),
            node("Mul", "f s", "y"),
        ],
        {"w": codes(-127, 127, 16, 6), "ws": scale, "wz": zero},
        ["N", 16],
    )
    x = normal(4, 16)
    converted, y = run(proto, x)
    assert [n["op"] for n in converted.graph["nodes"]] == ["linear_dynamic"]
    assert np.abs(y - reference(proto, x)).max() < 0.02 * np.abs(y).max()


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_blocks(bits: int) -> None:
    rng, per_byte = np.random.default_rng(0), 8 // bits
    packed = rng.integers(0, 256, (8, 2, 32 // per_byte)).astype(U8)
    scale = rng.uniform(0.01, 0.02, (8, 2)).astype(F)
    proto = model(
        [node("MatMulNBits", "x w s", "y", "com.microsoft", bits=bits, block_size=32, K=64, N=8)], {"w": packed, "s": scale}, ["N", 64]
    )
    unpacked = np.stack([(packed >> (bits * i)) & ((1 << bits) - 1) for i in range(per_byte)], -1).reshape(8, 2, 32).astype(I64)
    weight = ((unpacked - (1 << (bits - 1))) * scale[:, :, None]).reshape(8, 64)
    converted, y = run(proto, x := normal(3, 64))
    assert bits_of(converted, "linear") == [(bits, None)]
    np.testing.assert_allclose(y, x @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "low", "bits"), [("INT4", -8, 4), ("UINT4", 0, 4), ("INT2", -2, 2)])
def test_weights_of_types_below_a_byte(kind: str, low: int, bits: int) -> None:
    if not hasattr(TensorProto, kind):
        pytest.skip(f"this onnx has no {kind}")
    values = codes(low, low + (1 << bits) - 1, 8, 16, dtype=I64)
    packed = helper.make_tensor("w", getattr(TensorProto, kind), values.shape, values.ravel().tolist())
    opset = 25 if kind == "INT2" else 21
    proto = model([node("DequantizeLinear", "w s", "d"), node("Gemm", "x d", "y", transB=1)], {"w": packed, "s": F(0.1)}, ["N", 16], opset)
    converted, y = run(proto, x := normal(3, 16))
    assert bits_of(converted, "linear") == [(bits, None)]
    np.testing.assert_allclose(y, x @ (values * F(0.1)).T, rtol=1e-4, atol=1e-4)


def test_rows_of_a_quantized_table_by_indices() -> None:
    proto = model(
        [node("DequantizeLinear", "w s z", "d"), node("Gather", "d x", "g", axis=0), node("Relu", "g", "y")],
        {"w": codes(-127, 127, 10, 8), "s": F(0.1), "z": I8(0)},
        ["N", 4],
        kind=TensorProto.INT64,
    )
    x = codes(0, 9, 3, 4, dtype=I32)
    _, y = run(proto, x)
    np.testing.assert_allclose(y, reference(proto, x.astype(I64)), rtol=1e-6)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_a_path_is_enough_and_load_says_so(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(qdq_conv().SerializeToString())
    converted = pq.convert(path)
    assert bits_of(converted, "conv2d") == [(8, 8)]
    assert len(converted.graph["samples"]) == 1
    with pytest.raises(ModelFormatError, match=r"pyqinfer\.convert"):
        pq.load(path)


def test_inspect_and_a_dry_run_show_what_would_run_in_integers(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(qdq_conv().SerializeToString())
    for command in (["inspect", str(path)], ["convert", str(path), "--dry-run"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
        assert "1/1 conv and linear layers run in integers" in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


def test_quantize_takes_a_float_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(small_network(18).SerializeToString())
    quantized = pq.quantize(path, pq.PTQ(weight_bits=4, act_bits=4), calibration=[torch.from_numpy(normal(4, 3, 16, 16))])
    converted = pq.convert(quantized, example_inputs=(torch.from_numpy(normal(2, 3, 16, 16)),))
    assert all(weight is not None for weight, _ in bits_of(converted, "conv2d") + bits_of(converted, "linear"))


@pytest.mark.parametrize(
    ("suffix", "words"),
    [("pt", "load it yourself"), ("gguf", "no graph"), ("tflite", "tf2onnx"), ("xml", "nncf.quantize"), ("zip", "not an ONNX")],
)
def test_other_files_are_refused_in_words(suffix: str, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        pq.convert(f"net.{suffix}")


def external(location: str) -> Any:
    proto = small_network(18)
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return proto


def test_constants_in_other_files_are_read_only_when_asked_for_and_only_below_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for target in (folder / "w.bin", tmp_path / "w.bin"):
        target.write_bytes(normal(8, 3, 3, 3).tobytes())
    path = folder / "net.onnx"
    path.write_bytes(external("w.bin").SerializeToString())
    with pytest.raises(UnsupportedError, match="external_data=True"):
        pq.convert(path)
    pq.convert(path, external_data=True, samples=0)
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    for outside in ("../w.bin", str(tmp_path / "w.bin"), "link.bin", "missing.bin", "."):
        path.write_bytes(external(outside).SerializeToString())
        with pytest.raises(ModelFormatError, match="no file below"):
            pq.convert(path, external_data=True)
    path.write_bytes(external("w.bin").SerializeToString())
    (folder / "w.bin").write_bytes(b"short")
    with pytest.raises(ModelFormatError, match="its shape has"):
        pq.convert(path, external_data=True)


def with_dims(*dims: int) -> Any:
    proto = small_network(18)
    proto.graph.initializer[0].dims[:] = dims
    return proto


def one(op: str, inputs: str = "x", constants: dict[str, Any] | None = None, domain: str = "", **attributes: Any) -> Any:
    return model([node(op, inputs, "y", domain, **attributes)], constants or {}, ["N", 4, 8, 8])


LARGE = np.array([1 << 30, 1 << 30], I64)
REFUSALS: dict[str, tuple[Callable[[], Any], str]] = {
    "an unknown operator": (lambda: one("Warp", domain="com.example"), "com.example.Warp: no such operation"),
    "control flow": (lambda: one("NonZero"), "depends on the data"),
    "an unknown attribute": (lambda: one("Relu", twist=3), r"twist|Unrecognized"),
    "larger constants than data": (lambda: with_dims(8, 3, 3, 4), "bytes of data"),
    "a negative dimension": (lambda: with_dims(-1, 3, 3, 3), "shape"),
    "a constant of a terabyte": (lambda: with_dims(1 << 20, 1 << 20, 1, 1), "elements"),
    "a small file that makes a large tensor": (
        lambda: model([node("ConstantOfShape", "s", "c"), node("Add", "x c", "y")], {"s": LARGE}, [1]),
        "elements are made",
    ),
    "an input of another type": (lambda: model([node("Relu", "x", "y")], {}, [2], kind=TensorProto.DOUBLE), "of type double"),
    "a run-time convolution": (
        lambda: model(
            [node("DynamicQuantizeLinear", "x", "q s z"), node("ConvInteger", "q w z", "i"), node("Cast", "i", "y", to=1)],
            {"w": codes(-3, 3, 2, 4, 1, 1)},
            ["N", 4, 8, 8],
        ),
        "quantize it statically",
    ),
    "scales that are computed": (lambda: one("QuantizeLinear", "x x"), "its scale is computed"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_operation_and_say_why(name: str) -> None:
    make, words = REFUSALS[name]
    with pytest.raises((UnsupportedError, ModelFormatError), match=words):
        pq.convert(module(make()), samples=0)


def test_every_refused_operation_is_listed_at_once() -> None:
    proto = model([node("NonZero", "x", "a"), node("Warp", "a", "y", "com.example")], {}, [2])
    with pytest.raises(UnsupportedError, match=r"2 operation\(s\)"):
        module(proto)


def test_no_operator_is_both_run_and_refused() -> None:
    assert not set(TABLE) & set(REFUSED)


def test_mutated_files_are_read_or_refused() -> None:
    rng = random.Random(0)
    seeds = [proto.SerializeToString() for proto in (small_network(18), qdq_conv(), qlinear_conv())]
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(600):
            data = bytearray(rng.choice(seeds))
            for _ in range(rng.choice((1, 2, 8))):
                at = rng.randrange(len(data))
                data[at : at + rng.choice((1, 1, 4, 40))] = rng.randbytes(rng.choice((0, 1, 1, 9)))
            try:
                OnnxModule(read_bytes(bytes(data)))
                outcomes.add("read")
            except (ModelFormatError, UnsupportedError) as error:
                outcomes.add(type(error).__name__)
    assert outcomes == {"read", "ModelFormatError", "UnsupportedError"}
