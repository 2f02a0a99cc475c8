"""A Pareto frontier as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise

from pyqinfer.allocation.problem import Problem, Solution
from pyqinfer.budget import COSTS
from pyqinfer.plotting import label_points


def plot_frontier(problem: Problem, solution: Solution, frontier: Sequence[Solution], name: str, path: str | os.PathLike[str]) -> None:
    """Draw loss against a cost: the frontier, the solution on it, its limit, and every layer at the same bits.

    Args:
        problem, solution: what was solved, and the solver's answer.
        frontier: the choices that none beats in both the loss and the cost, cheapest first.
        name: of the cost, one of ``problem.costs``.
        path: of the picture, PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing a frontier needs matplotlib: pip install 'pyqinfer[plot]'") from None
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.step([s.costs[name] for s in frontier], [s.score for s in frontier], where="post", marker=".", label="Pareto frontier")
    uniform = [(x, y, f"all {text}") for text, (x, y) in uniform_choices(problem, name).items()]
    axes.plot([x for x, _, _ in uniform], [y for _, y, _ in uniform], "x", color="tab:red")
    axes.plot(solution.costs[name], solution.score, "o", color="tab:green", markersize=9, label="allocation")
    if name in problem.limits:
        axes.axvline(problem.limits[name], color="grey", linestyle=":", label="budget")
    if all(s.score > 0 for s in frontier):
        axes.set_yscale("log")
    axes.set_xlabel(next(cost.axis for cost in COSTS if cost.name == name))
    axes.set_ylabel("loss (sum over layers)")
    axes.legend()
    corners = [(s.costs[name], s.score) for s in frontier]
    steps = [place for (x, y), (right, _) in pairwise(corners) for place in ((x, y), (right, y))] + corners[-1:]
    label_points(axes, uniform, [steps] if len(steps) > 1 else [])
    figure.savefig(path, format="png", dpi=120)


def uniform_choices(problem: Problem, cost: str) -> dict[str, tuple[float, float]]:
    """Bits that every layer may take -> cost and loss with all layers at them."""
    result = {}
    for bits in problem.options[0]:
        if all(bits in options for options in problem.options):
            choice = [options.index(bits) for options in problem.options]
            result[str(bits)] = (problem.total(cost, choice), problem.score(choice))
    return result
