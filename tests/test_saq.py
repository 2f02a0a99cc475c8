"""Sharpness-aware quantization: its grid, the two-pass step, and what the trained graph is in the engine (docs: Liu et al. 2021)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import digits_net
import digits_resnet
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from traces import traced_once

import pyqinfer as pq
from pyqinfer.bits import parse_bits
from pyqinfer.quantization.exact_sums import ExactSums
from pyqinfer.quantization.observers import affine_params
from pyqinfer.train.loop import PlainStepper
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.sharp import CASES, SharpStepper
from pyqinfer.train.zero_free import ClippedActivation, ZeroFreeWeight, on_grid

X = torch.randn(16, 3, 10, 10, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 5


class Net(nn.Module):
    """A stem, a depthwise block with a linear bottleneck, a layer without BatchNorm, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False), nn.BatchNorm2d(8)
        self.project, self.bn3 = nn.Conv2d(8, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.plain = nn.Conv2d(6, 6, 3)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn2(self.depthwise(F.relu(self.bn1(self.stem(x))))))
        return self.fc(F.relu(self.plain(self.bn3(self.project(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for _ in range(20):
            net(X)
    return net.eval()


@pytest.fixture(scope="module", autouse=True)
def _traced_once(net: nn.Module) -> Iterator[None]:
    with traced_once(digits_net.trained(), net):
        yield


def prepared_net(net: nn.Module, method: pq.SAQ | None = None) -> Prepared:
    return (method or pq.SAQ(3, 3)).prepare(net, (X,))


def loss_of(prepared: nn.Module) -> Tensor:
    return F.cross_entropy(prepared(X), Y)


def state(module: nn.Module) -> dict[str, Any]:
    return copy.deepcopy(module.state_dict())


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) if isinstance(a[k], Tensor) else a[k] == b[k] for k in a)


def fit(prepared: Prepared, stepper: Any, count: int = 6, lr: float = 0.02) -> list[float]:
    optimizer = torch.optim.SGD(prepared.parameter_groups(1e-4), lr=lr, momentum=0.9)
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        losses.append(stepper.backward(lambda: loss_of(prepared)).item())
        optimizer.step()
    return losses


# ---- the grid -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_have_two_to_the_b_symmetric_levels_and_none_is_zero(bits: int) -> None:
    x = 3 * torch.randn(20_000, generator=torch.Generator().manual_seed(0))
    clip = torch.tensor([1.5])
    levels = on_grid(x, clip, bits).unique()
    assert len(levels) == 2**bits
    assert float(levels.abs().min()) > 0
    torch.testing.assert_close(levels, -levels.flip(0))
    n = 2**bits - 1
    torch.testing.assert_close(on_grid(x, clip, bits), clip * (2 * torch.round(n * ((x / clip).clamp(-1, 1) + 1) / 2) / n - 1))


def test_gradients_of_weight_and_clip_are_the_papers() -> None:
    x = (2 * torch.randn(500, generator=torch.Generator().manual_seed(0))).requires_grad_()
    clip = torch.tensor([1.5], requires_grad=True)
    dy = torch.randn(500, generator=torch.Generator().manual_seed(1))
    y = on_grid(x, clip, 3)
    y.backward(dy)
    ratio = (x / clip).detach()
    inside = ratio.abs() < 1
    torch.testing.assert_close(x.grad, dy * inside)
    slope = torch.where(inside, y.detach() / 1.5 - ratio, ratio.sign())
    torch.testing.assert_close(clip.grad, (dy * slope).sum().reshape(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("bits", ["2/4", "4/4", "8/8"])
def test_codes_are_what_the_weight_is(bits: str, standardize: bool) -> None:
    latent = 0.1 * torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 0.02
    weight = ZeroFreeWeight(latent, parse_bits(bits), standardize)
    codes = weight.codes()
    assert codes.zero_point == -0.5
    torch.testing.assert_close((codes.codes + 0.5) * codes.scale.reshape(-1, 1, 1, 1), weight().detach())
    largest = (2 if standardize else 0.2) * (1.05 if bits == "8/8" else 0.5)
    assert weight().abs().max().item() > largest


def test_setting_bits_changes_the_number_of_levels(net: nn.Module) -> None:
    for bits in (2, 4):
        prepared = prepared_net(net, pq.SAQ(8, 8, bits={"plain": f"{bits}/{bits}"}))
        assert len(prepared.layer("plain").weight().unique()) == 2**bits
        graph = prepared.finish()
        codes = next(t for name, t in graph.named_buffers() if name.startswith("plain_weight_codes"))
        assert len(codes.unique()) == 2**bits


@pytest.mark.parametrize(("low", "high"), [(0.0, 2.0), (-1.0, 2.0), (-1.0, 0.0)])
def test_activations_start_at_the_calibrated_step_and_keep_negative_values_where_there_are_any(low: float, high: float) -> None:
    params = affine_params(low, high, 3)
    activation = ClippedActivation(params)
    assert activation.params().scale == pytest.approx(params.scale)
    values = activation(torch.linspace(-3, 3, 1000)).unique()
    assert len(values) == 8
    assert values.min().item() == pytest.approx(low, abs=params.scale)
    assert 0.0 in values
    activation(torch.full((10,), 5.0)).sum().backward()
    assert float(activation.clip.grad) == pytest.approx(10.0 if high else 0.0)


def test_the_stem_reads_eight_bits_and_a_linear_bottleneck_gives_signed_codes(net: nn.Module) -> None:
    prepared = prepared_net(net)
    ranges = {name: prepared.graph.get_submodule(path).params() for name, path in prepared.blueprint.edges.items()}
    assert ranges["x"].quant_max == 255
    bottleneck = [p for name, p in ranges.items() if name.startswith("conv2d")]
    assert [p.zero_point > 0 for p in bottleneck] == [True]
    assert [p.zero_point for name, p in ranges.items() if name.startswith("relu")] == [0] * 3


@pytest.mark.parametrize(("bits", "samples", "most"), [(8, 2, 0.08), (8, 256, 0.08), (3, 256, 0.3)])
def test_training_starts_near_the_float_network_also_where_few_images_calibrate(bits: int, samples: int, most: float) -> None:
    """Weights are divided and not centred, and statistics of BatchNorms are those of the rounded weights if there are images enough."""
    net, seen, (images, _) = digits_resnet.digits_net(), digits_resnet.digit_images("train")[0], digits_resnet.digit_images("test")
    prepared = pq.SAQ(bits, bits).prepare(net, (seen[:2],), calibration=[seen[:samples]]).eval()
    with torch.no_grad():
        wanted = net(images)
        assert (prepared(images) - wanted).norm() / wanted.norm() < most


def test_pruning_and_ternary_weights_are_refused(net: nn.Module) -> None:
    with pytest.raises(ValueError, match="cannot be pruned"):
        prepared_net(net).layer("project").weight.set_mask(torch.zeros(1))
    with pytest.raises(ValueError, match="no zero"):
        prepared_net(net, pq.SAQ(bits={"project": "t/8"}))
    for options in ({"weight_bits": "ternary"}, {"rho": -1.0}, {"case": "third"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            pq.SAQ(**options)


# ---- the two-pass step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_rho_of_zero_is_plain_training_exactly(net: nn.Module, case: str) -> None:
    sharp, plain = prepared_net(net), prepared_net(net)
    fit(sharp, SharpStepper(sharp, 0.0, case))
    fit(plain, PlainStepper())
    assert equal(state(sharp), state(plain))  # running statistics too: the second pass leaves them alone


@pytest.mark.parametrize("rho", [0.05, 0.4, 0.9])
@pytest.mark.parametrize("case", CASES)
def test_the_perturbations_norm_is_rho_and_it_climbs(net: nn.Module, rho: float, case: str) -> None:
    prepared = prepared_net(net)
    fit(prepared, PlainStepper(), 3)
    stepper = SharpStepper(prepared, rho, case)
    with stepper.watched() as weights:
        before = loss_of(prepared)
        before.backward()
        ascent = stepper.gradients(weights).scaled_to(rho)
    assert ascent.norm() == pytest.approx(rho, rel=1e-6)
    assert len(ascent.weights) == 5
    assert len(ascent.parameters) == 2 + 6 + 6  # biases, gammas and betas, clips of activations
    with torch.no_grad(), ascent.applied():
        after = loss_of(prepared)
    if case != "latent-before":  # which may stay within a rounding step
        assert after > before


def test_what_is_perturbed_can_be_chosen(net: nn.Module) -> None:
    prepared = prepared_net(net)
    stepper = SharpStepper(prepared, 0.4, include_norms=False, include_clips=False)
    with stepper.watched() as weights:
        loss_of(prepared).backward()
        assert len(stepper.gradients(weights).parameters) == 2


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_a_step_leaves_every_parameter_as_it_was_also_where_it_raises(net: nn.Module, case: str, fails: int) -> None:
    prepared = prepared_net(net)
    before = {name: p.detach().clone() for name, p in prepared.named_parameters()}
    SharpStepper(prepared, 0.9, case).backward(lambda: loss_of(prepared))
    calls: list[int] = []

    def broken() -> Tensor:
        calls.append(1)
        loss = loss_of(prepared)
        if len(calls) > fails:
            raise RuntimeError("out of memory")
        return loss

    with pytest.raises(RuntimeError, match="out of memory"):
        SharpStepper(prepared, 0.9, case).backward(broken)
    assert all(torch.equal(before[name], p) for name, p in prepared.named_parameters())
    assert all(w.delta is None and w.shift is None and w.seen is None and not w.watched for w in prepared.weights())
    assert not any(norm.passive for norm in prepared.norms())


def test_a_clip_whose_second_gradient_is_zero_comes_back_too(net: nn.Module) -> None:
    prepared = prepared_net(net)
    clips = [p.detach().clone() for activation in prepared.activations() for p in activation.parameters()]
    calls: list[int] = []

    def loss() -> Tensor:
        calls.append(1)
        return loss_of(prepared) if len(calls) == 1 else sum(p.sum() for p in prepared.weights().__next__().parameters())

    SharpStepper(prepared, 0.9).backward(loss)
    after = [p for activation in prepared.activations() for p in activation.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(clips, after, strict=True))
    assert all(p.grad is None for p in after)


def test_training_lowers_the_loss_and_running_statistics_learn_once_a_step(net: nn.Module) -> None:
    prepared = prepared_net(net)
    losses = fit(prepared, SharpStepper(prepared, 0.05), 30, lr=0.2)
    assert losses[-1] < 0.8 * losses[0]
    once, twice = prepared_net(net), prepared_net(net)
    loss_of(once)
    SharpStepper(twice, 0.1).backward(lambda: loss_of(twice))
    for a, b in zip(once.norms(), twice.norms(), strict=True):
        assert torch.equal(a.running_mean, b.running_mean)


# ---- the whole method -----------------------------------------------------------------------------------------------


def digits_loader(count: int) -> DataLoader[Any]:
    images, labels = digits_net.data("train")
    return DataLoader(TensorDataset(images[:count], labels[:count]), 64, shuffle=True)


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (4, 4), (2, 2)])
def test_the_engine_gives_the_graphs_classes(net: nn.Module, weight_bits: int, act_bits: int) -> None:
    method = pq.SAQ(weight_bits, act_bits, first_last="8/8" if weight_bits > 2 else None)
    prepared = prepared_net(net, method)
    fit(prepared, method.stepper(prepared), 4)
    prepared.eval()
    graph = method.finish(prepared)
    with torch.no_grad():
        torch.testing.assert_close(graph(X), prepared(X), rtol=2e-2, atol=2e-2)
    model = pq.convert(graph, example_inputs=(X,))
    assert model.integer_share() == 1.0
    engine, exact = np.asarray(pq.Session(model)(X.numpy())), ExactSums(graph)(X).numpy()
    np.testing.assert_allclose(engine, exact, rtol=1e-4, atol=1e-4)
    assert (engine.argmax(1) == exact.argmax(1)).all()


def test_zero_free_weights_take_every_algorithm_that_others_take() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1)).eval()
    x = torch.randn(2, 3, 16, 16)
    method = pq.SAQ(2, 4)
    model = pq.convert(method.finish(method.prepare(net, (x,))), example_inputs=(x,))
    layer = next(node for node in model.graph["nodes"] if node["name"] == "2")
    assert "base" in layer["constants"]
    reference = pq.Session(model, threads=1, isa="reference")(x)
    for isa in pq.cpu_info()["isas"]:
        session = pq.Session(model, threads=1, isa=isa)
        assert not any("base" in entry["reason"] for entry in session.layers())
        np.testing.assert_array_equal(session(x), reference)


def test_saq_holds_the_digits_network_at_four_bits_on_its_own_grid() -> None:
    images = digits_net.data("train")[0]
    graph = pq.quantize(
        digits_net.trained(),
        pq.SAQ(4, 4, epochs=1, rho=0.1),
        example_inputs=(images[:2],),
        train=digits_loader(512),
        calibration=[images[:256]],
    )
    assert digits_net.accuracy(graph) > 97
    points = {name: float(t[0]) for name, t in graph.named_buffers() if name.endswith("weight_zero_point")}
    assert set(points.values()) == {-0.5}


def test_a_seed_gives_the_same_network(net: nn.Module) -> None:
    batches = [(X, Y)] * 3
    method = pq.SAQ(3, 3, epochs=2)
    first, second, other = (
        pq.quantize(net, m, example_inputs=(X,), train=batches, calibration=[X]).state_dict()
        for m in (method, method, replace(method, rho=0.2))
    )
    assert equal(first, second)
    assert not equal(first, other)
