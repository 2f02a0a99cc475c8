"""Where PTQ puts quantizers around concatenations, movements, upsampling and functions that stay float."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from agreement import assert_agrees_with_torch
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.conversion import build_engine_graph
from pyqinfer.lower.coverage import layer_coverage

X = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))


class Between(nn.Module):
    """A convolution, what is tested, and a convolution that wants codes."""

    def __init__(self, middle: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.middle, self.a, self.b = middle, nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(channels, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.middle(F.relu(self.a(x))))


def quantized(module: nn.Module, smooth: bool = True) -> torch.fx.GraphModule:
    return pq.quantize(module.eval(), pq.PTQ(smooth=smooth), example_inputs=(X,), calibration=[X])


def quantizers(graph: torch.fx.GraphModule) -> dict[str, tuple[float, ...]]:
    """Scale, zero point, quant_min and quant_max of each quantizer, by the name of the float tensor in front of it."""
    return {n.args[0].name: tuple(n.args[1:5]) for n in graph.graph.nodes if n.name.startswith("quantize_per_tensor")}


# For each case: what stands between the layers, the channels behind it, the tensors quantized, and whether they share one quantizer.
CASES = {
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), 8, {"relu", "upsample_nearest2d"}, True),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), 8, {"relu", "upsample_bilinear2d"}, False),
    "slice": (lambda x: x[:, 2:7, ::2], 5, {"relu", "slice_1", "slice_2", "slice_3"}, True),
    "zeros around": (lambda x: F.pad(x, (1, 2, 0, 1)), 8, {"relu", "pad"}, True),
    "mirrored": (lambda x: F.pad(x, (1, 2, 0, 1), mode="reflect"), 8, {"relu", "pad"}, True),
    "ones around": (lambda x: F.pad(x, (1, 2, 0, 1), value=1.0), 8, {"pad"}, True),
    "pixel shuffle": (lambda x: F.pixel_shuffle(x, 2), 2, {"relu", "pixel_shuffle"}, True),
    "permuted": (lambda x: x.permute(0, 2, 3, 1), 8, {"relu", "permute"}, True),
    "softmax": (lambda x: x.softmax(1), 8, {"softmax"}, True),
    "gelu": (F.gelu, 8, {"relu", "gelu"}, False),
    "gate": (lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(), 8, {"relu", "mean", "sigmoid", "mul"}, False),
    "float between": (lambda x: F.silu(x).softmax(1), 8, {"softmax"}, True),
    "normalized": (lambda x: F.layer_norm(x, (8, 8)), 8, {"layer_norm"}, True),
    "with its pool": (lambda x: torch.cat([x, F.avg_pool2d(x, 3, 1, 1)], 1), 16, {"relu", "avg_pool2d", "cat"}, False),
    "with its function": (lambda x: torch.cat([x.sigmoid(), x.tanh()], 1), 16, {"relu", "cat"}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_quantizers_between_two_layers(name: str) -> None:
    middle, channels, expected, shared = CASES[name]
    graph = quantized(Between(middle, channels))
    found = quantizers(graph)
    assert set(found) == {"x", *expected}
    del found["x"]
    assert (len(set(found.values())) == 1) == shared
    assert_agrees_with_torch(graph, X)
    assert all(layer.integer for layer in layer_coverage(build_engine_graph(graph, (X,)).graph))


class Pieces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(8, 8, 1) for _ in range(3))
        self.d = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.c(x).chunk(2, 1)
        pieces = [F.relu(self.a(x)), self.b(x), torch.cat([right, left], 1)]
        return self.d(torch.cat(pieces[:2], 1)) + self.d(torch.cat(pieces[1:], 1))


def test_layers_write_a_concatenations_codes_and_tensors_with_other_readers_have_their_own() -> None:
    graph = quantized(Pieces())
    found = quantizers(graph)
    # The pieces of conv2d share its parameters; conv2d_2 is read by two concatenations, the ReLU behind conv2d_1 by one only.
    assert set(found) == {"x", "conv2d", "getitem", "getitem_1", "cat", "conv2d_2", "cat_1", "cat_2"}
    assert found["getitem"] == found["getitem_1"] == found["conv2d"]
    assert_agrees_with_torch(graph, X)
    ops = [node["op"] for node in build_engine_graph(graph, (X,)).graph["nodes"]]
    assert "dequantize" not in ops


def test_a_transposed_convolution_has_a_scale_per_output_channel() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.b = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.up(x)))

    graph = quantized(Net())
    (weight, _) = [n for n in graph.graph.nodes if n.name.startswith("dequantize_per_channel")]
    assert weight.args[3] == 1
    assert len(graph.get_buffer(weight.args[1].target)) == 6
    assert_agrees_with_torch(graph, X)
    assert all(layer.integer for layer in layer_coverage(build_engine_graph(graph, (X,)).graph))


def test_a_grouped_transposed_convolution_becomes_one_for_each_group() -> None:
    net = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, stride=2, groups=2), nn.ReLU(), nn.Conv2d(6, 4, 1))
    graph = quantized(net)
    assert_agrees_with_torch(graph, X)
    assert [layer.integer for layer in layer_coverage(build_engine_graph(graph, (X,)).graph)] == [True] * 3


def test_a_quantized_graph_runs_for_tensors_that_lie_in_another_order() -> None:
    """Attention's output is not contiguous: what torch traced as a view of it must not stay one behind a quantizer."""
    model = pq.zoo.vit_small(5, 16, 8, 1, 24, 2).eval()
    x = torch.randn(2, 3, 16, 16)
    graph = pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[x])
    assert not any(n.target is torch.ops.aten.view.default for n in graph.graph.nodes)
    with torch.no_grad():
        assert float((graph(x) - model(x)).norm()) < 0.1 * float(model(x).norm())
