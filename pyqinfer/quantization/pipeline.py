"""The post-training pipeline: every method that trains nothing chooses bits and data, and ends here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch.fx import GraphModule, Node

from pyqinfer.bits import BitConfig
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.calibrate import calibrate, with_progress
from pyqinfer.quantization.emit import emit_activations, emit_weight
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel, batches
from pyqinfer.quantization.observers import OBSERVERS, ActivationParams
from pyqinfer.quantization.placement import Placement, place
from pyqinfer.quantization.weights import quantize_weight


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the pipeline quantizes: its steps as switches.

    Args:
        observer: activation and weight ranges by "mse" (least squared error) or "minmax".

    Raises:
        ValueError: an observer that does not exist.
    """

    observer: str = "mse"

    def __post_init__(self) -> None:
        if self.observer not in OBSERVERS:
            raise ValueError(f"observer: expected one of {', '.join(OBSERVERS)}, got {self.observer!r}")


def run_pipeline(task: Task, bits: Callable[[list[str]], BitConfig], settings: Settings) -> GraphModule:
    """Quantize a task's model.

    Args:
        task: model, example inputs and calibration batches; its ``keep`` and ``budget`` are the business of ``bits``.
        bits: bits of every layer, given their names in execution order.
        settings: the steps to take.

    Returns:
        The model as a PT2E graph, see :func:`pyqinfer.quantize`.

    Raises:
        ValueError: no calibration batches where activations are quantized; a layer or batch that holds NaN or infinity.
    """
    traced = TracedModel(task.model, task.example_inputs)
    fold_batch_norm(traced)
    config = bits([layer.name for layer in traced.layers])
    placement = place(traced, config)
    params = _activation_params(task, traced, placement, settings)
    for layer in with_progress(traced.layers, "quantizing weights"):
        if not config[layer.name].is_float:
            try:
                codes, scale = quantize_weight(layer.weight, config[layer.name], search=settings.observer == "mse")
            except ValueError as error:
                raise ValueError(f"layer {layer.name!r}: {error}") from None
            emit_weight(traced, layer, config[layer.name], codes, scale)
    emit_activations(traced, placement, params)
    return traced.finish()


def _activation_params(task: Task, traced: TracedModel, placement: Placement, settings: Settings) -> dict[Node, ActivationParams]:
    observers = {node: OBSERVERS[settings.observer]() for node in placement.bits}
    if observers:
        if task.calibration is None:
            raise ValueError("calibration: PTQ needs batches of typical inputs to find activation ranges")
        calibrate(traced.module, observers, batches(task.calibration, traced.input_count))
    return {node: observers[node].params(bits) for node, bits in placement.bits.items()}
