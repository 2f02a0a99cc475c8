"""`Model.to_onnx`: read again it is the same model for the engine, byte for byte; ONNX's reference computes the same within one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from random_graphs.draw import nets
from random_graphs.net import Net
from torch import nn
from typer.testing import CliRunner

import pyqinfer as pq
from pyqinfer.cli.app import app

onnx = pytest.importorskip("onnx", reason="needs the onnx package")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from pyqinfer.errors import UnsupportedError  # noqa: E402
from pyqinfer.frontend.sources.onnx.module import OnnxModule  # noqa: E402
from pyqinfer.frontend.sources.onnx.reading import read_bytes  # noqa: E402
from pyqinfer.onnx_export.rows import ROWS  # noqa: E402
from pyqinfer.ops import OPS  # noqa: E402

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.pqi"))


def inputs_of(model: pq.Model, sizes: dict[str, int] | None = None) -> dict[str, Any]:
    rng, arrays, named = np.random.default_rng(0), {}, {"N": 2, "H": 32, "W": 32, **(sizes or {})}
    for port in model.graph["inputs"]:
        value = model.graph["values"][port["value"]]
        shape = [d if isinstance(d, int) else named.get(d, 8) for d in value["shape"]]
        arrays[port["name"]] = (
            rng.standard_normal(shape, dtype=np.float32) if value["dtype"] == "f32" else rng.integers(0, 2, shape, np.int32)
        )
    return arrays


def read_again(model: pq.Model, inputs: dict[str, Any]) -> pq.Model:
    module = OnnxModule(read_bytes(model.to_onnx()))
    examples = tuple(torch.from_numpy(x.astype(np.int64) if x.dtype == np.int32 else x) for x in inputs.values())
    return pq.convert(module, example_inputs=examples, samples=0, check=False)


def assert_same_bytes(model: pq.Model, inputs: dict[str, Any]) -> None:
    again = read_again(model, inputs)
    expected, got = (pq.Session(m, threads=1).run(inputs) for m in (model, again))
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].tobytes() == array.tobytes(), name


def test_every_op_of_the_engine_has_a_row() -> None:
    assert set(ROWS) == {name for name, traits in OPS.items() if traits.in_engine}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files_come_back_with_the_same_bytes(path: Path) -> None:
    model = pq.load(path)
    assert_same_bytes(model, inputs_of(model))


def test_bits_below_eight_show_as_clips() -> None:
    model = pq.load(next(path for path in GOLDEN if "w4a4" in path.stem))
    proto = onnx.load_from_string(model.to_onnx())
    onnx.checker.check_model(proto)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    bounds = {tuple(int(constants[name]) for name in n.input[1:]) for n in proto.graph.node if n.op_type == "Clip" and all(n.input)}
    assert (-8, 7) in bounds
    assert (0, 15) in bounds


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(torch.relu(self.conv(x)).mean((2, 3)))
        return y


def test_the_standard_computes_the_same_within_one_step() -> None:
    torch.manual_seed(0)
    batch = torch.randn(8, 3, 12, 12)
    quantized = pq.quantize(Small().eval(), pq.PTQ(), example_inputs=(batch[:2],), calibration=[batch])
    model = pq.convert(quantized, example_inputs=(batch[:2],))
    x = inputs_of(model)
    (expected,) = pq.Session(model, threads=1).run(x).values()
    got = ReferenceEvaluator(model.to_onnx()).run(None, x)[0]
    assert np.abs(got - expected).max() <= 1.01 * np.abs(expected).max() / 127


def test_tables_and_batch_norms_come_back_with_the_same_bytes() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.GELU()]
    net, batch = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval(), torch.randn(4, 3, 12, 12)
    quantized = pq.quantize(net, pq.PTQ(), example_inputs=(batch[:2],), calibration=[batch])
    model = pq.convert(quantized, example_inputs=(batch[:2],), samples=0)
    assert "table" in {node["op"] for node in model.graph["nodes"]}
    assert_same_bytes(model, inputs_of(model))
    floats = pq.convert(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)).eval(), example_inputs=(batch[:2],), samples=0)
    assert_same_bytes(floats, inputs_of(floats))


@settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(nets(least=3, most=6))
@pytest.mark.filterwarnings("ignore")
def test_random_networks_come_back_with_the_same_bytes(net: Net) -> None:
    model, examples = net.build(), net.examples()
    batch = net.examples(4) if net.dynamic_batch else examples
    quantized = pq.quantize(
        model, pq.PTQ(**net.ptq), example_inputs=examples, calibration=[batch], keep=net.keep, dynamic_batch=net.dynamic_batch
    )
    converted = pq.convert(quantized, example_inputs=examples, dynamic_batch=net.dynamic_batch, samples=0, check=False)
    try:
        converted.to_onnx()
    except UnsupportedError:
        return
    assert_same_bytes(converted, {name: x.numpy() for name, x in zip(converted.inputs, examples, strict=True)})


def test_the_command_writes_a_file_that_the_command_reads(tmp_path: Path) -> None:
    path, back = tmp_path / "net.onnx", tmp_path / "net.pqi"
    source = next(path for path in GOLDEN if path.stem == "v1.0-w8a8")
    assert CliRunner().invoke(app, ["export", str(source), str(path)]).exit_code == 0
    result = CliRunner().invoke(app, ["convert", str(path), "--out", str(back)])
    assert result.exit_code == 0, result.output
    assert list(pq.load(back).inputs) == list(pq.load(source).inputs)
