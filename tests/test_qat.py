"""Quantization-aware training on trained networks: bits from 8 to 2, mixed bits, depthwise and residual networks, and the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import digits_net
import digits_resnet
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from traces import traced_once

import pyqinfer as pq
from pyqinfer.quantization.exact_sums import ExactSums

NETS = {"depthwise": (digits_net.trained, digits_net.data), "residual": (digits_resnet.digits_net, digits_resnet.digit_images)}


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once(digits_net.trained(), digits_resnet.digits_net()):
        yield


def top1(outputs: Tensor, labels: Tensor) -> float:
    return 100 * (outputs.argmax(1) == labels).double().mean().item()


@pytest.mark.parametrize(
    ("name", "weight_bits", "act_bits", "least"),
    [
        ("depthwise", 8, 8, 98.5),
        ("residual", 6, 6, 96),
        ("depthwise", 4, 4, 97),
        ("residual", 3, 3, 92),
        ("depthwise", 2, 2, 60),  # from 14 %
        ("residual", "ternary", 4, 88),
    ],
)
def test_training_holds_what_bits_allow_and_the_engine_gives_the_graphs_classes(
    name: str, weight_bits: Any, act_bits: int, least: float
) -> None:
    net, (images, labels), (seen, right) = NETS[name][0](), NETS[name][1]("test"), NETS[name][1]("train")
    train = DataLoader(TensorDataset(seen[:512], right[:512]), 64, shuffle=True)
    method = pq.QAT(weight_bits, act_bits, epochs=3 if weight_bits in (2, "ternary") else 1, lr=0.02)
    graph = pq.quantize(net, method, example_inputs=(seen[:2],), calibration=[seen[:128]], train=train)
    with torch.no_grad():
        assert top1(graph(images), labels) > least
    model = pq.convert(graph, example_inputs=(seen[:2],))
    assert model.integer_share() == 1.0
    engine = np.asarray(pq.Session(model)(images.numpy()))
    assert (engine.argmax(1) == ExactSums(graph)(images).argmax(1).numpy()).all()


def test_mixed_bits_of_an_allocation_are_trained_and_exported() -> None:
    seen, right = digits_net.data("train")
    net = digits_net.trained()
    names = list(pq.QAT().prepare(net, (seen[:8],)).bits)
    bits = pq.BitConfig({name: ("8/8", "3/4", "t/8", "5/5")[i % 4] for i, name in enumerate(names)})
    graph = pq.quantize(
        net, pq.QAT(bits=bits, epochs=1), example_inputs=(seen[:2],), train=[(seen[:64], right[:64])], calibration=[seen[:128]]
    )
    costs = {cost.name: cost for cost in pq.convert(graph, example_inputs=(seen[:2],)).layer_costs() if cost.macs}
    assert {name: costs[name].weight_bits for name in names} == {
        name: 2 if layer.weight == "ternary" else layer.weight for name, layer in bits.items()
    }


def test_a_network_without_batch_norm_and_one_of_several_inputs_train() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(4, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.c(torch.relu(self.a(x) + self.b(y)))

    torch.manual_seed(0)
    x, y = torch.randn(64, 6), torch.randn(64, 4)
    labels = (x[:, 0] + y[:, 0] > 0).long()
    method = pq.QAT(4, 4, first_last=None, epochs=60, lr=0.2)
    graph = pq.quantize(Two(), method, example_inputs=(x, y), train=[(x, y, labels)])
    assert graph.meta["training"].rows[-1]["top1_percent"] > 95
    assert graph.meta["training"].rows[0]["top1_percent"] < 70
    engine = np.asarray(pq.Session(pq.convert(graph, example_inputs=(x, y)))(x.numpy(), y.numpy()))
    assert (engine.argmax(1) == graph(x, y).argmax(1).numpy()).mean() > 0.97


def test_kept_layers_stay_float() -> None:
    seen, _ = digits_net.data("train")
    prepared = pq.QAT(4, 4).prepare(digits_net.trained(), (seen[:8],), keep={"blocks.0.*": "float"})
    layer = prepared.layer("blocks.0.expand")
    assert layer.weight.codes() is None
    shaped = layer.affine()[0].reshape(-1, 1, 1, 1)
    float_weights = [t for name, t in prepared.finish().named_buffers() if name.startswith("blocks_0_expand_weight")]
    torch.testing.assert_close(float_weights[0], layer.weight.latent.detach() * shaped)
