"""Transposed convolutions, and layers over [N, C, L]: from torch to the engine, in float and on codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from agreement import assert_engine_equals_twin
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from pyqinfer import _core
from pyqinfer.conversion import convert
from pyqinfer.model import Model
from pyqinfer.session import Session

D = torch.ops.quantized_decomposed
IN, OUT = (0.03, 120, 0, 255, torch.uint8), (0.05, 100, 0, 255, torch.uint8)


def q(x: Tensor, p: tuple[Any, ...] = IN) -> Tensor:
    return D.dequantize_per_tensor(D.quantize_per_tensor(x, *p), *p)


def q_weight(w: Tensor, axis: int | None) -> Tensor:
    if axis is None:
        p = (0.004, 0, -127, 127, torch.int8)
        return D.dequantize_per_tensor(D.quantize_per_tensor(w, *p), *p)
    scale = w.abs().amax([d for d in range(w.ndim) if d != axis]).clamp(min=1e-3) / 127
    p = (scale, torch.zeros_like(scale, dtype=torch.int64), axis, -127, 127, torch.int8)
    return D.dequantize_per_channel(D.quantize_per_channel(w, *p), *p)


class Quantized(nn.Module):
    """quantize, a transposed convolution with quantized weights, ReLU, quantize; as XNNPACK's quantizer writes it."""

    def __init__(self, layer: nn.ConvTranspose2d, axis: int | None) -> None:
        super().__init__()
        self.layer, self.axis = layer, axis

    def forward(self, x: Tensor) -> Tensor:
        m = self.layer
        y = F.conv_transpose2d(q(x), q_weight(m.weight, self.axis), m.bias, m.stride, m.padding, m.output_padding, m.groups, m.dilation)
        return q(F.relu(y), OUT)


def every_isa(model: Model, x: Tensor) -> Tensor:
    assert_engine_equals_twin(model, x)
    results = [Session(model, threads=2, isa=isa)(x) for isa in _core.cpu_info()["isas"]]
    assert all(torch.equal(result, results[0]) for result in results)
    return results[0]


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.ConvTranspose2d, Tensor]:
    pair = lambda low, high: (draw(st.integers(low, high)), draw(st.integers(low, high)))  # noqa: E731
    kernel, stride, dilation = pair(1, 5), pair(1, 3), pair(1, 2)
    padding = pair(0, 3)
    output_padding = tuple(draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    size = pair(1, 6)
    out = [
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, s, p, d, k, o in zip(size, stride, padding, dilation, kernel, output_padding, strict=True)
    ]
    assume(min(out) > 0)
    torch.manual_seed(draw(st.integers(0, 99)))
    inputs, outputs = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 4))
    layer = nn.ConvTranspose2d(inputs, outputs, kernel, stride, padding, output_padding, groups, draw(st.booleans()), dilation)
    return layer.eval(), torch.randn(2, inputs, *size)


@settings(max_examples=25, deadline=None)
@given(layers())
def test_transposed_convolutions_of_any_geometry_agree_with_torch(case: tuple[nn.ConvTranspose2d, Tensor]) -> None:
    layer, x = case
    result = every_isa(convert(layer, example_inputs=(x,)), x)
    torch.testing.assert_close(result, layer(x).detach(), rtol=1e-5, atol=1e-5)


@settings(max_examples=15, deadline=None)
@given(layers(), st.sampled_from([None, 1]))
def test_quantized_transposed_convolutions_agree_with_torch(case: tuple[nn.ConvTranspose2d, Tensor], axis: int | None) -> None:
    layer, x = case
    net = Quantized(layer, axis).eval()
    model = convert(net, example_inputs=(x,), fallback="error")
    (conv,) = (node for node in model.graph["nodes"] if node["op"] == "conv2d")
    assert model.graph["values"][conv["outputs"][0]]["dtype"] == "u8"
    difference = (every_isa(model, x) - net(x).detach()).abs()
    assert difference.max() <= OUT[0] * 1.001
    assert (difference > 1e-6).sum() <= max(3, 0.0003 * difference.numel())


def test_a_decoder_stage_is_one_convolution_and_one_shuffle() -> None:
    torch.manual_seed(0)
    stage = nn.Sequential(nn.ConvTranspose2d(8, 5, 2, 2), nn.BatchNorm2d(5), nn.ReLU()).eval()
    stage[1].running_mean.uniform_(-1, 1)
    stage[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 8, 6, 7)
    model = convert(stage, example_inputs=(x,), dynamic_size=True)
    assert [n["op"] for n in model.graph["nodes"]] == ["transpose", "conv2d", "pixel_shuffle", "transpose"]
    for image in (x, torch.randn(1, 8, 3, 4)):
        torch.testing.assert_close(every_isa(model, image), stage(image).detach(), rtol=1e-5, atol=1e-5)


class Rows(nn.Module):
    """A network over [N, C, L] with a residual, pools and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.an = nn.Conv1d(3, 8, 5, 2, 2), nn.BatchNorm1d(8)
        self.b = nn.Conv1d(8, 8, 3, padding="same", dilation=2, groups=4)
        self.up = nn.ConvTranspose1d(8, 4, 4, 2, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu(self.an(self.a(x)))
        y = F.max_pool1d(F.relu(y + self.b(y)), 3, 2, 1)
        y = F.avg_pool1d(self.up(y), 2)
        return y, self.head(F.adaptive_avg_pool1d(y, 1).flatten(1))


def test_a_network_over_rows_agrees_with_torch() -> None:
    net, x = Rows().eval(), torch.randn(2, 3, 37)
    model = convert(net, example_inputs=(x,))
    assert_engine_equals_twin(model, x)
    ops = [node["op"] for node in model.graph["nodes"]]
    assert ops[:5] == ["reshape", "transpose", "conv2d", "conv2d", "max_pool2d"]  # no way back between the layers
    for a, b in zip(Session(model, threads=1)(x), net(x), strict=True):
        torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "f", [lambda x: F.pixel_shuffle(x, 2), lambda x: F.pixel_unshuffle(x[:, :, :4], 2), lambda x: F.channel_shuffle(x, 4)]
)
def test_shuffles_give_torchs_elements(f: Any) -> None:
    class Shuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return f(x)

    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(every_isa(convert(Shuffle(), example_inputs=(x,)), x), f(x))
