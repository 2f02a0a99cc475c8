"""PTQ whose linear layers quantize their activations while they run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pyqinfer as pq


class Encoder(nn.Module):
    """A transformer's block over image patches or words: a convolution in front where there are images."""

    def __init__(self, images: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4) if images else None
        self.norm, self.attention = nn.LayerNorm(32), nn.MultiheadAttention(32, 4, batch_first=True)
        self.up, self.down, self.head = nn.Linear(32, 64), nn.Linear(64, 32), nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        if self.patches is not None:
            x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.down(torch.nn.functional.gelu(self.up(x)))
        result: Tensor = self.head(x.mean(1))
        return result


def network(images: bool) -> nn.Module:
    torch.manual_seed(0)
    return Encoder(images).eval()


def test_linear_layers_need_no_calibration_and_agree_with_the_graph() -> None:
    net, x = network(images=False), torch.randn(3, 7, 32)
    x[:, 2] *= 60  # a token far beyond the others, whose step no other token shares
    graph = pq.quantize(net, pq.PTQ(activations="dynamic"), example_inputs=(x,))
    model = pq.convert(graph, example_inputs=(x,))
    assert model.integer_share({name: tuple(x.shape) for name in model.inputs}) > 0.8
    result = torch.as_tensor(pq.Session(model)(x))
    torch.testing.assert_close(result, graph(x), rtol=1e-5, atol=1e-5)
    static = pq.quantize(net, pq.PTQ(equalize=False), example_inputs=(x,), calibration=[x])
    assert (result - net(x)).norm() < 0.5 * (static(x) - net(x)).norm()


def test_layers_that_read_one_tensor_share_its_codes() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.a(x) * self.b(x)
            return y

    graph = pq.quantize(Two().eval(), pq.PTQ(activations="dynamic"), example_inputs=(torch.randn(2, 8),))
    assert sum("quantize_dequantize_dynamic" in str(node.target) for node in graph.graph.nodes) == 1


def test_convolutions_still_need_calibration() -> None:
    net, x = network(images=True), torch.randn(3, 3, 16, 16)
    with pytest.raises(ValueError, match="calibration: PTQ needs batches"):
        pq.quantize(net, pq.PTQ(activations="dynamic"), example_inputs=(x,))
    graph = pq.quantize(net, pq.PTQ(weight_bits=4, activations="dynamic"), example_inputs=(x,), calibration=[x])
    model = pq.convert(graph, example_inputs=(x,))
    torch.testing.assert_close(torch.as_tensor(pq.Session(model)(x)), graph(x), rtol=1e-4, atol=1e-4)
    assert {node["op"] for node in model.graph["nodes"]} >= {"conv2d", "linear_dynamic"}


def test_fewer_bits_of_activations_are_quantized_while_the_model_runs_too() -> None:
    net, x = network(images=False), torch.randn(3, 7, 32)
    graph = pq.quantize(net, pq.PTQ(act_bits=4, activations="dynamic", first_last=None), example_inputs=(x,))
    model = pq.convert(graph, example_inputs=(x,))
    torch.testing.assert_close(torch.as_tensor(pq.Session(model)(x)), graph(x), rtol=1e-4, atol=1e-4)


def test_an_unknown_kind_of_activations_is_refused() -> None:
    with pytest.raises(ValueError, match="activations: expected one of static, dynamic, got 'lazy'"):
        pq.PTQ(activations="lazy")  # type: ignore[arg-type]
