"""The quantized graph in torch with integer sums against the engine: the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.quantization.exact_sums import ExactSums


class Residual(nn.Module):
    """Every kind of layer that sums, an addition, and a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.point = nn.Conv2d(16, 16, 1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.point(torch.relu(self.depthwise(x))))
        return self.fc(torch.relu(self.up(x)).mean((2, 3)))


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.fc = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.pool(torch.relu(self.conv(x))).flatten(1))


def quantized(net: nn.Module, x: Tensor, **options: object) -> tuple[torch.fx.GraphModule, pq.Session]:
    graph = pq.quantize(net.eval(), pq.PTQ(**options), example_inputs=(x[:1],), calibration=x.split(8))  # type: ignore[arg-type]
    return graph, pq.Session(pq.convert(graph, example_inputs=(x[:1],)), threads=1)


@pytest.mark.parametrize("net", [Residual, Pooled])
@pytest.mark.parametrize("bits", [(8, 8), (4, 4), ("ternary", 8)])
def test_exact_sums_give_the_engines_bits(net: type[nn.Module], bits: tuple[object, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 3, 16, 16)
    graph, session = quantized(net(), x, weight_bits=bits[0], act_bits=bits[1])
    np.testing.assert_array_equal(ExactSums(graph)(x).numpy(), session(x.numpy()))


def test_sums_too_large_for_float32_are_exact_as_well() -> None:
    torch.manual_seed(0)
    x = torch.rand(16, 4096)
    graph, session = quantized(nn.Sequential(nn.Linear(4096, 32)), x)
    exact = ExactSums(graph)
    np.testing.assert_array_equal(exact(x).numpy(), session(x.numpy()))
    assert list(exact._types.values()) == [torch.float64]


def test_layers_in_float_run_as_torch_has_them() -> None:
    torch.manual_seed(0)
    x = torch.randn(8, 3, 16, 16)
    graph = pq.quantize(Residual().eval(), pq.PTQ(), example_inputs=(x[:1],), calibration=[x], keep={"*": "float"})
    with torch.no_grad():
        assert torch.equal(ExactSums(graph)(x), graph(x))


@pytest.mark.skipif(bool(zoo.missing_packages()), reason="the glyph data set's fonts are not installed")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20_glyphs", "mobilenet_v2_small_glyphs"])
def test_a_deep_network_gives_the_engines_bits_on_every_test_image(name: str) -> None:
    """Torch's own floats move the outputs of some images by several steps of an 8-bit output."""
    images = torch.from_numpy(zoo.glyphs("test")[0])
    train = torch.from_numpy(zoo.glyphs("train")[0][:512])
    graph = pq.quantize(zoo.load_trained(name), pq.PTQ(), example_inputs=(train[:1],), calibration=train.split(64))
    session, exact = pq.Session(pq.convert(graph, example_inputs=(train[:1],))), ExactSums(graph)
    assert len(images) >= 10_000
    for batch in images.split(32):
        np.testing.assert_array_equal(exact(batch).numpy(), session(batch.numpy()))
