"""Post-training quantization with bits that the user chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule

from pyqinfer.bits import FLOAT, BitConfig, LayerBits, WeightBits, parse_bits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.pipeline import Settings, run_pipeline


@dataclass(frozen=True)
class PTQ(Settings):
    """Configuration of post-training quantization: the bits, and the steps of :class:`~pyqinfer.quantization.pipeline.Settings`.

    Args:
        weight_bits: 2..8, "ternary" or 32 (float), for every layer.
        act_bits: bits of every layer's input, 2..8 or 32 (float).
        first_last: bits of the first and the last layer in execution order, where all others have fewer; None: like the others.
        bits: layer name -> bits, e.g. from ``pq.allocate`` or ``BitConfig.load``; layers it does not name get the bits above.

    Raises:
        ValueError: widths that do not exist.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration"})
    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    weight_bits: WeightBits = 8
    act_bits: int = 8
    first_last: str | LayerBits | None = "8/8"
    bits: Mapping[str, LayerBits | str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        LayerBits(self.weight_bits, self.act_bits)
        if self.first_last is not None:
            parse_bits(self.first_last)

    @classmethod
    def from_options(cls, *, bits: LayerBits, bits_in: BitConfig | None, observer: str) -> PTQ:
        """The configuration that options of ``pyqinfer quantize`` ask for."""
        return cls(weight_bits=bits.weight, act_bits=bits.act, observer=observer, bits=bits_in)

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
        """See :func:`pyqinfer.quantize`. Raises ValueError without calibration data where activations are quantized."""
        return run_pipeline(task, lambda names: self.layer_bits(names, task.keep), self)
