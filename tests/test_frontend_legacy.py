"""Models of torch.ao's older flows: prepared and converted by FX, converted eager modules."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from agreement import assert_converts_and_agrees
from frontend_nets import FAMILIES, mlp
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import import_module
from pyqinfer.session import Session

quantize_fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
tq = pytest.importorskip("torch.ao.quantization")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
X = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))


def prepared(net: nn.Module, x: Tensor, backend: str = "x86") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = quantize_fx.prepare_fx(net.eval(), tq.get_default_qconfig_mapping(backend), (x,))
    with torch.no_grad():
        model(x)
    return model


@pytest.mark.parametrize("net", FAMILIES)
def test_models_that_fx_converted_agree(net: str) -> None:
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = quantize_fx.convert_fx(prepared(make(), x))
    engine = assert_converts_and_agrees(model, x)
    names = {name for name, module in model.named_modules() if type(module).__module__.startswith("torch.ao.nn.")}
    layers = {node["name"] for node in engine.graph["nodes"] if node["op"] in ("conv2d", "linear")}
    assert layers == {name for name in names if hasattr(model.get_submodule(name), "weight")}
    assert not {"clamp", "affine", "transpose"} & {node["op"] for node in engine.graph["nodes"]}


class Signed(nn.Module):
    """Layers, an addition and a pool, all on signed codes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.fc = nn.AvgPool2d(2), nn.Linear(128, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.fc(torch.flatten(self.pool(x + self.second(x)), 1))


@pytest.mark.parametrize("scheme", [torch.per_tensor_symmetric, torch.per_tensor_affine])
def test_signed_activations_keep_their_negative_values(scheme: torch.qscheme, monkeypatch: pytest.MonkeyPatch) -> None:
    """Converted and prepared alike; with affine ranges zero points are negative too."""
    backend_config = pytest.importorskip("torch.ao.quantization.backend_config")
    monkeypatch.setattr(torch.backends.quantized, "engine", "qnnpack")
    torch.manual_seed(0)
    x = torch.randn(16, 3, 8, 8) + 0.5
    activation = tq.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=scheme, eps=2**-12)
    weight = tq.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-127, quant_max=127, eps=2**-12)
    mapping = tq.QConfigMapping().set_global(tq.QConfig(activation=activation, weight=weight))
    backend = backend_config.get_qnnpack_backend_config()
    model = quantize_fx.prepare_fx(Signed().eval(), mapping, (x,), backend_config=backend)
    model(x)
    expected = quantize_fx.convert_to_reference_fx(copy.deepcopy(model), backend_config=backend)(x)
    assert float(expected.min()) < 0
    for form in (quantize_fx.convert_fx(copy.deepcopy(model), backend_config=backend), model):
        engine = convert(form, example_inputs=(x,))
        assert engine.integer_share() == 1
        got = Session(engine, threads=1)(x)
        # A converted model rounds the pool's results to the codes of its input, torch's reference form does not: a few steps of codes.
        assert float((got - expected).abs().max()) <= 0.05 * float(expected.abs().max())


@pytest.mark.parametrize("net", FAMILIES)
def test_models_that_fx_prepared_and_calibrated_are_converted_here(net: str) -> None:
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = prepared(make(), x)
    before = copy.deepcopy(model.state_dict())
    reference = quantize_fx._convert_to_reference_decomposed_fx(copy.deepcopy(model))
    engine = assert_converts_and_agrees(reference, x)
    assert build_engine_graph(model, (x,), fallback="error").to_json() == engine.to_json()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True) if isinstance(a, Tensor))


class Eager(nn.Module):
    """An eager-mode model: explicit boundaries, a residual add, a pool and a ReLU6 that keep the parameters of their input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.quant, self.dequant = tq.QuantStub(), tq.DeQuantStub()
        self.a, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.b, self.six = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU6()
        self.add = torch.ao.nn.quantized.FloatFunctional()
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(32, 5)
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.a(self.quant(x)))
        y = self.six(self.add.add(y, self.b(y)))
        y = self.dequant(self.head(self.drop(torch.flatten(self.pool(y), 1))))
        return torch.relu(y)


def test_converted_eager_models_agree() -> None:
    net = Eager().eval()
    net.qconfig = tq.get_default_qconfig("x86")
    net = tq.fuse_modules(net, [["a", "relu"]])
    model = tq.prepare(net)
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    model(x)
    engine = assert_converts_and_agrees(tq.convert(model), x)
    ops = [node["op"] for node in engine.graph["nodes"]]
    assert ops.count("conv2d") == 2
    # The pool rounds to the codes of its input, as torch's does, so that the linear layer reads codes.
    values, nodes = engine.graph["values"], engine.graph["nodes"]
    linear = next(node for node in nodes if node["op"] == "linear")
    assert values[linear["inputs"][0]]["dtype"] == "u8"


def test_ops_behind_an_explicit_dequantize_stay_float() -> None:
    class Head(Eager):
        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.dequant(self.a(self.quant(x))))

    net = Head().eval()
    net.qconfig = tq.get_default_qconfig("x86")
    model = tq.prepare(net)
    x = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    model(x)
    graph = import_module(tq.convert(model), (x,))
    assert [node.op for node in graph.nodes][-2:] == ["dequantize", "adaptive_avg_pool2d"]


def test_dynamically_quantized_layers_agree() -> None:
    model = tq.quantize_dynamic(mlp(), {nn.Linear})
    engine = assert_converts_and_agrees(model, X)
    assert {node["op"] for node in engine.graph["nodes"]} == {"linear_dynamic"}
    with torch.no_grad():
        expected = model(X).numpy()
    got = Session(convert(model, example_inputs=(X,)), threads=1)(X.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_a_dynamic_layer_of_half_floats_is_refused_by_name() -> None:
    model = tq.quantize_dynamic(nn.Sequential(nn.Linear(64, 8)), {nn.Linear}, dtype=torch.float16)
    with pytest.raises(UnsupportedError, match=r"0: a dynamic Linear of torch\.float16"):
        build_engine_graph(model, (X,))


def test_quantized_modules_without_a_stand_in_are_all_listed() -> None:
    model = nn.Sequential(torch.ao.nn.quantized.Sigmoid(0.1, 0), torch.ao.nn.quantized.ELU(0.1, 0))
    with pytest.raises(UnsupportedError) as error:
        import_module(model, (X,))
    text = str(error.value)
    assert "2 module(s)" in text
    assert "0: a quantized Sigmoid" in text
    assert "1: a quantized ELU" in text


class LastStep(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, state = self.layer(x)
        return y, (state[0] if isinstance(state, tuple) else state).transpose(0, 1)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}], ids=str)
def test_dynamic_recurrent_layers_give_torchs_numbers(kind: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = tq.quantize_dynamic(LastStep(kind(8, 16, **options)).eval(), {nn.LSTM, nn.GRU})
    engine = convert(model, example_inputs=(torch.randn(3, 5, 8),), dynamic_batch=bool(options.get("batch_first")))
    x = torch.randn(3, 5, 8)
    assert engine.integer_share({"x": (3, 5, 8)}) == 1
    for got, expected in zip(Session(engine, threads=1)(x), model(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_dynamic_cells_give_torchs_numbers(kind: Any) -> None:
    class TwoSteps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = kind(8, 16)

        def forward(self, x: Tensor) -> Tensor:
            state = self.cell(x, self.cell(x * 0.5))
            return state[0] if isinstance(state, tuple) else state

    x = torch.randn(3, 8)
    model = tq.quantize_dynamic(TwoSteps().eval(), {kind})
    converted = convert(model, example_inputs=(x,))
    assert {node["op"] for node in converted.graph["nodes"]} >= {"linear_dynamic"}
    torch.testing.assert_close(pq.Session(converted)(x), model(x), rtol=1e-3, atol=1e-3)


def test_quantizing_what_quantize_dynamic_made_says_what_to_do() -> None:
    model = tq.quantize_dynamic(LastStep(nn.LSTM(8, 16)).eval(), {nn.LSTM})
    with pytest.raises(ValueError, match=r"is quantized already; pq\.convert\(model, example_inputs=\.\.\.\)"):
        pq.quantize(model, pq.PTQ(), example_inputs=(torch.randn(5, 2, 8),), calibration=[torch.randn(5, 2, 8)])


def test_other_dynamic_recurrent_layers_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"LSTM of torch\.float16"):
        convert(tq.quantize_dynamic(LastStep(nn.LSTM(8, 16)), {nn.LSTM}, dtype=torch.float16), example_inputs=(torch.randn(5, 2, 8),))
