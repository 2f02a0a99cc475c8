"""ZeroQ: quantization without data (Cai et al., CVPR 2020, arXiv 2001.00281).

BatchNorm layers remember mean and variance of what they saw in training. Images are optimized until the network's activations have these
statistics; they calibrate activation ranges as real images would, and tell how much each layer's bits matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn
from torch.fx import GraphModule

from pyqinfer.allocation.api import Allocation
from pyqinfer.allocation.choose import Findings, Rules, choose_bits, default_candidates, fixed_layers, layer_options
from pyqinfer.bits import BitConfig, LayerBits, parse_bits
from pyqinfer.budget import Budget, check_budget
from pyqinfer.frontend.export import check_examples
from pyqinfer.methods.ptq import PTQ
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.distill import Distillation, distill
from pyqinfer.quantization.distilled import Distilled
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.nodes import QuantNode, quantizable_nodes
from pyqinfer.quantization.pipeline import run_pipeline
from pyqinfer.quantization.sensitivity import Sensitivities, kl_sensitivities
from pyqinfer.report import Cell, Column

_WIDTHS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True, kw_only=True)
class ZeroQ(PTQ):
    """Configuration of ZeroQ: that of :class:`PTQ`, with data of its own and, under a budget, bits by sensitivity.

    No data is needed: ``pq.quantize(model, pq.ZeroQ(), example_inputs=(x,))``. ``calibration=`` batches, where given, take the place of the
    distilled images (the paper's comparison with real data), and the network then needs no BatchNorm.

    With ``budget=`` every layer's weight bits are chosen so that the sum of KL sensitivities is least: the point of the exact Pareto
    frontier that the budget allows, see :meth:`~pyqinfer.allocation.api.Allocation.frontier`. The sensitivity of a layer is the divergence
    of the network's output with that layer's weights quantized and all else in float; where a layer may also choose its activation
    bits, its input is quantized with them.

    ``relu_only=True`` puts activation quantizers where the authors' released code has them: behind ReLU and ReLU6 alone. BatchNorm is
    folded all the same: codes are symmetric per output channel, so that folding changes their scales only.

    Args:
        distillation: how images are made.
        candidates: bits that a layer may take under a budget, e.g. ``("2/8", "4/8", "8/8")`` as in the paper. Default: weights of 2, 3, 4,
            5, 6 and 8 bits, activations at ``act_bits``; under a budget of BOPs or ms, pairs of weight and activation bits
            (:func:`~pyqinfer.allocation.choose.default_candidates`).
        tie_blocks: a block's last convolution and its downsample take the same weight bits.
        symmetric_kl: mean of the divergences in both directions rather than from the float network's output.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration", "budget"})
    needs: ClassVar[frozenset[str]] = frozenset()

    distillation: Distillation = field(default_factory=Distillation)
    candidates: Sequence[str | LayerBits] | None = None
    tie_blocks: bool = False
    symmetric_kl: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._rules(None)

    @classmethod
    def from_options(
        cls, *, bits: LayerBits, bits_in: BitConfig | None, observer: str, candidates: Sequence[str] | None = None, seed: int = 0
    ) -> ZeroQ:
        """The configuration that options of ``pyqinfer quantize`` ask for; ``seed`` is that of the distilled images."""
        return cls(
            weight_bits=bits.weight,
            act_bits=bits.act,
            observer=observer,
            bits=bits_in,
            candidates=candidates,
            distillation=Distillation(seed=seed),
        )

    def distill(self, model: nn.Module, example_inputs: object) -> Distilled:
        """The images that the model would be calibrated with: look at them with ``save_grid``, keep them with ``save``.

        Raises:
            ValueError: a network without BatchNorm; use :class:`PTQ` with calibration batches for it.
        """
        return distill(model, check_examples(example_inputs), self.distillation)

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`; under a budget the result's ``meta["allocation"]`` holds the allocation. Raises ValueError for a
        network without BatchNorm, unless it is given calibration batches."""
        task, distilled = self._with_data(task)
        if task.budget is None:
            return run_pipeline(task, lambda names: self.layer_bits(names, task.keep), self)
        allocation = self._allocate(task, distilled)
        module = run_pipeline(task, lambda _: allocation, self)
        module.meta["allocation"] = allocation
        return module

    def allocate(self, task: Task) -> Allocation:
        """See :func:`pyqinfer.allocate`. Raises ValueError as :meth:`quantize`, InfeasibleError for a budget that is too small."""
        check_budget(task.budget)
        return self._allocate(*self._with_data(task))

    def _with_data(self, task: Task) -> tuple[Task, Distilled | None]:
        if task.calibration is not None:
            return replace(task, calibration=list(task.calibration)), None
        distilled = self.distill(task.model, task.example_inputs)
        return replace(task, calibration=[distilled.inputs]), distilled

    def _rules(self, budget: Budget | None) -> Rules:
        solver = "dp" if budget is not None and len(budget.limits) == 1 else "milp"
        return Rules(self.candidates, self.first_last, self.tie_blocks, solver)

    def _allocate(self, task: Task, distilled: Distilled | None) -> Allocation:
        budget = check_budget(task.budget)
        task = replace(task, keep={**(self.bits or {}), **task.keep})
        traced = task.traced()
        nodes = quantizable_nodes(traced)
        fixed = fixed_layers(nodes, self._rules(budget), task.keep)
        candidates = self._candidates(budget, nodes, fixed)
        options = layer_options(nodes, fixed, candidates)
        fold_batch_norm(traced)
        activations = any(len({bits.act for bits in row}) > 1 for row in options.values())
        data = traced.batches(task.calibration or ())
        search = self.weight_range == "mse"
        scores = kl_sensitivities(traced, options, data, activations=activations, symmetric=self.symmetric_kl, search=search)
        rules = replace(self._rules(budget), candidates=candidates)
        return choose_bits(task, nodes, lambda node, bits: scores[node.name][bits], rules, _findings(scores, activations, distilled))

    def _candidates(self, budget: Budget, nodes: Sequence[QuantNode], fixed: Mapping[str, LayerBits]) -> tuple[LayerBits, ...]:
        if self.candidates is not None:
            return tuple(parse_bits(bits) for bits in self.candidates)
        if any(cost.candidates for cost in budget.costs):
            return default_candidates(budget, nodes, fixed)
        return tuple(LayerBits(width, self.act_bits) for width in _WIDTHS)


def _findings(scores: Sensitivities, activations: bool, distilled: Distilled | None) -> Findings:
    """Every candidate's sensitivity as a column of the report."""
    columns = dict.fromkeys(str(bits) for row in scores.values() for bits in row)
    values: dict[str, Mapping[str, Cell]] = {name: {f"kl_{bits}": value for bits, value in row.items()} for name, row in scores.items()}
    what = "weights and input" if activations else "weights"
    notes = [f"KL: divergence of the output (nats) with this layer's {what} at these bits and all else in float"]
    facts: dict[str, object] = {"activations_quantized": activations}
    if distilled is not None:
        notes.append(f"{len(distilled.images)} distilled images: loss {distilled.losses[0]:.4g} before, {distilled.loss:.4g} after")
        facts |= {"distillation_loss": distilled.loss, "initial_loss": float(distilled.losses[0])}
    return Findings([Column(f"kl_{text}", f"KL {text}", ".3g") for text in columns], values, facts, notes)
