"""Post-training quantization: BatchNorm folding, weight ranges per channel, activation ranges from calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch.fx import GraphModule

from pyqinfer.bits import FLOAT, BitConfig, LayerBits, WeightBits, parse_bits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.calibrate import calibrate, with_progress
from pyqinfer.quantization.emit import emit_activations, emit_weight
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel, batches
from pyqinfer.quantization.observers import OBSERVERS
from pyqinfer.quantization.placement import place
from pyqinfer.quantization.weights import quantize_weight


@dataclass(frozen=True)
class PTQ:
    """Configuration of post-training quantization.

    Args:
        weight_bits: 2..8, "ternary" or 32 (float), for every layer.
        act_bits: bits of every layer's input, 2..8 or 32 (float).
        observer: activation and weight ranges by "mse" (least squared error) or "minmax".
        first_last: bits of the first and the last layer in execution order, where all others have fewer; None: like the others.
        bits: layer name -> bits, e.g. from ``pq.allocate`` or ``BitConfig.load``; layers it does not name get the bits above.

    Raises:
        ValueError: widths or an observer that do not exist.
    """

    weight_bits: WeightBits = 8
    act_bits: int = 8
    observer: str = "mse"
    first_last: str | LayerBits | None = "8/8"
    bits: Mapping[str, LayerBits | str] | None = None

    def __post_init__(self) -> None:
        LayerBits(self.weight_bits, self.act_bits)
        if self.first_last is not None:
            parse_bits(self.first_last)
        if self.observer not in OBSERVERS:
            raise ValueError(f"observer: expected one of {', '.join(OBSERVERS)}, got {self.observer!r}")

    def layer_bits(self, names: list[str], keep: Mapping[str, LayerBits | str]) -> BitConfig:
        """Bits of every layer: ``keep`` over ``bits`` over ``first_last`` over ``weight_bits``/``act_bits``."""
        default = LayerBits(self.weight_bits, self.act_bits)
        config = BitConfig(dict.fromkeys(names, default))
        if self.first_last is not None and not default.is_float and names:
            ends = parse_bits(self.first_last)
            if not default.is_integer:
                ends = LayerBits(ends.weight, FLOAT)
            config = BitConfig({**config, names[0]: ends, names[-1]: ends})
        return config.override(self.bits or {}).override(keep)

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`. Raises ValueError without calibration data, or with a budget."""
        if task.budget is not None:
            raise ValueError("PTQ has fixed bits and takes no budget: allocate bits first and pass them as PTQ(bits=...)")
        traced = TracedModel(task.model, task.example_inputs)
        fold_batch_norm(traced)
        layers = traced.layers
        config = self.layer_bits([layer.name for layer in layers], task.keep)
        placement = place(traced, config)
        observers = {node: OBSERVERS[self.observer]() for node in placement.bits}
        if observers:
            if task.calibration is None:
                raise ValueError("calibration: PTQ needs batches of typical inputs to find activation ranges")
            calibrate(traced.module, observers, batches(task.calibration, traced.input_count))
        params = {node: observers[node].params(bits) for node, bits in placement.bits.items()}
        for layer in with_progress(layers, "quantizing weights"):
            bits = config[layer.name]
            if not bits.is_float:
                try:
                    codes, scale = quantize_weight(layer.weight, bits, search=self.observer == "mse")
                except ValueError as error:
                    raise ValueError(f"layer {layer.name!r}: {error}") from None
                emit_weight(traced, layer, bits, codes, scale)
        emit_activations(traced, placement, params)
        return traced.finish()
