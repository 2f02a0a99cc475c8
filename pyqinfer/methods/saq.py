"""Sharpness-aware quantization (Liu et al. 2021, arXiv 2111.12273)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor
from torch.fx import GraphModule

from pyqinfer.allocation.api import Allocation
from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.budget import check_budget
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.graph import Layer
from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.generator import Generator, Search
from pyqinfer.train.loop import Stepper, Trainer
from pyqinfer.train.method import TrainingMethod
from pyqinfer.train.prepare import Parts
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.recalibrate import recalibrate_norms
from pyqinfer.train.sharp import CASES, SharpStepper
from pyqinfer.train.sharpness import Batch, Sharpness, measure_sharpness, sharpness_report
from pyqinfer.train.weights import FloatWeight, TrainedWeight
from pyqinfer.train.zero_free import ClippedActivation, ZeroFreeWeight

# What sharpness before and after a training is measured on: samples, and random directions beside the gradient's.
_SHARPNESS_SAMPLES, _DIRECTIONS = 512, 3
# Calibration samples that the first running statistics of BatchNorms can be had from.
_LEAST_SAMPLES = 64


@dataclass(frozen=True)
class SAQ(TrainingMethod):
    """Sharpness-aware quantization: training that looks for minima of the quantized network whose neighbourhood is flat.

    Each step takes two passes (:mod:`pyqinfer.train.sharp`), so that an epoch takes twice the time of :class:`pyqinfer.QAT`'s. Weights lie
    on a grid without zero with one learned clip per layer (:mod:`pyqinfer.train.zero_free`); those in front of a BatchNorm are
    standardized. First and last layer are at 8/8 by default, the network's input at the 8 bits that the authors count but do not apply.

    Under a budget the bits are found first (:mod:`pyqinfer.train.generator`), on ``val`` as held-out batches; then the network is trained
    with them from the float model. With a ``checkpoint`` the bits are kept beside it, in a file that ends in ``.bits.json``.

    Args:
        weight_bits, act_bits, first_last, bits: see :class:`~pyqinfer.quantization.chosen_bits.ChosenBits`; without a budget.
        rho: norm of the perturbation, over all tensors together. The default suits trainings of a few epochs; the authors take 0.3 to 0.9
            for 90 to 200 epochs. 0 is plain training on the same grid.
        case: where the perturbation is taken and added, see :class:`~pyqinfer.train.sharp.SharpStepper`.
        include_norms, include_clips: whether BatchNorms, and clips of activations, are perturbed too.
        search: how bits are found under a budget.
        epochs, lr and the others: see :class:`~pyqinfer.train.recipe.Recipe`. As published, BatchNorms are not frozen before the end, and
            momentum is Nesterov's; unlike published, only latent weights decay.

    Raises:
        ValueError: widths that do not exist, ternary weights among them, or settings out of range.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration", "budget", "train", "val"})

    nesterov: bool = True
    freeze_bn: float | Literal["auto"] = 1.0
    equalize: bool | Literal["auto"] = False
    rho: float = 0.1
    case: str = "quantized"
    include_norms: bool = True
    include_clips: bool = True
    search: Search = field(default_factory=Search)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rho < float("inf"):
            raise ValueError(f"rho: expected a number >= 0, got {self.rho}")
        if self.case not in CASES:
            raise ValueError(f"case: expected one of {', '.join(CASES)}, got {self.case!r}")
        if self.weight_bits == "ternary":
            raise ValueError("weight_bits: SAQ's grid has no zero, so it has no ternary weights")

    def parts(self) -> Parts:
        return SharpParts(self.start_settings)

    def stepper(self, prepared: Prepared, first_pass: Callable[[], AbstractContextManager[object]] = nullcontext) -> SharpStepper:
        """The two-pass step. ``first_pass``: under DistributedDataParallel its ``no_sync``."""
        return SharpStepper(prepared, self.rho, self.case, self.include_norms, self.include_clips, first_pass)

    def allocate(self, task: Task) -> Allocation:
        """See :func:`pyqinfer.allocate`: the bits alone.

        Raises ValueError without training or held-out batches, InfeasibleError for a budget that the cheapest candidates break, TypeError
        without a budget.
        """
        check_budget(task.budget)
        for name in ("train", "val"):
            if getattr(task, name) is None:
                raise ValueError(f"{name}: SAQ chooses bits by training on train= and looking at val=, labelled batches")
        task = replace(task, calibration=list(self.calibration_of(task)))
        loss = self.loss or F.cross_entropy
        return Generator(
            task, self.search, self._search_trainer(task), self.stepper, loss, self.rho, self.first_last, self.start_settings, self.seed
        ).run()

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`.

        Under a budget ``meta["allocation"]`` holds the bits that were found; with ``val`` ``meta["sharpness"]`` compares the loss around
        the network before and after the training.
        """
        if task.budget is None:
            return super().quantize(task)
        kept = None if self.checkpoint is None else Path(f"{self.checkpoint}.bits.json")
        if kept is not None and kept.exists():
            bits: BitConfig = BitConfig.load(kept)
        else:
            bits = self.allocate(task)
            if kept is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                bits.save(kept)
        module = replace(self, bits=bits, first_last=None).quantize(replace(task, budget=None))
        module.meta["allocation"] = bits
        return module

    def observed(self, trainer: Trainer) -> Sharpness | None:
        """Sharpness on the first validation batches; None where there are none."""
        if trainer.val is None:
            return None
        trainer.prepared.to(self.device_name)
        held_out: list[Batch] = []
        for batch in trainer.val:
            held_out.append(trainer.split(batch))
            if sum(len(inputs[0]) for inputs, _ in held_out) >= _SHARPNESS_SAMPLES:
                break
        return measure_sharpness(self.stepper(trainer.prepared), held_out, self.loss or F.cross_entropy, directions=_DIRECTIONS)

    def findings(self, before: Sharpness | None, after: Sharpness | None) -> dict[str, Any]:
        """``sharpness``: a :class:`~pyqinfer.train.sharpness.SharpnessReport`, which can ``plot``, where there was validation data."""
        return {} if before is None or after is None else {"sharpness": sharpness_report({"before": before, "after": after})}

    def _search_trainer(self, task: Task) -> Callable[[Prepared, int, Stepper], Trainer]:
        def make(prepared: Prepared, epochs: int, stepper: Stepper) -> Trainer:
            recipe = replace(self, epochs=epochs, checkpoint=None)
            return replace(recipe.trainer(prepared, replace(task, val=None)), stepper=stepper)

        return make

    def prepare_task(self, task: Task) -> Prepared:
        prepared = super().prepare_task(task)
        if task.calibration is not None:
            # Sums of rounded weights have other statistics than the float network's; those of few samples are worse than none.
            batches = prepared.blueprint.traced.batches(task.calibration)
            if sum(len(batch[0]) for batch in batches) >= _LEAST_SAMPLES:
                recalibrate_norms(prepared, batches)
        return prepared


class SharpParts(Parts):
    """Weights on the grid without zero, activations with clips."""

    def weight(self, layer: Layer, latent: Tensor, gain: Tensor | None, bits: LayerBits) -> TrainedWeight:
        return FloatWeight(latent, bits) if bits.is_float else ZeroFreeWeight(latent, bits, standardize=gain is not None)

    def activation(self, params: ActivationParams, readers: tuple[str, ...]) -> TrainedActivation:
        return ClippedActivation(params)
