"""Graphs of torchao's quantizers: post-training and quantization-aware, layer by layer against torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin, assert_within_bounds, differences
from frontend_nets import mlp, resnet
from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.lower.coverage import layer_coverage

pt2e = pytest.importorskip("torchao.quantization.pt2e")
flow = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer")


class PoolChain(nn.Module):
    """Pools and a flatten behind each other; XNNPACK's quantizer puts no quantize in between."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(F.relu(self.conv(x)), 2), 2), 2)
        return self.head(y.flatten(1))


class Activations(nn.Module):
    """Clamps that quantizers fuse with the layer in front (relu, hardtanh) or not."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.c(F.hardtanh(self.b(F.relu6(self.a(x))), -0.5, 0.7)))


class TwoHeads(nn.Module):
    """A fork into two outputs of different rank, one of them behind a residual add of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 2), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu(self.c(x) + x)
        return self.left(y.mean((2, 3))), self.right(y)


class TwoInputs(nn.Module):
    """Inputs of different size that meet in an add."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 3), nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.c(F.relu(self.a(x)) + F.relu(self.b(y)))


NETS: dict[str, tuple[Any, tuple[tuple[int, ...], ...]]] = {
    "resnet": (resnet, ((2, 3, 64, 64),)),
    "mlp": (mlp, ((8, 64),)),
    "pool chain": (PoolChain, ((2, 3, 24, 20),)),
    "activations": (Activations, ((2, 3, 12, 12),)),
    "two heads": (TwoHeads, ((2, 4, 9, 9),)),
    "two inputs": (TwoInputs, ((2, 3, 8, 8), (2, 2, 12, 12))),
}


def quantizer(name: str, is_qat: bool) -> Any:
    if name == "x86":
        return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(is_qat=is_qat))
    return xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True, is_qat=is_qat))


def quantized(net: nn.Module, x: tuple[Tensor, ...], name: str, is_qat: bool) -> GraphModule:
    """torchao's own flow; a QAT model sees one batch in training mode, which sets its statistics."""
    net.train(is_qat)
    graph = torch.export.export(net, x, dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in x)).module()
    prepared = (flow.prepare_qat_pt2e if is_qat else flow.prepare_pt2e)(graph, quantizer(name, is_qat))
    with torch.no_grad():
        prepared(*x)
    if is_qat:
        pt2e.move_exported_model_to_eval(prepared)
    return flow.convert_pt2e(prepared)


@pytest.mark.usefixtures("only_patterns_that_occur")
@pytest.mark.parametrize("is_qat", [False, True], ids=["ptq", "qat"])
@pytest.mark.parametrize("name", ["xnnpack", "x86"])
@pytest.mark.parametrize("net", NETS)
def test_graphs_of_torchaos_quantizers_agree_layer_by_layer(net: str, name: str, is_qat: bool) -> None:
    make, sizes = NETS[net]
    torch.manual_seed(0)
    model, x = make(), tuple(torch.randn(size) for size in sizes)
    module = quantized(model, x, name, is_qat)
    engine = build_engine_graph(module, x, fallback="error")
    assert_within_bounds(differences(module, engine, *x))
    assert_engine_equals_twin(convert(module, example_inputs=x), *x)
    if net == "resnet":
        ops = Counter(node["op"] for node in engine.graph["nodes"])
        assert ops["conv2d"] == 8
        assert not set(ops) & {"affine", "transpose"}, ops


def test_a_layer_that_is_called_twice_keeps_both_calls() -> None:
    """XNNPACK's quantizer quantizes the weights for the first call only; the second stays a float layer, and says so."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.c(F.relu(self.c(x))) + x)

    torch.manual_seed(0)
    x = (torch.randn(2, 4, 9, 9),)
    module = quantized(Shared(), x, "xnnpack", False)
    engine = build_engine_graph(module, x)
    assert_within_bounds(differences(module, engine, *x))
    assert [(layer.name, layer.integer) for layer in layer_coverage(engine.graph)] == [("c", True), ("c_1", False)]


def test_products_that_the_x86_quantizer_annotates_run_in_integers() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.matmul(self.a(x).softmax(-1), self.b(x)))

    torch.manual_seed(0)
    x = (torch.randn(2, 16, 16),)
    config = x86.get_default_x86_inductor_quantization_config()
    chosen = x86.X86InductorQuantizer().set_global(config).set_function_type_qconfig(torch.matmul, config)
    prepared = flow.prepare_pt2e(torch.export.export(Weighted().eval(), x).module(), chosen)
    prepared(*x)
    module = flow.convert_pt2e(prepared)
    engine = build_engine_graph(module, x, fallback="error")
    assert_within_bounds(differences(module, engine, *x))
    assert_engine_equals_twin(convert(module, example_inputs=x), *x)
    nodes = {node["op"]: node for node in engine.graph["nodes"]}
    dtypes = {op: [engine.graph["values"][v]["dtype"] for v in nodes[op]["inputs"] + nodes[op]["outputs"]] for op in ("matmul", "softmax")}
    assert dtypes == {"matmul": ["u8", "u8", "u8"], "softmax": ["f32", "u8"]}
