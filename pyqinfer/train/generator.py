"""SAQ's configuration generator: a super-net of switchable bits and a policy that learn together, and the flattest network under a budget.

Each epoch trains the super-net on the training batches, at bits that are drawn for each of them (at random for the first epochs, then by
the policy), and then the policy on held-out batches. What a draw costs is the loss at the worst point near its quantized weights, plus
``penalty * (cost / limit - 1)^2`` for each limit of the budget. In the end configurations are drawn until enough of them lie close below
the limits, and the one of least sharpness over all held-out batches is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyqinfer.allocation.api import Allocation
from pyqinfer.allocation.choose import Findings, Plan, Rules, build_plan, finish
from pyqinfer.allocation.problem import InfeasibleError, Problem, within
from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.calibrate import with_progress
from pyqinfer.quantization.nodes import QuantNode, quantizable_nodes
from pyqinfer.quantization.pipeline import Settings
from pyqinfer.train.loop import Loss, Stepper, Trainer
from pyqinfer.train.policy import BitPolicy, PolicyTrainer, uniform_draw
from pyqinfer.train.prepare import prepare
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.recalibrate import recalibrate_norms
from pyqinfer.train.seeds import kept_generators, seed_epoch
from pyqinfer.train.sharp import SharpStepper
from pyqinfer.train.sharpness import Batch, LossFunction, Sharpness, measure_sharpness
from pyqinfer.train.switchable import SwitchableParts, select_bits

# Stands for an epoch's number in the seeds of the last draws and, one more, of the policy's first weights.
_DRAWING = 1_000_000
_BY_BITS = ("2/2", "3/3", "4/4", "5/5")
_BY_TIME = ("4/4", "6/6", "8/8")  # what the engine has faster algorithms for


@dataclass(frozen=True)
class Search:
    """Settings of the generator.

    Args:
        candidates: bits that a layer may take; None: 2/2 to 5/5 as in the paper, and 4/4, 6/6 and 8/8 under a budget in ms.
        epochs: of super-net and policy. warmup: the first of them, which draw all bits with equal probability and leave the policy alone.
        policy_steps: updates of the policy in an epoch, on one held-out batch each.
        penalty: what being off a limit by all of it is worth. policy_lr, entropy: see :class:`~pyqinfer.train.policy.PolicyTrainer`.
        finalists: how many configurations are compared by sharpness in the end.
        window: share of the limit that they may stay below it.

    Raises:
        ValueError: values out of range.
    """

    candidates: Sequence[str | LayerBits] | None = None
    epochs: int = 10
    warmup: int = 3
    policy_steps: int = 100
    penalty: float = 20.0
    policy_lr: float = 4e-3
    entropy: float = 0.2
    finalists: int = 20
    window: float = 0.03

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.warmup <= self.epochs:
            raise ValueError(f"search: expected at least one epoch and a warm-up within them, got {self.epochs} and {self.warmup}")
        if self.policy_steps < 0 or self.finalists < 1:
            raise ValueError(f"search: expected policy_steps >= 0 and finalists >= 1, got {self.policy_steps} and {self.finalists}")
        for name in ("penalty", "policy_lr", "window"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"search {name}: expected a number above 0, got {getattr(self, name)}")


class Choices:
    """What a draw means: one option for each group of layers that cannot choose apart."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.groups = problem.components()
        counts = {len(options) for options in problem.options}
        if len(counts) != 1:
            raise ValueError(
                "candidates: layers that share an input with one that keeps its bits have fewer; take pairs such as 3/3 and 4/4"
            )
        self.options = counts.pop()

    def choice(self, draw: Sequence[int]) -> list[int]:
        """Option of each layer."""
        result = [0] * len(self.problem.names)
        for members, k in zip(self.groups, draw, strict=True):
            for i in members:
                result[i] = k
        return result

    def bits(self, draw: Sequence[int]) -> dict[str, LayerBits]:
        """Bits of each layer that chooses."""
        problem = self.problem
        return {name: row[k] for name, row, k in zip(problem.names, problem.options, self.choice(draw), strict=True)}

    def excess(self, draw: Sequence[int]) -> list[float]:
        """``cost / limit - 1`` for each limit."""
        return [self.problem.total(cost, self.choice(draw)) / limit - 1 for cost, limit in self.problem.limits.items()]

    def fits(self, draw: Sequence[int]) -> bool:
        """Every limit is met."""
        return all(within(1 + over, 1.0) for over in self.excess(draw))

    def made_to_fit(self, draw: Sequence[int]) -> list[int]:
        """The draw itself where it fits; else one that does: the group whose next cheaper option saves most goes down, again and again."""
        found = list(draw)
        while not self.fits(found):
            lower = [[*found[:i], k - 1, *found[i + 1 :]] for i, k in enumerate(found) if k > 0]
            found = min(lower, key=lambda d: max(self.excess(d)))
        return found


class Generator:
    """One search.

    Args:
        task: with training, held-out (``val``) and calibration batches, and a budget.
        trainer: makes the super-net's training from a prepared module, a number of epochs and a stepper.
        stepper: makes the two-pass step for a prepared module. loss: of outputs and targets. rho: distance at which sharpness is measured.
        first_last: bits of the first and the last layer. settings: how post-training quantization finds the start. seed: of all draws.
    """

    def __init__(
        self,
        task: Task,
        search: Search,
        trainer: Callable[[Prepared, int, Stepper], Trainer],
        stepper: Callable[[Prepared], SharpStepper],
        loss: LossFunction,
        rho: float,
        first_last: str | LayerBits | None,
        settings: Settings,
        seed: int,
    ) -> None:
        self.task, self.search, self.loss, self.rho, self.seed = task, search, loss, rho, seed
        self.nodes: list[QuantNode] = quantizable_nodes(task.traced())
        by_time = task.budget is not None and task.budget.latency_ms is not None
        candidates = search.candidates or (_BY_TIME if by_time else _BY_BITS)
        self.plan: Plan = build_plan(task, self.nodes, lambda node, bits: 0.0, Rules(candidates, first_last, tie_blocks=True))
        self.choices = Choices(self._cheapest_first(self.plan.problem))
        self._check_feasible()
        self.prepared = self._super_net(settings)
        with kept_generators():
            seed_epoch(seed, _DRAWING + 1)
            self.policy = BitPolicy(len(self.choices.groups), self.choices.options)
        self.stepper = stepper(self.prepared)
        self.trainer = trainer(self.prepared, search.epochs, _Drawing(self))
        self.trainer.after_epoch = self._policy_epoch
        self.learner = PolicyTrainer(self.policy, search.policy_lr, search.entropy)
        self.epoch = 0

    def run(self) -> Allocation:
        """Train, draw and compare."""
        self.trainer.run()
        with kept_generators():
            seed_epoch(self.seed, _DRAWING)
            finalists = self._finalists()
        measured = [self._sharpness(draw) for draw in with_progress(finalists, "comparing sharpness")]
        sharpness = [found.uphill[0] - found.loss for found in measured]
        best = min(range(len(finalists)), key=sharpness.__getitem__)
        problem = self.choices.problem
        solution = problem.solution(self.choices.choice(finalists[best]), False, "saq")
        rows = [
            {"bits": " ".join(map(str, self.choices.bits(draw).values())), "loss": found.loss, "sharpness": sharp}
            for draw, found, sharp in zip(finalists, measured, sharpness, strict=True)
        ]
        note = f"SAQ: the least sharpness of {len(finalists)} networks, {sharpness[best]:.4g} (the largest is {max(sharpness):.4g})"
        return finish(self.task, self.nodes, self.plan.fixed, problem, solution, Findings(facts={"finalists": rows}, notes=[note]))

    def select(self, draw: Sequence[int]) -> None:
        """Give the super-net these bits."""
        select_bits(self.prepared, {**self.plan.fixed, **self.choices.bits(draw)})

    def drawn(self) -> Sequence[int]:
        """Choices for a training batch."""
        if self.epoch < self.search.warmup:
            return uniform_draw(len(self.choices.groups), self.choices.options)
        with torch.no_grad():
            return self.policy.draw().choices

    def _cheapest_first(self, problem: Problem) -> Problem:
        """The problem with each layer's options in the order of their bits."""

        def key(bits: LayerBits) -> tuple[int, int]:
            return (2 if bits.weight == "ternary" else bits.weight, bits.act)

        keys = [[key(bits) for bits in options] for options in problem.options]
        orders = [sorted(range(len(row)), key=row.__getitem__) for row in keys]

        def sort(table: Sequence[Sequence[Any]]) -> tuple[tuple[Any, ...], ...]:
            return tuple(tuple(row[k] for k in order) for row, order in zip(table, orders, strict=True))

        costs = {name: sort(table) for name, table in problem.costs.items()}
        return replace(problem, options=sort(problem.options), scores=sort(problem.scores), costs=costs)

    def _check_feasible(self) -> None:
        least = [0] * len(self.choices.groups)
        if not self.choices.fits(least):
            over = {cost: self.choices.problem.total(cost, self.choices.choice(least)) for cost in self.choices.problem.limits}
            raise InfeasibleError(f"budget: {self.task.budget} asked, but the cheapest candidates take {over}")

    def _super_net(self, settings: Settings) -> Prepared:
        problem = self.choices.problem
        options = dict(zip(problem.names, problem.options, strict=True))
        widths = {bits.act for row in [*options.values(), tuple(self.plan.fixed.values())] for bits in row if bits.is_integer} | {8}
        most = {name: row[-1] for name, row in options.items()}
        config = {**self.plan.fixed, **most}
        parts = SwitchableParts(settings, options, sorted(widths))
        prepared = prepare(self.task, lambda names: BitConfig({name: config[name] for name in names}), parts)
        assert self.task.calibration is not None
        data = prepared.blueprint.traced.batches(self.task.calibration)
        for k in range(self.choices.options):
            select_bits(prepared, {**self.plan.fixed, **self.choices.bits([k] * len(self.choices.groups))})
            recalibrate_norms(prepared, data)
        return prepared

    def _held_out(self) -> list[Batch]:
        assert self.task.val is not None
        return [self.trainer.split(batch) for batch in self.task.val]

    def _policy_epoch(self, epoch: int, say: Callable[[str], None]) -> None:
        self.epoch = epoch + 1
        if self.epoch <= self.search.warmup:
            return
        held_out = self._held_out()
        for i in range(self.search.policy_steps):
            say(f"training the policy, step {i + 1} of {self.search.policy_steps}")
            draw = self.policy.draw()
            self.select(draw.choices)
            found = self._measured([held_out[i % len(held_out)]])
            penalty = self.search.penalty * sum(over * over for over in self.choices.excess(draw.choices))
            self.learner.learn(draw, found.uphill[0] + penalty)

    def _measured(self, data: Sequence[Batch]) -> Sharpness:
        return measure_sharpness(self.stepper, data, self.loss, [self.rho])

    def _sharpness(self, draw: Sequence[int]) -> Sharpness:
        self.select(draw)
        return self._measured(self._held_out())

    def _finalists(self) -> list[tuple[int, ...]]:
        """Different draws close below the limits; those that the policy does not give within a hundred draws each are made to fit."""
        found: dict[tuple[int, ...], None] = {}
        others: dict[tuple[int, ...], float] = {}
        with torch.no_grad():
            for _ in range(100 * self.search.finalists):
                draw = self.policy.draw().choices
                closeness = -max(self.choices.excess(draw))
                if self.choices.fits(draw) and closeness <= self.search.window:
                    found[draw] = None
                else:
                    made = tuple(self.choices.made_to_fit(draw))
                    others[made] = -max(self.choices.excess(made))
                if len(found) == self.search.finalists:
                    break
        nearest = sorted((draw for draw in others if draw not in found), key=others.__getitem__)
        return [*found, *nearest][: self.search.finalists]


class _Drawing:
    """The two-pass step at bits that are drawn for each batch."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator

    def backward(self, loss: Loss) -> Tensor:
        self._generator.select(self._generator.drawn())
        return self._generator.stepper.backward(loss)
