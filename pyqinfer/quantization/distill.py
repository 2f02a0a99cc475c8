"""Distilled data: inputs made from nothing but a network's BatchNorm statistics (ZeroQ, Cai et al., CVPR 2020, arXiv 2001.00281)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from pyqinfer.quantization.bn_statistics import StatisticsLoss, Stats
from pyqinfer.quantization.calibrate import with_progress
from pyqinfer.quantization.distilled import Distilled

_PATIENCE = 100
_LOWEST_RATE = 1e-4
# The authors' code divides integers 0..254 around 0 by the variance 255^2/12 of a uniform distribution, not by its standard
# deviation, so that its images start nearly black.
_REPOSITORY_DIVISOR = 255**2 / 12


@dataclass(frozen=True)
class Distillation:
    """How inputs are distilled: Adam on their pixels against :class:`~pyqinfer.quantization.bn_statistics.StatisticsLoss`.

    The authors' code is ``Distillation(64, 500, "image", schedule="plateau", init="repository")``. The defaults reach a lower loss
    in less than half the steps: at a rate of 0.5 the plateau is often never found, and a falling rate settles.

    Args:
        batch: number of images made.
        iterations: steps of Adam. The images of the least loss are kept.
        stats: statistics of the "batch" (the paper's equation) or of each "image" (the authors' code), which makes every image an average
            one: features that set classes apart are then smaller than in real images, and ranges found with them cut real ones off.
        learning_rate: at the start, in units of a pixel.
        schedule: how the rate falls: "plateau" (to a tenth after 100 steps without progress, down to 1e-4) or "cosine" (to 0).
        init: images start as N(0, 1) noise ("normal") or as the authors' code has it ("repository": uniform, standard deviation 0.0136).
        input_stats: mean and standard deviation that each channel of the network's own inputs has; None where they are unknown.
        seed: decides the initial noise.

    Raises:
        ValueError: a number or name out of its range.
    """

    batch: int = 32
    iterations: int = 200
    stats: Stats = "batch"
    learning_rate: float = 0.5
    schedule: Literal["plateau", "cosine"] = "cosine"
    init: Literal["normal", "repository"] = "normal"
    input_stats: tuple[float, float] | None = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for field, allowed in (("stats", ("image", "batch")), ("schedule", ("plateau", "cosine")), ("init", ("normal", "repository"))):
            if getattr(self, field) not in allowed:
                raise ValueError(f"Distillation {field}: expected {' or '.join(map(repr, allowed))}, got {getattr(self, field)!r}")
        if self.batch < 1 or self.iterations < 1:
            raise ValueError(f"Distillation: expected a batch and iterations of at least 1, got {self.batch} and {self.iterations}")
        if not self.learning_rate > 0:
            raise ValueError(f"Distillation learning_rate: expected a number above 0, got {self.learning_rate}")
        if self.input_stats is not None and not self.input_stats[1] > 0:
            raise ValueError(f"Distillation input_stats: expected a standard deviation above 0, got {self.input_stats[1]}")


def initial_noise(examples: Sequence[Tensor], settings: Distillation) -> tuple[Tensor, ...]:
    """What distillation starts from: one tensor ``[batch, ...]`` for each example input, seeded.

    Raises:
        ValueError: an input without a batch, or one of integers (indices), which cannot be distilled.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    result = []
    for i, example in enumerate(examples):
        if not example.is_floating_point() or example.ndim < 2:
            raise ValueError(
                f"example_inputs[{i}] ({example.dtype}, shape {tuple(example.shape)}): only float inputs [N, C, ...] can be distilled; "
                "pass calibration= batches"
            )
        shape = (settings.batch, *example.shape[1:])
        if settings.init == "normal":
            result.append(torch.randn(shape, generator=generator))
        else:
            result.append((torch.randint(0, 255, shape, generator=generator) - 127.5) / _REPOSITORY_DIVISOR)
    return tuple(result)


def distill(model: nn.Module, example_inputs: Sequence[Tensor], settings: Distillation | None = None) -> Distilled:
    """Inputs on which the model's BatchNorm layers see the statistics that they remember of the training data.

    The model's modes and ``requires_grad`` are restored; its parameters and running statistics do not change.

    Args:
        model: float network with BatchNorm, on the CPU.
        example_inputs: tensors of the shapes to make; their batch does not matter.
        settings: how to distill; ``Distillation()`` if None.

    Raises:
        ValueError: no BatchNorm, inputs that cannot be distilled, or a loss that became NaN or infinite.
    """
    settings = settings or Distillation()
    loss_of = StatisticsLoss(model, settings.stats, settings.input_stats)
    inputs = [x.requires_grad_(True) for x in initial_noise(example_inputs, settings)]
    optimizer = Adam(inputs, lr=settings.learning_rate)
    scheduler: CosineAnnealingLR | ReduceLROnPlateau
    if settings.schedule == "cosine":
        scheduler = CosineAnnealingLR(optimizer, settings.iterations)
    else:
        scheduler = ReduceLROnPlateau(optimizer, factor=0.1, patience=_PATIENCE, min_lr=_LOWEST_RATE)
    losses: list[float] = []
    best = float("inf")
    with torch.enable_grad(), loss_of.attached():
        for _ in with_progress(range(settings.iterations), "distilling images"):
            optimizer.zero_grad()
            loss = loss_of(inputs)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise ValueError(f"distillation: the loss became {losses[-1]} at step {len(losses)}; try a lower learning_rate")
            if losses[-1] < best:
                best, kept = losses[-1], tuple(x.detach().clone() for x in inputs)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(losses[-1])
            else:
                scheduler.step()
    return Distilled(kept, np.array(losses))
