"""Linear layers with weights made by torchao's ``quantize_``: 8 bits and fewer, per row and per group, with any kind of activation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from agreement import assert_converts_and_agrees
from frontend_nets import FAMILIES, mlp
from torch import nn

from pyqinfer import ir
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import import_module
from pyqinfer.frontend.sources.dynamic import DynamicQuantizeDequantize, DynamicQuantizer, quantize_dequantize_dynamic
from pyqinfer.frontend.sources.stand_ins import CodedLinear
from pyqinfer.lower.coverage import layer_coverage
from pyqinfer.session import Session

ao = pytest.importorskip("torchao.quantization")
granularity = pytest.importorskip("torchao.quantization.granularity")
X = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))

# For each name: the configuration, the bits of the weights in the file, and the reason the coverage gives.
WEIGHT_ONLY: dict[str, tuple[Callable[[], Any], int, str]] = {
    "int8": (lambda: ao.Int8WeightOnlyConfig(), 8, "its weights are quantized but its input is not"),
    "int4 per row": (lambda: ao.IntxWeightOnlyConfig(torch.int4, granularity.PerAxis(0)), 4, "its weights are quantized"),
    "int2 per row": (lambda: ao.IntxWeightOnlyConfig(torch.int2, granularity.PerAxis(0)), 2, "its weights are quantized"),
    "int4 per group": (lambda: ao.IntxWeightOnlyConfig(torch.int4, granularity.PerGroup(16)), 4, "its weights are quantized"),
}
DYNAMIC: dict[str, Callable[[], Any]] = {
    "int8, int8": lambda: ao.Int8DynamicActivationInt8WeightConfig(),
    "int8 asymmetric, int8": lambda: ao.Int8DynamicActivationInt8WeightConfig(act_mapping_type=ao.MappingType.ASYMMETRIC),
    "int8 per tensor, int8": lambda: ao.Int8DynamicActivationInt8WeightConfig(granularity=granularity.PerTensor()),
    "int8, int4 per group": lambda: ao.Int8DynamicActivationIntxWeightConfig(torch.int4, granularity.PerGroup(16)),
    "int8, int4 per row": lambda: ao.Int8DynamicActivationIntxWeightConfig(torch.int4, granularity.PerAxis(0)),
}


def quantized(net: nn.Module, config: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ao.quantize_(net, config)
    return net.eval()


@pytest.mark.parametrize("name", WEIGHT_ONLY)
@pytest.mark.parametrize("net", FAMILIES)
def test_weight_only_layers_run_in_float_with_the_codes_of_torchao(net: str, name: str) -> None:
    make, shape = FAMILIES[net]
    config, bits, reason = WEIGHT_ONLY[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = quantized(make(), config())
    engine = assert_converts_and_agrees(model, x, fallback="float")
    linear = {node["name"]: node for node in engine.graph["nodes"] if node["op"] == "linear"}
    layers = [layer for layer in layer_coverage(engine.graph) if layer.name in linear]
    assert layers
    assert all(reason in layer.reason and not layer.integer for layer in layers)
    weights = [engine.graph["constants"][node["constants"]["weight"]] for node in linear.values()]
    assert {weight.get("bits") for weight in weights} == {bits}
    with torch.no_grad():
        expected = model(x).numpy()
    got = Session(convert(model, example_inputs=(x,)), threads=1)(x.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_the_codes_and_scales_are_those_of_the_tensor() -> None:
    model = quantized(mlp(), ao.IntxWeightOnlyConfig(torch.int4, granularity.PerAxis(0)))
    weight = next(n for n in import_module(model, (X,)).nodes if n.op == "linear").constants["weight"]
    assert isinstance(weight, ir.Weight)
    np.testing.assert_array_equal(weight.codes, model[0].weight.qdata.numpy())
    np.testing.assert_array_equal(weight.scale, model[0].weight.scale.numpy().ravel())


@pytest.mark.parametrize("name", DYNAMIC)
@pytest.mark.parametrize("net", FAMILIES)
def test_layers_with_dynamic_activations_run_in_integers(net: str, name: str) -> None:
    make, shape = FAMILIES[net]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    model = quantized(make(), DYNAMIC[name]())
    engine = assert_converts_and_agrees(model, x, fallback="float")
    dynamic = {node["name"] for node in engine.graph["nodes"] if node["op"] == "linear_dynamic"}
    assert dynamic == {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert all(layer.integer == (layer.name in dynamic) for layer in layer_coverage(engine.graph))
    with torch.no_grad():
        expected = model(x).numpy()
    got = Session(convert(model, example_inputs=(x,)), threads=1)(x.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


def test_int8_rows_times_int8_weights_give_the_bits_of_torchao() -> None:
    x = torch.randn(33, 200, generator=torch.Generator().manual_seed(2)) * torch.logspace(-9, 9, 33)[:, None]
    x[5] = 0
    model = quantized(nn.Sequential(nn.Linear(200, 70)), ao.Int8DynamicActivationInt8WeightConfig())
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_array_equal(Session(convert(model, example_inputs=(x,)), threads=1)(x.numpy()), expected)


@pytest.mark.parametrize("mapping", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("granularity", ["row", "tensor"])
def test_codes_of_rows_are_those_of_torchao(mapping: str, granularity: str) -> None:
    from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

    x = torch.randn(500, 96, generator=torch.Generator().manual_seed(3)) * torch.logspace(-12, 12, 500)[:, None]
    block = (1, 96) if granularity == "row" else (500, 96)
    kind, eps = MappingType[mapping.upper()], torch.finfo(torch.float32).eps
    scale, zero = choose_qparams_affine(x, kind, block, torch.int8, -128, 127, eps=eps, zero_point_dtype=torch.int32)
    codes = quantize_affine(x, block, scale, zero, torch.int8, -128, 127)
    expected = ((codes.float() - zero.reshape(-1, 1)) * scale.reshape(-1, 1)).numpy()
    np.testing.assert_array_equal(quantize_dequantize_dynamic(x, mapping, granularity, -128, 127, eps).numpy(), expected)
    # The identity as weights gives back what the codes stand for.
    before = DynamicQuantizeDequantize(DynamicQuantizer(mapping, granularity, -128, 127, eps))
    layer = CodedLinear(torch.eye(96, dtype=torch.int8), torch.ones(96), torch.zeros(96), -128, 127, None, before)
    np.testing.assert_array_equal(Session(convert(layer, example_inputs=(x,)), threads=1)(x.numpy()), expected)


def test_any_batch_and_sequence_length() -> None:
    model = quantized(nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 5)), ao.Int8DynamicActivationInt8WeightConfig())
    session = Session(convert(model, example_inputs=(torch.randn(2, 7, 64),)), threads=2)
    for batch in (1, 3, 40):
        x = torch.randn(batch, 7, 64)
        with torch.no_grad():
            expected = model(x).numpy()
        np.testing.assert_allclose(session(x.numpy()), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["int8, int4 per group", "int8, int4 per row"])
def test_an_exported_model_gives_the_layers_of_its_module(name: str) -> None:
    model = quantized(mlp(), DYNAMIC[name]())
    program = torch.export.export(model, (X,), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    exported, module = (convert(m, example_inputs=(X,), fallback="error") for m in (program, model))
    session = Session(exported, threads=1)
    np.testing.assert_array_equal(session(X.numpy()), Session(module, threads=1)(X.numpy()))
    assert [node["attrs"] for node in exported.graph["nodes"]] == [node["attrs"] for node in module.graph["nodes"]]
    assert session(X[:3].numpy()).shape == (3, 4)


def test_a_weight_group_of_zeros_is_no_error() -> None:
    net = nn.Sequential(nn.Linear(64, 8))
    with torch.no_grad():
        net[0].weight[:, 16:32] = 0
        net[0].weight[3] = 0
    for config in (DYNAMIC["int8, int4 per group"](), DYNAMIC["int8, int4 per row"](), WEIGHT_ONLY["int4 per group"][0]()):
        model = quantized(copy.deepcopy(net), config)
        assert_converts_and_agrees(model, X, fallback="float")


def test_fixed_activation_scales_make_an_integer_layer() -> None:
    config = pytest.importorskip("torchao.quantization").Int8StaticActivationInt8WeightConfig
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    quantized(model, config(act_quant_scale=torch.tensor([[0.03]]), granularity=granularity.PerTensor()))
    engine = build_engine_graph(model, (X,), fallback="error")
    assert [node["op"] for node in engine.graph["nodes"]] == ["quantize", "linear"]
    with torch.no_grad():
        expected = model(X).numpy()
    got = Session(convert(model, example_inputs=(X,)), threads=1)(X.numpy())
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_torchao_tensors_in_other_modules_are_listed_by_name() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.Bilinear(4, 4, 2), nn.Bilinear(4, 4, 2))
    quantized(model, ao.Int8WeightOnlyConfig())
    for name in ("1", "2"):
        model.get_submodule(name).weight = model[0].weight
    with pytest.raises(UnsupportedError) as error:
        import_module(model, (X,))
    text = str(error.value)
    assert "2 module(s)" in text
    assert "1: torchao tensors (weight) in a Bilinear" in text
    assert "2: torchao tensors (weight) in a Bilinear" in text


def test_the_model_keeps_its_tensors() -> None:
    model = quantized(mlp(), ao.Int8WeightOnlyConfig())
    before = model[0]
    import_module(model, (X,))
    assert model[0] is before
    assert type(before.weight).__name__ == "Int8Tensor"
