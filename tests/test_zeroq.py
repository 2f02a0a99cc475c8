"""ZeroQ: quantization with no data, bits by sensitivity, and the figures of its paper's kind on a small trained network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_agrees_with_torch
from digits_resnet import digit_images, digits_net, top1
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.fx import GraphModule
from traces import traced_once

import pyqinfer as pq
from pyqinfer.allocation.plot import uniform_choices
from pyqinfer.bits import parse_bits
from pyqinfer.methods.zeroq import ZeroQ
from pyqinfer.quantization.bn_statistics import statistics_loss
from pyqinfer.quantization.distill import Distillation, distill, initial_noise
from pyqinfer.quantization.distilled import Distilled
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.observers import affine_params
from pyqinfer.quantization.sensitivity import kl_sensitivities

EXAMPLE = (torch.zeros(1, 3, 32, 32),)
QUICK = ZeroQ(distillation=Distillation(batch=8, iterations=5))
LAYERS = [
    "conv1", "layer1.0.conv1", "layer1.0.conv2", "layer2.0.downsample.0", "layer2.0.conv1", "layer2.0.conv2",
    "layer3.0.downsample.0", "layer3.0.conv1", "layer3.0.conv2", "fc",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once(digits_net()):
        yield


@cache
def distilled(stats: str) -> Distilled:
    return distill(digits_net(), EXAMPLE, Distillation(batch=8, iterations=300, stats=stats))


def distilled_images() -> Tensor:
    return distilled("batch").images


def calibrated(data: Tensor, bits: str = "8/8", **settings: object) -> GraphModule:
    width = parse_bits(bits)
    method = pq.PTQ(weight_bits=width.weight, act_bits=width.act, **settings)
    return pq.quantize(digits_net(), method, example_inputs=EXAMPLE, calibration=[data])


def quantized_tensors(module: GraphModule) -> list[str]:
    """Ops behind which a quantizer stands."""
    names = [n.args[0].name for n in module.graph.nodes if n.name.startswith("quantize_per_tensor")]
    return sorted(re.sub(r"_\d+$", "", name) for name in names)


def weight_bits(module: GraphModule) -> list[int]:
    """The weight bits of every layer, from the range of its codes."""
    ranges = [n.args[4:6] for n in module.graph.nodes if n.name.startswith("dequantize_per_channel")]
    return [int(high - low + 2).bit_length() - 1 for low, high in ranges]


def shift(module: GraphModule) -> float:
    """Divergence of the output from the float network's on test images: finer than 359 right or wrong answers."""
    images, _ = digit_images("test")
    with torch.inference_mode():
        p, q = (torch.log_softmax(model(images).double(), 1) for model in (digits_net(), module))
        return float((p.exp() * (p - q)).sum(1).mean())


# Distillation on a trained network (docs/methods.md).


def assert_reaches_the_statistics(found: Distilled, stats: str, rate: float = 0.5) -> None:
    """The loss falls below 1 % of where it started and below that of real images; at rate 0.5 a hundred times below noise."""
    net, count = digits_net(), len(found.images)
    assert found.loss < 0.01 * found.losses[0]
    assert found.loss < statistics_loss(net, digit_images("train")[0][:count], stats)
    noise = torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    if rate == 0.5:
        assert 100 * found.loss < statistics_loss(net, noise, stats)


@pytest.mark.parametrize("stats", ["image", "batch"])
def test_distillation_reaches_the_statistics(stats: str) -> None:
    assert_reaches_the_statistics(distilled(stats), stats)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
@pytest.mark.parametrize("rate", [0.5, 0.1])
@pytest.mark.parametrize(("stats", "init"), [("image", "repository"), ("image", "normal"), ("batch", "normal")])
def test_distillation_in_every_setting(stats: str, init: str, rate: float, schedule: str) -> None:
    found = distill(digits_net(), EXAMPLE, Distillation(32, 500, stats, rate, schedule, init))
    assert_reaches_the_statistics(found, stats, rate)


def test_calibration_on_initial_noise_fails_and_on_distilled_images_works() -> None:
    """Noise with a standard deviation of 0.0136 gives ranges that cut everything off."""
    (noise,) = initial_noise(EXAMPLE, Distillation(init="repository"))
    assert top1(digits_net()) > 97
    assert top1(calibrated(distilled_images())) > 95
    assert shift(calibrated(distilled_images())) < 0.005
    assert top1(calibrated(noise)) < 40


def test_images_with_the_statistics_of_the_batch_reach_as_far_as_real_ones() -> None:
    """Each image with the statistics of all has weaker features, and ranges found with such images cut real ones off."""
    assert 10 * shift(calibrated(distilled("batch").images)) < shift(calibrated(distilled("image").images))


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "loss"), [("8/8", 0.5), ("6/6", 1.0), ("4/8", 3.0), ("4/4", 4.0), ("3/8", 6.0)])
def test_distilled_images_calibrate_like_real_ones(bits: str, loss: float) -> None:
    real, distilled = calibrated(digit_images("train")[0][:32], bits), calibrated(distilled_images(), bits)
    assert top1(distilled) > max(top1(real), top1(digits_net())) - loss


def sensitivities(data: Tensor, bits: str = "2/8") -> list[float]:
    traced = TracedModel(digits_net(), EXAMPLE)
    fold_batch_norm(traced)
    found = kl_sensitivities(traced, dict.fromkeys(LAYERS, (parse_bits(bits),)), [(data,)])
    return [row[parse_bits(bits)] for row in found.values()]


def test_distilled_images_rank_layers_like_real_ones() -> None:
    """Noise as small as the authors' start says nothing."""
    real = sensitivities(digit_images("train")[0][:64])
    (noise,) = initial_noise(EXAMPLE, Distillation(init="repository"))
    distilled_rank, noise_rank = (spearmanr(real, sensitivities(data)).statistic for data in (distilled_images(), noise))
    assert distilled_rank > 0.7
    assert distilled_rank > noise_rank + 0.2


# The method.


def test_no_data_of_any_kind_is_needed_and_the_engine_runs_the_result() -> None:
    module = pq.quantize(digits_net(), QUICK, example_inputs=EXAMPLE)
    assert top1(module) > 90
    model = pq.convert(module, example_inputs=EXAMPLE)
    assert model.integer_share() == 1.0
    assert_agrees_with_torch(module, digit_images("test")[0][:16])


def test_deterministic_for_a_seed() -> None:
    first, again = (pq.quantize(digits_net(), QUICK, example_inputs=EXAMPLE) for _ in range(2))
    assert {k: v.tolist() for k, v in first.state_dict().items()} == {k: v.tolist() for k, v in again.state_dict().items()}
    assert str(first.graph) == str(again.graph)


def test_calibration_batches_take_the_place_of_distilled_images() -> None:
    """Then nothing is distilled: it is PTQ, and BatchNorm is not needed."""
    images = digit_images("train")[0][:32]
    graphs = [
        pq.quantize(digits_net(), method, example_inputs=EXAMPLE, calibration=iter([images]))
        for method in (ZeroQ(), pq.PTQ())
    ]  # fmt: skip
    assert str(graphs[0].graph) == str(graphs[1].graph)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
    assert quantized_tensors(pq.quantize(plain, ZeroQ(), example_inputs=EXAMPLE, calibration=[images]))


class Bottlenecks(nn.Module):
    """ReLU6, ReLU behind a sum, a linear bottleneck, a sum without activation, a max-pool and pooled features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.expand, self.project = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
        self.conv, self.fc = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu6(self.bn(self.stem(x))), 2)
        x = x + self.project(F.relu6(self.expand(x)))
        x = F.relu(x + self.conv(x))
        return self.fc(x.mean((2, 3)))


def test_every_edge_is_quantized_or_as_in_the_released_code_those_behind_a_relu() -> None:
    net, data = Bottlenecks().eval(), torch.randn(4, 3, 16, 16)
    every, relu_only = (
        pq.quantize(net, ZeroQ(relu_only=flag), example_inputs=(data,), calibration=[data]) for flag in (False, True)
    )  # fmt: skip
    assert quantized_tensors(every) == ["add", "max_pool2d", "mean", "relu", "relu6", "relu6", "x"]
    assert quantized_tensors(relu_only) == ["max_pool2d", "relu", "relu6", "relu6"]
    assert weight_bits(every) == weight_bits(relu_only) == [8] * 5
    assert_agrees_with_torch(relu_only, data)


def test_a_network_without_batch_norm_gets_a_clear_error() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    for call in (
        lambda: pq.quantize(plain, ZeroQ(), example_inputs=EXAMPLE),
        lambda: pq.allocate(plain, ZeroQ(), budget=pq.Budget(avg_weight_bits=4), example_inputs=EXAMPLE),
        lambda: ZeroQ().distill(plain, EXAMPLE),
    ):
        with pytest.raises(ValueError, match=r"Sequential has no BatchNorm layer .*pq\.PTQ"):
            call()


# Bits under a budget.


@cache
def allocation(average: float) -> object:
    budget = pq.Budget(avg_weight_bits=average)
    return pq.allocate(digits_net(), ZeroQ(), budget=budget, example_inputs=EXAMPLE, calibration=[distilled_images()])


def with_bits(bits: object) -> GraphModule:
    return pq.quantize(digits_net(), pq.PTQ(bits=bits, bias_correction=False), example_inputs=EXAMPLE, calibration=[distilled_images()])


def test_mixed_bits_beat_uniform_ones() -> None:
    """The uniform ones have a little more: their first and last layers' 8 bits come on top."""
    for average, uniform in ((2.5, "2/8"), (4, "4/8")):
        assert 1.5 * shift(with_bits(allocation(average))) < shift(calibrated(distilled_images(), uniform, bias_correction=False))
    assert top1(with_bits(allocation(2.5))) > top1(calibrated(distilled_images(), "2/8", bias_correction=False)) + 10


def test_the_allocation_is_the_least_loss_within_the_budget() -> None:
    found = allocation(4)
    assert list(found) == LAYERS
    assert (str(found["conv1"]), str(found["fc"])) == ("8/8", "8/8")
    assert found.solution.costs["avg_weight_bits"] <= 4
    assert found.solution.optimal
    scores = np.array(found.problem.scores)
    assert scores.shape == (8, 6)
    assert (scores[:, 0] > scores[:, -1]).all()  # 2 bits lose more than 8
    (x, loss) = uniform_choices(found.problem, "avg_weight_bits")["4/8"]
    assert x > 4  # first and last layer have 8
    assert found.solution.score < loss


def test_the_frontier_is_a_table_and_a_picture(tmp_path: Path) -> None:
    found = allocation(4)
    frontier = found.frontier()
    costs, losses = zip(*((s.costs["avg_weight_bits"], s.score) for s in frontier), strict=True)
    assert list(costs) == sorted(set(costs))
    assert list(losses) == sorted(set(losses), reverse=True)
    assert found.solution.score in losses
    assert len(found.frontier_report("size_mb").rows) == len(frontier)
    found.plot_frontier(tmp_path / "frontier.png")
    from PIL import Image

    picture = np.asarray(Image.open(tmp_path / "frontier.png").convert("RGB"))
    assert picture.shape[0] > 400
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    with pytest.raises(ValueError, match="no cost 'energy'"):
        found.plot_frontier(tmp_path / "other.png", "energy")


def test_quantizing_under_a_budget_runs_the_bits_that_the_allocation_reports() -> None:
    budget, images = pq.Budget(avg_weight_bits=3), digit_images("train")[0][:16]
    found = pq.allocate(digits_net(), ZeroQ(), budget=budget, example_inputs=EXAMPLE, calibration=[images])
    module = pq.quantize(digits_net(), ZeroQ(), example_inputs=EXAMPLE, calibration=[images], budget=budget)
    assert weight_bits(module) == [bits.weight for bits in found.values()]
    assert {row["name"]: row["bits"] for row in found.report.rows} == {name: str(bits) for name, bits in found.items()}
    assert set(weight_bits(module)) >= {2, 8}


def test_activation_bits_are_chosen_where_the_budget_counts_them() -> None:
    images = digit_images("train")[0][:8]
    found = pq.allocate(
        digits_net(), ZeroQ(candidates=("8/8", "4/4")), budget=pq.Budget(bops=0.04), example_inputs=EXAMPLE, calibration=[images]
    )
    assert {str(bits) for bits in found.values()} == {"8/8", "4/4"}
    assert found["layer2.0.conv1"].act == found["layer2.0.downsample.0"].act  # they read one tensor
    assert "weights and input" in str(found.report)


def test_bits_that_the_user_fixed_are_not_chosen() -> None:
    images = digit_images("train")[0][:8]
    method = ZeroQ(bits={"layer1.0.conv1": "3/8"}, candidates=("2/8", "6/8"))
    found = pq.allocate(
        digits_net(), method, budget=pq.Budget(avg_weight_bits=4), example_inputs=EXAMPLE, calibration=[images],
        keep={"layer3.0.conv2": "5/8"},
    )  # fmt: skip
    assert (str(found["layer1.0.conv1"]), str(found["layer3.0.conv2"])) == ("3/8", "5/8")
    assert {bits.weight for name, bits in found.items() if name in found.problem.names} <= {2, 6}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="candidates"):
        ZeroQ(candidates=())
    with pytest.raises(TypeError, match=r"pq\.Budget"):
        pq.allocate(digits_net(), QUICK, budget=4, example_inputs=EXAMPLE)
    with pytest.raises(ValueError, match=r"avg_weight_bits: 1\.5 asked"):
        pq.allocate(
            digits_net(), QUICK, budget=pq.Budget(avg_weight_bits=1.5), example_inputs=EXAMPLE, calibration=[torch.randn(2, 3, 32, 32)]
        )


# The quantizer (docs/methods.md).


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 3.0), (-2.7, 0.4)])
def test_quantized_values_are_within_half_a_step_and_stay_when_quantized_again(low: float, high: float, bits: int) -> None:
    p = affine_params(low, high, bits)
    x = torch.linspace(low, high, 10_001, dtype=torch.float64)

    def quantize(x: Tensor) -> Tensor:
        codes = torch.clamp(torch.round(x / p.scale) + p.zero_point, p.quant_min, p.quant_max)
        return (codes - p.zero_point) * p.scale

    error = (quantize(x) - x).abs()
    assert float(error.max()) <= p.scale  # the zero point is rounded: one end of the range may lie half a step outside the codes
    inner = (x >= (p.quant_min - p.zero_point) * p.scale) & (x <= (p.quant_max - p.zero_point) * p.scale)
    assert float(error[inner].max()) <= p.scale / 2 + 1e-12
    assert torch.equal(quantize(quantize(x)), quantize(x))
    assert float(quantize(torch.zeros(1, dtype=torch.float64))) == 0
