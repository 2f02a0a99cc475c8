"""Parameters, MACs, sizes and BOPs against the figures that papers print."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from published import OMPQ_MOBILENET_V2, OMPQ_RESNET18, OMPQ_RESNET18_QAT, SAQ_RESNET18, SAQ_RESNET20, listed
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.allocation.costs import average_weight_bits, float_bops, layer_bops, network_bops, network_mib, weight_bits
from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import QuantNode, edge_groups, entries, quantizable_nodes, tie_groups
from pyqinfer.zoo.resnet import SmallImageResNet


class CifarInvertedResidual(nn.Module):
    """An inverted residual with a 1x1 convolution as the shortcut where only the channels change."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1), nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.Conv2d(hidden, outputs, 1)
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.shortcut(x) if self.stride == 1 else self.conv(x)


class CifarMobileNetV2(nn.Module):
    """The MobileNetV2 for 32x32 images of the SAQ paper's CIFAR-100 table."""

    def __init__(self) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
        channels = 32
        stages = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
        for expansion, outputs, depth, stride in stages:
            for i in range(depth):
                blocks.append(CifarInvertedResidual(channels, outputs, expansion, stride if i == 0 else 1))
                channels = outputs
        self.features = nn.Sequential(*blocks, nn.Conv2d(channels, 1280, 1))
        self.linear = nn.Linear(1280, 100)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x).mean((2, 3)))


NETWORKS = {
    "resnet18": (zoo.resnet18, 224),
    "resnet50": (zoo.resnet50, 224),
    "mobilenet_v2": (zoo.mobilenet_v2, 224),
    "cifar_resnet20": (lambda: zoo.resnet20(100), 32),
    "cifar_mobilenet_v2": (CifarMobileNetV2, 32),
}


@cache
def nodes_of(name: str) -> list[QuantNode]:
    build, size = NETWORKS[name]
    return quantizable_nodes(TracedModel(build(), (torch.zeros(1, 3, size, size),)))


def uniform(nodes: list[QuantNode], bits: str) -> BitConfig:
    return BitConfig({node.name: bits for node in nodes})


@pytest.mark.parametrize(
    ("name", "layers", "macs", "stem", "fc", "params", "weights", "mib", "bops"),
    [
        ("resnet18", 21, 1_814_073_344, 118_013_952, 512_000, 11_689_512, 11_678_912, 44.592, 1857.611),
        ("resnet50", 54, 4_089_184_256, 118_013_952, 2_048_000, 25_557_032, 25_502_912, 97.492, 4187.325),
        ("mobilenet_v2", 53, 300_774_272, 10_838_016, 1_280_000, 3_504_872, 3_469_760, 13.370, 307.993),
    ],
)
def test_totals_of_imagenet_networks(
    name: str, layers: int, macs: int, stem: int, fc: int, params: int, weights: int, mib: float, bops: float
) -> None:
    nodes = nodes_of(name)
    assert (len(nodes), sum(n.macs for n in nodes), nodes[0].macs, nodes[-1].macs) == (layers, macs, stem, fc)
    assert sum(n.params + n.bias + n.bn_params for n in nodes) == params
    assert sum(n.params for n in nodes) == weights
    assert network_mib(nodes, uniform(nodes, "float"), "ompq") == pytest.approx(mib, abs=5e-4)
    assert float_bops(nodes) / 1e9 == pytest.approx(bops, abs=5e-4)
    assert network_bops(nodes, uniform(nodes, "float")) == float_bops(nodes)


def test_resnet18_layer_by_layer() -> None:
    """MACs and weights of the body in execution order; the downsample convolution runs first in its block."""
    expected = [(115_605_504, 36_864)] * 4
    for width, weights in ((128, 73_728), (256, 294_912), (512, 1_179_648)):
        down = (6_422_528, 64 * width * width // 128)
        expected += [down, (57_802_752, weights), *[(115_605_504, 2 * weights)] * 3]
    body = nodes_of("resnet18")[1:-1]
    assert [(n.macs, n.params) for n in body] == expected
    assert sum(n.macs for n in body) == 1_695_547_392


def test_macs_agree_with_the_engines_count() -> None:
    model = zoo.unet(width=8, depth=2, upsampling="transposed").eval()
    x = torch.zeros(3, 3, 16, 16)
    nodes = quantizable_nodes(TracedModel(model, (x,)))
    engine = {cost.name: cost.macs for cost in pq.convert(model, example_inputs=(x,)).layer_costs() if cost.macs}
    assert {n.name: n.macs for n in nodes} == engine


# The papers print giga BOPs, and mega BOPs for the CIFAR networks.
@pytest.mark.parametrize(
    ("name", "unit", "fp32", "by_bits"),
    [
        ("cifar_resnet20", 1e6, 41_798.60, {5: 1037.98, 4: 674.64, 3: 392.05, 2: 190.20}),
        ("cifar_mobilenet_v2", 1e6, 93_460.63, {5: 2321.25, 4: 1508.93, 3: 877.13, 2: 425.84}),
        ("resnet18", 1e9, 1857.61, {5: 49.974, 4: 34.714, 3: 22.846, 2: 14.368}),
        ("mobilenet_v2", 1e9, 307.99, {5: 7.992, 4: 5.394, 3: 3.373, 2: 1.930}),
        ("resnet50", 1e9, 4187.32, {5: 106.912, 4: 71.190, 3: 43.406, 2: 23.560}),
    ],
)
def test_bops_of_the_saq_paper(name: str, unit: float, fp32: float, by_bits: dict[int, float]) -> None:
    nodes = nodes_of(name)
    digits = 2 if unit == 1e6 else 3
    assert float_bops(nodes) / unit == pytest.approx(fp32, abs=6e-3)
    found = {bits: round(network_bops(nodes, uniform(nodes, f"{bits}/{bits}"), "saq") / unit, digits) for bits in by_bits}
    assert found == by_bits


@pytest.mark.parametrize(
    ("name", "digits", "unit", "expected"), [("cifar_resnet20", SAQ_RESNET20, 1e6, 667.566), ("resnet18", SAQ_RESNET18, 1e9, 22.730)]
)
def test_bops_of_the_saq_papers_lists(name: str, digits: str, unit: float, expected: float) -> None:
    nodes = nodes_of(name)
    assert round(network_bops(nodes, listed(nodes, digits, ends="8/8"), "saq") / unit, 3) == expected


@pytest.mark.parametrize("budget", OMPQ_RESNET18)
def test_sizes_of_the_ompq_papers_resnet18_lists(budget: float) -> None:
    digits, mib = OMPQ_RESNET18[budget]
    nodes = nodes_of("resnet18")
    assert round(network_mib(nodes, listed(nodes, digits), "ompq"), 4) == mib


@pytest.mark.parametrize("budget", OMPQ_MOBILENET_V2)
def test_sizes_of_the_ompq_papers_mobilenet_lists(budget: float) -> None:
    digits, mib = OMPQ_MOBILENET_V2[budget]
    nodes = nodes_of("mobilenet_v2")
    assert round(network_mib(nodes, listed(nodes, digits), "ompq"), 4) == mib


@pytest.mark.parametrize(("act", "bops"), [(6, 75.1), (8, 97.5)])
def test_size_and_bops_of_the_ompq_papers_trained_resnet18(act: int, bops: float) -> None:
    nodes = nodes_of("resnet18")
    config = listed(nodes, OMPQ_RESNET18_QAT, act=act, ends="8/8")
    assert round(network_mib(nodes, config, "ompq"), 3) == 6.699
    assert round(network_bops(nodes, config, "ompq") / 1e9, 1) == bops


def test_totals_of_the_ompq_convention() -> None:
    nodes = nodes_of("resnet18")
    operations = [layer_bops(n, parse_bits("8/8"), "ompq") // 64 for n in nodes]
    assert round(sum(operations[1:-1]) / 1e9, 6) == 1.703952
    assert round((operations[0] + operations[-1]) / 1e9, 6) == 0.123053
    for name, mib in (("resnet18", 11.148), ("mobilenet_v2", 3.3425)):
        assert network_mib(nodes_of(name), uniform(nodes_of(name), "8/8"), "ompq") == pytest.approx(mib, abs=5e-4)


def test_the_ompq_papers_mobilenet_total_leaves_batch_norm_out() -> None:
    """0.302053 G is the network's MACs with the classifier at 2*1280 - 1 operations per output, and nothing for BatchNorm and ReLU."""
    nodes = nodes_of("mobilenet_v2")
    assert round((sum(n.macs for n in nodes[:-1]) + (2 * 1280 - 1) * 1000) / 1e9, 6) == 0.302053


def test_the_ompq_papers_resnet50_counts_one_layer_at_the_wrong_resolution() -> None:
    """The paper's body is 4.062224 G with layer1.0.conv1 at 112x112; at its real 56x56 that layer has a quarter of these MACs."""
    nodes = nodes_of("resnet50")
    operations = {n.name: layer_bops(n, parse_bits("8/8"), "ompq") // 64 for n in nodes[1:-1]}
    assert round((sum(operations.values()) + 3 * operations["layer1.0.conv1"]) / 1e9, 6) == 4.062224


def test_a_ternary_weight_counts_two_bits_in_bops_and_a_fifth_of_a_byte_in_a_file() -> None:
    nodes = nodes_of("resnet18")
    bits = parse_bits("t/4")
    assert layer_bops(nodes[1], bits) == nodes[1].macs * 2 * 4
    assert weight_bits(bits) == 1.6


@pytest.mark.parametrize("bits", ["4/6", "t/8", "4/32"])
def test_bops_agree_with_the_report_of_what_runs(bits: str) -> None:
    model, x = SmallImageResNet(16, 1, 3, 10).eval(), torch.randn(2, 3, 16, 16)
    nodes = quantizable_nodes(TracedModel(model, (x,)))
    config = uniform(nodes, bits)
    method = pq.PTQ(bits=config, equalize=False, bias_correction=False)
    running = pq.convert(pq.quantize(model, method, example_inputs=(x,), calibration=[x]), example_inputs=(x,))
    assert network_bops(nodes, config) == running.bops()


def test_average_weight_bits_weighs_by_parameters() -> None:
    nodes = nodes_of("resnet18")
    assert average_weight_bits(nodes, uniform(nodes, "4/8")) == 4
    mixed = BitConfig({**uniform(nodes, "4/8"), "layer4.1.conv2": "8/8"})
    assert average_weight_bits(nodes, mixed) == pytest.approx(4 + 4 * 2_359_296 / 11_678_912)


def test_a_block_ends_in_one_entry_and_readers_of_a_tensor_share_an_edge() -> None:
    nodes = nodes_of("resnet18")
    names = [[n.name for n in group] for group in entries(nodes)]
    assert len(names) == 18
    assert names[5:8] == [["layer2.0.conv1"], ["layer2.0.downsample.0", "layer2.0.conv2"], ["layer2.1.conv1"]]
    assert len(tie_groups(nodes)) == 3
    assert [{nodes[i].name for i in group} for group in edge_groups(nodes)] == [
        {f"layer{stage}.0.downsample.0", f"layer{stage}.0.conv1"} for stage in (2, 3, 4)
    ]
    assert [n.name for n in nodes if n.is_first or n.is_last] == ["conv1", "fc"]
    assert all((n.batch_norm is None) == (n.name == "fc") for n in nodes)


@pytest.mark.parametrize(("name", "count"), [("resnet18", 18), ("resnet50", 50), ("mobilenet_v2", 53)])
def test_taps_stand_behind_activations_and_additions(name: str, count: int) -> None:
    nodes = nodes_of(name)
    taps = list(dict.fromkeys(n.tap for n in nodes))
    assert len(taps) == count == len(entries(nodes))
    kinds = {tap.name.rstrip("0123456789").rstrip("_") for tap in taps}
    assert kinds <= {"relu", "hardtanh", "add", "getitem", "linear"}
    if name.startswith("resnet"):
        assert kinds == {"relu", "linear"}


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="neutral, saq, ompq"):
        layer_bops(nodes_of("resnet18")[0], parse_bits("8/8"), "hawq3")
