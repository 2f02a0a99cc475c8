"""Choosing one option per layer: the common form that every cost model writes and every solver reads.

Minimise the sum of scores subject to ``fixed[c] + sum of costs[c] <= limits[c]`` for every limited cost: a multiple-choice knapsack with
several constraints. Layers that must choose together are joined into groups first, so that solvers see independent choices only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

from pyqinfer.bits import BitConfig, LayerBits, WeightBits

# A sum of floats may exceed a limit that it equals in exact arithmetic.
_ROUNDING = 1e-12


class InfeasibleError(ValueError):
    """No choice meets the limits; the message says what the least possible is."""


@dataclass(frozen=True)
class Problem:
    """What each layer may take, what that loses and costs, and what all of them may cost together.

    Args:
        names: layers, in execution order. options: for each layer the bits it may take.
        scores: loss of each option, lower is better; losses of layers add up.
        costs: cost name -> cost of each layer's options, e.g. ``{"size_mb": ...}``; any unit.
        limits: cost name -> largest allowed sum. A cost without a limit is only reported.
        fixed: cost name -> what is spent outside the choice.
        ties: groups of layers (indices) that take the same weight bits.
        shared_inputs: groups of layers that read one tensor, so that their activation bits are equal.

    Raises:
        ValueError: sizes that do not fit, or numbers that are not finite.
    """

    names: tuple[str, ...]
    options: tuple[tuple[LayerBits, ...], ...]
    scores: tuple[tuple[float, ...], ...]
    costs: Mapping[str, tuple[tuple[float, ...], ...]]
    limits: Mapping[str, float]
    fixed: Mapping[str, float] = field(default_factory=dict)
    ties: tuple[tuple[int, ...], ...] = ()
    shared_inputs: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_table("options", self.names, self.options, self.options)
        for key, table in {"scores": self.scores, **self.costs}.items():
            _check_table(key, self.names, self.options, table)
            for name, row in zip(self.names, table, strict=True):
                if not all(isfinite(value) for value in row):
                    raise ValueError(f"{key} of layer {name!r}: expected finite numbers, got {row}")
        unknown = sorted(set(self.limits) - set(self.costs))
        if unknown:
            raise ValueError(f"limits without costs: {', '.join(unknown)}")

    def total(self, cost: str, choice: Sequence[int]) -> float:
        """The whole cost of one option per layer."""
        return self.fixed.get(cost, 0.0) + sum(row[k] for row, k in zip(self.costs[cost], choice, strict=True))

    def score(self, choice: Sequence[int]) -> float:
        """The sum of scores."""
        return sum(row[k] for row, k in zip(self.scores, choice, strict=True))

    def is_feasible(self, choice: Sequence[int]) -> bool:
        """Every limit is met."""
        return all(within(self.total(cost, choice), limit) for cost, limit in self.limits.items())

    def solution(self, choice: Sequence[int], optimal: bool, solver: str) -> Solution:
        """A choice with its bits, score and costs."""
        bits = BitConfig({name: row[k] for name, row, k in zip(self.names, self.options, choice, strict=True)})
        costs = {cost: self.total(cost, choice) for cost in self.costs}
        return Solution(tuple(choice), bits, self.score(choice), costs, optimal, solver)

    def check_feasible(self, groups: Sequence[Group]) -> None:
        """Raises InfeasibleError where one limit alone cannot be met."""
        for cost, limit in self.limits.items():
            fixed = self.fixed.get(cost, 0.0)
            least = fixed + sum(min(choice.costs[cost] for choice in group) for group in groups)
            if not within(least, limit):
                beside = f" ({fixed:.6g} of it for what does not choose)" if fixed else ""
                raise InfeasibleError(
                    f"{cost}: {limit:g} asked, but the least possible is {least:.6g}{beside}, with every layer at its cheapest candidate"
                )

    def groups(self, costs: Sequence[str] | None = None) -> list[Group]:
        """Independent choices: tied layers and readers of one tensor joined, options that another beats in score and in every one of
        ``costs`` (default: the limited ones) left out.

        Raises:
            InfeasibleError: tied layers have no weight bits in common, or readers of one tensor no activation bits.
        """
        keys = tuple(self.limits if costs is None else costs)
        return [self._join(members, keys) for members in self.components()]

    def components(self) -> list[list[int]]:
        """Layers (indices) that cannot choose apart, because they are tied or read one tensor; in the order of each group's first layer."""
        parent = list(range(len(self.names)))

        def root(i: int) -> int:
            while parent[i] != i:
                i = parent[i]
            return i

        for members in (*self.ties, *self.shared_inputs):
            for member in members:
                parent[root(member)] = root(members[0])
        found: dict[int, list[int]] = {}
        for i in range(len(self.names)):
            found.setdefault(root(i), []).append(i)
        return list(found.values())

    def _join(self, members: list[int], costs: tuple[str, ...]) -> Group:
        """The choices of a group, built one layer after the other; of partial choices that leave the same freedom only those that none
        beats are kept."""
        tie_of = {i: t for t, tie in enumerate(self.ties) for i in tie}
        shared_of = {i: s for s, shared in enumerate(self.shared_inputs) for i in shared}
        partial: dict[_State, list[Choice]] = {(): [Choice((), 0.0, dict.fromkeys(costs, 0.0))]}
        for i in members:
            grown: dict[_State, list[Choice]] = {}
            for state, choices in partial.items():
                for k, bits in enumerate(self.options[i]):
                    demands: list[tuple[str, int, WeightBits]] = [("tie", tie_of[i], bits.weight)] if i in tie_of else []
                    demands += [("act", shared_of[i], bits.act)] if i in shared_of and bits.is_integer else []
                    new_state = _agree(state, demands)
                    if new_state is not None:
                        step = {cost: self.costs[cost][i][k] for cost in costs}
                        grown.setdefault(new_state, []).extend(choice.plus(i, k, self.scores[i][k], step) for choice in choices)
            partial = {state: undominated(choices) for state, choices in grown.items()}
        choices = undominated([choice for choices in partial.values() for choice in choices])
        if not choices:
            names = ", ".join(self.names[i] for i in members)
            raise InfeasibleError(f"layers {names} are tied or read one tensor, but have no bits in common: give them such candidates")
        return choices


@dataclass(frozen=True)
class Choice:
    """One option for each layer of a group: ``picks`` are (layer, option) pairs."""

    picks: tuple[tuple[int, int], ...]
    score: float
    costs: Mapping[str, float]

    def plus(self, layer: int, option: int, score: float, costs: Mapping[str, float]) -> Choice:
        return Choice((*self.picks, (layer, option)), self.score + score, {name: self.costs[name] + costs[name] for name in self.costs})


Group = list[Choice]
_State = tuple[tuple[str, int, WeightBits], ...]


@dataclass(frozen=True)
class Solution:
    """A solver's answer. ``optimal``: proved to be the optimum. ``costs``: totals, fixed parts included."""

    choice: tuple[int, ...]
    bits: BitConfig
    score: float
    costs: Mapping[str, float]
    optimal: bool
    solver: str


def within(value: float, limit: float) -> bool:
    """``value <= limit`` but for the rounding of a sum."""
    return value <= limit + _ROUNDING * max(abs(limit), abs(value))


def price(problem: Problem, choice: Choice) -> float:
    """One number for several costs: each as a share of its limit."""
    return sum(choice.costs[name] / limit if limit else choice.costs[name] for name, limit in problem.limits.items())


def flatten(groups: Sequence[Group], picked: Sequence[int], layers: int) -> list[int]:
    """Option of every layer from the choice of every group."""
    choice = [0] * layers
    for group, k in zip(groups, picked, strict=True):
        for layer, option in group[k].picks:
            choice[layer] = option
    return choice


def undominated(choices: Group) -> Group:
    """The choices that no other equals or beats in the score and in every cost; of equal ones the first."""
    kept: Group = []
    for choice in sorted(choices, key=lambda c: (c.score, *c.costs.values())):
        if not any(all(other.costs[name] <= cost for name, cost in choice.costs.items()) for other in kept):
            kept.append(choice)
    return kept


def _agree(state: _State, demands: Sequence[tuple[str, int, WeightBits]]) -> _State | None:
    """The state with the demands added, or None where they contradict it."""
    known = {(kind, group): value for kind, group, value in state}
    for kind, group, value in demands:
        if known.setdefault((kind, group), value) != value:
            return None
    return tuple((kind, group, known[kind, group]) for kind, group in sorted(known))


def _check_table(key: str, names: Sequence[str], options: Sequence[Sequence[LayerBits]], table: Sequence[Sequence[object]]) -> None:
    if len(table) != len(names):
        raise ValueError(f"{key}: expected one row for each of {len(names)} layers, got {len(table)}")
    for name, choices, row in zip(names, options, table, strict=True):
        if not choices or len(row) != len(choices):
            raise ValueError(f"{key} of layer {name!r}: expected {max(1, len(choices))} entries, got {len(row)}")
