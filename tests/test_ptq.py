"""The post-training pipeline: its switches, observers, bias correction, the ablation, and accuracy on trained networks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import digits_net
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_agrees_with_torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node
from traces import traced_once

import pyqinfer as pq
from pyqinfer.bits import parse_bits
from pyqinfer.quantization.aten_traits import op_name
from pyqinfer.quantization.bias_correction import channel_means, corrected_at
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.lockstep import Lockstep, fitting
from pyqinfer.quantization.observers import OBSERVERS, ActivationParams, Observer
from pyqinfer.quantization.weights import quantize_weight
from pyqinfer.study.ablation import ablation, ablation_steps

PLAIN = pq.PTQ(equalize=False, bias_correction=False)


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once(digits_net.trained()):
        yield


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Calibration images of digits: 128 of the training split."""
    return digits_net.data("train")[0][:128]


def quantized(method: pq.PTQ, images: Tensor, net: nn.Module | None = None) -> GraphModule:
    return pq.quantize(net or digits_net.trained(), method, example_inputs=(images[:2],), calibration=images.split(32))


# ---- observers ------------------------------------------------------------------------------------------------------


def observed(name: str, *batches: Tensor) -> Observer:
    observer = OBSERVERS[name]()
    for batch in batches:
        observer.observe(batch)
    return observer


def ends(params: ActivationParams) -> tuple[float, float]:
    return (params.quant_min - params.zero_point) * params.scale, (params.quant_max - params.zero_point) * params.scale


def squared_error(x: Tensor, p: ActivationParams) -> float:
    codes = torch.clamp(torch.round(x / p.scale) + p.zero_point, p.quant_min, p.quant_max)
    return float(((codes - p.zero_point) * p.scale - x).square().sum())


def test_the_average_observers_range_is_the_mean_of_the_batches_ranges_by_their_size() -> None:
    small, large = torch.tensor([-1.0, 4.0]), torch.tensor([-2.0, 1.0, 0.0, 8.0, 3.0, 2.0])
    low, high = ends(observed("average", small, large).params(8))
    assert low == pytest.approx((-1 * 2 - 2 * 6) / 8, abs=0.05)
    assert high == pytest.approx((4 * 2 + 8 * 6) / 8, abs=0.05)


@pytest.mark.parametrize(("name", "share"), [("percentile99.9", 0.001), ("percentile99.99", 0.0001)])
def test_a_percentile_cuts_off_its_share_however_the_images_are_batched(name: str, share: float) -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    low, high = ends(observed(name, x).params(8))
    step = (high - low) / 255
    assert float((x > high + step).double().mean()) < share < float((x > high - 2 * step).double().mean())
    assert float((x < low - step).double().mean()) < share < float((x < low + 2 * step).double().mean())
    parts = observed(name, x[:1000], x[1000:150_000], x[150_000:]).params(8)
    assert ends(parts) == pytest.approx((low, high), abs=step)


OUTLIERS = [(), (1e6,), (-1e6,), (1e30,), (-1e30,), (1e6, -1e30), (3.4e38, -3.4e38)]
BESIDE = {
    "normal": torch.randn(200_000, generator=torch.Generator().manual_seed(0)),
    "small": 1e-6 * torch.rand(50_000, generator=torch.Generator().manual_seed(1)),
    "negative": -torch.rand(50_000, generator=torch.Generator().manual_seed(2)),
    "constant": torch.full((30_000,), 2.5),
    "few": torch.tensor([-3.0, -1.0, 0.0, 0.5, 2.0, 7.0]),
    "one": torch.tensor([-4.0]),
}


@pytest.mark.parametrize("outliers", OUTLIERS, ids=str)
@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("percent", ["99.9", "99.99"])
def test_a_percentile_is_that_of_all_values_whatever_outliers_lie_beside_them(
    percent: str, beside: str, outliers: tuple[float, ...]
) -> None:
    """It is exact to a 256th, the width of a bin, and to a step of the 20 bits that it is read in. For few values it is the largest."""
    values, odd = BESIDE[beside], torch.tensor(outliers)
    low, high = ends(observed(f"percentile{percent}", values, odd).params(20))
    everything = torch.cat([values, odd]).double().numpy()
    wanted_low, wanted_high = (max(float(np.percentile(x, float(percent), method="inverted_cdf")), 0) for x in (-everything, everything))
    step = 2 * (wanted_low + wanted_high) / 2**20
    assert wanted_low - step <= -low <= wanted_low * (1 + 1 / 256) + step
    assert wanted_high - step <= high <= wanted_high * (1 + 1 / 256) + step


def test_a_percentile_of_rectified_values_starts_at_zero() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(0)).relu()
    assert observed("percentile99.9", x).params(8).zero_point == 0


@pytest.mark.parametrize("bits", [3, 8])
@pytest.mark.parametrize("outliers", [0, 3])
def test_best_is_no_worse_than_any_other_on_what_it_held_out(bits: int, outliers: int) -> None:
    x = torch.randn(16, 4000, generator=torch.Generator().manual_seed(0))
    x[0, :outliers] = 50.0
    best = squared_error(x[12:], observed("best", x).params(bits))
    others = {name: squared_error(x[12:], observed(name, x[:12]).params(bits)) for name in OBSERVERS if name != "best"}
    assert best == pytest.approx(min(others.values()), rel=1e-2)


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_refuse_infinity_and_ranges_of_nothing(name: str) -> None:
    with pytest.raises(ValueError, match="nothing was observed"):
        OBSERVERS[name]().params(8)
    with pytest.raises(ValueError, match="NaN or infinity"):
        observed(name, torch.tensor([[1.0], [float("inf")], [2.0], [float("inf")]]))
    zeros = observed(name, torch.zeros(4, 3)).params(8)
    assert (zeros.scale, zeros.zero_point) == (1.0, 0)


@pytest.mark.parametrize("name", ["minmax", "average", "percentile99.9", "best"])
def test_every_observer_quantizes_the_digits_network_at_eight_bits(name: str, images: Tensor) -> None:
    top1 = digits_net.accuracy(quantized(replace(PLAIN, observer=name), images))
    assert top1 > digits_net.accuracy(digits_net.trained()) - 1


# ---- weight ranges --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["8/8", "4/8", "3/8", "2/8", "t/8"])
def test_searched_ranges_are_no_worse_than_the_largest_on_every_channel_of_a_trained_network(bits: str) -> None:
    for layer in digits_net.folded(digits_net.trained()).layers:
        errors = []
        for search in (False, True):
            codes, scale = quantize_weight(layer.weight, parse_bits(bits), search)
            values = codes * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            errors.append((values - layer.weight).flatten(1).square().sum(1))
        assert bool((errors[1] <= errors[0] * (1 + 1e-5) + 1e-12).all()), layer.name


# ---- bias correction ------------------------------------------------------------------------------------------------


class Outputs(Interpreter):
    """Keeps what nodes with the given names compute."""

    def __init__(self, module: GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.names, self.seen = names, {}

    def run_node(self, n: Node) -> object:
        value = super().run_node(n)
        if n.name in self.names:
            self.seen[n.name] = value
        return value


@pytest.mark.parametrize(("weight_bits", "weight_range", "corrected"), [(3, "minmax", True), (5, "minmax", False)])
def test_by_default_biases_are_corrected_where_that_helps_low_bits(
    weight_bits: int, weight_range: str, corrected: bool, images: Tensor
) -> None:
    method = replace(PLAIN, weight_bits=weight_bits, weight_range=weight_range)
    outputs = {b: quantized(replace(method, bias_correction=b), images)(images[:8]) for b in (True, False, "auto")}
    assert torch.equal(outputs["auto"], outputs[corrected])
    assert not torch.equal(outputs["auto"], outputs[not corrected])


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (4, 4), (3, 32), ("ternary", 8)])
def test_corrected_channels_have_the_float_networks_means_on_the_calibration_images(
    weight_bits: int | str, act_bits: int, images: Tensor
) -> None:
    method = replace(PLAIN, bias_correction=True, weight_bits=weight_bits, act_bits=act_bits)
    reference = digits_net.folded(digits_net.trained())
    places = corrected_at(reference.layers)
    expected = channel_means(reference.module, places, [(images,)])
    assert len(places) == len(reference.layers)
    assert sum(op_name(node) == "add" for node in places) == 3  # behind the shortcuts
    worst = {}
    for corrected in (False, True):
        graph = quantized(replace(method, bias_correction=corrected), images)
        runner = Outputs(graph, set(expected))
        with torch.no_grad():
            runner.run(images)
        differences = []
        for name, wanted in expected.items():
            y = runner.seen[name]
            mean = y.mean(0) if y.ndim == 2 else y.mean((0, 2, 3))
            differences.append(float((mean - wanted).abs().max() / y.std()))
        worst[corrected] = max(differences)
    assert worst[True] < 3e-3  # standard deviations: codes behind the correction move a little
    assert worst[True] < 0.1 * worst[False]


def test_bias_correction_gives_a_layer_without_bias_one_and_leaves_float_layers_alone(images: Tensor) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).eval()
    method = replace(PLAIN, weight_bits=2, first_last=None, bias_correction=True, bits={"2": "float"})
    graph = quantized(method, images, net)
    convs = [n for n in graph.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    biases = [graph.get_buffer(n.args[2].target) if n.args[2].target in dict(graph.named_buffers()) else None for n in convs]
    assert biases[0] is not None
    assert float(biases[0].abs().max()) > 0
    assert torch.equal(graph.get_parameter(convs[1].args[2].target) if biases[1] is None else biases[1], net[2].bias)
    assert not torch.equal(biases[2], net[4].bias)


# ---- what the steps do together -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"fold": False},
        {"equalize": True},
        {"observer": "best", "weight_bits": 4, "act_bits": 4},
        {"rounding": "learned", "iterations": 30, "weight_bits": 3},
        {"fold": False, "rounding": "learned", "iterations": 30, "weight_bits": 4, "bias_correction": True},
    ],
    ids=str,
)
def test_every_switch_gives_codes_on_which_torch_and_the_engine_agree(options: dict[str, object], images: Tensor) -> None:
    graph = quantized(replace(PLAIN, **options), images)
    assert digits_net.accuracy(graph) > 90
    assert_agrees_with_torch(graph, images[:4])


def test_bias_correction_is_the_largest_single_gain_at_low_bits(images: Tensor) -> None:
    largest = replace(PLAIN, weight_bits=3, act_bits=32, first_last=None, weight_range="minmax")
    top1 = {b: digits_net.accuracy(quantized(replace(largest, bias_correction=b), images)) for b in (False, True)}
    assert top1[True] > top1[False] + 0.5
    assert top1[True] > 95


def test_the_whole_method_holds_what_rounding_alone_loses(images: Tensor) -> None:
    method = pq.PTQ(weight_bits=2, act_bits=8, rounding="learned", iterations=100)
    plain = digits_net.accuracy(quantized(replace(PLAIN, weight_bits=2, weight_range="minmax", observer="minmax"), images))
    assert digits_net.accuracy(quantized(method, images)) > max(plain + 10, 90)


def test_a_model_of_a_fixed_batch_takes_every_step() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3), nn.Linear(64, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.b(F.relu(self.a(x))).view(2, 64))

    torch.manual_seed(0)
    batches = [torch.randn(2, 3, 8, 8) for _ in range(6)]
    net = Fixed().eval()
    method = pq.PTQ(weight_bits=3, rounding="learned", iterations=30)
    with pytest.warns(UserWarning, match="fixes its batch"):
        graph = pq.quantize(net, method, example_inputs=(batches[0],), calibration=batches)
    with torch.no_grad():
        assert float((graph(batches[0]) - net(batches[0])).norm()) < 0.5 * float(net(batches[0]).norm())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"observer": "kl"}, "observer: expected one of mse, minmax"),
        ({"weight_range": "x"}, "weight_range: expected one of mse, minmax"),
        ({"rounding": "up"}, "rounding: expected one of nearest, learned"),
        ({"equalize": "yes"}, "equalize: expected one of True, False, auto"),
        ({"bias_correction": "yes"}, "bias_correction: expected one of True, False, auto"),
        ({"iterations": 0}, "iterations: expected at least 1"),
    ],
)
def test_choices_that_do_not_exist_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pq.PTQ(**options)  # type: ignore[arg-type]


# ---- running node by node -------------------------------------------------------------------------------------------


def test_lockstep_gives_what_running_each_batch_gives_and_keeps_only_what_is_still_read(images: Tensor) -> None:
    traced = digits_net.folded(digits_net.trained())
    batches = [(x,) for x in images.split(50)]
    lockstep = Lockstep(traced.module, batches)
    *nodes, output = traced.module.graph.nodes
    for node in nodes:
        lockstep.run(node)
    traced.module.recompile()
    with torch.no_grad():
        for got, (x,) in zip(lockstep.values(output.all_input_nodes[0]), batches, strict=True):
            torch.testing.assert_close(got, traced.module(x))
    with pytest.raises(KeyError):
        lockstep.values(traced.layers[0].node)


def test_as_many_batches_are_taken_as_fit_the_memory_and_at_least_one() -> None:
    traced = TracedModel(nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.ReLU()).eval(), (torch.zeros(2, 1, 512, 512),))
    image = torch.zeros(1).expand(1, 1, 512, 512)  # input and output of the ReLU take 64 MiB each
    for batch, taken in ((1, 16), (5, 3), (32, 1)):
        assert len(fitting(traced.module, [(image.expand(batch, -1, -1, -1),)] * 20)) == taken


# ---- the ablation ---------------------------------------------------------------------------------------------------


def test_the_ablation_has_a_row_for_each_step_and_ends_with_the_method(images: Tensor) -> None:
    method = pq.PTQ(weight_bits=3, act_bits=8, equalize=True, observer="best")
    steps = ablation_steps(method)
    assert steps[-1][1] == method
    assert len(steps) == 7
    assert len(ablation_steps(replace(PLAIN, fold=False, observer="minmax", weight_range="minmax", first_last=None))) == 1
    evaluated: list[nn.Module] = []

    def evaluate(model: nn.Module) -> float:
        evaluated.append(model)
        return digits_net.accuracy(model)

    report = ablation(digits_net.trained(), method, (images[:2],), images.split(64), evaluate)
    rows = json.loads(report.to_json())["rows"]
    assert [row["step"] for row in rows] == ["float model", *(name for name, _ in steps)]
    assert [row["accuracy"] for row in rows] == [digits_net.accuracy(model) for model in evaluated]
    assert rows[-1]["drop"] == pytest.approx(rows[0]["accuracy"] - rows[-1]["accuracy"])
    assert rows[-1]["accuracy"] > rows[1]["accuracy"]
    assert "bias correction" in report.table()


# ---- the glyph network ----------------------------------------------------------------------------------------------


needs_fonts = pytest.mark.skipif(bool(pq.zoo.missing_packages()), reason="the glyph data set's fonts are not installed")


def glyph_graph(method: pq.PTQ) -> GraphModule:
    images = torch.from_numpy(pq.zoo.glyphs("train")[0][:512])
    model = pq.zoo.load_trained("resnet20_glyphs")
    return pq.quantize(model, method, example_inputs=(images[:1],), calibration=images.split(64))


def logits(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return torch.cat([model(x) for x in torch.from_numpy(images).split(256)]).numpy()


def top1(outputs: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float((outputs.argmax(1) == labels).mean())


@needs_fonts
@pytest.mark.slow
def test_eight_bits_lose_at_most_a_fifth_of_a_point_in_the_engine_and_torch_agrees() -> None:
    images, labels = pq.zoo.glyphs("test")
    graph = glyph_graph(pq.PTQ())
    session = pq.Session(pq.convert(graph, example_inputs=(torch.from_numpy(images[:1]),)))
    engine = np.concatenate([np.asarray(session(x)) for x in np.array_split(images, 40)])
    in_torch = logits(graph, images)
    assert top1(engine, labels) > top1(logits(pq.zoo.load_trained("resnet20_glyphs"), images), labels) - 0.2
    assert (engine.argmax(1) == in_torch.argmax(1)).mean() >= 0.999


@needs_fonts
@pytest.mark.slow
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (6, 6), (4, 8), (4, 4)])
def test_the_defaults_are_not_worse_than_rounding_within_searched_ranges(weight_bits: int, act_bits: int) -> None:
    images, labels = pq.zoo.glyphs("test")
    bits = {"weight_bits": weight_bits, "act_bits": act_bits}
    plain, default = (top1(logits(glyph_graph(replace(m, **bits)), images), labels) for m in (PLAIN, pq.PTQ()))
    assert default >= plain


@needs_fonts
@pytest.mark.slow
def test_learned_rounding_gains_over_nearest_at_four_bits() -> None:
    images, labels = pq.zoo.glyphs("test")
    method = replace(PLAIN, weight_bits=4, act_bits=8, iterations=200)
    nearest, learned = (top1(logits(glyph_graph(replace(method, rounding=r)), images), labels) for r in ("nearest", "learned"))
    assert learned > nearest
