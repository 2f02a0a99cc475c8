"""Whole networks whose linear layers quantize their activations at run time, and torch's graphs of such layers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin, assert_within_bounds, differences
from frontend_nets import mlp, resnet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer import cpu_info
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.model import Model
from pyqinfer.session import Session

ao = pytest.importorskip("torchao.quantization")
granularity = pytest.importorskip("torchao.quantization.granularity")
flow = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer")


class GatedBlock(nn.Module):
    """What a decoder's feed-forward part does: ``x + down(silu(gate(x)) * up(x))``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


def gated() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(GatedBlock(96, 256), GatedBlock(96, 256), nn.Linear(96, 50)).eval()


NETWORKS = {"mlp": (mlp, (40, 64)), "resnet with a quantized fc": (resnet, (3, 3, 64, 64)), "gated": (gated, (3, 17, 96))}


def quantized(net: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ao.quantize_(net, ao.Int8DynamicActivationInt8WeightConfig())
    return net


def codes(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric int8 codes of each row, as torchao makes them."""
    rows = torch.from_numpy(x.reshape(-1, x.shape[-1]))
    scale = (rows.abs().amax(1, keepdim=True) / 127.5).clamp(min=torch.finfo(torch.float32).eps)
    return torch.round(rows * (1.0 / scale)).clamp(-128, 127).numpy()


def inputs_in_torch(model: nn.Module, x: Tensor) -> dict[str, NDArray[np.float32]]:
    """What each linear layer reads."""
    seen: dict[str, NDArray[np.float32]] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    hooks = [
        layer.register_forward_pre_hook(lambda _layer, args, name=name: seen.__setitem__(name, args[0].numpy()))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


def inputs_in_engine(model: Model, x: Tensor) -> dict[str, NDArray[np.float32]]:
    """What each of the engine's dynamic linear layers reads that reads what a node wrote."""
    nodes = model.graph["nodes"]
    writers = {node["outputs"][0]: node["name"] for node in nodes}
    sources = {n["name"]: writers[n["inputs"][0]] for n in nodes if n["op"] == "linear_dynamic" and n["inputs"][0] in writers}
    captured = Session(model, threads=1).run({next(iter(model.inputs)): x.numpy()}, capture=sorted(set(sources.values())))
    return {name: captured[source] for name, source in sources.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_agrees_with_torch_in_its_row_codes_and_its_result(name: str) -> None:
    make, shape = NETWORKS[name]
    model, x = quantized(make()), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    converted = convert(model, example_inputs=(x,))
    with torch.no_grad():
        expected = model(x).numpy()
    got = Session(converted, threads=1)(x.numpy())
    theirs, ours = inputs_in_torch(model, x), inputs_in_engine(converted, x)
    differing = sum(int((codes(ours[layer]) != codes(theirs[layer])).sum()) for layer in ours)
    total = sum(ours[layer].size for layer in ours)
    # Float layers and functions round differently, so that a value next to a tie may fall the other way, and moves what follows.
    assert differing <= max(3, 1e-3 * total), (differing, total)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-2 * np.abs(expected).max())
    assert_engine_equals_twin(converted, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_same_bits_on_every_isa_thread_count_and_split_of_the_batch(name: str) -> None:
    make, shape = NETWORKS[name]
    model = convert(quantized(make()), example_inputs=(torch.randn(shape),))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2)).numpy()
    expected = Session(model, threads=1, isa="reference")(x)
    for isa in cpu_info()["isas"]:
        for threads in (1, 2, 3):
            session = Session(model, threads=threads, isa=isa)
            np.testing.assert_array_equal(session(x), expected, err_msg=f"{isa}, {threads} threads")
        halves = [session(part) for part in (x[:1], x[1:])]
        np.testing.assert_array_equal(np.concatenate(halves), expected, err_msg=f"{isa}, batch in two parts")


def test_every_layer_counts_as_integer() -> None:
    model = convert(quantized(mlp()), example_inputs=(torch.randn(2, 64),), fallback="error")
    assert all(cost.integer and cost.act_bits == 8 for cost in model.layer_costs() if cost.macs)
    assert "3/3 conv and linear layers run in integers (100.0 % of MACs)" in model.summary().notes[1]


def dynamic_graph(net: nn.Module, x: Tensor, per_channel: bool) -> GraphModule:
    quantizer = xnnpack.XNNPACKQuantizer()
    quantizer.set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=per_channel, is_dynamic=True))
    prepared = flow.prepare_pt2e(torch.export.export(net, (x,)).module(), quantizer)
    prepared(x)
    graph: Any = flow.convert_pt2e(prepared)
    assert isinstance(graph, GraphModule)
    return graph


@pytest.mark.parametrize("per_channel", [False, True])
def test_graphs_of_a_dynamic_quantizer_agree_layer_by_layer(per_channel: bool) -> None:
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(3))
    graph = dynamic_graph(mlp(), x, per_channel)
    engine = build_engine_graph(graph, (x,), fallback="error")
    linear = [node for node in engine.graph["nodes"] if node["op"] == "linear_dynamic"]
    assert [node["attrs"]["granularity"] for node in linear] == ["tensor"] * 3
    assert_within_bounds(differences(graph, engine, x))
    assert_engine_equals_twin(convert(graph, example_inputs=(x,)), x)


def test_what_only_linear_layers_read_is_refused_elsewhere_with_a_sentence() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            ops = torch.ops.quantized_decomposed
            scale, zero = ops.choose_qparams(x, -128, 127, 2.0**-12, torch.int8)
            codes = ops.quantize_per_tensor.tensor(x, scale, zero, -128, 127, torch.int8)
            return torch.relu(ops.dequantize_per_tensor.tensor(codes, scale, zero, -128, 127, torch.int8))

    with pytest.raises(UnsupportedError, match="computed from it at run time; only linear layers read that"):
        build_engine_graph(Net(), (torch.randn(2, 8),))


def test_parameters_of_another_tensor_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            ops = torch.ops.quantized_decomposed
            scale, zero = ops.choose_qparams(x, -128, 127, 2.0**-12, torch.int8)
            codes = ops.quantize_per_tensor.tensor(torch.relu(x), scale, zero, -128, 127, torch.int8)
            return self.fc(ops.dequantize_per_tensor.tensor(codes, scale, zero, -128, 127, torch.int8))

    with pytest.raises(UnsupportedError, match="computed from another tensor"):
        build_engine_graph(Net(), (torch.randn(2, 8),))


class FrequencyBlock(nn.Module):
    """A linear layer over frequencies of [N, channels, time, frequency] and a BatchNorm over the channels, as in music separation."""

    def __init__(self, channels: int, frequencies: int, width: int) -> None:
        super().__init__()
        self.down, self.norm, self.up = nn.Linear(frequencies, width, bias=False), nn.BatchNorm2d(channels), nn.Linear(width, frequencies)
        nn.init.uniform_(self.norm.weight, 0.2, 3)
        nn.init.uniform_(self.norm.bias, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(torch.relu(self.norm(self.down(x))))


@pytest.mark.parametrize("channels", [8, 6])  # as many as the layer has outputs, and another number
def test_a_batch_norm_over_axis_1_stays_out_of_a_linear_layer(channels: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, 5, 16)
    quantized = torch.ao.quantization.quantize_dynamic(FrequencyBlock(channels, 16, 8).eval(), {nn.Linear}, dtype=torch.qint8)
    got = Session(convert(quantized, example_inputs=(x,)), threads=1)(x)
    torch.testing.assert_close(got, quantized(x), rtol=1e-4, atol=1e-4)
