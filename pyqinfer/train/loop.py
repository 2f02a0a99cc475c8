"""The plain training loop: SGD along a cosine, seeds, checkpoints, a progress bar, and a row of figures for each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer.report import Cell, Column, Report
from pyqinfer.train.checkpoint import load_checkpoint, save_checkpoint
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.progress import TrainingBar
from pyqinfer.train.recipe import Recipe
from pyqinfer.train.seeds import kept_generators, seed_epoch

Loss = Callable[[], Tensor]
_COLUMNS = (
    Column("epoch", "epoch", "d"),
    Column("lr", "lr", ".5f"),
    Column("loss", "train loss", ".4f"),
    Column("top1_percent", "train top-1 %", ".2f"),
    Column("val_loss", "val loss", ".4f"),
    Column("val_top1_percent", "val top-1 %", ".2f"),
    Column("seconds", "s", ".1f"),
)


@runtime_checkable
class Batches(Protocol):
    """A list of batches, or a data loader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...


class Stepper(Protocol):
    """How gradients are had."""

    def backward(self, loss: Loss) -> Tensor:
        """Evaluate a mini-batch's loss, as often as the method wants, and leave gradients in the parameters. Returns the loss."""
        ...


class PlainStepper:
    """One forward and one backward pass."""

    def backward(self, loss: Loss) -> Tensor:
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()


@dataclass
class _Figures:
    """Sums over samples."""

    samples: int = 0
    loss: float = 0.0
    right: int = 0
    judged: int = 0

    def add(self, loss: Tensor, outputs: Any, targets: Any, samples: int) -> None:
        self.samples += samples
        self.loss += float(loss) * samples
        if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and targets.shape == (len(outputs), *outputs.shape[2:]):
            self.right += int((outputs.argmax(1) == targets).sum())
            self.judged += targets.numel()

    def row(self, prefix: str) -> dict[str, Cell]:
        mean = self.loss / self.samples if self.samples else None
        return {f"{prefix}loss": mean, f"{prefix}top1_percent": 100 * self.right / self.judged if self.judged else None}

    def __str__(self) -> str:
        accuracy = f", {100 * self.right / self.judged:.1f} %" if self.judged else ""
        return f"loss {self.loss / max(1, self.samples):.4f}{accuracy}"


@dataclass
class Trainer:
    """One training.

    Args:
        prepared: the module; it moves to the recipe's device.
        recipe: settings.
        train: batches, whose ``len()`` counts; read once in each epoch.
        val: batches that are looked at after each epoch, or None.
        inputs: how many things of a batch the model is given.
        stepper: how gradients are had. advance: called with the prepared module and the share of the training done, before each step.
        teacher: the float model, for distillation.
        after_epoch: called with the number of the epoch that ended, from 0, before its checkpoint is written, and with a function that
            puts text beside the progress bar.
        settings: text that a checkpoint must agree with.
    """

    prepared: Prepared
    recipe: Recipe
    train: Batches
    val: Iterable[Any] | None
    inputs: int
    stepper: Stepper = field(default_factory=PlainStepper)
    advance: Callable[[Prepared, float], None] = lambda prepared, share: None
    teacher: nn.Module | None = None
    settings: str = ""
    after_epoch: Callable[[int, Callable[[str], None]], None] = lambda epoch, say: None

    def run(self) -> Report:
        """Train; the figures of every epoch come back. Raises ValueError for a loss that is not finite, or no batches."""
        recipe, device = self.recipe, self.recipe.device_name
        # Convolutions take a quarter less time on a CPU with channels last.
        self.prepared.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if self.teacher is not None:
            self.teacher.to(device)
        groups = self.prepared.parameter_groups(recipe.weight_decay)
        optimizer = torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov)
        done, rows = load_checkpoint(recipe.checkpoint, self.settings, self.prepared, optimizer, device)
        with kept_generators(), torch.enable_grad():
            steps = len(self.train)
            if not steps:
                raise ValueError("train: no batches")
            with TrainingBar("training", recipe.epochs * steps, recipe.progress) as bar:
                for epoch in range(done, recipe.epochs):
                    seed_epoch(recipe.seed, epoch, self.train)
                    rows.append(self._epoch(epoch, steps, optimizer, bar))
                    self.after_epoch(epoch, partial(bar.update, (epoch + 1) * steps))
                    if recipe.checkpoint is not None:
                        save_checkpoint(recipe.checkpoint, self.settings, epoch + 1, self.prepared, optimizer, rows)
        return self._report(rows)

    def _epoch(self, epoch: int, steps: int, optimizer: torch.optim.SGD, bar: TrainingBar) -> dict[str, Cell]:
        start = time.monotonic()
        total = self.recipe.epochs * steps
        figures = _Figures()
        self.prepared.train()
        for i, batch in enumerate(self.train):
            done = epoch * steps + i
            self.advance(self.prepared, done / total)
            rate = self.recipe.rate(done / total, self.prepared.is_frozen)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            self._step(batch, figures)
            optimizer.step()
            bar.update(done + 1, f"epoch {epoch + 1} of {self.recipe.epochs}, {figures}")
        row: dict[str, Cell] = {"epoch": epoch + 1, "lr": rate, **figures.row("")}
        row |= self.evaluate(self.val) if self.val is not None else {"val_loss": None, "val_top1_percent": None}
        return {**row, "seconds": time.monotonic() - start}

    def _step(self, batch: Any, figures: _Figures) -> None:
        inputs, targets = self.split(batch)
        with torch.no_grad():
            wanted = self.teacher(*inputs) if self.teacher is not None else None
        seen: list[Any] = []

        def loss() -> Tensor:
            outputs = self.prepared(*inputs)
            seen.append(outputs.detach() if isinstance(outputs, Tensor) else None)
            return self._loss(outputs, targets, wanted)

        value = self.stepper.backward(loss)
        if not torch.isfinite(value):
            raise ValueError(f"the loss became {float(value)}: take a smaller lr than {self.recipe.lr}")
        figures.add(value, seen[0], targets, len(inputs[0]))

    def _loss(self, outputs: Any, targets: Any, wanted: Any) -> Tensor:
        loss = (self.recipe.loss or F.cross_entropy)(outputs, targets)
        if wanted is None:
            return loss
        share, t = self.recipe.distill, self.recipe.temperature
        likeness = F.kl_div(F.log_softmax(outputs / t, 1), F.log_softmax(wanted / t, 1), log_target=True, reduction="batchmean") * t * t
        return (1 - share) * loss + share * likeness

    def evaluate(self, batches: Iterable[Any]) -> dict[str, Cell]:
        """Mean loss and top-1 in evaluation mode, without the part of distillation."""
        figures = _Figures()
        self.prepared.eval()
        with torch.no_grad():
            for batch in batches:
                inputs, targets = self.split(batch)
                outputs = self.prepared(*inputs)
                figures.add(self._loss(outputs, targets, None), outputs, targets, len(inputs[0]))
        self.prepared.train()
        return figures.row("val_")

    def split(self, batch: Any) -> tuple[list[Tensor], Any]:
        """A batch's inputs and targets, on the device. Raises ValueError for a batch without targets."""
        if not isinstance(batch, (tuple, list)) or len(batch) <= self.inputs:
            raise ValueError(f"train batch: expected a tuple of {self.inputs} input(s) and targets, got {_shape_of(batch)}")
        device = self.recipe.device_name
        moved = [_moved(item, device) for item in batch]
        rest = moved[self.inputs :]
        return moved[: self.inputs], rest[0] if len(rest) == 1 else tuple(rest)

    def _report(self, rows: Sequence[Any]) -> Report:
        facts = {"epochs": self.recipe.epochs, "seed": self.recipe.seed, "device": self.recipe.device_name}
        return Report("Training", _COLUMNS, rows, facts)


def _moved(item: Any, device: str) -> Any:
    if isinstance(item, Tensor):
        return item.to(device)
    if isinstance(item, dict):
        return {key: _moved(value, device) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return type(item)(_moved(value, device) for value in item)
    return item


def _shape_of(batch: Any) -> str:
    return f"{type(batch).__name__} of {len(batch)}" if isinstance(batch, (tuple, list)) else type(batch).__name__
