"""What methods that train have in common: :class:`TrainingMethod`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, ClassVar

from torch import nn
from torch.fx import GraphModule

from pyqinfer.arguments import explained, input_names
from pyqinfer.bits import LayerBits
from pyqinfer.frontend.export import evaluation_mode
from pyqinfer.quantization.api import Task, make_task
from pyqinfer.quantization.batches import Batch, Calibration, read_batches
from pyqinfer.quantization.chosen_bits import ChosenBits
from pyqinfer.quantization.coverage import warn_of_float_arithmetic
from pyqinfer.quantization.pipeline import Settings
from pyqinfer.train.loop import Batches, PlainStepper, Stepper, Trainer
from pyqinfer.train.prepare import Parts, prepare
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.recipe import Recipe
from pyqinfer.train.seeds import kept_generators, seed_epoch

# Training batches that calibrate where no calibration is given hold at least so many samples together, if there are as many.
_CALIBRATION_SAMPLES = 512
_LATE_FREEZE = 0.6


@dataclass(frozen=True)
class TrainingMethod(Recipe, ChosenBits):
    """A method that trains a prepared module and exports it.

    A new method derives from this class and overrides :meth:`parts` (which parametrization a weight has), :meth:`advance` (what changes
    in the course of the training) or :meth:`stepper` (how gradients are had).
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration", "train", "val"})
    needs: ClassVar[frozenset[str]] = frozenset({"train"})

    def __post_init__(self) -> None:
        Recipe.__post_init__(self)
        ChosenBits.__post_init__(self)
        _ = self.start_settings

    @property
    def start_settings(self) -> Settings:
        """How post-training quantization finds the start: weights are rounded to nearest, and biases are left to the training."""
        taken: dict[str, Any] = {name: getattr(self, name) for name in ("equalize", "observer", "weight_range", "smooth")}
        return Settings(bias_correction=False, **taken)

    def parts(self) -> Parts:
        """What the method makes of layers and edges."""
        return Parts(self.start_settings)

    def stepper(self, prepared: Prepared) -> Stepper:
        """How the method has its gradients; one for each training."""
        return PlainStepper()

    def advance(self, prepared: Prepared, share: float) -> None:
        """Change what depends on the time; called before every step with the share of the training done, 0 at first and below 1.

        Here: freeze BatchNorms when their time has come. What has been done is part of the module's state, so that calls may be repeated.
        """
        if share >= self._freeze_share(prepared.bits):
            prepared.freeze_batch_norm()

    def _freeze_share(self, bits: Mapping[str, LayerBits]) -> float:
        if self.freeze_bn != "auto":
            return self.freeze_bn
        fine = all(layer.weight != "ternary" and layer.weight >= 8 for layer in bits.values())
        return 0.0 if fine else _LATE_FREEZE

    def prepare(
        self,
        model: nn.Module,
        example_inputs: Any,
        *,
        calibration: Calibration | None = None,
        keep: Mapping[str, LayerBits | str] | None = None,
    ) -> Prepared:
        """The model as a module to train in one's own loop: any optimizer, DistributedDataParallel, autocast, any device.

        It starts with the outputs of post-training quantization at the same bits, has dropout left out, and is in training mode.

        Args:
            model: float model on the CPU; it is not changed.
            example_inputs: tuple of float32 tensors; dimension 0 is the batch.
            calibration: batches of typical inputs, which the first steps of activations come from; None: the example inputs are such.
            keep: layer names or glob patterns -> bits.

        Raises:
            TypeError, ValueError: arguments that do not fit the model.
        """
        task = make_task(model, example_inputs, calibration, keep=keep)
        with explained(task.model, task.example_inputs):
            return self.prepare_task(task if task.calibration is not None else replace(task, calibration=[task.example_inputs]))

    def finish(self, prepared: Prepared) -> GraphModule:
        """The PT2E graph of a prepared module, as :func:`pyqinfer.quantize` gives it; the module is not changed.

        Warns where much of the arithmetic stays in float though integers were asked for, as post-training quantization does.
        """
        graph = prepared.finish()
        warn_of_float_arithmetic(graph, prepared.bits)
        return graph

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`. The result's ``meta["training"]`` is a :class:`~pyqinfer.Report` with a row for each epoch.

        Raises ValueError without training batches, and for a loss that is not finite.
        """
        if task.train is None:
            raise ValueError(f"train: {type(self).__name__} needs labelled batches, such as a torch DataLoader")
        task = replace(task, train=_repeatable(task.train), val=None if task.val is None else _repeatable(task.val))
        task = replace(task, calibration=self.calibration_of(task))
        prepared = self.prepare_task(task)
        trainer = self.trainer(prepared, task)
        before = self.observed(trainer)
        report = trainer.run()
        module = self.finish(prepared)
        module.meta["training"] = report
        module.meta.update(self.findings(before, self.observed(trainer)))
        return module

    def observed(self, trainer: Trainer) -> Any:
        """What a method wants to compare before and after the training; here nothing."""
        return None

    def findings(self, before: Any, after: Any) -> dict[str, Any]:
        """What the result's ``meta`` gets of it."""
        return {}

    def trainer(self, prepared: Prepared, task: Task) -> Trainer:
        """The training of a prepared module on a task's batches."""
        assert task.train is not None
        return Trainer(
            prepared=prepared,
            recipe=self,
            train=_repeatable(task.train),
            val=task.val,
            inputs=prepared.blueprint.traced.input_count,
            stepper=self.stepper(prepared),
            advance=self.advance,
            teacher=_Teacher(copy.deepcopy(task.model)) if self.distill else None,
            settings=f"{type(self).__name__} {self.fingerprint()} {prepared.bits!r}",
        )

    def prepare_task(self, task: Task) -> Prepared:
        """A task's model as a module to train."""
        return prepare(task, lambda names: self.layer_bits(names, task.keep), self.parts())

    def calibration_of(self, task: Task) -> Sequence[Batch]:
        """A task's calibration batches, or the first training batches in their place."""
        if task.calibration is not None:
            return task.calibration
        assert task.train is not None
        found: list[Any] = []
        samples = 0
        with kept_generators():
            seed_epoch(self.seed, 0, task.train)
            for batch in islice(task.train, _CALIBRATION_SAMPLES):
                found.append(batch)
                samples += len(batch[0])
                if samples >= _CALIBRATION_SAMPLES:
                    break
        return read_batches(found, task.example_inputs, input_names(task.model, len(task.example_inputs)))


def _repeatable(batches: Iterable[Any]) -> Batches:
    """Batches that can be counted and read in every epoch: what is no collection or data loader is read once and kept."""
    return batches if isinstance(batches, Batches) else list(batches)


class _Teacher(nn.Module):
    """The float model in evaluation mode, whatever mode its surroundings are in."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        with evaluation_mode(self.model):
            return self.model(*inputs)
