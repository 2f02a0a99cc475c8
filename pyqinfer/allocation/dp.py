"""Exact dynamic program over one cost: its last table is the whole Pareto frontier.

A table holds, in ascending cost, the partial choices that no cheaper one equals or beats. Adding a layer merges its options in and drops
what is dominated; nothing else is lost, so the last table is exact. A table that outgrows ``max_states`` is thinned to the best state in
each cell of a grid over the cost: its choices still cost what they say, and ``optimal`` says that better ones may exist.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyqinfer.allocation.problem import Group, InfeasibleError, Problem, Solution, flatten

_MAX_STATES = 100_000
_ROUNDING = 1e-12  # relative to the largest cost
_Floats = NDArray[np.float64]


def solve(problem: Problem, max_states: int = _MAX_STATES) -> Solution:
    """The best choice under the problem's limit.

    Raises:
        ValueError: not exactly one limit: a frontier has one cost (the MILP takes several). InfeasibleError: it cannot be met.
    """
    if len(problem.limits) != 1:
        raise ValueError(f"the dynamic program takes exactly one limit, got {', '.join(problem.limits) or 'none'}: use the MILP")
    (cost,) = problem.limits
    return frontier(problem, cost, max_states)[-1]


def frontier(problem: Problem, cost_name: str, max_states: int = _MAX_STATES) -> list[Solution]:
    """Every choice that none beats in both ``cost_name`` and score, cheapest first; up to that cost's limit, if it has one.

    Args:
        problem: its other limits must not exist.
        cost_name: one of ``problem.costs``.
        max_states: above so many partial choices the table is thinned.

    Raises:
        ValueError: other limits, or no such cost. InfeasibleError: not even the cheapest choice meets the limit.
    """
    if cost_name not in problem.costs:
        raise ValueError(f"no cost {cost_name!r}; the problem has {', '.join(problem.costs)}")
    others = [name for name in problem.limits if name != cost_name]
    if others:
        raise ValueError(f"a frontier of {cost_name} cannot hold other limits ({', '.join(others)}) as well")
    groups = problem.groups((cost_name,))
    problem.check_feasible(groups)
    limit = problem.limits.get(cost_name, float("inf")) - problem.fixed.get(cost_name, 0.0)
    table = _Table(groups, cost_name, limit, max_states)
    picks = table.choices()
    if not len(picks):
        raise InfeasibleError(f"{cost_name}: no choice meets {problem.limits[cost_name]:g}")
    solutions = [problem.solution(flatten(groups, row, len(problem.names)), table.exact, "dp") for row in picks]
    result: list[Solution] = []
    for solution in sorted(solutions, key=lambda s: (s.costs[cost_name], s.score)):
        if not result or solution.score < result[-1].score:
            result.append(solution)
    return result


class _Table:
    """The tables of all layers: for each state the state it came from and the option it took."""

    def __init__(self, groups: list[Group], cost_name: str, limit: float, max_states: int) -> None:
        self.exact = True
        self._came_from: list[NDArray[np.int64]] = []
        self._took: list[NDArray[np.int64]] = []
        cheapest = [min(choice.costs[cost_name] for choice in group) for group in groups]
        costs, scores = np.zeros(1), np.zeros(1)
        for i, group in enumerate(groups):
            steps = np.array([choice.costs[cost_name] for choice in group])
            losses = np.array([choice.score for choice in group])
            all_costs = (costs[:, None] + steps).ravel()
            all_scores = (scores[:, None] + losses).ravel()
            room = limit - sum(cheapest[i + 1 :])
            kept = _undominated(all_costs, all_scores, room + 1e-12 * max(abs(room), abs(limit), 1.0) if np.isfinite(room) else room)
            if len(kept) > max_states:
                kept = self._thin(all_costs, kept, max_states)
            costs, scores = all_costs[kept], all_scores[kept]
            self._came_from.append(kept // len(group))
            self._took.append(kept % len(group))

    def choices(self) -> NDArray[np.int64]:
        """Option of each group (columns) for every state of the last table (rows)."""
        states = np.arange(len(self._came_from[-1]))
        columns = []
        for came_from, took in zip(reversed(self._came_from), reversed(self._took), strict=True):
            columns.append(took[states])
            states = came_from[states]
        return np.stack(columns[::-1], axis=1)

    def _thin(self, costs: _Floats, kept: NDArray[np.int64], max_states: int) -> NDArray[np.int64]:
        """Keep only the best state in each cell of a grid over the costs (the last: scores fall as costs rise), and the cheapest of
        all, so that what was feasible stays so."""
        self.exact = False
        low, high = costs[kept[0]], costs[kept[-1]]
        cells = np.floor((costs[kept] - low) / (high - low) * (max_states - 1)).astype(np.int64)
        last = np.append(cells[1:] != cells[:-1], True)
        last[0] = True
        thinned: NDArray[np.int64] = kept[last]
        return thinned


def _undominated(costs: _Floats, scores: _Floats, room: float) -> NDArray[np.int64]:
    # Sums that differ by their rounding count as equal, or the table would keep both.
    order = np.lexsort((scores, np.rint(costs / (_ROUNDING * max(float(np.abs(costs).max()), 1e-300)))))
    order = order[costs[order] <= room]
    ordered = scores[order]
    best_before = np.append(np.inf, np.minimum.accumulate(ordered)[:-1])
    return order[ordered < best_before]
