"""The integer program itself, by scipy's HiGHS: any number of limits, optimum proved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from pyqinfer.allocation.linear import linear_form
from pyqinfer.allocation.problem import InfeasibleError, Problem, Solution, flatten

_OPTIMAL, _TIME_OUT, _INFEASIBLE = 0, 1, 2


def solve(problem: Problem, time_limit: float = 60.0) -> Solution:
    """The best choice that meets every limit.

    Args:
        problem: any. time_limit: seconds; a solution found by then is returned with ``optimal=False``.

    Raises:
        InfeasibleError: the limits cannot be met. RuntimeError: HiGHS found nothing in the time.
    """
    groups = problem.groups()
    problem.check_feasible(groups)
    form = linear_form(problem, groups)
    constraints = [LinearConstraint(form.choose, 1, 1)]
    if len(form.costs):
        constraints.append(LinearConstraint(form.costs, -np.inf, form.limits))
    while True:
        result = milp(
            form.score, integrality=np.ones(len(form.score)), bounds=Bounds(0, 1), constraints=constraints,
            options={"mip_rel_gap": 0.0, "time_limit": time_limit},
        )  # fmt: skip
        if result.status == _INFEASIBLE:
            raise InfeasibleError(f"the limits {', '.join(problem.limits)} cannot be met together")
        if result.x is None:
            raise RuntimeError(f"the solver gave up: {result.message}")
        picks = form.picks(result.x)
        choice = flatten(groups, picks, len(problem.names))
        if problem.is_feasible(choice):
            return problem.solution(choice, result.status == _OPTIMAL, "milp")
        # HiGHS may exceed a limit by its tolerance of 1e-6: this very choice is cut off and the rest solved again.
        constraints.append(_cut(form.starts, picks, len(form.score)))


def _cut(starts: NDArray[np.int64], picks: list[int], size: int) -> LinearConstraint:
    row = np.zeros((1, size))
    row[0, starts[:-1] + np.array(picks)] = 1
    return LinearConstraint(row, -np.inf, len(picks) - 1)
