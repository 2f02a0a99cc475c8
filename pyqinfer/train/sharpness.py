"""How sharp a minimum is: the loss at a network and around it, as a table and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyqinfer.report import Cell, Column, Report
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.sharp import Direction, SharpStepper

# Inputs and targets of a batch.
Batch = tuple[Sequence[Tensor], Any]
LossFunction = Callable[[Any, Any], Tensor]
DEFAULT_RADII = (0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(frozen=True)
class Sharpness:
    """Mean losses over some batches in evaluation mode.

    Args:
        loss: at the network. uphill: at distance ``radii[i]`` along the gradient. random: the same along random directions, on average.
    """

    loss: float
    radii: tuple[float, ...]
    uphill: tuple[float, ...]
    random: tuple[float, ...]


def measure_sharpness(
    stepper: SharpStepper, batches: Sequence[Batch], loss: LossFunction, radii: Sequence[float] = DEFAULT_RADII, directions: int = 0
) -> Sharpness:
    """Losses around a prepared module; it is left as it was.

    Args:
        stepper: says what is perturbed, and holds the module. Its ``rho`` does not count.
        batches: inputs and targets, on the module's device; the gradient is that of all of them together.
        loss: of outputs and targets, a mean over the batch.
        radii: norms of perturbations.
        directions: how many random directions are tried besides, from a fixed seed; 0: none, and ``random`` is empty.
    """
    prepared = stepper.prepared
    training = prepared.training
    prepared.eval()
    try:
        here, gradient = _gradient(stepper, batches, loss)
        uphill = tuple(_mean_loss(prepared, batches, loss, gradient.scaled_to(radius)) for radius in radii)
        generator = torch.Generator().manual_seed(0)
        noise = [gradient.like_noise(generator) for _ in range(directions)]
        around = [[_mean_loss(prepared, batches, loss, direction.scaled_to(radius)) for direction in noise] for radius in radii]
    finally:
        prepared.train(training)
        for parameter in prepared.parameters():
            parameter.grad = None
    return Sharpness(here, tuple(radii), uphill, tuple(sum(losses) / len(losses) for losses in around if losses))


def _gradient(stepper: SharpStepper, batches: Sequence[Batch], loss: LossFunction) -> tuple[float, Direction]:
    """Mean loss over all batches, and its gradient."""
    total, samples = 0.0, sum(len(inputs[0]) for inputs, _ in batches)
    found: Direction | None = None
    for inputs, targets in batches:
        share = len(inputs[0]) / samples
        for parameter in stepper.prepared.parameters():
            parameter.grad = None
        with torch.enable_grad(), stepper.watched() as weights:
            value = loss(stepper.prepared(*inputs), targets)
            value.backward()  # type: ignore[no-untyped-call]
            gradient = stepper.gradients(weights)
        found = gradient.times(share) if found is None else found.plus(gradient, share)
        total += share * value.item()
    assert found is not None
    return total, found


def _mean_loss(prepared: Prepared, batches: Sequence[Batch], loss: LossFunction, direction: Direction) -> float:
    samples = sum(len(inputs[0]) for inputs, _ in batches)
    with torch.no_grad(), direction.applied():
        return sum(loss(prepared(*inputs), targets).item() * len(inputs[0]) for inputs, targets in batches) / samples


class SharpnessReport(Report):
    """A row for each network and radius: the loss there, and how far above the loss at the network it is."""

    def plot(self, path: str | os.PathLike[str]) -> None:
        """The losses against the radius, uphill and along random directions, as PNG. Raises ImportError without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("drawing sharpness needs matplotlib: pip install 'pyqinfer[plot]'") from None
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for i, name in enumerate(dict.fromkeys(row["name"] for row in self.rows)):
            rows: list[Mapping[str, Any]] = [row for row in self.rows if row["name"] == name]
            color = f"C{i}"
            radii = [0.0, *(row["radius"] for row in rows)]
            axes.plot(radii, [rows[0]["loss"], *(row["uphill"] for row in rows)], "o-", color=color, label=f"{name}, uphill")
            if rows[0]["random"] is not None:
                axes.plot(radii, [rows[0]["loss"], *(row["random"] for row in rows)], ".:", color=color, label=f"{name}, random")
        axes.set_xlabel("norm of the perturbation of weights, biases, BatchNorms and clips")
        axes.set_ylabel("loss")
        axes.legend()
        figure.savefig(path, format="png", dpi=120)


_COLUMNS = (
    Column("name", "network", numeric=False),
    Column("radius", "radius", "g"),
    Column("loss", "loss", ".4f"),
    Column("uphill", "loss uphill", ".4f"),
    Column("random", "loss at random", ".4f"),
    Column("sharpness", "sharpness", ".4f"),
)


def sharpness_report(measured: Mapping[str, Sharpness]) -> SharpnessReport:
    """Compare prepared modules, such as one before and one after training, that were measured on the same batches.

    Perturbations of one norm mean the same for networks on the same kind of grid alone: SAQ's weights are standardized, QAT's are not.
    """
    rows: list[dict[str, Cell]] = []
    for name, found in measured.items():
        for i, (radius, uphill) in enumerate(zip(found.radii, found.uphill, strict=True)):
            row: dict[str, Cell] = {"name": name, "radius": radius, "loss": found.loss, "uphill": uphill}
            rows.append({**row, "random": found.random[i] if found.random else None, "sharpness": uphill - found.loss})
    return SharpnessReport("Sharpness", _COLUMNS, rows)
