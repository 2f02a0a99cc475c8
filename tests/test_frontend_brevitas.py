"""Brevitas' modules through `convert`, against Brevitas itself: bits, ternary and one-bit weights, per tensor and per channel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.errors import UnsupportedError

qnn = pytest.importorskip("brevitas.nn", reason="needs Brevitas", exc_type=ImportError)
from brevitas.quant import (  # noqa: E402
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    SignedBinaryWeightPerTensorConst,
    SignedTernaryWeightPerTensorConst,
)


class Net(nn.Module):
    def __init__(self, weight_bits: int, act_bits: int, quantizer: Any) -> None:
        super().__init__()
        more = {"weight_quant": quantizer, "weight_bit_width": weight_bits} if weight_bits > 2 else {"weight_quant": quantizer}
        self.first = qnn.QuantIdentity(bit_width=8)
        self.conv = qnn.QuantConv2d(3, 8, 3, padding=1, bias=True, **more)
        self.relu = qnn.QuantReLU(bit_width=act_bits)
        self.depthwise = qnn.QuantConv2d(8, 8, 3, groups=8, bias=False, **more)
        self.relu2 = qnn.QuantReLU(bit_width=act_bits)
        self.last = qnn.QuantLinear(8, 5, bias=True, **more)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.first(x)))
        x = self.relu2(self.depthwise(x))
        y: Tensor = self.last(x.mean((2, 3)))
        return y


def calibrated(model: nn.Module, x: Tensor) -> nn.Module:
    model.train()
    for _ in range(5):
        model(x)
    return model.eval()


@pytest.mark.parametrize(
    ("bits", "act_bits", "quantizer"),
    [
        (8, 8, Int8WeightPerTensorFloat),
        (4, 4, Int8WeightPerChannelFloat),
        (3, 3, Int8WeightPerChannelFloat),
        (2, 4, SignedTernaryWeightPerTensorConst),
        (1, 4, SignedBinaryWeightPerTensorConst),
    ],
    ids=["8/8", "4/4", "3/3", "ternary", "one bit"],
)
def test_networks_agree_with_brevitas(bits: int, act_bits: int, quantizer: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 10, 10)
    model = calibrated(Net(bits, act_bits, quantizer), x)
    converted = pq.convert(model, example_inputs=(x[:2],))
    layers = [n for n in converted.graph["nodes"] if n["op"] in ("conv2d", "linear")]
    widths = {converted.graph["constants"][n["constants"]["weight"]]["bits"] for n in layers}
    assert widths == {max(bits, 2)}
    y, expected = pq.Session(converted, threads=1)(x), model(x).detach()
    assert float((y - expected).abs().max()) < 0.02 * float(expected.abs().max())


def test_a_transposed_convolution_agrees() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    model = calibrated(nn.Sequential(qnn.QuantIdentity(bit_width=8), qnn.QuantConvTranspose2d(4, 6, 2, stride=2, weight_bit_width=4)), x)
    y = pq.Session(pq.convert(model, example_inputs=(x,)), threads=1)(x)
    torch.testing.assert_close(y, model(x).detach(), rtol=1e-4, atol=1e-4)


def test_what_is_not_read_names_the_export_to_use() -> None:
    model = nn.Sequential(qnn.QuantIdentity(bit_width=8), qnn.TruncAvgPool2d(2)).eval()
    with pytest.raises(UnsupportedError, match="export_onnx_qcdq"):
        pq.convert(model, example_inputs=(torch.randn(2, 3, 8, 8),))
