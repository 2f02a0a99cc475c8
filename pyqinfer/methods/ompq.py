"""OMPQ: bits by how orthogonal layers are, with one pass over a batch of samples and no search (Ma et al. 2023, arXiv 2109.07865)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule

from pyqinfer.allocation.api import Allocation
from pyqinfer.allocation.choose import SOLVERS, Findings, Loss, Rules, build_plan, finish
from pyqinfer.allocation.problem import Problem, Solution
from pyqinfer.allocation.slsqp import relaxed_bits, rounded_bits
from pyqinfer.bits import LayerBits
from pyqinfer.budget import check_budget
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import QuantNode, entries, quantizable_nodes
from pyqinfer.quantization.orm import collect_grams, orm_matrix
from pyqinfer.quantization.pipeline import Settings, run_pipeline
from pyqinfer.report import Cell, Column

_Floats = NDArray[np.float64]
# Choices that are equally good with equal importances are told apart by this share of the true ones, so that the comparison takes the
# one nearest to the allocation.
_TIE_BREAK = 1e-6
_COLUMNS = (
    Column("gamma", "sum of ORM", ".3f"),
    Column("gamma_plain", "not debiased", ".3f"),
    Column("importance", "importance", ".4g"),
)


@dataclass(frozen=True)
class OMPQ(Settings):
    """Configuration of OMPQ: under a budget, layers that have little in common with others get more bits.

    The importance of layer i is the mean of ``exp(-beta * g_j)`` over it and all later layers, g_j the mean of layer j's ORM with all
    others (:mod:`pyqinfer.quantization.orm`). The paper takes the sum, gamma, so that the same beta means more in a deeper network: of the
    52 layers of a MobileNetV2 the sums were between 10 and 41, and a beta of 1 left the first layers next to no importance. Activation
    bits, where they are up for choice, count like weight bits.

    The paper maximises ``sum(importance * bits)``. That is linear: a bit more or less is worth the same at 2 bits as at 7, so the
    solver gives some layers as few and others as many bits as it may, and only the candidates keep it from harm. The default minimises
    ``sum(importance * noise)`` instead, with the noise power of a uniform quantizer, which a bit less makes four times as large.

    The published post-training lists need no data: ``exp`` underflows or is constant at the released betas. So the report always says how
    far the result is from the allocation with equal importances.

    Args:
        beta: how strongly orthogonality counts; 0: not at all.
        objective: "noise", or "bits" as in the paper (see above).
        samples: how many calibration samples are compared, at least 4.
        center, debiased: see :func:`pyqinfer.quantization.orm.orm`.
        candidates: bits that a layer may take; None: by the budget (weights within a bit of the average that it allows, or pairs).
        first_last: bits of the first and the last layer, which do not choose; None: they choose as well.
        tie_blocks: a block's last convolution and its downsample take the same weight bits, as in the published lists.
        solver: "milp" (optimum proved), "dp", "lp" or "greedy"; or "released" for the published solver and rounding: a size budget alone,
            weight bits alone, sizes with biases, gamma and beta, sums of ORM not debiased, theta as it underflows, objective "bits"; it
            may exceed the budget.

    Raises:
        ValueError: values out of range.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration", "budget"})
    needs: ClassVar[frozenset[str]] = frozenset({"calibration", "budget"})

    beta: float = 1.0
    objective: str = "noise"
    samples: int = 32
    center: bool = True
    debiased: bool = True
    candidates: Sequence[str | LayerBits] | None = None
    first_last: str | LayerBits | None = "8/8"
    tie_blocks: bool = False
    solver: str = "milp"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.beta < float("inf"):
            raise ValueError(f"beta: expected a number >= 0, got {self.beta}")
        if self.objective not in _OBJECTIVES:
            raise ValueError(f"objective: expected one of {', '.join(_OBJECTIVES)}, got {self.objective!r}")
        if self.samples < 4:
            raise ValueError(f"samples: expected at least 4, got {self.samples}")
        _ = self._rules

    @classmethod
    def from_options(cls, *, observer: str, candidates: Sequence[str] | None) -> OMPQ:
        """The configuration that options of ``pyqinfer quantize`` ask for."""
        return cls(observer=observer, candidates=candidates)

    @property
    def _rules(self) -> Rules:
        return Rules(self.candidates, self.first_last, self.tie_blocks, "milp" if self.solver == "released" else self.solver)

    def allocate(self, task: Task) -> Allocation:
        """See :func:`pyqinfer.allocate`. Raises ValueError without calibration data, and TypeError without a budget."""
        check_budget(task.budget)
        traced = task.traced()
        nodes = quantizable_nodes(traced)
        grams = self._grams(traced, nodes, task)
        debiased, plain = (sums_of_orm(grams, self.center, debiased) for debiased in (True, False))
        released = self.solver == "released"
        gammas = debiased if self.debiased and not released else plain
        by_entry = released_importances(gammas, self.beta) if released else importances(gammas / max(1, len(gammas) - 1), self.beta)
        importance = layer_importance(nodes, by_entry)
        columns = {node.name: {"gamma": float(debiased[i]), "gamma_plain": float(plain[i])} for i, node in _numbered(nodes)}
        for name, value in importance.items():
            columns[name]["importance"] = value
        solve = self._solve_released if released else self._solve
        result = solve(task, nodes, importance, columns)
        print(result.report.notes[-1], file=sys.stderr)
        return result

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`: allocate, then post-training quantization with those bits; the result's ``meta["allocation"]``
        holds the :class:`~pyqinfer.allocation.api.Allocation`."""
        task = replace(task, calibration=list(task.calibration or ()))  # the batches are read twice
        allocation = self.allocate(task)
        module = run_pipeline(task, lambda _: allocation, self)
        module.meta["allocation"] = allocation
        return module

    def _grams(self, traced: TracedModel, nodes: Sequence[QuantNode], task: Task) -> list[Tensor]:
        """Gram matrix of every entry of the network."""
        if not task.calibration:
            raise ValueError("calibration: OMPQ compares layers on a batch of typical inputs")
        inputs = _first_samples(traced.batches(task.calibration), self.samples)
        taps = [group[-1].tap for group in entries(nodes)]
        found = collect_grams(traced.module, taps, inputs)
        return [found[tap] for tap in taps]

    def _solve(
        self, task: Task, nodes: Sequence[QuantNode], importance: Mapping[str, float], columns: Mapping[str, Mapping[str, Cell]]
    ) -> Allocation:
        """Solve with the importances and, to compare, with equal ones."""
        lost = _OBJECTIVES[self.objective]
        plan = build_plan(task, nodes, _loss(importance, lost), self._rules)
        problem, solution = plan.solve(self.solver)
        equal = layer_importance(nodes, np.ones(len(entries(nodes))))
        nudge = _TIE_BREAK / max(importance.values())
        without = replace(problem, scores=_losses(problem, {name: equal[name] + nudge * importance[name] for name in equal}, lost))
        data_free = SOLVERS[self.solver](without)
        note = data_note(problem, solution, data_free)
        facts = {"beta": self.beta, "data_free": {name: str(bits) for name, bits in data_free.bits.items()}}
        return finish(task, nodes, plan.fixed, problem, solution, Findings(_COLUMNS, columns, facts, [note]))

    def _solve_released(
        self, task: Task, nodes: Sequence[QuantNode], importance: Mapping[str, float], columns: Mapping[str, Mapping[str, Cell]]
    ) -> Allocation:
        """Solve like the published code and, to compare, with the theta of 0 that its ``exp`` underflows to."""
        rules = replace(self._rules, tie_blocks=True)
        plan = build_plan(task, nodes, _loss(importance, lost_bits), rules, convention="ompq")
        problem = plan.problem
        if set(problem.limits) != {"size_mb"}:
            raise ValueError(f"solver 'released' takes a size budget alone, got {', '.join(problem.limits)}")
        solution = released_solution(problem, nodes, importance)
        data_free = released_solution(problem, nodes, dict.fromkeys(importance, 0.0))
        notes = [data_note(problem, solution, data_free)]
        if not problem.is_feasible(solution.choice):
            notes.insert(0, "rounded to the nearest bits, the list exceeds the budget")
        facts = {"beta": self.beta, "data_free": {name: str(bits) for name, bits in data_free.bits.items()}}
        return finish(task, nodes, plan.fixed, problem, solution, Findings(_COLUMNS, columns, facts, notes))


def sums_of_orm(grams: Sequence[Tensor], center: bool, debiased: bool) -> _Floats:
    """gamma, for each entry the sum of its ORM with all others."""
    matrix = orm_matrix(grams, center=center, debiased=debiased)
    gammas: _Floats = (matrix.sum(1) - matrix.diagonal()).numpy()
    return gammas


def importances(gammas: _Floats, beta: float) -> _Floats:
    """For each entry the mean of theta over it and all later ones; theta = exp(-beta * (gamma - min gamma)): the shift scales the
    published objective by a constant and keeps it from vanishing in floating point."""
    return _later_means(np.exp(-beta * (gammas - gammas.min())))


def released_importances(gammas: _Floats, beta: float) -> _Floats:
    """The published importances, with theta = exp(-beta * gamma), which is 0 for large beta."""
    return _later_means(np.exp(-beta * gammas))


def _later_means(theta: _Floats) -> _Floats:
    means: _Floats = np.cumsum(theta[::-1])[::-1] / np.arange(len(theta), 0, -1)
    return means


def released_solution(problem: Problem, nodes: Sequence[QuantNode], importance: Mapping[str, float]) -> Solution:
    """The released solver and rounding for a size-limited problem.

    Raises:
        ValueError: a layer's candidates are not consecutive weight bits with one width of activations.
    """
    index = {name: i for i, name in enumerate(problem.names)}
    groups = [members for group in entries(nodes) if (members := [index[node.name] for node in group if node.name in index])]
    widths = {tuple(bits.weight for bits in row) for row in problem.options}
    consecutive = len(widths) == 1 and all(isinstance(w, int) for w in next(iter(widths)))
    low = int(problem.options[0][0].weight) if consecutive else 0
    high = low + len(problem.options[0]) - 1
    if not consecutive or next(iter(widths)) != tuple(range(low, high + 1)):
        raise ValueError(
            "solver 'released' chooses among consecutive weight bits, the same for every layer: candidates such as 2/8, 3/8, 4/8"
        )
    at_8 = [sum(problem.costs["size_mb"][i][0] * 8 / low for i in members) for members in groups]
    values = [sum(importance[problem.names[i]] for i in members) for members in groups]
    bits = relaxed_bits(values, at_8, problem.fixed["size_mb"], problem.limits["size_mb"], low, high)
    choice = [0] * len(index)
    for members, value in zip(groups, rounded_bits(bits, at_8), strict=True):
        for i in members:
            choice[i] = value - low
    return problem.solution(choice, False, "released")


def layer_importance(nodes: Sequence[QuantNode], values: Sequence[float] | _Floats) -> dict[str, float]:
    """Layer name -> importance; the layers of one entry share its value."""
    sizes = [len(group) for group in entries(nodes)]
    return {node.name: float(values[i]) / sizes[i] for i, node in _numbered(nodes)}


def lost_bits(bits: LayerBits) -> float:
    """Weight and activation bits short of 8/8; ternary weights have log2(3), float loses none."""
    weight = log2(3) if bits.weight == "ternary" else bits.weight
    return max(0.0, 8 - weight) + max(0, 8 - bits.act)


def added_noise(bits: LayerBits) -> float:
    """Noise power of weights and activations beyond that of 8/8, where a 4-bit quantizer's is 1: 4**(4 - bits) each; float adds none."""
    weight = log2(3) if bits.weight == "ternary" else bits.weight
    least = 4.0 ** (4 - 8)
    return float(sum(max(0.0, 4.0 ** (4 - width) - least) for width in (weight, bits.act)))


# Objective -> what a layer of importance 1 loses with its bits.
_OBJECTIVES: Mapping[str, Callable[[LayerBits], float]] = {"noise": added_noise, "bits": lost_bits}


def data_note(problem: Problem, solution: Solution, data_free: Solution) -> str:
    """What orthogonality changed, in a sentence."""
    differing = sum(a != b for a, b in zip(solution.choice, data_free.choice, strict=True))
    if not differing:
        return "OMPQ: the bits are those of equal importances, without any data: orthogonality changed nothing here"
    lost, lost_without = problem.score(solution.choice), problem.score(data_free.choice)
    more = f", for {100 * (lost_without / lost - 1):+.2f} % of lost importance" if lost > 0 else ""
    return f"OMPQ: without any data (equal importances) {differing} of {len(problem.names)} layers would have other bits{more}"


def _loss(importance: Mapping[str, float], lost: Callable[[LayerBits], float]) -> Loss:
    return lambda node, bits: importance[node.name] * lost(bits)


def _losses(problem: Problem, importance: Mapping[str, float], lost: Callable[[LayerBits], float]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(importance[name] * lost(bits) for bits in row) for name, row in zip(problem.names, problem.options, strict=True))


def _numbered(nodes: Sequence[QuantNode]) -> list[tuple[int, QuantNode]]:
    """Every layer, with the number of the entry that it belongs to."""
    return [(i, node) for i, group in enumerate(entries(nodes)) for node in group]


def _first_samples(data: Sequence[tuple[Tensor, ...]], count: int) -> tuple[Tensor, ...]:
    found = tuple(torch.cat(tensors)[:count] for tensors in zip(*data, strict=True))
    if len(found[0]) < 4:
        raise ValueError(f"calibration: OMPQ compares layers on at least 4 samples, got {len(found[0])}")
    return found
