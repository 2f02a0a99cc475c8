"""``pq.allocate``: bits per layer under a budget, by any method that scores layers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from torch import nn

from pyqinfer.allocation import dp
from pyqinfer.allocation.latency import check_latency
from pyqinfer.allocation.plot import plot_frontier
from pyqinfer.allocation.problem import Problem, Solution
from pyqinfer.arguments import explained
from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.budget import COSTS, Budget
from pyqinfer.model import Model
from pyqinfer.quantization.api import Task, make_task
from pyqinfer.quantization.batches import Calibration
from pyqinfer.report import Column, Report


class Allocation(BitConfig):
    """Bits of every layer, and how they were found. Save it, edit the file, and give it to ``pq.PTQ(bits=...)``.

    Attributes:
        report: bits, weights, MACs and the method's scores of every layer; totals against the budget in its notes and facts.
        problem, solution: what was solved, with every candidate's score and cost, and the solver's answer. Layers that keep their bits
            are not in it.
    """

    def __init__(self, layers: Mapping[str, LayerBits | str], problem: Problem, solution: Solution, report: Report) -> None:
        super().__init__(layers)
        self.problem = problem
        self.solution = solution
        self.report = report

    def check_latency(self, model: Model, inputs: Sequence[Any], runs: int = 5) -> Report:
        """Measure a model that was quantized with these bits against the predicted time.

        Args:
            model: converted. inputs: of the example inputs' shapes. runs: blocks of calls, whose median counts.

        Returns:
            Predicted and measured ms, and their difference in %.

        Raises:
            ValueError: the budget was not one in ms.
        """
        if "latency_ms" not in self.solution.costs:
            raise ValueError("check_latency: nothing was predicted; allocate with pq.Budget(latency_ms=...)")
        budget = self.report.facts["budget"]
        return check_latency(model, inputs, self.solution.costs["latency_ms"], budget["threads"], budget["isa"], runs)

    def frontier(self, cost: str | None = None) -> list[Solution]:
        """Every choice that none beats in both a cost and the score, cheapest first, without the budget's limit.

        Args:
            cost: one of ``problem.costs``, such as "size_mb", "bops" or "latency_ms"; default: the budget's first.

        Raises:
            ValueError: no such cost.
        """
        name = cost or next(iter(self.problem.limits))
        problem = self.problem
        free = Problem(
            problem.names, problem.options, problem.scores, problem.costs, {}, problem.fixed, problem.ties, problem.shared_inputs
        )
        return dp.frontier(free, name)

    def frontier_report(self, cost: str | None = None) -> Report:
        """:meth:`frontier` as a table: costs, score and the bits of every layer."""
        solutions = self.frontier(cost)
        names = list(self.problem.costs)
        rows: list[dict[str, str | int | float | None]] = [
            {**{name: s.costs[name] for name in names}, "score": s.score, "bits": " ".join(map(str, s.bits.values()))} for s in solutions
        ]
        headings = {cost.name: cost.heading for cost in COSTS}
        columns = [Column(name, headings[name], ".5f") for name in names]
        columns += [Column("score", "loss", ".5g"), Column("bits", "bits w/a, in the order of execution", numeric=False)]
        exact = all(s.optimal for s in solutions)
        notes = [f"{len(rows)} choices that none beats" + ("" if exact else "; thinned: there may be others between them")]
        return Report("Pareto frontier", columns, rows, {"layers": list(self.problem.names), "exact": exact}, notes)

    def plot_frontier(self, path: str | os.PathLike[str], cost: str | None = None) -> None:
        """:meth:`frontier` as a PNG, with the allocation, the budget, and every layer at the same bits. Needs matplotlib."""
        plot_frontier(self.problem, self.solution, self.frontier(cost), cost or next(iter(self.problem.limits)), path)


class AllocatingMethod(Protocol):
    """A method that chooses bits itself."""

    def allocate(self, task: Task) -> Allocation:
        """Bits of every layer of the task's model within the task's budget."""
        ...


def allocate(
    model: nn.Module,
    method: AllocatingMethod,
    *,
    budget: Budget,
    example_inputs: Any,
    calibration: Calibration | None = None,
    keep: Mapping[str, LayerBits | str] | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
) -> Allocation:
    """Choose the bits of every layer.

    Args:
        model: float model on the CPU. It is not changed.
        method: such as ``pq.ZeroQ()`` or ``pq.OMPQ()``: how it scores layers.
        budget: a :class:`pyqinfer.Budget`.
        example_inputs: tuple of float32 tensors; dimension 0 is the batch. Budgets in ms are for inputs of these shapes.
        calibration: batches of inputs as :func:`pyqinfer.quantize` takes them, for methods that look at data.
        keep: layer names or glob patterns -> bits that are not up for choice, e.g. ``{"fc": "8/8", "stem.*": "float"}``.
        train, val: labelled batches, for methods that train to find out.

    Returns:
        A :class:`~pyqinfer.BitConfig` (``save`` writes JSON to edit by hand) with ``.report`` and ``.frontier()``.

    Raises:
        TypeError, ValueError: arguments that do not fit. InfeasibleError (a ValueError): the budget is too small; says what is possible.
    """
    if not callable(getattr(method, "allocate", None)):
        raise TypeError(f"method: expected one that chooses bits, such as pq.OMPQ(), got {type(method).__name__}")
    if isinstance(method, type):
        raise TypeError(f"method: expected an instance, pq.{method.__name__}(), got the class")
    task = make_task(model, example_inputs, calibration, budget, keep, train, val)
    with explained(task.model, task.example_inputs):
        return method.allocate(task)
