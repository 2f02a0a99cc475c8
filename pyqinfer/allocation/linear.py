"""A problem as arrays for scipy's HiGHS: one variable in [0, 1] for each option of each group, which sum to 1 in a group."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyqinfer.allocation.problem import Group, Problem

_SPAN = 1e4  # objectives are scaled to it, so that HiGHS's absolute tolerances (1e-6) do not decide
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearForm:
    """minimise ``score @ x`` subject to ``costs @ x <= limits`` (each row scaled to a limit of about 1) and ``choose @ x == 1``.

    ``scale``: what the scores were multiplied by. ``starts``: index of each group's first variable, and the end.
    """

    score: _Floats
    scale: float
    costs: _Floats
    limits: _Floats
    choose: _Floats
    starts: NDArray[np.int64]

    def picks(self, x: _Floats) -> list[int]:
        """The largest variable of each group."""
        return [int(np.argmax(x[a:b])) for a, b in pairwise(self.starts)]


def linear_form(problem: Problem, groups: list[Group]) -> LinearForm:
    """The arrays of a problem."""
    starts = np.cumsum([0, *(len(group) for group in groups)])
    choices = [choice for group in groups for choice in group]
    choose = np.zeros((len(groups), len(choices)))
    for row, (a, b) in enumerate(pairwise(starts)):
        choose[row, a:b] = 1
    # Only differences within a group matter: taken from its best option they keep their digits.
    score = np.array([choice.score - min(c.score for c in group) for group in groups for choice in group])
    scale = _SPAN / score.max() if score.max() > 0 else 1.0
    costs = np.array([[choice.costs[name] for choice in choices] for name in problem.limits]).reshape(len(problem.limits), -1)
    limits = np.array([limit - problem.fixed.get(name, 0.0) for name, limit in problem.limits.items()])
    sizes = np.maximum(np.abs(limits), np.abs(costs).max(axis=1, initial=0.0)) if len(limits) else np.ones(0)
    sizes[sizes == 0] = 1.0
    return LinearForm(score * scale, scale, costs / sizes[:, None], limits / sizes, choose, starts)
