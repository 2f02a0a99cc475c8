"""Greedy ascent along each layer's convex hull (Sinha and Zoltners 1979): under one limit it finds the linear relaxation's optimum.

Every layer starts at its cheapest option; the step that gains most per cost is taken until one does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from pyqinfer.allocation.problem import Group, InfeasibleError, Problem, Solution, flatten, price, within


@dataclass(frozen=True)
class _Step:
    """A group's move to a better and dearer option."""

    group: int
    option: int
    cost: float
    gain: float


def relax(problem: Problem) -> float:
    """The score of the linear relaxation under the problem's one limit.

    Raises:
        ValueError: not exactly one limit. InfeasibleError: it cannot be met.
    """
    if len(problem.limits) != 1:
        raise ValueError(f"the greedy relaxation takes exactly one limit, got {', '.join(problem.limits) or 'none'}")
    ((name, limit),) = problem.limits.items()
    groups = problem.groups()
    problem.check_feasible(groups)
    hulls = [_hull(problem, group) for group in groups]
    starts = [group[hull[0]] for group, hull in zip(groups, hulls, strict=True)]
    score = sum(choice.score for choice in starts)
    room = (limit - problem.fixed.get(name, 0.0) - sum(choice.costs[name] for choice in starts)) / limit
    for step in _steps(problem, groups, hulls):
        if step.cost > room:
            return score - step.gain * room / step.cost
        room -= step.cost
        score -= step.gain
    return score


def solve(problem: Problem) -> Solution:
    """A feasible choice, seldom far from the best; steps that do not fit are skipped. Several limits: a step's cost is its share of each.

    Raises:
        InfeasibleError: the limits cannot be met, or not by each layer's cheapest option (the MILP may find a way).
    """
    groups = problem.groups()
    problem.check_feasible(groups)
    hulls = [_hull(problem, group) for group in groups]
    picked = [hull[0] for hull in hulls]
    totals = {name: problem.fixed.get(name, 0.0) + _sum(groups, picked, name) for name in problem.limits}
    if not all(within(totals[name], limit) for name, limit in problem.limits.items()):
        raise InfeasibleError("the cheapest bits of every layer do not keep all limits: use the MILP")
    for step in _steps(problem, groups, hulls):
        old, new = groups[step.group][picked[step.group]], groups[step.group][step.option]
        grown = {name: totals[name] - old.costs[name] + new.costs[name] for name in totals}
        if all(within(grown[name], limit) for name, limit in problem.limits.items()):
            picked[step.group], totals = step.option, grown
    return problem.solution(flatten(groups, picked, len(problem.names)), False, "greedy")


def _sum(groups: list[Group], picked: list[int], name: str) -> float:
    return sum(group[k].costs[name] for group, k in zip(groups, picked, strict=True))


def _steps(problem: Problem, groups: list[Group], hulls: list[list[int]]) -> list[_Step]:
    """All moves along the hulls, the best gain per cost first; on a hull gains fall, so a group's moves stay in order."""
    steps = []
    for i, (group, hull) in enumerate(zip(groups, hulls, strict=True)):
        for a, b in pairwise(hull):
            cost = price(problem, group[b]) - price(problem, group[a])
            steps.append(_Step(i, b, cost, group[a].score - group[b].score))
    return sorted(steps, key=lambda step: -step.gain / step.cost)


def _hull(problem: Problem, group: Group) -> list[int]:
    """Options on the lower convex hull of score over price, from the cheapest to the best."""
    points = [(price(problem, choice), choice.score, k) for k, choice in enumerate(group)]
    hull: list[tuple[float, float, int]] = []
    for point in sorted(points):
        if hull and point[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and not _turns(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return [k for _, _, k in hull]


def _turns(a: tuple[float, float, int], b: tuple[float, float, int], c: tuple[float, float, int]) -> bool:
    """The slope from b to c is flatter than that from a to b."""
    return (b[1] - a[1]) * (c[0] - b[0]) < (c[1] - b[1]) * (b[0] - a[0])
