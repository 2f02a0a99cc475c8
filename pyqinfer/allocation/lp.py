"""The linear relaxation: layers may mix options, as if a layer could have 3.5 bits. Its optimum bounds every integer one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from pyqinfer.allocation.linear import linear_form
from pyqinfer.allocation.problem import Group, InfeasibleError, Problem, Solution, flatten, price

_NOTHING = 1e-9  # a smaller share is the solver's rounding


@dataclass(frozen=True)
class Relaxation:
    """``score``: the optimum. ``shares``: for each layer how much of each option it takes, summing to 1."""

    score: float
    shares: tuple[NDArray[np.float64], ...]


def relax(problem: Problem) -> Relaxation:
    """Solve the relaxation with HiGHS.

    Raises:
        InfeasibleError: the limits cannot be met even by mixtures.
    """
    groups = problem.groups()
    problem.check_feasible(groups)
    x = _solve(problem, groups)
    shares = [np.zeros(len(row)) for row in problem.options]
    score = 0.0
    for group, weights in zip(groups, x, strict=True):
        for choice, share in zip(group, weights, strict=True):
            score += choice.score * share
            for layer, option in choice.picks:
                shares[layer][option] += share
    return Relaxation(score, tuple(shares))


def solve(problem: Problem) -> Solution:
    """The relaxation rounded: every mixture starts at its cheapest option and takes, layer by layer, the best one that fits; what is
    left of the limits goes to any option that still fits.

    Not proved optimal, unless nothing had to be rounded.

    Raises:
        InfeasibleError: the limits cannot be met, or rounding found no way to meet several at once (the MILP would).
    """
    groups = problem.groups()
    problem.check_feasible(groups)
    mixtures = [[int(k) for k in np.flatnonzero(weights > _NOTHING)] for weights in _solve(problem, groups)]
    picked = [min(mixture, key=lambda k: price(problem, group[k])) for group, mixture in zip(groups, mixtures, strict=True)]
    for allowed in (mixtures, [list(range(len(group))) for group in groups]):
        for i, (group, options) in enumerate(zip(groups, allowed, strict=True)):
            for k in sorted(options, key=lambda k: group[k].score):
                trial = [*picked[:i], k, *picked[i + 1 :]]
                if problem.is_feasible(flatten(groups, trial, len(problem.names))):
                    picked = trial
                    break
    choice = flatten(groups, picked, len(problem.names))
    if not problem.is_feasible(choice):
        raise InfeasibleError("rounding the linear program found no way to keep all limits: use the MILP")
    return problem.solution(choice, all(len(mixture) == 1 for mixture in mixtures), "lp")


def _solve(problem: Problem, groups: list[Group]) -> list[NDArray[np.float64]]:
    """Shares of each group's options."""
    form = linear_form(problem, groups)
    result = linprog(
        form.score, A_ub=form.costs if len(form.costs) else None, b_ub=form.limits if len(form.costs) else None,
        A_eq=form.choose, b_eq=np.ones(len(groups)), bounds=(0, 1), method="highs",
    )  # fmt: skip
    if result.x is None:
        raise InfeasibleError(f"the limits {', '.join(problem.limits)} cannot be met together: {result.message}")
    return [result.x[a:b] for a, b in pairwise(form.starts)]
