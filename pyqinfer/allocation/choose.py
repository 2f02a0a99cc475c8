"""From a network's layers, a method's scores and a budget to bits: which layers choose among what, at what cost, and the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor
from typing import Any

from pyqinfer.allocation import dp, greedy, lp, milp
from pyqinfer.allocation.api import Allocation
from pyqinfer.allocation.costs import MIB, budget_costs, layer_bops, weight_bits
from pyqinfer.allocation.latency import LATENCY, Meter, refined
from pyqinfer.allocation.problem import InfeasibleError, Problem, Solution
from pyqinfer.bits import BitConfig, LayerBits, match_layers, parse_bits
from pyqinfer.budget import COSTS, Budget, check_budget
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.nodes import QuantNode, edge_groups, tie_groups
from pyqinfer.report import Cell, Column, Report

SOLVERS: Mapping[str, Callable[[Problem], Solution]] = {"milp": milp.solve, "dp": dp.solve, "lp": lp.solve, "greedy": greedy.solve}
# Under a budget in ms: how often a solution is measured and solved again, and by which factor a measured time may exceed the limit.
_REFINEMENTS, _TOLERANCE = 4, 1.01
Loss = Callable[[QuantNode, LayerBits], float]


@dataclass(frozen=True)
class Rules:
    """What layers may choose.

    Args:
        candidates: bits that every layer may take, e.g. ``("8/8", "4/8", "4/4")``; None: :func:`default_candidates`.
        first_last: bits of the first and the last layer, which do not choose; None: they choose too.
        tie_blocks: a block's last convolution and its downsample take the same weight bits.
        solver: "milp" (any budgets, optimum proved), "dp" (one limit, exact), "lp" (relaxed and rounded) or "greedy".

    Raises:
        ValueError: bits or a solver that do not exist.
    """

    candidates: Sequence[str | LayerBits] | None = None
    first_last: str | LayerBits | None = "8/8"
    tie_blocks: bool = False
    solver: str = "milp"

    def __post_init__(self) -> None:
        if self.candidates is not None and not len(self.candidates):
            raise ValueError("candidates: expected at least one, such as '8/8'")
        for bits in [*(self.candidates or ()), *([] if self.first_last is None else [self.first_last])]:
            parse_bits(bits)
        if self.solver not in SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(SOLVERS)}, got {self.solver!r}")


@dataclass(frozen=True)
class Findings:
    """What a method adds to the report: ``columns`` with ``values[layer][key]``, facts and notes."""

    columns: Sequence[Column] = ()
    values: Mapping[str, Mapping[str, Cell]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def default_candidates(budget: Budget, nodes: Sequence[QuantNode], fixed: Mapping[str, LayerBits] | None = None) -> tuple[LayerBits, ...]:
    """What a layer chooses among where the user did not say.

    The pairs of weight and activation bits in the budget's costs (:class:`pyqinfer.budget.Cost`), of several lists the shortest: its pairs
    may have to be measured. Where the weights alone cost something, activations at 8 bits and weights within a bit of the average
    that the budget leaves to the layers that choose.
    """
    lists = [cost.candidates for cost in budget.costs if cost.candidates]
    if lists:
        return tuple(parse_bits(text) for text in min(lists, key=len))
    rooms = [] if budget.avg_weight_bits is None else [budget.avg_weight_bits * sum(node.params for node in nodes)]
    if budget.size_mb is not None:
        rooms.append(budget.size_mb * MIB * 8)
    kept = fixed or {}
    free = sum(node.params for node in nodes if node.name not in kept)
    spent = sum(node.params * weight_bits(kept[node.name]) for node in nodes if node.name in kept)
    average = min(max(2.0, (min(rooms) - spent) / max(1, free)), 8.0)
    return tuple(LayerBits(b, 8) for b in range(max(2, floor(average) - 1), min(8, ceil(average) + 1) + 1))


def fixed_layers(nodes: Sequence[QuantNode], rules: Rules, keep: Mapping[str, LayerBits | str]) -> BitConfig:
    """Layers that do not choose: first and last, and those of ``keep``; kept readers of one tensor take the widest of their activations."""
    names = [node.name for node in nodes]
    kept = {} if rules.first_last is None else dict.fromkeys((names[0], names[-1]), parse_bits(rules.first_last))
    asked = BitConfig(dict.fromkeys(names, "8/8")).override(keep)
    kept.update({name: asked[name] for pattern in keep for name in match_layers(pattern, names)})
    for group in edge_groups(nodes):
        together = [names[i] for i in group if names[i] in kept and kept[names[i]].is_integer]
        widest = max((kept[name].act for name in together), default=0)
        kept.update({name: LayerBits(kept[name].weight, widest) for name in together})
    return BitConfig({name: kept[name] for name in names if name in kept})


def layer_options(
    nodes: Sequence[QuantNode], fixed: Mapping[str, LayerBits], candidates: Sequence[LayerBits]
) -> dict[str, tuple[LayerBits, ...]]:
    """What each layer that chooses may take: the candidates, with the activation bits of a kept layer that reads the same tensor."""
    forced: dict[Any, int] = {node.edge: fixed[node.name].act for node in nodes if node.name in fixed and fixed[node.name].is_integer}
    options = {}
    for node in nodes:
        if node.name not in fixed:
            act = forced.get(node.edge)
            options[node.name] = tuple(
                dict.fromkeys(c if act is None or not c.is_integer else LayerBits(c.weight, act) for c in candidates)
            )
    return options


def choose_bits(task: Task, nodes: Sequence[QuantNode], loss: Loss, rules: Rules, findings: Findings | None = None) -> Allocation:
    """Solve a task.

    Args:
        task: its ``budget`` and ``keep`` count. nodes: of its model.
        loss: what a layer loses with bits, lower is better; losses of layers add up.
        rules: who chooses among what. findings: the method's part of the report.

    Raises:
        TypeError: not a Budget. ValueError: nothing to choose. InfeasibleError: the budget is too small.
    """
    plan = build_plan(task, nodes, loss, rules)
    problem, solution = plan.solve(rules.solver)
    return finish(task, nodes, plan.fixed, problem, solution, findings or Findings())


@dataclass(frozen=True)
class Plan:
    """What a task leaves to choose.

    ``fixed``: layers that keep their bits, ``problem``: the choice of the others. For budgets in ms, ``meter`` measures solutions, and
    ``kept_ms`` is what the layers that keep their bits take.
    """

    fixed: BitConfig
    problem: Problem
    meter: Meter | None = None
    kept_ms: Mapping[str, float] = field(default_factory=dict)

    def solve(self, solver: str) -> tuple[Problem, Solution]:
        """The best choice. With a budget in ms it is measured, and the problem that comes back has the times that were seen: if they
        break the budget, or leave room, that problem is solved in turn, a few times; the best measured choice that keeps the budget
        within 1 % wins, else the fastest."""
        problem = self.problem
        solution = SOLVERS[solver](problem)
        if self.meter is None:
            return problem, solution
        found: list[tuple[Problem, Solution]] = []
        for _ in range(_REFINEMENTS):
            (measured,) = self.meter.measure([{**self.fixed, **solution.bits}])
            problem = refined(problem, solution, self.kept_ms, measured)
            found.append((problem, problem.solution(solution.choice, solution.optimal, solution.solver)))
            try:
                solution = SOLVERS[solver](problem)
            except InfeasibleError:
                break
            if any(solution.choice == earlier.choice for _, earlier in found):
                break
        limit = problem.limits[LATENCY] * _TOLERANCE
        within = [pair for pair in found if pair[1].costs[LATENCY] <= limit]
        problem, solution = min(within, key=lambda p: p[1].score) if within else min(found, key=lambda p: p[1].costs[LATENCY])
        reached = max(problem.limits[LATENCY], solution.costs[LATENCY])
        problem = replace(problem, limits={**problem.limits, LATENCY: reached})
        best = SOLVERS[solver](problem)
        return problem, replace(solution, optimal=best.optimal and best.score >= solution.score * (1 - 1e-9))


def build_plan(task: Task, nodes: Sequence[QuantNode], loss: Loss, rules: Rules, convention: str = "neutral") -> Plan:
    """What a task leaves to choose; ``convention`` is that of sizes (:mod:`pyqinfer.allocation.costs`). Errors: see :func:`choose_bits`."""
    budget = check_budget(task.budget)
    fixed = fixed_layers(nodes, rules, task.keep)
    given = rules.candidates
    candidates = [parse_bits(bits) for bits in given] if given is not None else default_candidates(budget, nodes, fixed)
    options = layer_options(nodes, fixed, candidates)
    free = [node for node in nodes if node.name in options]
    if not free:
        raise ValueError("every layer keeps its bits: there is nothing to allocate")
    costs = budget_costs(nodes, convention)
    meter, kept_ms, rest_ms = None, {}, 0.0
    if budget.latency_ms is not None:
        meter = Meter(task.model, task.example_inputs, nodes, budget.threads, budget.isa)
        table, rest_ms = meter.table({**options, **{name: (bits,) for name, bits in fixed.items()}})
        costs[LATENCY] = lambda node, bits: table[node.name][bits]
        kept_ms = {name: table[name][bits] for name, bits in fixed.items()}
    spent = {name: sum(cost(node, fixed[node.name]) for node in nodes if node.name in fixed) for name, cost in costs.items()}
    if meter is not None:
        spent[LATENCY] += rest_ms
    problem = Problem(
        names=tuple(node.name for node in free),
        options=tuple(options[node.name] for node in free),
        scores=tuple(tuple(loss(node, bits) for bits in options[node.name]) for node in free),
        costs={name: tuple(tuple(cost(node, bits) for bits in options[node.name]) for node in free) for name, cost in costs.items()},
        limits=budget.limits,
        fixed=spent,
        ties=tie_groups(free) if rules.tie_blocks else (),
        shared_inputs=edge_groups(free),
    )
    return Plan(fixed, problem, meter, kept_ms)


def finish(
    task: Task, nodes: Sequence[QuantNode], fixed: BitConfig, problem: Problem, solution: Solution, findings: Findings
) -> Allocation:
    """A solution as an :class:`Allocation`: bits of all layers, with the report."""
    chosen = {**fixed, **solution.bits}
    config = BitConfig({node.name: chosen[node.name] for node in nodes})
    return Allocation(config, problem, solution, _report(nodes, config, fixed, problem, solution, check_budget(task.budget), findings))


def _report(
    nodes: Sequence[QuantNode],
    config: BitConfig,
    fixed: Mapping[str, LayerBits],
    problem: Problem,
    solution: Solution,
    budget: Budget,
    findings: Findings,
) -> Report:
    position = {name: i for i, name in enumerate(problem.names)}
    rows: list[dict[str, Cell]] = []
    for node in nodes:
        i = position.get(node.name)
        row: dict[str, Cell] = {"name": node.name, "bits": str(config[node.name]), "kept": "kept" if node.name in fixed else ""}
        row |= {"params": node.params, "macs": node.macs, "bops": layer_bops(node, config[node.name])}
        if i is not None and LATENCY in problem.costs:
            row["ms"] = problem.costs[LATENCY][i][solution.choice[i]]
        row["loss"] = None if i is None else problem.scores[i][solution.choice[i]]
        rows.append({**row, **findings.values.get(node.name, {})})
    columns = [
        Column("name", "layer", numeric=False),
        Column("bits", "bits w/a", numeric=False),
        Column("kept", "", numeric=False),
        Column("params", "weights", ",d"),
        Column("macs", "MACs (M)", ",.2f", scale=1e6),
        Column("bops", "BOPs (G)", ",.3f", scale=1e9),
        *([Column("ms", "ms", ".4f")] if LATENCY in problem.costs else []),
        *findings.columns,
        Column("loss", "loss", ".4g"),
    ]
    lines = []
    for cost in (cost for cost in COSTS if cost.name in solution.costs):
        text, limit = cost.total.format(solution.costs[cost.name]), budget.limits.get(cost.name)
        lines.append(text if limit is None else f"{text} (budget: {cost.total.format(limit)})")
    proof = "optimum proved" if solution.optimal else "not proved to be the optimum"
    conditions = {"threads": budget.threads, "isa": budget.isa} if budget.latency_ms is not None else {}
    facts = {
        "budget": {**budget.limits, **conditions},
        "totals": dict(solution.costs),
        "loss": solution.score,
        "solver": solution.solver,
        "optimal": solution.optimal,
    }
    return Report("Allocation", columns, rows, {**facts, **findings.facts}, [*lines, f"{proof} ({solution.solver})", *findings.notes])
