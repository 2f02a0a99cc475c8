"""OMPQ's released solver and rounding (Ma et al. 2023, arXiv 2109.07865), kept to reproduce the lists it published.

It maximises ``sum(importance * bits)`` under a size with SLSQP, whose tolerance of 1e-6 takes a nearly flat objective for solved: it then
returns its first step, "every layer at most bits" projected on the budget, whatever the importances are. The integer program of
:mod:`pyqinfer.allocation.milp` finds the optimum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

# The tree tries every floor and ceiling; the released code rounds larger networks to the nearest integer, which may exceed the budget.
_TREE_LAYERS = 20
_WHOLE = 1e-9
_Floats = NDArray[np.float64]


def relaxed_bits(
    importance: Sequence[float] | _Floats, mib_at_8: Sequence[float], fixed_mib: float, budget_mib: float, low: int, high: int
) -> _Floats:
    """Fractional bits of every layer. Sizes are MiB; ``mib_at_8``: of each layer at 8 bits; ``fixed_mib``: of layers that do not choose."""
    c, sizes = np.asarray(importance, np.float64), np.asarray(mib_at_8, np.float64)
    room = {"type": "ineq", "fun": lambda x: budget_mib - fixed_mib - sizes @ x, "jac": lambda x: -sizes}
    start = np.minimum(np.ones(len(c)), high / 8)
    bounds = [(low / 8, high / 8)] * len(c)
    result = minimize(lambda x: -(c @ x), start, jac=lambda x: -c, method="SLSQP", bounds=bounds, constraints=[room])
    bits: _Floats = result.x * 8
    return bits


def rounded_bits(bits: _Floats, mib_at_8: Sequence[float]) -> list[int]:
    """Integers: of all floors and ceilings those of the largest size that is not above the fractional one; above 20 layers the nearest."""
    if len(bits) > _TREE_LAYERS:
        return [int(b) for b in np.around(bits)]
    sizes = np.asarray(mib_at_8, np.float64)
    limit = float(sizes @ bits) + 1e-12
    totals, lists = np.zeros(1), np.zeros((1, 0), np.int64)
    for value, size in zip(bits[::-1], sizes[::-1], strict=True):  # the last layer first, as the released tree does
        whole = round(value)
        choices = [whole] if abs(value - whole) < _WHOLE else [int(np.floor(value)), int(np.ceil(value))]
        lists = np.concatenate([np.column_stack([lists, np.full(len(lists), choice)]) for choice in choices])
        totals = np.concatenate([totals + size * choice for choice in choices])
    fitting = np.where(totals <= limit, totals, -np.inf)
    return [int(b) for b in lists[int(np.argmax(fitting))][::-1]]
