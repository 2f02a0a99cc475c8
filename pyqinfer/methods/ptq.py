"""Post-training quantization with bits that the user chose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.fx import GraphModule

from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.chosen_bits import ChosenBits
from pyqinfer.quantization.pipeline import Settings, run_pipeline


@dataclass(frozen=True)
class PTQ(Settings, ChosenBits):
    """Configuration of post-training quantization: the bits, and the steps of :class:`~pyqinfer.quantization.pipeline.Settings`.

    Args:
        weight_bits, act_bits, first_last, bits: see :class:`~pyqinfer.quantization.chosen_bits.ChosenBits`.

    Raises:
        ValueError: widths or choices that do not exist.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"calibration"})
    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def __post_init__(self) -> None:
        Settings.__post_init__(self)
        ChosenBits.__post_init__(self)

    @classmethod
    def from_options(cls, *, bits: LayerBits, bits_in: BitConfig | None, observer: str) -> PTQ:
        """The configuration that options of ``pyqinfer quantize`` ask for."""
        return cls(weight_bits=bits.weight, act_bits=bits.act, observer=observer, bits=bits_in)

    def quantize(self, task: Task) -> GraphModule:
        """See :func:`pyqinfer.quantize`. Raises ValueError without calibration data where activations are quantized."""
        return run_pipeline(task, lambda names: self.layer_bits(names, task.keep), self)
