"""Allocators: dynamic program, LP, MILP and greedy against brute force over every choice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import pyqinfer as pq
from pyqinfer.allocation import dp, greedy, lp, milp
from pyqinfer.allocation.problem import InfeasibleError, Problem, Solution
from pyqinfer.bits import parse_bits

CANDIDATES = tuple(parse_bits(text) for text in ("2/8", "4/8", "8/8"))


def every_choice(problem: Problem) -> Iterator[tuple[int, ...]]:
    """Choices that respect ties and shared inputs."""
    for choice in itertools.product(*(range(len(row)) for row in problem.options)):
        tied = all(len({problem.options[i][choice[i]].weight for i in tie}) == 1 for tie in problem.ties)
        shared = all(
            len({problem.options[i][choice[i]].act for i in group if problem.options[i][choice[i]].is_integer}) <= 1
            for group in problem.shared_inputs
        )
        if tied and shared:
            yield choice


def brute_force(problem: Problem) -> float:
    """The least score of a feasible choice; infinity where there is none."""
    return min((problem.score(choice) for choice in every_choice(problem) if problem.is_feasible(choice)), default=np.inf)


def random_problem(seed: int, layers: int = 7, costs: int = 1, ties: bool = False, integers: bool = False) -> Problem:
    """Scores fall and costs rise with the bits, but not always; the limits cut somewhere in the middle."""
    rng = np.random.default_rng(seed)
    draw = (lambda *shape: rng.integers(1, 12, shape).astype(float)) if integers else (lambda *shape: rng.uniform(0.1, 4, shape))
    scores = -np.sort(-draw(layers, 3), axis=1)
    tables = {f"cost{c}": np.sort(draw(layers, 3), axis=1) for c in range(costs)}
    if seed % 3 == 0:
        scores[0] = scores[0, ::-1]
    options = [CANDIDATES] * layers
    tied: tuple[tuple[int, ...], ...] = ()
    shared: tuple[tuple[int, ...], ...] = ()
    if ties:
        options[3] = options[4] = tuple(parse_bits(text) for text in ("4/8", "8/8", "4/4"))
        tied, shared = ((0, 2),), ((3, 4), (2, 5))
    limits = {name: float(t.min(1).sum() + rng.uniform(0.2, 0.7) * (t.max(1).sum() - t.min(1).sum())) for name, t in tables.items()}
    as_rows = {name: tuple(map(tuple, table.tolist())) for name, table in tables.items()}
    return Problem(
        tuple(f"layer{i}" for i in range(layers)), tuple(options), tuple(map(tuple, scores.tolist())), as_rows, limits, {}, tied, shared
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("ties", "integers"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_dynamic_program_is_exact(seed: int, ties: bool, integers: bool) -> None:
    problem = random_problem(seed, ties=ties, integers=integers)
    solution = dp.solve(problem)
    assert solution.optimal
    assert problem.is_feasible(solution.choice)
    assert solution.choice in set(every_choice(problem))
    assert solution.score == pytest.approx(brute_force(problem), abs=1e-12)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    ("costs", "ties", "integers"), [(1, False, False), (1, True, True), (2, False, True), (2, True, False), (3, True, True)]
)
def test_the_integer_program_is_exact_under_several_limits(seed: int, costs: int, ties: bool, integers: bool) -> None:
    problem = random_problem(seed, costs=costs, ties=ties, integers=integers)
    best = brute_force(problem)
    if best == np.inf:
        with pytest.raises(InfeasibleError, match="cannot be met together"):
            milp.solve(problem)
        return
    solution = milp.solve(problem)
    assert solution.optimal
    assert problem.is_feasible(solution.choice)
    assert solution.choice in set(every_choice(problem))
    assert solution.score == pytest.approx(best, abs=1e-9)


def test_the_integer_program_keeps_a_limit_that_the_solvers_tolerance_would_not() -> None:
    """Without the limit the best choice would win; it exceeds it by less than HiGHS's tolerance."""
    rows = ((0.5, 1.0),) * 2
    problem = Problem(("a", "b"), (CANDIDATES[:2],) * 2, ((1.0, 0.0), (2.0, 0.0)), {"c": rows}, {"c": 2.0 - 1e-8})
    solution = milp.solve(problem)
    assert solution.choice == (0, 1)
    assert solution.optimal


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ties", [False, True])
def test_greedy_finds_the_optimum_of_the_linear_relaxation(seed: int, ties: bool) -> None:
    problem = random_problem(seed, ties=ties)
    relaxed = lp.relax(problem)
    assert greedy.relax(problem) == pytest.approx(relaxed.score, rel=1e-9)
    assert relaxed.score <= milp.solve(problem).score + 1e-9
    assert all(share.sum() == pytest.approx(1) for share in relaxed.shares)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("costs", [1, 2])
@pytest.mark.parametrize("solver", [lp.solve, greedy.solve])
def test_rounded_choices_are_feasible_and_no_better_than_the_optimum(solver: Callable[[Problem], Solution], costs: int, seed: int) -> None:
    problem = random_problem(seed, costs=costs, ties=True)
    try:
        solution = solver(problem)
    except InfeasibleError:
        assert costs > 1
        return
    assert problem.is_feasible(solution.choice)
    assert solution.choice in set(every_choice(problem))
    best = brute_force(problem)
    assert solution.score >= best - 1e-12
    assert solution.score <= best + 0.5 * (sum(map(max, problem.scores)) - best)


GAMMA = (3.2, 2.9, 3.6, 2.4, 3.0, 1.7)
WEIGHTS = (1000, 4000, 2000, 8000, 16000, 5000)


def ompq_problem(beta: float, budget: int) -> tuple[Problem, np.ndarray]:
    """Six layers of 2, 3 or 4 bits; importance of a layer: mean of exp(-beta * gamma) over it and all later ones."""
    theta = np.exp(-beta * np.array(GAMMA))
    importance = np.array([theta[i:].mean() for i in range(6)])
    widths = (2, 3, 4)
    options = (tuple(parse_bits(f"{b}/8") for b in widths),) * 6
    scores = tuple(tuple(-c * b for b in widths) for c in importance)
    costs = tuple(tuple(float(p * b) for b in widths) for p in WEIGHTS)
    return Problem(tuple("abcdef"), options, scores, {"bits": costs}, {"bits": float(budget)}), importance


@pytest.mark.parametrize(
    ("beta", "budget", "relaxed", "value", "best", "example"),
    [
        (0, 90_000, (4, 4, 4, 2, 2, 2.8), 18.8, 18, "444222"),
        (0, 108_000, (4, 4, 4, 3.5, 2, 4), 21.5, 21, "444324"),
        (0.5, 108_000, (4, 4, 4, 3.5, 2, 4), 6.704562, 6.592864, "434424"),
        (1, 90_000, (4, 2.5, 4, 2, 2, 4), 2.029476, 1.988922, "424224"),
        (1, 108_000, (4, 4, 4, 3.5, 2, 4), 2.312730, 2.285488, "434424"),
        (1, 126_000, (4, 4, 4, 4, 2.875, 4), 2.468301, 2.401723, "434434"),
    ],
)
def test_the_published_linear_programs_fixture(
    beta: float, budget: int, relaxed: tuple[float, ...], value: float, best: float, example: str
) -> None:
    problem, importance = ompq_problem(beta, budget)
    if beta == 1:
        np.testing.assert_allclose(importance, [0.0743829, 0.0811071, 0.0876281, 0.1077295, 0.1162353, 0.1826835], atol=5e-8)
    relaxation = lp.relax(problem)
    assert -relaxation.score == pytest.approx(value, abs=1e-6) == -greedy.relax(problem)
    if beta:  # all layers of equal importance: other mixtures are as good
        assert [float(share @ (2, 3, 4)) for share in relaxation.shares] == pytest.approx(relaxed, abs=1e-6)
    for solution in (milp.solve(problem), dp.solve(problem)):
        assert -solution.score == pytest.approx(best, abs=1e-6) == -brute_force(problem)
    listed = [int(digit) - 2 for digit in example]
    assert problem.is_feasible(listed)
    assert -problem.score(listed) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_frontier_holds_every_undominated_choice_and_no_other(seed: int) -> None:
    problem = random_problem(seed, layers=6, integers=True)
    unlimited = Problem(problem.names, problem.options, problem.scores, problem.costs, {})
    points = sorted({(unlimited.total("cost0", c), unlimited.score(c)) for c in every_choice(unlimited)})
    expected = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    found = [(s.costs["cost0"], s.score) for s in dp.frontier(unlimited, "cost0")]
    assert found == expected


def test_a_thinned_table_is_feasible_and_does_not_claim_an_optimum() -> None:
    problem = random_problem(1, layers=16)
    exact, thinned = dp.solve(problem), dp.solve(problem, max_states=30)
    assert exact.optimal
    assert not thinned.optimal
    assert problem.is_feasible(thinned.choice)
    assert exact.score <= thinned.score <= exact.score * 1.1


def test_costs_outside_the_choice_count() -> None:
    problem = random_problem(2)
    less = Problem(problem.names, problem.options, problem.scores, problem.costs, problem.limits, {"cost0": 2.0})
    solution = dp.solve(less)
    assert solution.costs["cost0"] == less.total("cost0", solution.choice) <= problem.limits["cost0"]
    assert solution.score == pytest.approx(brute_force(less), abs=1e-12)
    assert solution.score > dp.solve(problem).score


def test_an_impossible_limit_names_the_least_possible_cost() -> None:
    problem = random_problem(0)
    least = sum(min(row) for row in problem.costs["cost0"])
    tight = Problem(problem.names, problem.options, problem.scores, problem.costs, {"cost0": least * 0.9})
    with pytest.raises(InfeasibleError, match=rf"cost0: .* asked, but the least possible is {least:.6g}"):
        dp.solve(tight)


def test_readers_of_one_tensor_without_common_activation_bits_are_named() -> None:
    options = ((parse_bits("4/4"),), (parse_bits("8/8"),))
    problem = Problem(("a", "b"), options, ((0.0,), (0.0,)), {"cost0": ((1.0,), (1.0,))}, {}, shared_inputs=((0, 1),))
    with pytest.raises(InfeasibleError, match="layers a, b are tied or read one tensor"):
        dp.frontier(problem, "cost0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": ((1.0, 2.0),)}, "scores: expected one row for each of 2 layers"),
        ({"scores": ((1.0, 2.0), (1.0,))}, "scores of layer 'b'"),
        ({"scores": ((1.0, 2.0), (1.0, float("nan")))}, "scores of layer 'b': expected finite"),
        ({"limits": {"time": 1.0}}, "limits without costs: time"),
    ],
)
def test_a_problem_that_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    two = (CANDIDATES[:2], CANDIDATES[:2])
    arguments = {"names": ("a", "b"), "options": two, "scores": ((1.0, 0.0),) * 2, "costs": {"c": ((1.0, 2.0),) * 2}, "limits": {"c": 3.0}}
    with pytest.raises(ValueError, match=message):
        Problem(**{**arguments, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, ValueError, "at least one"),
        ({"bops": 2}, ValueError, "fraction"),
        ({"size_mb": 0}, ValueError, "above 0"),
        ({"latency_ms": "3"}, TypeError, "latency_ms: expected a number"),
        ({"avg_weight_bits": float("nan")}, ValueError, "above 0"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(kwargs: dict[str, float], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        pq.Budget(**kwargs)
    assert str(pq.Budget(bops=0.05, latency_ms=3)) == "0.05 of the float BOPs, 3 ms"
