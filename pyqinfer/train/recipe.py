"""How a prepared module is trained: :class:`Recipe`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from math import cos, pi
from typing import Any, Literal

import torch
from torch import Tensor

from pyqinfer.options import check_types

LossFunction = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the training loop and of where it starts.

    Args:
        epochs: passes over the training batches; 0 exports the start.
        lr: first learning rate of SGD; it falls to 0 along a cosine. momentum, nesterov: of SGD.
        weight_decay: of latent weights alone; steps, BatchNorms and biases have none.
        freeze_bn: share of the training after which BatchNorms use their running statistics for good, as the exported graph does. "auto":
            0 where every layer has weights of 8 bits or stays float, else 0.6.
        frozen_lr: by which the learning rate is multiplied once BatchNorms are frozen: without the batch's own statistics a step that is
            too large is not made good, and rates that a network was trained with diverge.
        loss: ``loss(outputs, targets)``, a scalar tensor; None: cross entropy of logits ``[N, classes, ...]``. Targets are what a batch
            holds behind the model's inputs: one thing itself, several as a tuple.
        distill: share of the loss that compares the outputs with the float model's, 0 to 1, for models whose output is logits.
        temperature: by which both outputs' logits are divided for that.
        equalize, observer, weight_range, smooth: how post-training quantization finds the start, see
            :class:`~pyqinfer.quantization.pipeline.Settings`.
        seed: decides the order of batches (of loaders that draw it from torch's generator or their own), augmentation that draws from
            torch, NumPy or ``random``, and whatever a method draws.
        device: "cpu", "cuda", ...; "auto": CUDA where there is one.
        checkpoint: file that is written after each epoch; if it is there the training goes on from it, to the same weights.
        progress: whether a progress bar may be shown.

    Raises:
        TypeError, ValueError: values of another type, or out of range.
    """

    epochs: int = 10
    lr: float = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    freeze_bn: float | Literal["auto"] = "auto"
    frozen_lr: float = 0.1
    loss: LossFunction | None = None
    distill: float = 0.0
    temperature: float = 2.0
    equalize: bool | Literal["auto"] = "auto"
    observer: str = "mse"
    weight_range: str = "mse"
    smooth: bool | Literal["auto"] = "auto"
    seed: int = 0
    device: str = "auto"
    checkpoint: str | os.PathLike[str] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        check_types(self)
        if self.epochs < 0:
            raise ValueError(f"epochs: expected at least 0, got {self.epochs}")
        for name in ("lr", "frozen_lr", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: expected a number above 0, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: expected a number in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay: expected a number >= 0, got {self.weight_decay}")
        if self.freeze_bn != "auto" and not 0 <= self.freeze_bn <= 1:
            raise ValueError(f"freeze_bn: expected a share in [0, 1] or 'auto', got {self.freeze_bn!r}")
        if not 0 <= self.distill <= 1:
            raise ValueError(f"distill: expected a share in [0, 1], got {self.distill}")

    @property
    def device_name(self) -> str:
        """The device that "auto" stands for here, or the one that was asked for."""
        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def rate(self, share: float, frozen: bool) -> float:
        """The learning rate when a share of the training is done, with BatchNorms frozen or not."""
        return self.lr * (self.frozen_lr if frozen else 1.0) * 0.5 * (1 + cos(pi * share))

    def fingerprint(self) -> str:
        """The settings that decide which weights come out, as text."""
        passing = {"checkpoint", "progress", "device", "loss"}
        return repr([(f.name, repr(getattr(self, f.name))) for f in fields(self) if f.name not in passing])
