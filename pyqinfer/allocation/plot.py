"""A Pareto frontier as a picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyqinfer.allocation.problem import Problem

if TYPE_CHECKING:
    from pyqinfer.allocation.api import Allocation

_AXES = {
    "bops": "BOPs, as a fraction of the float network's",
    "size_mb": "weights (MiB)",
    "avg_weight_bits": "bits per weight",
    "latency_ms": "predicted time (ms)",
}


def plot_frontier(allocation: Allocation, path: str | os.PathLike[str], cost: str | None = None) -> None:
    """Draw loss against cost: the frontier, the allocation on it, its limit, and every layer at the same bits.

    Args:
        allocation: from :func:`pyqinfer.allocate`.
        path: of the picture, PNG.
        cost: one of ``allocation.problem.costs``; default: the budget's first.

    Raises:
        ImportError: matplotlib is not installed. ValueError: no such cost.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing a frontier needs matplotlib: pip install 'pyqinfer[plot]'") from None
    problem, solution = allocation.problem, allocation.solution
    name = cost or next(iter(problem.limits))
    frontier = allocation.frontier(name)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.step([s.costs[name] for s in frontier], [s.score for s in frontier], where="post", marker=".", label="Pareto frontier")
    for text, (x, y) in uniform_choices(problem, name).items():
        axes.plot(x, y, "x", color="tab:red")
        axes.annotate(f" all {text}", (x, y))
    axes.plot(solution.costs[name], solution.score, "o", color="tab:green", markersize=9, label="allocation")
    if name in problem.limits:
        axes.axvline(problem.limits[name], color="grey", linestyle=":", label="budget")
    if all(s.score > 0 for s in frontier):
        axes.set_yscale("log")
    axes.set_xlabel(_AXES.get(name, name))
    axes.set_ylabel("loss (sum over layers)")
    axes.legend()
    figure.savefig(path, format="png", dpi=120)


def uniform_choices(problem: Problem, cost: str) -> dict[str, tuple[float, float]]:
    """Bits that every layer may take -> cost and loss with all layers at them."""
    result = {}
    for bits in problem.options[0]:
        if all(bits in options for options in problem.options):
            choice = [options.index(bits) for options in problem.options]
            result[str(bits)] = (problem.total(cost, choice), problem.score(choice))
    return result
