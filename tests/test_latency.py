"""Budgets in milliseconds: measured layers, their cache, and the check of what was predicted. Nothing here asserts a time."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from traces import traced_once

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.allocation.cache import cache_path, load_times, save_times
from pyqinfer.allocation.latency import Measured, Meter, layer_key, refined
from pyqinfer.allocation.problem import Problem
from pyqinfer.bits import LayerBits, parse_bits
from pyqinfer.measure.build import engine_build
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import QuantNode, quantizable_nodes
from pyqinfer.train.pruning import finish_pruning, prune

PAIRS = ("8/8", "4/8", "4/4")


class Small(nn.Module):
    """Two blocks of one shape: layers with the same key."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.a, self.b, self.c = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        x = torch.relu(self.b(torch.relu(self.a(x))) + x)
        return self.fc(torch.relu(self.c(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Iterator[nn.Module]:
    torch.manual_seed(0)
    net = Small().eval()
    with traced_once(net):
        yield net


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYQINFER_CACHE_DIR", str(tmp_path))
    return tmp_path / "latency.json"


def nodes_of(net: nn.Module, images: Tensor) -> list[QuantNode]:
    return quantizable_nodes(TracedModel(net, (images[:1],)))


def count_measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many networks each call of Meter.measure quantized."""
    counts: list[int] = []
    measure = Meter.measure

    def counted(self: Meter, configs: list[dict[str, LayerBits]]) -> list[Measured]:
        counts.append(len(configs))
        return measure(self, configs)

    monkeypatch.setattr(Meter, "measure", counted)
    return counts


def test_a_key_says_what_a_layers_time_depends_on(net: nn.Module, images: Tensor) -> None:
    keys = {node.name: layer_key(node, 2) for node in nodes_of(net, images)}
    assert keys["stem"] == "conv2d 16x3x3x3 on 2x3x12x12 [[1, 1], [1, 1]]"
    assert keys["a"] == keys["c"] == "conv2d 16x16x3x3 on 2x16x12x12 [[1, 1], [1, 1]]"
    assert keys["b"] == keys["a"] + " + residual"
    assert keys["fc"] == "linear 4x16 on 2x16 []"
    pruned = finish_pruning(prune(copy.deepcopy(net), 0.88, keep=["stem", "fc"]))
    after = {node.name: layer_key(node, 2) for node in nodes_of(pruned, images)}
    assert after["a"] == keys["a"] + " 90 % zeros"
    assert after["fc"] == keys["fc"]


def test_layers_are_measured_once_per_machine(net: nn.Module, images: Tensor, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = count_measurements(monkeypatch)
    nodes = nodes_of(net, images)
    wanted = {node.name: tuple(map(parse_bits, PAIRS)) for node in nodes}
    first, rest = Meter(net, (images[:1],), nodes, 1, "auto").table(wanted)
    again, _ = Meter(net, (images[:1],), nodes, 1, "auto").table(wanted)
    assert counts == [3]
    assert first == again
    assert set(first) == {"stem", "a", "b", "c", "fc"}
    assert all(ms > 0 for row in first.values() for ms in row.values())
    assert first["a"] == first["c"]
    assert rest >= 0
    more, _ = Meter(net, (images[:1],), nodes, 1, "auto").table({**wanted, "a": (parse_bits("6/6"),)})
    assert counts == [3, 2]  # the new pair, beside 8/8
    assert more["b"] == first["b"]
    (environment,) = json.loads(cache.read_text())["environments"]
    assert pq.cpu_info()["brand"] in environment
    assert "1 threads" in environment
    assert engine_build() in environment


def test_other_threads_instruction_sets_and_shapes_are_measured_anew(
    net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = count_measurements(monkeypatch)
    nodes = nodes_of(net, images)
    wanted = {node.name: (parse_bits("8/8"),) for node in nodes}
    for threads, isa, count in ((1, "auto", 1), (2, "auto", 1), (1, "reference", 1), (1, "auto", 2)):
        Meter(net, (images[:count],), nodes, threads, isa).table(wanted)
    assert counts == [1, 1, 1, 1]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "pyqinfer-latency", "version": 99}', '{"environments": 3}'])
def test_a_cache_that_means_nothing_is_written_anew(cache: Path, content: str) -> None:
    cache.write_text(content)
    assert load_times("here") == {"layers": {}, "networks": {}}
    save_times("here", {"layers": {"a": 1.5}})
    save_times("here", {"networks": {"n": 0.5}})
    assert load_times("here") == {"layers": {"a": 1.5}, "networks": {"n": 0.5}}
    assert load_times("elsewhere") == {"layers": {}, "networks": {}}


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_path() == tmp_path / "latency.json"
    monkeypatch.delenv("PYQINFER_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path() == tmp_path / "xdg" / "pyqinfer" / "latency.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_path() == Path.home() / ".cache" / "pyqinfer" / "latency.json"


def test_concatenations_and_transposed_convolutions_are_measured_too(images: Tensor) -> None:
    torch.manual_seed(0)
    unet, x = zoo.unet(width=8, depth=2, upsampling="transposed").eval(), images[:2, :, :8, :8].contiguous()
    with traced_once(unet):
        nodes = quantizable_nodes(TracedModel(unet, (x,)))
        table, rest = Meter(unet, (x,), nodes, 1, "auto").table({node.name: (parse_bits("8/8"), parse_bits("4/4")) for node in nodes})
        assert sum(row[parse_bits("8/8")] > 0 for row in table.values()) >= len(nodes) - 2
        assert rest >= 0
        found = pq.allocate(
            unet, pq.OMPQ(samples=4), budget=pq.Budget(latency_ms=1000), example_inputs=(x,), calibration=[images[:4, :, :8, :8]]
        )
    assert {node.name for node in nodes} == set(found)


def test_a_measured_solution_corrects_its_own_times_and_those_of_the_same_bits() -> None:
    options = (tuple(map(parse_bits, ("8/8", "4/4"))),) * 3
    problem = Problem(
        ("a", "b", "c"), options, ((0.0, 1.0),) * 3, {"latency_ms": ((2.0, 1.0),) * 3}, {"latency_ms": 5.0}, {"latency_ms": 1.0}
    )
    solution = problem.solution((0, 1, 1), True, "milp")
    measured = Measured({"a": 2.2, "b": 0.9, "c": 0.7, "stem": 0.5}, rest_ms=0.3)
    found = refined(problem, solution, {"stem": 0.6}, measured)
    assert found.total("latency_ms", (0, 1, 1)) == pytest.approx(measured.total_ms)
    assert found.costs["latency_ms"][0] == pytest.approx((2.2, 0.8))
    assert found.costs["latency_ms"][1] == pytest.approx((2.2, 0.9))


def test_a_budget_in_milliseconds_from_the_call_to_the_check(net: nn.Module, images: Tensor) -> None:
    """Loose enough that a busy machine meets it: what is tested is that everything meets, not how fast the machine is."""
    method = pq.OMPQ(candidates=PAIRS, samples=8)
    budget = pq.Budget(latency_ms=1000, size_mb=0.004)
    found = pq.allocate(net, method, budget=budget, example_inputs=(images[:1],), calibration=[images])
    assert found.solution.costs["size_mb"] <= 0.004
    rows = {row["name"]: row for row in found.report.rows}
    spent = sum(rows[name]["ms"] for name in ("a", "b", "c")) + found.problem.fixed["latency_ms"]
    assert spent == pytest.approx(found.solution.costs["latency_ms"])
    assert any("ms (budget: 1000.000 ms)" in note for note in found.report.notes)
    module = pq.quantize(net, pq.PTQ(bits=found), example_inputs=(images[:1],), calibration=[images])
    check = found.check_latency(pq.convert(module, example_inputs=(images[:1],)), (images[:1],))
    assert check.rows[0]["predicted_ms"] == found.solution.costs["latency_ms"]
    assert check.rows[0]["measured_ms"] > 0


def test_a_budget_that_no_bits_meet_names_the_least_time(net: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"latency_ms: 1e-06 asked, but the least possible is"):
        pq.allocate(net, pq.OMPQ(samples=8), budget=pq.Budget(latency_ms=1e-6), example_inputs=(images[:1],), calibration=[images])


def test_only_budgets_in_milliseconds_have_a_prediction(net: nn.Module, images: Tensor) -> None:
    found = pq.allocate(net, pq.OMPQ(samples=8), budget=pq.Budget(bops=0.04), example_inputs=(images[:1],), calibration=[images])
    with pytest.raises(ValueError, match="nothing was predicted"):
        found.check_latency(pq.convert(net, example_inputs=(images[:1],)), (images[:1],))


def test_uniform_networks_run_the_bits_they_are_measured_at(net: nn.Module, images: Tensor) -> None:
    """Every layer of the measured network executes at its pair of bits."""
    nodes = nodes_of(net, images)
    meter = Meter(net, (images[:1],), nodes, 1, "auto")
    for text, expected in (("8/8", (8, 8)), ("4/6", (4, 6)), ("t/4", (2, 4)), ("float", (32, 32))):
        model = meter.network(dict.fromkeys((node.name for node in nodes), parse_bits(text)))
        assert {(cost.weight_bits, cost.act_bits) for cost in model.layer_costs() if cost.macs} == {expected}
