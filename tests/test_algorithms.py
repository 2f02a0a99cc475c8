"""Low-bit networks by every algorithm: the same bytes as the reference and the NumPy twin, the plan visible, what is not exact refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from agreement import assert_engine_equals_twin
from torch import Tensor, nn

import pyqinfer as pq

ALGORITHMS = (
    "auto",
    "direct",
    "fip",
    "deferred",
    "sparse",
    *(f"winograd{of}{by}" for of in ("_1d", "_1d4", "_4x4", "") for by in ("", "_fip", "_deferred") if of + by != "_4x4_fip"),
)
FAST = [isa for isa in pq.cpu_info()["isas"] if isa != "reference"]
MEASURED = ("avx2", "avx512vnni")  # where the planner knows what Winograd costs: on others it leaves such layers direct


class Residual(nn.Module):
    """3x3, 1x1 and stride-2 layers, a residual, odd sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(8, 40, 1)
        self.conv1 = nn.Conv2d(40, 40, 3, padding=1)
        self.conv2 = nn.Conv2d(40, 40, 3, padding=1, bias=False)
        self.down = nn.Conv2d(40, 72, 3, stride=2, padding=1)
        self.head = nn.Conv2d(72, 33, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(self.conv2(torch.relu(self.conv1(x))) + x)
        return self.head(torch.relu(self.down(x)))


def quantized(weight_bits: Any, act_bits: int, dynamic: bool = False) -> tuple[pq.Model, Tensor]:
    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(2, 8, 15, 13)
    bits = pq.PTQ(weight_bits=weight_bits, act_bits=act_bits, first_last=None)
    graph = pq.quantize(model, bits, example_inputs=(x[:1],), calibration=[(x,)])
    return pq.convert(graph, example_inputs=(x[:1],), dynamic_batch=dynamic), x


@pytest.mark.parametrize(
    ("weight_bits", "act_bits"), [(4, 4), ("ternary", 4), (4, 6), (3, 5), (6, 7), ("ternary", 7), (4, 8), ("ternary", 8)]
)
def test_every_algorithm_gives_the_bytes_of_the_reference(weight_bits: Any, act_bits: int) -> None:
    model, x = quantized(weight_bits, act_bits, dynamic=True)
    assert_engine_equals_twin(model, x)
    expected = pq.Session(model, threads=1, isa="reference")(x.numpy()).tobytes()
    ran = set()
    for isa in FAST:
        for algorithm in ALGORITHMS:
            try:
                sessions = [pq.Session(model, threads=threads, isa=isa, algorithm=algorithm) for threads in (1, 3)]
            except (pq.UnsupportedError, ValueError):
                continue
            for session in sessions:
                assert session(x.numpy()).tobytes() == expected, (isa, algorithm)
                ran |= {layer["executed_as"] for layer in session.layers()}
    if "avx2" in FAST:
        assert any("deferred" in name for name in ran)
    if FAST and weight_bits == "ternary":
        assert any("sparse" in name for name in ran)
    if FAST and act_bits <= 6:
        assert any("winograd-" in name for name in ran)
    if FAST and act_bits <= 7:
        assert any("winograd1d-" in name for name in ran)
    if FAST and act_bits <= 4:
        assert any("winograd1d4-" in name for name in ran)
        assert any("winograd4x4-" in name for name in ran)


def test_the_plan_and_its_reason_are_in_the_list_of_layers() -> None:
    if "avx512vnni" not in FAST:
        pytest.skip("this CPU lacks avx512vnni")
    model, _ = quantized(4, 4)
    session = pq.Session(model, threads=1, isa="avx512vnni", algorithm="winograd")
    layers = {layer["name"]: layer for layer in session.layers()}
    assert layers["conv1"]["executed_as"] == "u8s8-winograd-avx512vnni"
    assert "transformed codes" in layers["conv1"]["reason"]
    assert "x direct" in layers["conv1"]["reason"]
    assert layers["down"]["executed_as"] == "u8s8-avx512vnni"
    assert "not 3x3 with stride 1" in layers["down"]["reason"]
    assert "transformed codes" in session.layer_report().to_markdown()
    along_rows = {layer["name"]: layer for layer in pq.Session(model, threads=1, isa="avx512vnni", algorithm="winograd_1d").layers()}
    assert along_rows["conv1"]["executed_as"] == "u8s8-winograd1d-avx512vnni"
    assert "two outputs by 12 products instead of 18; winograd_1d is exact" in along_rows["conv1"]["reason"]
    assert along_rows["down"]["executed_as"] == "u8s8-avx512vnni"


@pytest.mark.skipif(not FAST, reason="the reference has one way to compute a layer")
def test_an_algorithm_that_is_not_exact_is_refused_with_layer_and_numbers() -> None:
    model, _ = quantized(8, 8)
    with pytest.raises(ValueError, match=r"layer 'conv1': algorithm winograd is not exact here: transformed input 1020 wide, limit 255"):
        pq.Session(model, threads=1, isa=FAST[0], algorithm="winograd")
    with pytest.raises(ValueError, match=r"layer 'conv1': algorithm winograd_1d is not exact here: transformed input 510 wide, limit 255"):
        pq.Session(model, threads=1, isa=FAST[0], algorithm="winograd_1d")


def test_unknown_names_are_refused() -> None:
    model, _ = quantized(4, 4)
    with pytest.raises(ValueError, match="expected one of auto, direct, fip") as refused:
        pq.Session(model, threads=1, algorithm="fastest")
    assert sorted(str(refused.value).split("one of ")[1].split(", ")) == sorted(ALGORITHMS), "every name is tested here"
    with pytest.raises(ValueError, match="expected auto, on or off"):
        pq.Session(model, threads=1, fip="maybe")


@pytest.mark.slow
@pytest.mark.parametrize("weight_bits", [4, "ternary"])
def test_resnet18_with_four_bit_activations_is_one_answer_everywhere(weight_bits: Any) -> None:
    model = pq.zoo.resnet18()
    pq.zoo.randomize_batchnorm(model, seed=0)
    x = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    graph = pq.quantize(model.eval(), pq.PTQ(weight_bits=weight_bits, act_bits=4), example_inputs=(x[:1],), calibration=[(x,)])
    converted = pq.convert(graph, example_inputs=(x[:1],))
    assert_engine_equals_twin(converted, x[:1])
    expected = pq.Session(converted, threads=1, isa="reference")(x.numpy())
    for isa in FAST:
        for fip in ("on", "off"):
            for threads in (1, 2):
                session = pq.Session(converted, threads=threads, isa=isa, fip=fip)
                np.testing.assert_array_equal(session(x.numpy()), expected, err_msg=f"{isa}, fip {fip}, {threads} threads")
                if isa in MEASURED:
                    assert sum("winograd" in (run := layer["executed_as"]) or "sparse" in run for layer in session.layers()) >= 12


# Channels, outputs, groups, size of the image, stride and dilation: groups of 1 to 32 channels, in numbers that divide well and badly.
GROUPED = [
    (32, 32, 8, 9, 1, 1),
    (24, 48, 24, 6, 1, 1),
    (64, 64, 2, 7, 2, 1),
    (104, 104, 13, 5, 1, 1),
    (88, 44, 11, 6, 1, 2),
    (256, 256, 32, 6, 2, 1),
    (30, 20, 10, 8, 1, 1),
]


@pytest.mark.parametrize(("channels", "outputs", "groups", "size", "stride", "dilation"), GROUPED)
def test_groups_that_run_as_one_give_the_bytes_of_the_reference(
    channels: int, outputs: int, groups: int, size: int, stride: int, dilation: int
) -> None:
    torch.manual_seed(channels)
    conv = nn.Conv2d(channels, outputs, 3, stride, dilation, dilation, groups)
    net = nn.Sequential(conv, nn.ReLU(), nn.Conv2d(outputs, 8, 1)).eval()
    x = torch.randn(2, channels, size, size)
    graph = pq.quantize(net, pq.PTQ(equalize=False, bias_correction=False), example_inputs=(x,), calibration=[x])
    model = pq.convert(graph, example_inputs=(x,))
    expected = np.asarray(pq.Session(model, isa="reference")(x))
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 3):
            np.testing.assert_array_equal(np.asarray(pq.Session(model, isa=isa, threads=threads)(x)), expected)


def test_the_list_of_layers_says_how_many_groups_run_as_how_many() -> None:
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=16), nn.Conv2d(64, 8, 1)).eval()
    x = torch.randn(1, 64, 14, 14)
    graph = pq.quantize(net, pq.PTQ(equalize=False, bias_correction=False), example_inputs=(x,), calibration=[x])
    session = pq.Session(pq.convert(graph, example_inputs=(x,)))
    first = next(layer for layer in session.layers() if layer["op"] == "conv2d")
    assert session.isa == "reference" or "16 groups run as" in first["reason"]
    assert session.model.macs({name: (1, 64, 14, 14) for name in session.model.inputs}) == 14 * 14 * (64 * 4 * 9 + 64 * 8)
