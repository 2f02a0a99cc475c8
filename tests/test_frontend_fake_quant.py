"""Fake-quantize ops, prepared models of quantization-aware training, and users' own fake-quantize modules."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_converts_and_agrees, assert_within_bounds, differences
from frontend_nets import FAMILIES
from torch import Tensor, nn
from torch.ao.quantization import QConfig, disable_observer, get_default_qat_qconfig_mapping, quantize_fx
from torch.ao.quantization import fake_quantize as fq

import pyqinfer as pq
from pyqinfer import ir
from pyqinfer.conversion import build_engine_graph
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import import_module
from pyqinfer.frontend.sources import fake_quant
from pyqinfer.lower.coverage import layer_coverage

SCALES = torch.tensor([0.011, 0.02, 0.03, 0.005])
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution whose input and weights go through ``activation`` and ``weight``."""

    def __init__(self, activation: Callable[[Tensor], Tensor], weight: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3)
        self.scales = nn.Parameter(SCALES.clone())
        for name, function in (("activation", activation), ("weight", weight)):
            setattr(self, name, function)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(self.activation(x), self.weight(self.conv.weight), self.conv.bias)
        return self.activation(F.relu(y))


def per_channel(w: Tensor) -> Tensor:
    return torch.fake_quantize_per_channel_affine(w, SCALES, torch.tensor([0, 0, 3, -2], dtype=torch.int32), 0, -128, 127)


def learnable_per_channel(zero_points: list[float]) -> Callable[[Tensor], Tensor]:
    return lambda w: torch._fake_quantize_learnable_per_channel_affine(w, SCALES, torch.tensor(zero_points), 0, -8, 7, 1.0)


def learnable(zero_point: float) -> Callable[[Tensor], Tensor]:
    return lambda x: torch._fake_quantize_learnable_per_tensor_affine(x, torch.tensor([0.03]), torch.tensor([zero_point]), -128, 127, 1.0)


class Fused(nn.Module):
    """What torch's fused observer calls, outside of its class."""

    def __init__(self, per_row: bool) -> None:
        super().__init__()
        self.per_row = per_row
        scale, zero = (
            (SCALES, torch.zeros(4, dtype=torch.int32)) if per_row else (torch.tensor([0.03]), torch.tensor([7], dtype=torch.int32))
        )
        self.register_buffer("zero", zero.to(torch.int32))
        buffers = {"scale": scale.clone(), "low": -torch.ones(len(scale)), "high": torch.ones(len(scale))}
        for name, tensor in {**buffers, "off": torch.tensor([0]), "on": torch.tensor([1])}.items():
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        state = (self.off, self.on, self.low, self.high, self.scale, self.zero)
        return torch.fused_moving_avg_obs_fake_quant(x, *state, 0.01, -128, 127, 0, self.per_row, self.per_row)


def per_tensor(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, 0.03, 100, 0, 255)


def tensor_parameters(x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, torch.tensor(0.03), torch.tensor(5, dtype=torch.int32), 0, 255)


OPS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "per tensor, per channel": (per_tensor, per_channel),
    "parameters in tensors": (tensor_parameters, per_channel),
    "weights per tensor": (per_tensor, lambda w: torch.fake_quantize_per_tensor_affine(w, 0.02, 0, -7, 7)),
    "learnable": (learnable(3.4), learnable_per_channel([0, 0, 0, 0])),
    "learnable, halves up": (learnable(2.5), learnable_per_channel([2.5, 3.5, 0, 100])),
    "learnable, negative": (learnable(-3.7), learnable_per_channel([-2.5, -3.5, 0.4, -100])),
    "fused observers": (Fused(False), Fused(True)),
}


@pytest.mark.parametrize("name", OPS)
def test_fake_quantize_ops_are_quantize_and_dequantize(name: str) -> None:
    net = Net(*OPS[name]).eval()
    net(X)  # the fused op computes its scale from the range when it runs
    engine = assert_converts_and_agrees(net, X)
    assert [node["op"] for node in engine.graph["nodes"]] == ["quantize", "conv2d", "dequantize"]
    (conv,) = [node for node in import_module(net, (X,)).nodes if node.op == "conv2d"]
    weight = conv.constants["weight"]
    assert isinstance(weight, ir.Weight)
    np.testing.assert_allclose(weight.expand(), net.weight(net.conv.weight).detach().numpy(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", OPS)
def test_programs_exported_by_the_user_hold_fake_quantize_ops(name: str) -> None:
    """Without the importer's own tracing: the operators themselves, weights included."""
    net = Net(*OPS[name]).eval()
    program = torch.export.export(net, (X,))
    assert any("fake_quant" in str(node.target) for node in program.graph.nodes)
    graph, traced = import_module(program, (X,)), import_module(net, (X,))
    assert [node.op for node in graph.nodes] == ["quantize", "dequantize", "conv2d", "clamp", "quantize", "dequantize"]
    assert [node.output.quant for node in graph.nodes] == [node.output.quant for node in traced.nodes]
    found, expected = graph.nodes[2].constants["weight"], traced.nodes[2].constants["weight"]
    assert isinstance(found, ir.Weight)
    assert isinstance(expected, ir.Weight)
    for key in ("codes", "scale", "base"):
        np.testing.assert_array_equal(getattr(found, key), getattr(expected, key))


def test_the_bits_of_fake_quantized_weights_come_from_their_range() -> None:
    conv = import_module(Net(per_tensor, lambda w: torch.fake_quantize_per_tensor_affine(w, 0.1, 0, -1, 1)), (X,)).nodes[2]
    assert isinstance(conv.constants["weight"], ir.Weight)
    assert conv.constants["weight"].ternary


class Wired(nn.Module):
    """Three convolutions with fake-quantized weights, wired by ``way``."""

    def __init__(self, way: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way, self.weights = way, nn.ParameterList(torch.randn(4, 4, 3, 3) * 0.1 for _ in range(3))

    def conv(self, i: int, x: Tensor, quantized: bool = True) -> Tensor:
        weight = self.weights[i]
        return F.conv2d(x, torch.fake_quantize_per_tensor_affine(weight, 0.003, 0, -128, 127) if quantized else weight, padding=1)

    def forward(self, *x: Tensor) -> Any:
        return self.way(self, *x)


def fq_at(scale: float, x: Tensor) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(x, scale, 128, 0, 255)


def quantized_twice(net: Wired, x: Tensor) -> Tensor:
    y = net.conv(0, fq_at(0.03, x))
    return net.conv(1, fq_at(0.02, y)) + net.conv(2, fq_at(0.05, y))


def float_in_the_middle(net: Wired, x: Tensor) -> Tensor:
    y = F.relu(net.conv(1, net.conv(0, fq_at(0.03, x)), quantized=False))
    return net.conv(2, fq_at(0.02, y))


def shared_weights(net: Wired, x: Tensor) -> Tensor:
    return net.conv(0, fq_at(0.02, F.relu(net.conv(0, fq_at(0.03, x)))))


def several_inputs_and_outputs(net: Wired, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    both = fq_at(0.05, net.conv(0, fq_at(0.03, x)) + fq_at(0.04, y))
    return {"deep": net.conv(1, both), "pooled": both.mean((2, 3))}


@pytest.mark.parametrize(
    ("way", "inputs", "floats"),
    [(quantized_twice, 1, 0), (float_in_the_middle, 1, 1), (shared_weights, 1, 0), (several_inputs_and_outputs, 2, 0)],
)
def test_wirings_agree_and_only_layers_without_codes_run_in_float(way: Callable[..., Any], inputs: int, floats: int) -> None:
    x = [torch.randn(2, 4, 9, 9, generator=torch.Generator().manual_seed(i)) for i in range(inputs)]
    engine = assert_converts_and_agrees(Wired(way).eval(), *x, fallback="float")
    assert sum(not layer.integer for layer in layer_coverage(engine.graph)) == floats
    if inputs == 2:
        assert [port["name"] for port in engine.graph["outputs"]] == ["deep", "pooled"]


def test_activations_fake_quantized_per_channel_are_refused() -> None:
    zeros = torch.zeros(3, dtype=torch.int32)
    with pytest.raises(UnsupportedError, match="activations quantized per channel"):
        import_module(
            Net(lambda x: torch.fake_quantize_per_channel_affine(x, SCALES[:3], zeros, 1, 0, 255), per_channel),
            (X,),
        )


PLAIN = QConfig(
    activation=fq.FakeQuantize.with_args(quant_min=0, quant_max=255, dtype=torch.quint8),
    weight=fq.default_per_channel_weight_fake_quant,
)


@pytest.mark.parametrize("qconfig", ["fused", "plain"])
@pytest.mark.parametrize("net", FAMILIES)
def test_models_prepared_by_fx_for_qat_convert_in_evaluation_mode(net: str, qconfig: str) -> None:
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    mapping = get_default_qat_qconfig_mapping("x86")
    if qconfig == "plain":
        mapping = mapping.set_global(PLAIN)
    prepared = quantize_fx.prepare_qat_fx(make().train(), mapping, (x,))
    prepared(x)
    prepared.eval().apply(disable_observer)
    engine = assert_converts_and_agrees(prepared, x)
    assert "affine" not in {node["op"] for node in engine.graph["nodes"]}


@pytest.mark.usefixtures("only_patterns_that_occur")
@pytest.mark.parametrize("net", FAMILIES)
def test_models_prepared_by_pt2e_for_qat_convert_in_evaluation_mode(net: str) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e")
    flow = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer")
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    quantizer = xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_qat=True))
    prepared = flow.prepare_qat_pt2e(torch.export.export(make().train(), (x,)).module(), quantizer)
    prepared(x)
    pt2e.move_exported_model_to_eval(prepared)
    prepared.apply(pt2e.disable_observer)
    engine = build_engine_graph(prepared, (x,), fallback="error")
    assert_within_bounds(differences(prepared, engine, x))
    if net == "resnet":  # the quantizer does not fuse a BatchNorm1d
        assert "affine" not in {node["op"] for node in engine.graph["nodes"]}


class Ternarize(nn.Module):
    """A user's module: rounds in a way that no graph reader would see through."""

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.alpha, self.enabled = nn.Parameter(torch.tensor(0.1)), enabled

    def forward(self, x: Tensor) -> Tensor:
        if not self.enabled:
            return x
        return self.alpha * torch.tensor(np.clip(np.rint(x.detach().numpy() / self.alpha.item()), -1, 1))


class Own(nn.Module):
    def __init__(self, enabled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.w_quant, self.x_quant = nn.Conv2d(3, 4, 3), Ternarize(enabled), Ternarize(enabled)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.x_quant(x), self.w_quant(self.conv.weight), self.conv.bias)


@pytest.fixture
def _fresh_registry() -> Iterator[None]:
    before = dict(fake_quant._REGISTERED)
    yield
    fake_quant._REGISTERED.clear()
    fake_quant._REGISTERED.update(before)


@pytest.mark.usefixtures("_fresh_registry")
@pytest.mark.parametrize("enabled", [True, False])
def test_registered_modules_become_what_their_function_says(enabled: bool) -> None:
    pq.register_fake_quant(Ternarize, lambda m: pq.FakeQuant(m.alpha, 0, -1, 1) if m.enabled else None)
    net = Own(enabled).eval()
    children = dict(net.named_modules())
    engine = assert_converts_and_agrees(net, X, fallback="error" if enabled else "float")
    assert dict(net.named_modules()) == children
    weight = next(c for c in engine.graph["constants"] if c["name"].endswith(".weight"))
    assert weight.get("packing") == ("trit5" if enabled else None)


@pytest.mark.usefixtures("_fresh_registry")
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ((0.1, 0, -1, 1), TypeError, "expected pyqinfer.FakeQuant or None"),
        (pq.FakeQuant(torch.ones(3), 0, -1, 1), ValueError, "3 scales and 1 zero points without an axis"),
        (pq.FakeQuant(0.1, 0.5, -1, 1), ValueError, "x_quant|w_quant.*no integer"),
    ],
)
def test_parameters_that_mean_nothing_are_refused_by_module_name(params: Any, error: type[Exception], message: str) -> None:
    pq.register_fake_quant(Ternarize, lambda m: params)
    with pytest.raises(error, match=message):
        import_module(Own(True), (X,))


@pytest.mark.parametrize(("cls", "fn"), [(int, print), (Ternarize(), print), (Ternarize, None)])
def test_registering_something_else_is_refused(cls: Any, fn: Any) -> None:
    with pytest.raises(TypeError, match="expected"):
        pq.register_fake_quant(cls, fn)


def test_the_model_is_as_before_after_a_failed_conversion() -> None:
    net = Own(True)
    before = copy.copy(dict(net.named_modules()))
    with pytest.raises(Exception):  # noqa: B017  torch cannot trace the unregistered module: any of its own errors
        import_module(net, (X,))
    assert dict(net.named_modules()) == before
