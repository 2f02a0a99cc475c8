"""Allocation on measured data: HAWQ's published Hessian traces and quantization errors of ResNet-18 (figures from the authors' repository,
Zhen-Dong/HAWQ, ILP.ipynb). Expected optima by brute force over the 2^16 configurations that the ties leave."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pyqinfer.allocation import dp, milp
from pyqinfer.allocation.problem import Problem
from pyqinfer.bits import LayerBits

# 16 layers of the blocks and three downsamplings, without stem and classifier.
TRACE = [0.06857826, 0.03162379, 0.03298575, 0.01205663, 0.02222431, 0.00596336, 0.06931772, 0.00807129, 0.00372905, 0.00530698]
TRACE += [0.00209011, 0.00737569, 0.00210454, 0.00151197, 0.00158041, 0.00078146, 0.00451841, 0.00098745, 0.00072944]
ERROR_8 = [0.0235, 0.0125, 0.0102, 0.0082, 0.0145, 0.0344, 0.0023, 0.0287, 0.0148, 0.0333]
ERROR_8 += [0.0682, 0.0027, 0.0448, 0.0336, 0.0576, 0.1130, 0.0102, 0.0947, 0.0532]
ERROR_4 = [6.7430, 3.9691, 3.3281, 2.6796, 4.7277, 10.5966, 0.6827, 9.0942, 4.8857, 10.7599]
ERROR_4 += [21.7546, 0.8603, 14.5324, 10.9651, 18.7706, 36.4044, 3.1572, 29.6994, 17.4016]
WEIGHTS = (
    [36864] * 4 + [73728, 147456, 8192, 147456, 147456, 294912, 589824, 32768, 589824, 589824, 1179648, 2359296, 131072] + [2359296] * 2
)
_FULL, _HALF, _ONE = 115605504, 57802752, 6422528
MACS = [_FULL] * 4 + [_HALF, _FULL, _ONE, _FULL, _FULL] * 3
TIES = ((4, 6), (9, 11), (14, 16))
FOUR, EIGHT = LayerBits(4, 4), LayerBits(8, 8)


def problem(limit: str, share: float) -> Problem:
    """Layers of 4 or 8 bits under one limit, which lies ``share`` of the way from all at 4 bits to all at 8."""
    sizes = np.array(WEIGHTS) / 2**20
    bops = np.array(MACS) / 1e6
    table = {"size_mb": (sizes / 2, sizes), "bops": (bops / 64, bops / 16)}
    low, high = (float(np.sum(column)) for column in table[limit])
    gains = np.array(TRACE) * (np.array(ERROR_8) - np.array(ERROR_4))
    return Problem(
        names=tuple(f"layer{i}" for i in range(len(TRACE))),
        options=((FOUR, EIGHT),) * len(TRACE),
        scores=tuple((0.0, float(gain)) for gain in gains),
        costs={name: tuple((float(a), float(b)) for a, b in zip(*columns, strict=True)) for name, columns in table.items()},
        limits={limit: low + (high - low) * share},
        ties=TIES,
    )


def brute_force(p: Problem) -> float:
    followers = {later: first for first, later in TIES}
    free = [i for i in range(len(TRACE)) if i not in followers]
    choices = np.zeros((2 ** len(free), len(TRACE)), np.int64)
    choices[:, free] = list(product((0, 1), repeat=len(free)))
    for later, first in followers.items():
        choices[:, later] = choices[:, first]
    score = choices @ np.array([row[1] for row in p.scores])
    for name, limit in p.limits.items():
        costs = np.array(p.costs[name])
        score[costs[:, 0].sum() + choices @ (costs[:, 1] - costs[:, 0]) > limit * (1 + 1e-12)] = np.inf
    return float(score.min())


@pytest.mark.parametrize(
    ("limit", "share", "objective", "mib", "bits"),
    [
        ("size_mb", 0.5, -1.233207, 7.2656, "8" * 15 + "4844"),
        ("size_mb", 0.25, -1.189414, 6.6406, "8" * 14 + "4" * 5),
        ("bops", 0.5, -1.092024, None, None),
    ],
)
@pytest.mark.parametrize("solver", [dp, milp])
def test_published_limits_have_these_optima(solver, limit: str, share: float, objective: float, mib: float | None, bits: str | None):
    p = problem(limit, share)
    solution = solver.solve(p)
    assert solution.optimal
    assert solution.score == pytest.approx(objective, abs=1e-6)
    assert solution.score == pytest.approx(brute_force(p), abs=1e-9)
    if mib is not None:
        assert solution.costs["size_mb"] == pytest.approx(mib, abs=5e-5)
        assert "".join(str(chosen.weight) for chosen in solution.bits.values()) == bits


def test_limits_are_those_of_the_paper():
    assert problem("size_mb", 0.5).limits["size_mb"] == pytest.approx(7.9805, abs=5e-5)
    assert problem("size_mb", 0.25).limits["size_mb"] == pytest.approx(6.6504, abs=5e-5)
