"""The post-training pipeline: every method that trains nothing chooses bits and data, and ends here.

The steps are those of Hu et al. 2023, "Bag of Tricks with Quantized Convolutional Neural Networks" (arXiv 2303.07080), in this order:
fold BatchNorm, equalize, find activation ranges, find weight ranges, place quantizers, learn the rounding, correct the biases.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from pyqinfer.bits import FLOAT, BitConfig, LayerBits
from pyqinfer.frontend.naming import source_line
from pyqinfer.options import check_types
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.calibrate import calibrate, with_progress
from pyqinfer.quantization.concats import share_with_concats
from pyqinfer.quantization.coverage import warn_of_float_arithmetic
from pyqinfer.quantization.emit import emit_activations, emit_dynamic_activations, emit_weight
from pyqinfer.quantization.equalize import acting_bounds, equalize, find_pairs
from pyqinfer.quantization.fold import FoldedNorm, fold_batch_norm
from pyqinfer.quantization.graph import Layer, TracedModel, operand
from pyqinfer.quantization.observers import OBSERVERS, SMALLEST_RANGE, ActivationParams, FunctionObserver, Observer
from pyqinfer.quantization.placement import Placement, Smooth, place
from pyqinfer.quantization.refine import QuantizedLayer, Refinement, is_low_bit, refine
from pyqinfer.quantization.smooth import harmless
from pyqinfer.quantization.weights import SMALLEST_RANGE as SMALLEST_CHANNEL
from pyqinfer.quantization.weights import WeightCodes, WeightSearch

_WEIGHT_RANGES = ("mse", "minmax")
_ROUNDINGS = ("nearest", "learned")
_SWITCH = (True, False, "auto")
_ACTIVATIONS = ("static", "dynamic")
# A step set to "auto" is taken if it lowers the error on this many calibration images to this share.
_TRIAL_IMAGES = 128
_CLEAR_GAIN = {"equalize": 0.5, "bias_correction": 0.9}

# Twice the least normal float32 number.
_SMALLEST_PRODUCT = 2.0**-125
_LARGEST_SUM = 2**31 - 1
_NAMED = 5

Batches = list[tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the pipeline quantizes: its steps as switches.

    Args:
        activations: "static": one range for each activation, from calibration. "dynamic": linear layers read activations that are quantized
            row by row (token by token) while the model runs, each row by its own range, and what lies between layers stays float. That is
            slower, needs no calibration where the model has no convolutions, and keeps rare large values exact, which transformers have.
            Convolutions are quantized as with "static".
        fold: fold BatchNorm into the layer in front of it.
        equalize: make neighbouring layers' channel ranges equal (ReLU6 becomes ReLU where it hardly ever acts). "auto": where that
            halves the error of the quantized network's outputs on held-out calibration images.
        observer: how activation ranges are found: "mse" (least squared error), "minmax", "average" (mean of the batches' ranges),
            "percentile99.9", "percentile99.99", or "best" (for each tensor the one of least squared error on held-out calibration images).
        weight_range: how each output channel's range is found: "mse" (least squared error) or "minmax" (its largest magnitude).
        rounding: "nearest", or "learned" for weights of at most 4 bits: block by block, so that the block's output stays close.
        iterations: steps of learned rounding for each block.
        bias_correction: move each layer's bias so that its channels' means in front of the activation function stay those of the float
            network. "auto": where some layer has weights of at most 4 bits and the correction lowers the same error by a tenth.
        smooth: quantize in front of functions such as SiLU and GELU as well as behind them, so that layers write codes and functions are
            tables. "auto": wherever the error of the quantized network's outputs on held-out calibration images hardly rises.
        relu_only: quantize activations behind ReLU and ReLU6 only, see :func:`~pyqinfer.quantization.placement.place`.
        seed: decides the mini-batches of learned rounding.

    Raises:
        TypeError, ValueError: an option of another type, a choice that does not exist, or less than one iteration.
    """

    activations: Literal["static", "dynamic"] = "static"
    fold: bool = True
    equalize: bool | Literal["auto"] = "auto"
    observer: str = "mse"
    weight_range: str = "mse"
    rounding: str = "nearest"
    iterations: int = 500
    bias_correction: bool | Literal["auto"] = "auto"
    smooth: bool | Literal["auto"] = "auto"
    relu_only: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        choices: dict[str, tuple[object, ...]] = {"observer": tuple(OBSERVERS), "weight_range": _WEIGHT_RANGES, "rounding": _ROUNDINGS}
        choices["activations"] = _ACTIVATIONS
        choices |= dict.fromkeys(("equalize", "bias_correction", "smooth"), _SWITCH)
        check_types(self)
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {', '.join(map(str, allowed))}, got {getattr(self, name)!r}")
        if self.iterations < 1:
            raise ValueError(f"iterations: expected at least 1, got {self.iterations}")


def run_pipeline(task: Task, bits: Callable[[list[str]], BitConfig], settings: Settings) -> GraphModule:
    """Quantize a task's model.

    Args:
        task: model, example inputs and calibration batches; its ``keep`` and ``budget`` are the business of ``bits``.
        bits: gives the bits of every layer for the layers' names in execution order.
        settings: the steps to take.

    Returns:
        The model as a PT2E graph, see :func:`pyqinfer.quantize`.

    Raises:
        ValueError: no calibration batches where activations are quantized; a layer or batch that holds NaN or infinity.
    """
    start = begin(task, bits, settings)
    graph = _quantized(start.traced, start.config, start.data, start.settings, start.smooth, start.search).finish()
    if not settings.relu_only:
        warn_of_float_arithmetic(graph, start.config)
    return graph


@dataclass(frozen=True)
class Start:
    """A traced model in front of its quantizers: folded and equalized as ``settings``, in which nothing is "auto" any more, say.

    Attributes:
        original: weights before folding, by the layer's name.
        norms: the BatchNorms that were folded. divisors: see :class:`~pyqinfer.quantization.equalize.Equalization`.
        smooth: in front of which functions there are quantizers, see :func:`~pyqinfer.quantization.placement.place`.
        search: knows codes that trials have found.
    """

    traced: TracedModel
    config: BitConfig
    data: Batches | None
    settings: Settings
    original: Mapping[str, Tensor]
    norms: Mapping[str, FoldedNorm]
    divisors: Mapping[str, Tensor]
    smooth: Smooth
    search: WeightSearch


def begin(task: Task, bits: Callable[[list[str]], BitConfig], settings: Settings) -> Start:
    """The steps that come before any quantizer. Arguments and errors: see :func:`run_pipeline`."""
    traced = task.traced()
    original = {layer.name: layer.weight for layer in traced.layers}
    config = bits(list(original))
    data = None if task.calibration is None else traced.batches(task.calibration)
    if data is None and any(layer.is_integer for layer in _calibrated(traced, config, settings).values()):
        raise ValueError("calibration: PTQ needs batches of typical inputs to find activation ranges")
    norms = fold_batch_norm(traced) if settings.fold else {}
    acting = acting_bounds(traced, data) if settings.equalize else set()
    search = WeightSearch()
    settings = _decided(traced, config, data, settings, acting, search)
    divisors = equalize(traced, acting).divisors if settings.equalize else {}
    smooth = _chosen_functions(traced, config, data, settings, search)
    return Start(traced, config, data, settings, original, norms, divisors, smooth, search)


def _quantized(
    traced: TracedModel, config: BitConfig, data: Batches | None, settings: Settings, smooth: Smooth, search: WeightSearch
) -> TracedModel:
    """``traced``, with quantizers put into its graph."""
    steps = Refinement(settings.iterations if settings.rounding == "learned" else 0, settings.seed, settings.bias_correction is True)
    reference = traced.copy(share_tensors=True) if data is not None and (steps.iterations or steps.bias_correction) else None
    calibrated = _calibrated(traced, config, settings)
    dynamic = [layer for layer in traced.layers if calibrated[layer.name] != config[layer.name]]
    placement = place(traced, calibrated, settings.relu_only, smooth)
    params = activation_params(traced, placement, data, settings.observer)
    layers = []
    for layer in with_progress(traced.layers, "quantizing weights"):
        bits = config[layer.name]
        if not bits.is_float:
            try:
                bits, codes, scale = _weight_codes(layer, bits, settings, _input_params(layer, placement, params), search)
            except ValueError as error:
                raise ValueError(f"layer {layer.name!r}: {error}") from None
            layers.append(QuantizedLayer(layer, bits, emit_weight(traced, layer, WeightCodes(codes, scale, *bits.weight_range))))
    emit_activations(traced, placement, params)
    emit_dynamic_activations(traced, dynamic, config)
    if data is not None and reference is not None and layers:
        refine(reference, traced, layers, data, steps)
    return traced


def _calibrated(traced: TracedModel, config: BitConfig, settings: Settings) -> BitConfig:
    """The bits of layers as far as calibration has to find ranges: linear layers that quantize while they run read floats."""
    if settings.activations == "static":
        return config
    linear = {layer.name for layer in traced.layers if layer.op == "linear"}
    return BitConfig({name: LayerBits(bits.weight, FLOAT) if name in linear else bits for name, bits in config.items()})


def activation_params(traced: TracedModel, placement: Placement, data: Batches | None, observer: str) -> dict[Node, ActivationParams]:
    """Parameters of every tensor that has a quantizer of its own, from calibration batches."""
    observers = observed(traced, placement, data, observer)
    params = {node: observers[node].params(bits) for node, bits in placement.bits.items()}
    vanished = [node for node, found in params.items() if found.vanishes]
    if vanished:
        names = ", ".join(f"{node.name!r} ({source_line(node) or 'unknown source'})" for node in vanished[:_NAMED])
        warnings.warn(
            f"the whole range of {len(vanished)} tensor(s) is below {SMALLEST_RANGE:.0e} and counts as zero: {names};"
            " scale the model's inputs or weights up",
            stacklevel=2,
        )
    share_with_concats(params, placement.shared, {node for node in placement.functions if isinstance(observers[node], FunctionObserver)})
    return params


def observed(traced: TracedModel, placement: Placement, data: Batches | None, observer: str) -> dict[Node, Observer]:
    """An observer for every tensor that has a quantizer of its own, which has seen all batches."""
    observers: dict[Node, Observer] = {}
    for node in placement.bits:
        functions = placement.functions.get(node, ())
        uniform = functions and not any(function.is_by_channel for function in functions)
        observers[node] = FunctionObserver(functions) if uniform else OBSERVERS[observer]()
    if observers:
        assert data is not None
        calibrate(traced.module, observers, data)
    return observers


def _input_params(layer: Layer, placement: Placement, params: Mapping[Node, ActivationParams]) -> ActivationParams | None:
    """The parameters of what a layer reads; None where that is float."""
    node = operand(layer.node)
    return params.get(placement.shared.get(node, node))


def _weight_codes(
    layer: Layer, bits: LayerBits, settings: Settings, read: ActivationParams | None, search: WeightSearch
) -> tuple[LayerBits, Tensor, Tensor]:
    """A layer's codes and scales, and the bits that they have: fewer than asked for where its sums could leave int32."""
    smallest = 0.0 if read is None else _SMALLEST_PRODUCT / read.scale
    if smallest < SMALLEST_CHANNEL / 2**8:
        smallest = 0.0  # no channel of which codes are made has so small a scale, and equal arguments need one search
    asked = bits
    while True:
        codes, scale = search(layer.weight, bits, settings.weight_range == "mse", smallest)
        magnitudes = codes.abs().double()
        if settings.rounding == "learned" and is_low_bit(bits):
            magnitudes = (magnitudes + 1).clamp_max(bits.weight_range[1])  # what learned rounding may still make of them
        reach = 0 if read is None else max(read.zero_point - read.quant_min, read.quant_max - read.zero_point)
        if float(magnitudes.flatten(1).sum(1).max()) * reach <= _LARGEST_SUM:
            break
        if not isinstance(bits.weight, int) or bits.weight == 2:
            raise ValueError(f"sums of {layer.weight[0].numel()} products leave int32 with {bits} bits: keep the layer in float (keep=)")
        bits = replace(bits, weight=bits.weight - 1)
    if bits != asked:
        warnings.warn(
            f"layer {layer.name!r}: {bits} bits in place of {asked}, because sums of {layer.weight[0].numel()} products could leave int32",
            stacklevel=2,
        )
    return bits, codes, scale


def _decided(
    traced: TracedModel, config: BitConfig, data: Batches | None, settings: Settings, acting: Collection[str], search: WeightSearch
) -> Settings:
    """The settings with every "auto" decided: quantize a copy with and without, compare the outputs on images it was not calibrated on."""
    switches = {name: getattr(settings, name) for name in ("equalize", "bias_correction")}
    possible = {"equalize": bool(find_pairs(traced)), "bias_correction": any(map(is_low_bit, config.values()))}
    open_ones = [name for name, value in switches.items() if value == "auto" and possible[name]]
    certain: dict[str, Any] = {name: value is True for name, value in switches.items()}
    chosen = replace(settings, rounding="nearest", **certain)
    if data is not None and open_ones and not all(bits.is_float for bits in config.values()):
        seen, held_out = _split(traced, data)
        outputs = _outputs(traced.module, held_out)

        def error_of(tried: Settings) -> float:
            trial = traced.copy(share_tensors=True)
            if tried.equalize:
                equalize(trial, acting)
            return _distance(outputs, _outputs(_quantized(trial, config, seen, tried, tried.smooth is True, search).module, held_out))

        least = error_of(chosen)
        for name in open_ones:
            taken: dict[str, Any] = {name: True}
            candidate = replace(chosen, **taken)
            error = error_of(candidate)
            if error < _CLEAR_GAIN[name] * least:
                chosen, least = candidate, error
    return replace(chosen, rounding=settings.rounding)


def _chosen_functions(traced: TracedModel, config: BitConfig, data: Batches | None, settings: Settings, search: WeightSearch) -> Smooth:
    """In front of which functions a folded and equalized model gets quantizers."""
    if settings.smooth != "auto" or data is None or settings.relu_only:
        return settings.smooth is True
    placement = place(traced, _calibrated(traced, config, settings))
    if not placement.functions:
        return False
    seen, held_out = _split(traced, data)
    # How weights are rounded hardly matters here, and the search for their ranges would take most of the time.
    plain = replace(settings, weight_range="minmax", rounding="nearest", bias_correction=False)
    trial = _quantized(traced.copy(share_tensors=True), config, seen, plain, True, search)
    return harmless(traced.module, trial.module, placement, held_out)


def _split(traced: TracedModel, data: Batches) -> tuple[Batches, Batches]:
    """Batches to calibrate a trial with, and others to judge it by: up to 128 of the images, three quarters of them and the rest.

    Batches are no larger than the first, and less than four images do both. Where images differ in size, or inputs in their first axis,
    which then is not the batch, the last batch judges.
    """
    same_images = len({tuple(x.shape[1:] for x in batch) for batch in data}) == 1
    if traced.fixed_batch is not None or not same_images or any(len({len(x) for x in batch}) != 1 for batch in data):
        return data[:-1] or data, data[-1:]
    size, joined = len(data[0][0]), [torch.cat([batch[i] for batch in data])[:_TRIAL_IMAGES] for i in range(len(data[0]))]
    count = len(joined[0])
    held_out = count // 4
    seen = [x[: count - held_out] for x in joined]
    others = [x[count - held_out :] if held_out else x for x in joined]
    return _batches_of(size, seen), _batches_of(size, others)


def _batches_of(size: int, inputs: list[Tensor]) -> Batches:
    return list(zip(*(torch.split(x, size) for x in inputs), strict=True))


def _outputs(module: GraphModule, data: Batches) -> list[Tensor]:
    module.recompile()
    with torch.no_grad():
        return [leaf for batch in data for leaf in tree_leaves(module(*batch))]


def _distance(expected: list[Tensor], got: list[Tensor]) -> float:
    """Sum of squared differences of all outputs."""
    return sum(float((a - b).double().square().sum()) for a, b in zip(expected, got, strict=True))
