"""OMPQ: orthogonality of layers, importances, allocation, and the lists that the paper's code published."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from published import OMPQ_MOBILENET_V2, OMPQ_RESNET18, OMPQ_RESNET18_QAT
from torch import Tensor, nn
from traces import traced_once

import pyqinfer as pq
from pyqinfer import zoo
from pyqinfer.allocation.api import Allocation
from pyqinfer.allocation.costs import float_bops, layer_mib, network_bops
from pyqinfer.allocation.problem import InfeasibleError
from pyqinfer.allocation.slsqp import relaxed_bits, rounded_bits
from pyqinfer.bits import LayerBits, parse_bits
from pyqinfer.methods.ompq import OMPQ, added_noise, importances, lost_bits, sums_of_orm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import entries, quantizable_nodes
from pyqinfer.quantization.orm import collect_grams, gram, orm, orm_matrix

X = torch.tensor([[1.0, 0], [0, 1], [1, 1], [2, 0]])
Y = torch.tensor([[1.0, 2, 0], [0, 1, 1], [3, 0, 1], [1, 1, 1]])
ESTIMATES = [{"center": c, "debiased": d} for c in (True, False) for d in (True, False)]


def features(count: int = 12, width: int = 30, seed: int = 0) -> Tensor:
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.mark.parametrize(("center", "expected"), [(True, 0.1548202805556581), (False, 0.7732369676646775)])
def test_orm_of_the_fixture(center: bool, expected: float) -> None:
    assert orm(gram(X), gram(Y), center=center, debiased=False) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("how", ESTIMATES)
def test_orm_is_symmetric_and_one_for_a_layer_with_itself_and_its_rotations(how: dict[str, bool]) -> None:
    a, b = features(seed=1), features(seed=2)
    rotation, _ = torch.linalg.qr(torch.randn(30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    assert orm(gram(a), gram(a), **how) == pytest.approx(1, abs=1e-12)
    assert orm(gram(a), gram(3.5 * a @ rotation), **how) == pytest.approx(1, abs=1e-12)
    assert orm(gram(a), gram(b), **how) == pytest.approx(orm(gram(b), gram(a), **how), abs=1e-15)
    assert abs(orm(gram(a), gram(b), **how)) <= 1


@pytest.mark.parametrize("debiased", [True, False])
def test_the_centred_orm_does_not_see_shifts(debiased: bool) -> None:
    a, b = features(seed=1), features(seed=2)
    expected = orm(gram(a), gram(b), debiased=debiased)
    assert orm(gram(a + 5), gram(b - 2), debiased=debiased) == pytest.approx(expected, abs=1e-11)
    assert orm(gram(a + 5), gram(b - 2), center=False, debiased=debiased) != pytest.approx(expected, abs=1e-3)


def test_orthogonal_functions_have_an_orm_of_zero() -> None:
    a, b = torch.tensor([[1.0], [-1], [0], [0]]), torch.tensor([[1.0], [1], [-1], [-1]])
    assert orm(gram(a), gram(b), debiased=False) == pytest.approx(0, abs=1e-15)


def test_gram_and_feature_forms_agree() -> None:
    a, b = features(seed=1), features(width=7, seed=2)
    a, b = a - a.mean(0), b - b.mean(0)
    by_features = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert orm(gram(a), gram(b), debiased=False) == pytest.approx(float(by_features), abs=1e-12)


def test_few_samples_of_many_features_look_alike_unless_debiased() -> None:
    """Independent Gaussian features, d = 2000: 0.986 at N = 32 and 0.939 at N = 128 where the estimate is biased."""
    for count, biased in ((32, 0.986), (128, 0.939)):
        a, b = (torch.randn(count, 2000, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
        assert orm(gram(a), gram(b), debiased=False) == pytest.approx(biased, abs=3e-3)
        assert abs(orm(gram(a), gram(b))) < 0.1


def test_a_constant_layer_has_nothing_in_common_with_others() -> None:
    assert orm_matrix([gram(torch.ones(6, 3)), gram(features(6))])[0, 1] == 0


def test_a_debiased_estimate_needs_four_samples() -> None:
    with pytest.raises(ValueError, match="at least 4 samples, got 3"):
        orm(gram(X[:3]), gram(Y[:3]))


def test_orm_of_a_known_network() -> None:
    """A ResNet-18 of random weights (seed 0, then 32 images of noise): the 18 sums of centred, not debiased ORM."""
    torch.manual_seed(0)
    model, x = zoo.resnet18().eval(), torch.randn(32, 3, 64, 64)
    graph = TracedModel(model, (x[:1],))
    taps = [group[-1].tap for group in entries(quantizable_nodes(graph))]
    grams = collect_grams(graph.module, taps, (x,))
    gammas = sums_of_orm([grams[tap] for tap in taps], center=True, debiased=False)
    expected = [16.465, 16.490, 16.504, 16.500, 16.520, 16.485, 16.548, 16.525, 16.545]
    expected += [16.428, 16.531, 16.428, 16.495, 16.233, 16.261, 16.129, 16.217, 15.281]
    np.testing.assert_allclose(gammas, expected, atol=2e-3)


@cache
def sizes_at_8(name: str) -> list[float]:
    """MiB of every entry at 8 bits, BatchNorms and biases included."""
    nodes = quantizable_nodes(TracedModel(getattr(zoo, name)(), (torch.zeros(1, 3, 224, 224),)))
    return [sum(layer_mib(node, LayerBits(8, 8), "ompq") for node in group) for group in entries(nodes)]


@pytest.mark.parametrize("budget", [3.0, 4.0, 4.5, 5.0, 5.5])
def test_the_released_solver_gives_the_published_resnet18_lists_without_any_data(budget: float) -> None:
    sizes = sizes_at_8("resnet18")
    bits = rounded_bits(relaxed_bits([0.0] * 18, sizes, 0.0, budget, 2, 4), sizes)
    assert "".join(map(str, bits)) == OMPQ_RESNET18[budget][0]


@pytest.mark.parametrize(("budget", "differing"), [(1.5, 0), (1.3, 1)])
def test_the_released_solver_gives_published_mobilenet_lists_with_equal_importances(budget: float, differing: int) -> None:
    sizes = sizes_at_8("mobilenet_v2")
    bits = rounded_bits(relaxed_bits([1.0] * 53, sizes, 0.0, budget, 2, 4), sizes)
    assert sum(int(listed) != found for listed, found in zip(OMPQ_MOBILENET_V2[budget][0], bits, strict=True)) == differing


def test_the_list_published_for_training_did_need_data() -> None:
    """No data-free limit of the released solver gives it."""
    sizes = sizes_at_8("resnet18")
    for importance in (0.0, 1.0):
        bits = rounded_bits(relaxed_bits([importance] * 16, sizes[1:-1], sizes[0] + sizes[-1], 6.7, 4, 8), sizes[1:-1])
        assert "".join(map(str, bits)) != OMPQ_RESNET18_QAT


def test_the_tree_takes_the_largest_size_that_is_not_above_the_fractional_one() -> None:
    sizes, bits = [3.0, 5.0, 7.0, 1.0], np.array([2.5, 3.0, 2.5, 3.4])
    found = rounded_bits(bits, sizes)
    trees = [(a, 3, b, c) for a in (2, 3) for b in (2, 3) for c in (3, 4)]
    assert np.dot(sizes, found) == max(total for tree in trees if (total := np.dot(sizes, tree)) <= np.dot(sizes, bits)) == 42
    assert found == [3, 3, 2, 4]


def test_importances_are_means_over_later_layers_and_survive_large_betas() -> None:
    gammas = np.array([5.0, 12.0, 7.0])
    theta = np.exp(-(gammas - 5))
    np.testing.assert_allclose(importances(gammas, 1.0), [theta.mean(), theta[1:].mean(), theta[2]], rtol=1e-14)
    assert importances(gammas, 1000.0)[0] == pytest.approx(1 / 3)
    np.testing.assert_array_equal(importances(gammas, 0.0), [1, 1, 1])


@pytest.mark.parametrize(("bits", "lost"), [("8/8", 0), ("4/8", 4), ("4/6", 6), ("t/8", 8 - np.log2(3)), ("float", 0)])
def test_bits_lost_against_eight(bits: str, lost: float) -> None:
    assert lost_bits(parse_bits(bits)) == pytest.approx(lost)


@pytest.mark.parametrize(("bits", "noise"), [("8/8", 0), ("4/8", 1 - 4.0**-4), ("3/4", 4 + 1 - 2 * 4.0**-4), ("float", 0)])
def test_noise_added_to_eight_bits(bits: str, noise: float) -> None:
    assert added_noise(parse_bits(bits)) == pytest.approx(noise)


@pytest.fixture(scope="module")
def net() -> Iterator[nn.Module]:
    torch.manual_seed(0)
    net = zoo.randomize_batchnorm(zoo.resnet20(10, 3), 0, images=torch.randn(8, 3, 32, 32))
    with traced_once(net):
        yield net


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def allocate(net: nn.Module, images: Tensor, budget: pq.Budget, method: OMPQ | None = None, **keep: str) -> Allocation:
    return pq.allocate(net, method or OMPQ(), budget=budget, example_inputs=(images[:1],), calibration=images.split(10), keep=keep)


def test_an_allocation_keeps_its_budget_and_says_what_data_changed(
    net: nn.Module, images: Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    found = allocate(net, images, pq.Budget(avg_weight_bits=4))
    assert found.solution.optimal
    assert 3.9 < found.report.facts["totals"]["avg_weight_bits"] <= 4
    assert {str(found["conv1"]), str(found["fc"])} == {"8/8"}
    assert {found[name].act for name in found} == {8}
    line = capsys.readouterr().err.strip()
    assert line.startswith("OMPQ: ")
    assert line == found.report.notes[-1]
    differing = sum(str(found[name]) != bits for name, bits in found.report.facts["data_free"].items())
    assert (f"{differing} of 20 layers" in line) if differing else ("changed nothing" in line)


def test_tied_layers_take_the_same_weight_bits(net: nn.Module, images: Tensor) -> None:
    found = allocate(net, images, pq.Budget(avg_weight_bits=4), OMPQ(tie_blocks=True))
    for stage in (2, 3):
        assert found[f"layer{stage}.0.downsample.0"].weight == found[f"layer{stage}.0.conv2"].weight


def test_counting_noise_spreads_bits_less_than_counting_bits(net: nn.Module, images: Tensor) -> None:
    """A sum that is linear in the bits is best with some layers at the lowest candidate; noise grows fourfold with each bit less."""
    widths = tuple(f"{bits}/8" for bits in (2, 3, 4, 5, 6, 8))
    noise, bits = (
        allocate(net, images, pq.Budget(avg_weight_bits=4), OMPQ(objective=objective, candidates=widths)) for objective in ("noise", "bits")
    )
    chosen = [[int(found[name].weight) for name in found.solution.bits] for found in (noise, bits)]
    assert sum(width in (2, 8) for width in chosen[0]) < sum(width in (2, 8) for width in chosen[1])
    assert min(chosen[0]) > min(chosen[1])


def test_bops_as_of_uniform_four_bits_leave_a_choice(net: nn.Module, images: Tensor) -> None:
    nodes = quantizable_nodes(TracedModel(net, (images[:1],)))
    uniform = pq.PTQ(weight_bits=4, act_bits=4).layer_bits([node.name for node in nodes], {})
    found = allocate(net, images, pq.Budget(bops=network_bops(nodes, uniform) / float_bops(nodes)))
    assert network_bops(nodes, found) <= network_bops(nodes, uniform)
    assert {3, 4, 5} <= {bits.weight for bits in found.values()}


def test_several_budgets_hold_at_once(net: nn.Module, images: Tensor) -> None:
    loose = allocate(net, images, pq.Budget(bops=0.035)).report.facts["totals"]
    found = allocate(net, images, pq.Budget(bops=0.035, size_mb=0.8 * loose["size_mb"])).report.facts["totals"]
    assert found["bops"] <= 0.035
    assert found["size_mb"] <= 0.8 * loose["size_mb"]


def test_readers_of_one_tensor_get_one_activation_width_and_kept_layers_prescribe_it(net: nn.Module, images: Tensor) -> None:
    found = allocate(net, images, pq.Budget(bops=0.025), OMPQ(candidates=("8/8", "4/8", "4/4")))
    for stage in (2, 3):
        assert found[f"layer{stage}.0.downsample.0"].act == found[f"layer{stage}.0.conv1"].act
    kept = allocate(net, images, pq.Budget(bops=0.9), OMPQ(candidates=("4/4",)), **{"layer2.0.downsample.0": "8/6", "layer1*": "float"})
    assert str(kept["layer2.0.downsample.0"]) == "8/6"
    assert str(kept["layer2.0.conv1"]) == "4/6"
    assert str(kept["layer2.0.conv2"]) == "4/4"
    assert kept["layer1.2.conv2"].is_float


def test_the_bits_that_run_are_those_of_the_allocation(net: nn.Module, images: Tensor) -> None:
    budget, method = pq.Budget(bops=0.03), OMPQ(candidates=("8/8", "4/8", "4/4"))
    found = allocate(net, images, budget, method)
    module = pq.quantize(net, method, example_inputs=(images[:1],), calibration=(batch for batch in images.split(10)), budget=budget)
    model = pq.convert(module, example_inputs=(images[:1],))
    running = {cost.name: (cost.weight_bits, cost.act_bits) for cost in model.layer_costs() if cost.macs}
    assert running == {name: (bits.weight, bits.act) for name, bits in found.items()}
    assert model.bops() == pytest.approx(found.solution.costs["bops"] * 1024 * model.macs())
    assert len({str(bits) for bits in found.values()}) > 1


def test_a_saved_allocation_can_be_edited_and_used(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    found = allocate(net, images, pq.Budget(avg_weight_bits=4))
    found.save(tmp_path / "bits.json")
    text = (tmp_path / "bits.json").read_text()
    (tmp_path / "bits.json").write_text(text.replace('"layer1.0.conv1": "' + str(found["layer1.0.conv1"]), '"layer1.0.conv1": "6/6'))
    edited = pq.BitConfig.load(tmp_path / "bits.json")
    assert {name for name in found if edited[name] != found[name]} == {"layer1.0.conv1"}
    assert pq.PTQ(bits=edited).layer_bits(list(found), {}) == edited


def test_the_frontier_starts_at_the_cheapest_and_passes_through_the_solution(net: nn.Module, images: Tensor) -> None:
    found = allocate(net, images, pq.Budget(bops=0.03), OMPQ(candidates=("8/8", "4/8", "4/4")))
    frontier = found.frontier()
    costs, scores = [s.costs["bops"] for s in frontier], [s.score for s in frontier]
    assert costs == sorted(costs)
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == 0
    assert any(s.score == pytest.approx(found.solution.score) for s in frontier)
    assert len(found.frontier_report("size_mb").rows) > 1


def test_the_released_solver_as_a_method(net: nn.Module, images: Tensor) -> None:
    widths = ("2/8", "3/8", "4/8")
    found = allocate(net, images, pq.Budget(size_mb=0.1), OMPQ(solver="released", candidates=widths, first_last=None))
    assert not found.solution.optimal
    assert found.solution.costs["size_mb"] <= 0.1
    exact = allocate(net, images, pq.Budget(size_mb=0.1), OMPQ(candidates=widths, first_last=None, debiased=False, objective="bits"))
    assert exact.solution.optimal
    with pytest.raises(ValueError, match="takes a size budget alone"):
        allocate(net, images, pq.Budget(bops=0.03), OMPQ(solver="released", candidates=widths))
    with pytest.raises(ValueError, match="consecutive weight bits"):
        allocate(net, images, pq.Budget(size_mb=0.1), OMPQ(solver="released", candidates=("2/8", "4/8")))


def test_networks_without_batch_norm_and_of_linear_layers_are_allocated_too() -> None:
    torch.manual_seed(0)
    mlp, x = nn.Sequential(*(m for _ in range(4) for m in (nn.Linear(16, 16), nn.ReLU())), nn.Linear(16, 4)).eval(), torch.randn(16, 16)
    found = pq.allocate(mlp, OMPQ(), budget=pq.Budget(avg_weight_bits=5), example_inputs=(x,), calibration=[x])
    assert len(found) == 5
    assert found.report.facts["totals"]["avg_weight_bits"] <= 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"budget": None}, TypeError, r"expected a pq\.Budget"),
        ({"budget": 0.05}, TypeError, r"expected a pq\.Budget"),
        ({"method": pq.PTQ()}, TypeError, r"expected one that chooses bits, such as pq\.OMPQ\(\)"),
        ({"model": 20}, TypeError, r"expected a torch\.nn\.Module"),
        ({"calibration": None}, ValueError, "compares layers on a batch"),
        ({"calibration": [torch.zeros(2, 3, 16, 16)]}, ValueError, "at least 4 samples, got 2"),
        ({"budget": pq.Budget(size_mb=0.001)}, InfeasibleError, "size_mb: 0.001 asked, but the least possible"),
        ({"keep": {"*": "8/8"}}, ValueError, "every layer keeps its bits"),
        ({"keep": {"head": "8/8"}}, ValueError, "no layer matches 'head'"),
        ({"keep": {"fc": "8/16"}}, ValueError, r"keep\['fc'\]"),
    ],
)
def test_misuse_is_refused_with_a_sentence(
    net: nn.Module, images: Tensor, arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    usual = {"model": net, "method": OMPQ(), "budget": pq.Budget(bops=0.04), "example_inputs": (images[:1],), "calibration": [images]}
    with pytest.raises(error, match=message):
        pq.allocate(**{**usual, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"beta": -1},
        {"objective": "x"},
        {"samples": 3},
        {"solver": "simplex"},
        {"candidates": ()},
        {"candidates": ("9/8",)},
        {"first_last": "x"},
    ],
)
def test_a_method_refuses_what_does_not_exist(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"beta|objective|samples|solver|candidates|bits"):
        OMPQ(**arguments)  # type: ignore[arg-type]
