"""Cross-layer equalization: the function stays, ranges become equal, and an imbalanced network can be quantized again."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import digits_net
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from traces import traced_once

import pyqinfer as pq
from pyqinfer.quantization.aten_traits import op_name
from pyqinfer.quantization.equalize import acting_bounds, equalize, find_pairs
from pyqinfer.quantization.graph import TracedModel


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once(digits_net.trained()):
        yield


X = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))


class Joined(nn.Module):
    """A 3x3 convolution, what is tested, and a layer that reads it."""

    def __init__(self, middle: Callable[[Tensor], Tensor], second: nn.Module) -> None:
        super().__init__()
        self.middle, self.first, self.second = middle, nn.Conv2d(6, 8, 3, padding=1), second

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.middle(self.first(x)))


def spread_out(net: nn.Module) -> nn.Module:
    """``net`` in evaluation mode, its layers' output channels scaled to very different ranges."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
                module.weight *= 10 ** torch.empty_like(module.weight[:, :1]).uniform_(-1, 1)
    return net.eval()


def conv(inputs: int = 8, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, 8, 3, **options)


# For each pair: what stands between the two layers, and the layer behind.
PAIRS = {
    "nothing": (lambda x: x, conv()),
    "relu": (F.relu, conv()),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.1), conv()),
    "relu and max-pool": (lambda x: F.max_pool2d(F.relu(x), 2), conv()),
    "average pool": (lambda x: F.avg_pool2d(F.relu(x), 2), conv()),
    "depthwise": (F.relu, conv(groups=8)),
    "grouped": (F.relu, conv(groups=2)),
    "transposed": (F.relu, nn.ConvTranspose2d(8, 4, 2, 2)),
    "pooled features": (lambda x: F.relu(x).mean((2, 3)), nn.Linear(8, 5)),
    "pooled and flattened": (lambda x: torch.flatten(F.adaptive_avg_pool2d(F.relu(x), 1), 1), nn.Linear(8, 5)),
    "flattened images": (lambda x: torch.flatten(F.relu(x), 1), nn.Linear(8 * 64, 5)),
}
NO_PAIRS = {
    "a second reader": (lambda x: x + F.relu(x), conv()),
    "another function": (torch.tanh, conv()),
    "bounds on both sides": (lambda x: F.hardtanh(x), conv()),
    "mean over channels": (lambda x: x.mean(1, keepdim=True).expand(-1, 8, -1, -1), conv()),
    "linear over pixels": (F.relu, nn.Linear(8, 5)),
}


def channel_ranges(traced: TracedModel) -> list[tuple[Tensor, Tensor]]:
    """For each pair: largest weights of the first layer's output channels, and of the second's input channels."""
    ranges = []
    for pair in find_pairs(traced):
        a, b = pair.first.weight, pair.second.weight
        outputs = a.flatten(1).abs().amax(1)
        groups = len(outputs) * pair.spread // b.shape[1]
        by_group = b.reshape(groups, len(b) // groups, b.shape[1] // pair.spread, -1)
        ranges.append((outputs, by_group.abs().amax((1, 3)).flatten()))
    return ranges


@pytest.mark.parametrize("name", PAIRS)
def test_a_pairs_function_stays_and_its_ranges_become_equal(name: str) -> None:
    middle, second = PAIRS[name]
    net = spread_out(Joined(middle, second))
    traced = TracedModel(net, (X,))
    result = equalize(traced, acting_bounds(traced, None))
    assert result.pairs == (("first", "second"),)
    for r1, r2 in channel_ranges(traced):
        torch.testing.assert_close(r1, r2, rtol=3e-3, atol=0)
    with torch.no_grad():
        expected = net(X)
        torch.testing.assert_close(traced.finish()(X), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("name", NO_PAIRS)
def test_what_does_not_scale_makes_no_pair(name: str) -> None:
    middle, second = NO_PAIRS[name]
    assert find_pairs(TracedModel(Joined(middle, second).eval(), (X,))) == []


def test_the_model_that_was_given_is_not_changed() -> None:
    net = spread_out(Joined(*PAIRS["relu"]))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    pq.quantize(net, pq.PTQ(equalize=True), example_inputs=(X,), calibration=[X])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_channel_of_zeros_is_left_alone() -> None:
    net = Joined(F.relu, conv()).eval()
    with torch.no_grad():
        net.first.weight[0] = 0
        net.second.weight[:, 1] = 0
        traced = TracedModel(net, (X,))
        equalize(traced, acting_bounds(traced, None))
        torch.testing.assert_close(traced.finish()(X), net(X), rtol=0, atol=1e-5)


# ---- ReLU6 ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "replaced"), [(0.5, 1), (20.0, 0)])
@pytest.mark.parametrize("bound", [F.relu6, lambda x: x.clamp(0, 6)])
def test_relu6_becomes_relu_where_its_bound_does_not_act_else_the_pair_is_skipped(
    bound: Callable[[Tensor], Tensor], scale: float, replaced: int
) -> None:
    net = Joined(bound, conv()).eval()
    x = scale * X
    traced = TracedModel(net, (x,))
    result = equalize(traced, acting_bounds(traced, [(x,)]))
    assert result.replaced == replaced
    assert (result.pairs, result.skipped) == (((("first", "second"),), ()) if replaced else ((), (("first", "second"),)))
    assert ("relu" in {op_name(node) for node in traced.module.graph.nodes}) == bool(replaced)
    with torch.no_grad():
        expected = net(x)
        assert float((traced.finish()(x) - expected).norm()) <= 0.02 * float(expected.norm())


def test_without_calibration_a_pair_around_relu6_is_skipped() -> None:
    traced = TracedModel(Joined(F.relu6, conv()).eval(), (X,))
    result = equalize(traced, acting_bounds(traced, None))
    assert (result.pairs, result.skipped, result.replaced) == ((), (("first", "second"),), 0)


# ---- an imbalanced network ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imbalanced() -> TracedModel:
    traced = digits_net.folded(digits_net.trained())
    digits_net.imbalance(traced)
    return traced


@pytest.fixture(scope="module")
def equalized(imbalanced: TracedModel) -> TracedModel:
    traced = imbalanced.copy()
    equalize(traced, acting_bounds(traced, None))
    return traced


def test_every_pair_of_an_imbalanced_network_ends_with_equal_ranges(imbalanced: TracedModel, equalized: TracedModel) -> None:
    assert len(channel_ranges(equalized)) == 10
    for r1, r2 in channel_ranges(equalized):
        torch.testing.assert_close(r1, r2, rtol=3e-3, atol=0)
    images, _ = digits_net.data("test")
    with torch.no_grad():
        torch.testing.assert_close(digits_net.run(equalized)(images), digits_net.run(imbalanced)(images), rtol=0, atol=1e-4)


# Only weights are rounded (docs/methods.md). The network, bits, whether each channel has its range, and a bound of the accuracy in %.
STUDY = [
    ("folded", 8, False, ">", 98),
    ("imbalanced", 8, False, "<", 25),
    ("imbalanced", 8, True, "<", 85),  # the channels' factors also lie on the input side of the next layer
    ("equalized", 8, False, ">", 98),
    ("equalized", 8, True, ">", 98),
    ("equalized", 4, True, ">", 90),
]


@pytest.mark.parametrize(("which", "bits", "per_channel", "side", "bound"), STUDY)
def test_imbalance_destroys_eight_bits_and_equalization_restores_them(
    imbalanced: TracedModel, equalized: TracedModel, which: str, bits: int, per_channel: bool, side: str, bound: float
) -> None:
    networks = {"imbalanced": imbalanced, "equalized": equalized, "folded": digits_net.folded(digits_net.trained())}
    top1 = digits_net.accuracy(digits_net.run(digits_net.with_rounded_weights(networks[which], bits, per_channel)))
    assert top1 > bound if side == ">" else top1 < bound


def test_by_default_an_imbalanced_network_is_equalized_and_a_balanced_one_is_not(imbalanced: TracedModel) -> None:
    images, _ = digits_net.data("train")
    options = {"example_inputs": (images[:2],), "calibration": [images[:64], images[64:128]]}
    top1 = {}
    for equal in (False, True, "auto"):
        top1[equal] = digits_net.accuracy(pq.quantize(imbalanced.copy().finish(), pq.PTQ(equalize=equal), **options))
    assert top1[False] < 97
    assert top1["auto"] == top1[True] > 97.5
    plain, auto = (pq.quantize(digits_net.trained(), pq.PTQ(equalize=e), **options) for e in (False, "auto"))
    assert torch.equal(plain(images[:8]), auto(images[:8]))
