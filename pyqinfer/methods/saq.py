"""Sharpness-aware quantization (Liu et al. 2021, arXiv 2111.12273)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.graph import Layer, batches
from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.method import TrainingMethod
from pyqinfer.train.prepare import Parts
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.recalibrate import recalibrate_norms
from pyqinfer.train.sharp import CASES, SharpStepper
from pyqinfer.train.weights import FloatWeight, TrainedWeight
from pyqinfer.train.zero_free import ClippedActivation, ZeroFreeWeight


@dataclass(frozen=True)
class SAQ(TrainingMethod):
    """Sharpness-aware quantization: training that looks for minima of the quantized network whose neighbourhood is flat.

    Each step takes two passes (:mod:`pyqinfer.train.sharp`), so that an epoch takes twice the time of :class:`pyqinfer.QAT`'s. Weights lie
    on a grid without zero with one learned clip per layer (:mod:`pyqinfer.train.zero_free`); those in front of a BatchNorm are
    standardized. First and last layer are at 8/8 by default, the network's input at the 8 bits that the authors count but do not apply.

    Args:
        weight_bits, act_bits, first_last, bits: see :class:`~pyqinfer.quantization.chosen_bits.ChosenBits`.
        rho: norm of the perturbation, over all tensors together; the authors take 0.3 to 0.9. 0 is plain training on the same grid.
        case: where the perturbation is taken and added, see :class:`~pyqinfer.train.sharp.SharpStepper`.
        include_norms, include_clips: whether BatchNorms, and clips of activations, are perturbed too.
        epochs, lr and the others: see :class:`~pyqinfer.train.recipe.Recipe`. As published, BatchNorms are not frozen before the end, and
            momentum is Nesterov's; unlike published, only latent weights decay.

    Raises:
        ValueError: widths that do not exist, ternary weights among them, or settings out of range.
    """

    nesterov: bool = True
    freeze_bn: float | Literal["auto"] = 1.0
    equalize: bool | Literal["auto"] = False
    rho: float = 0.4
    case: str = "quantized"
    include_norms: bool = True
    include_clips: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.rho < float("inf"):
            raise ValueError(f"rho: expected a number >= 0, got {self.rho}")
        if self.case not in CASES:
            raise ValueError(f"case: expected one of {', '.join(CASES)}, got {self.case!r}")
        if self.weight_bits == "ternary":
            raise ValueError("weight_bits: SAQ's grid has no zero, so it has no ternary weights")

    @classmethod
    def from_options(cls, *, bits: LayerBits, bits_in: BitConfig | None, **recipe: Any) -> SAQ:
        """The configuration that options of ``pyqinfer train`` ask for."""
        return cls(weight_bits=bits.weight, act_bits=bits.act, bits=bits_in, **recipe)

    def parts(self) -> Parts:
        return SharpParts(self._settings)

    def stepper(self, prepared: Prepared, first_pass: Callable[[], AbstractContextManager[object]] = nullcontext) -> SharpStepper:
        """The two-pass step. ``first_pass``: under DistributedDataParallel its ``no_sync``."""
        return SharpStepper(prepared, self.rho, self.case, self.include_norms, self.include_clips, first_pass)

    def _prepare(self, task: Task) -> Prepared:
        prepared = super()._prepare(task)
        if task.calibration is not None:
            # The standardized weights give sums of another scale than those that the running statistics are of.
            recalibrate_norms(prepared, batches(task.calibration, prepared.blueprint.traced.input_count))
        return prepared


class SharpParts(Parts):
    """Weights on the grid without zero, activations with clips."""

    def weight(self, layer: Layer, latent: Tensor, gain: Tensor | None, bits: LayerBits) -> TrainedWeight:
        return FloatWeight(latent, bits) if bits.is_float else ZeroFreeWeight(latent, bits, standardize=gain is not None)

    def activation(self, params: ActivationParams, readers: tuple[str, ...]) -> TrainedActivation:
        return ClippedActivation(params)
