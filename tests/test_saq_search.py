"""SAQ's configuration generator: the policy, the super-net, budgets, and that what is chosen is what is trained; and sharpness reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from traces import traced_once

import pyqinfer as pq
from pyqinfer.allocation.costs import budget_costs, network_bops
from pyqinfer.allocation.problem import InfeasibleError
from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import quantizable_nodes
from pyqinfer.quantization.pipeline import Settings
from pyqinfer.train.generator import Choices, Search
from pyqinfer.train.policy import BitPolicy, PolicyTrainer
from pyqinfer.train.prepare import prepare
from pyqinfer.train.sharp import SharpStepper
from pyqinfer.train.sharpness import measure_sharpness, sharpness_report
from pyqinfer.train.switchable import SwitchableParts, select_bits

X = torch.randn(32, 1, 10, 10, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0, :5].mean((1, 2)) > X[:, 0, 5:].mean((1, 2))).long()
BATCHES = [(X[:16], Y[:16]), (X[16:], Y[16:])]
WIDTHS = tuple(parse_bits(text) for text in ("2/2", "3/3", "4/4", "5/5"))
QUICK = Search(epochs=2, warmup=1, policy_steps=6, finalists=5)


class Net(nn.Module):
    """A stem, a residual block with a projection, a classifier: ties, a shared input, and a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn0 = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c1, self.bn1 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.c3, self.bn3 = nn.Conv2d(8, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12)
        self.down, self.bn4 = nn.Conv2d(8, 12, 3, stride=2, bias=False), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn0(self.stem(x)))
        x = F.relu(self.bn2(self.c2(F.relu(self.bn1(self.c1(x))))))
        return self.fc(F.relu(self.bn3(self.c3(x)) + self.bn4(self.down(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(net(X), Y).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module", autouse=True)
def _traced_once(net: nn.Module) -> Iterator[None]:
    with traced_once(net):
        yield


def allocate(net: nn.Module, method: pq.SAQ, budget: pq.Budget, **given: Any) -> Any:
    return pq.allocate(net, method, budget=budget, example_inputs=(X[:1],), **{"train": BATCHES, "val": BATCHES, **given})


# ---- the policy -----------------------------------------------------------------------------------------------------


def test_the_policy_finds_a_target_and_its_entropy_falls() -> None:
    torch.manual_seed(0)
    target = (0, 2, 1, 2)
    policy = BitPolicy(4, 3)
    learner = PolicyTrainer(policy)
    first = policy.draw().entropy.item()
    for _ in range(600):
        draw = policy.draw()
        learner.learn(draw, float(sum((a - b) ** 2 for a, b in zip(draw.choices, target, strict=True))))
    draws = [policy.draw() for _ in range(20)]
    hits = sum(a == b for draw in draws for a, b in zip(draw.choices, target, strict=True)) / 80
    assert hits > 0.9
    assert draws[0].entropy.item() < 0.5 * first


def test_a_penalty_on_costs_makes_draws_gather_at_the_limit(net: nn.Module) -> None:
    torch.manual_seed(0)
    nodes = quantizable_nodes(TracedModel(net, (X[:1],)))
    plan = pq.SAQ().search
    problem_of = allocate(net, pq.SAQ(epochs=1, search=QUICK), pq.Budget(bops=0.02)).problem
    choices = Choices(problem_of)
    policy = BitPolicy(len(choices.groups), choices.options)
    learner = PolicyTrainer(policy)
    for _ in range(300):
        draw = policy.draw()
        learner.learn(draw, plan.penalty * choices.excess(draw.choices)[0] ** 2)
    off = [abs(choices.excess(policy.draw().choices)[0]) for _ in range(20)]
    assert sum(off) / 20 < 0.15
    assert len(nodes) == len(problem_of.names) + 2


# ---- the super-net --------------------------------------------------------------------------------------------------


def super_net(net: nn.Module) -> Any:
    names = ["c1", "c2", "c3", "down"]
    parts = SwitchableParts(Settings(equalize=False, bias_correction=False), dict.fromkeys(names, WIDTHS), (2, 3, 4, 5, 8))
    config = {"stem": parse_bits("8/8"), **dict.fromkeys(names, parse_bits("5/5")), "fc": parse_bits("8/8")}
    task = Task(net, (X[:1],), [(X,)])
    return prepare(task, lambda found: BitConfig({name: config[name] for name in found}), parts), config


def test_the_bits_that_are_set_are_those_that_run_are_counted_and_are_exported(net: nn.Module) -> None:
    prepared, config = super_net(net)
    nodes = quantizable_nodes(TracedModel(net, (X[:1],)))
    counted, outputs = {}, {}
    for bits in ("4/4", "2/2"):
        select_bits(prepared, {**config, "c2": parse_bits(bits)})
        counted[bits] = network_bops(nodes, prepared.bits, "saq")
        with torch.no_grad():
            outputs[bits] = prepared.eval()(X)
        levels = prepared.layer("c2").weight().unique()
        assert len(levels) == 2 ** int(bits[0])
        costs = {cost.name: cost for cost in pq.convert(prepared.finish(), example_inputs=(X[:1],)).layer_costs()}
        assert (costs["c2"].weight_bits, costs["c2"].act_bits) == (int(bits[0]), int(bits[0]))
        assert costs["c1"].weight_bits == 5
    assert counted["2/2"] < counted["4/4"]
    assert not torch.equal(outputs["2/2"], outputs["4/4"])


def test_every_layer_of_a_super_net_is_perturbed_and_learns_at_its_own_bits_alone(net: nn.Module) -> None:
    prepared, config = super_net(net)
    select_bits(prepared, {**config, "c1": parse_bits("3/3")})
    stepper = SharpStepper(prepared, 0.4)
    with stepper.watched() as weights:
        F.cross_entropy(prepared(X), Y).backward()
        assert len(stepper.gradients(weights).weights) == 6
    stepper.backward(lambda: F.cross_entropy(prepared(X), Y))
    layer = prepared.layer("c1")
    assert [clip.grad is not None for clip in layer.weight.clips] == [False, True, False, False]
    assert [norm.weight.grad is not None for norm in layer.norm.norms] == [False, True, False, False]
    assert layer.weight.latent.grad is not None


# ---- the search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"bops": 0.018}, {"avg_weight_bits": 3.6}, {"bops": 0.02, "size_mb": 0.0025}], ids=str)
def test_a_search_keeps_its_budget_and_takes_the_least_sharpness(net: nn.Module, limits: dict[str, float]) -> None:
    budget = pq.Budget(**limits)
    found = allocate(net, pq.SAQ(epochs=1, search=QUICK), budget)
    nodes = quantizable_nodes(TracedModel(net, (X[:1],)))
    for name, limit in limits.items():
        cost = budget_costs(nodes)[name]
        assert sum(cost(node, found[node.name]) for node in nodes) <= limit * (1 + 1e-9)
    assert str(found["stem"]) == str(found["fc"]) == "8/8"
    assert found["c3"] == found["down"]  # tied, and readers of one tensor
    finalists = found.report.facts["finalists"]
    least = min(finalists, key=lambda row: row["sharpness"])
    chosen = " ".join(str(found[name]) for name in found.problem.names)
    assert least["bits"] == chosen
    assert len({row["bits"] for row in finalists}) == len(finalists) > 1


def test_the_bits_that_were_found_are_trained_and_kept_beside_the_checkpoint(net: nn.Module, tmp_path: Path) -> None:
    method = pq.SAQ(epochs=1, search=QUICK, checkpoint=tmp_path / "run.pt")
    given = {"example_inputs": (X[:1],), "train": BATCHES, "val": BATCHES, "budget": pq.Budget(bops=0.018)}
    graph = pq.quantize(net, method, **given)
    bits = graph.meta["allocation"]
    costs = {cost.name: cost for cost in pq.convert(graph, example_inputs=(X[:1],)).layer_costs() if cost.macs}
    assert {name: f"{cost.weight_bits}/{cost.act_bits}" for name, cost in costs.items()} == {k: str(v) for k, v in bits.items()}
    assert dict(pq.BitConfig.load(tmp_path / "run.pt.bits.json")) == dict(bits)
    again = pq.quantize(net, method, **given)
    assert dict(again.meta["allocation"]) == dict(bits)


def test_a_seed_decides_the_search(net: nn.Module) -> None:
    method = pq.SAQ(epochs=1, search=QUICK)
    first, second = (allocate(net, method, pq.Budget(bops=0.018)).report.facts for _ in range(2))
    assert first == second
    assert first != allocate(net, replace(method, seed=1), pq.Budget(bops=0.018)).report.facts


def test_milliseconds_are_a_budget_like_any_other(net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = allocate(net, pq.SAQ(epochs=1, search=QUICK), pq.Budget(latency_ms=1000.0))
    assert found.report.facts["totals"]["latency_ms"] < 1000
    assert {str(found[name]) for name in ("c1", "c2", "c3")} <= {"4/4", "6/6", "8/8"}


def test_what_cannot_be_searched_says_so(net: nn.Module) -> None:
    with pytest.raises(InfeasibleError, match="cheapest candidates"):
        allocate(net, pq.SAQ(), pq.Budget(bops=0.001))
    for name in ("train", "val"):
        with pytest.raises(ValueError, match=f"{name}: SAQ"):
            allocate(net, pq.SAQ(), pq.Budget(bops=0.02), **{name: None})
    with pytest.raises(ValueError, match="search"):
        Search(epochs=2, warmup=3)


# ---- sharpness ------------------------------------------------------------------------------------------------------


def test_sharpness_is_measured_around_a_network_that_stays_as_it_is(net: nn.Module) -> None:
    method = pq.SAQ(3, 3)
    prepared = method.prepare(net, (X,))
    before = {name: p.detach().clone() for name, p in prepared.named_parameters()}
    stepper = method.stepper(prepared)
    whole = measure_sharpness(stepper, [([X], Y)], F.cross_entropy, (0.1, 0.5), directions=2)
    parts = measure_sharpness(stepper, [([x], y) for x, y in BATCHES], F.cross_entropy, (0.1, 0.5), directions=2)
    assert whole.loss == pytest.approx(parts.loss, rel=1e-5)
    assert whole.uphill == pytest.approx(parts.uphill, rel=1e-3)
    assert whole.uphill[1] > whole.uphill[0] > whole.loss
    assert all(up > around for up, around in zip(whole.uphill, whole.random, strict=True))
    assert all(torch.equal(before[name], p) for name, p in prepared.named_parameters())
    assert prepared.training


def test_training_with_rho_ends_in_a_flatter_minimum_and_the_report_says_so(net: nn.Module, tmp_path: Path) -> None:
    measured = {}
    for name, rho in (("flat", 0.5), ("plain", 0.0)):
        torch.manual_seed(0)
        prepared = pq.SAQ(2, 2, first_last=None).prepare(net, (X,))
        stepper = SharpStepper(prepared, rho)
        optimizer = torch.optim.SGD(prepared.parameter_groups(0.0), lr=0.05, momentum=0.9)
        for i in range(80):
            x, y = BATCHES[i % 2]
            stepper.backward(lambda p=prepared, x=x, y=y: F.cross_entropy(p(x), y))
            optimizer.step()
        measured[name] = measure_sharpness(stepper, [([X], Y)], F.cross_entropy, (0.2, 0.5), directions=1)
    report = sharpness_report(measured)
    rows = json.loads(report.to_json())["rows"]
    sharp = {(row["name"], row["radius"]): row["sharpness"] for row in rows}
    assert sharp["flat", 0.5] < sharp["plain", 0.5]
    report.plot(tmp_path / "sharpness.png")
    assert (tmp_path / "sharpness.png").read_bytes()[:4] == b"\x89PNG"
