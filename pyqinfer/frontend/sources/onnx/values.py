"""What a name of an ONNX graph can stand for while the graph is traced, besides a tensor of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyqinfer.frontend.sources.stand_ins import quantize_dequantize
from pyqinfer.frontend.values import NotSupportedHere

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Const:
    """A constant: numbers that handlers may look at, and the tensor of the module that holds them. ``kind``: the type's name in ONNX."""

    array: Array
    kind: str
    tensor: Tensor


@dataclass(frozen=True, eq=False)
class Sizes:
    """Integers that are known while tracing or are sizes of the input: a shape, or a number computed from one."""

    array: NDArray[np.object_]


@dataclass(frozen=True, eq=False)
class Scales:
    """Quantization parameters that are constants: ``scale`` and ``zero_point`` have one element, or one per slice or block.

    ``axis``: None for one of all; ``block``: how many neighbours along the axis share an element, 0 where each slice has its own.
    ``low``, ``high``: the codes' range, which says the bits.
    """

    scale: Array
    zero_point: Array
    low: int
    high: int
    axis: int | None = None
    block: int = 0

    def broadcast(self, rank: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point as floats that broadcast to a tensor of this rank. Raises NotSupportedHere for parameters per block."""
        if self.block:
            raise NotSupportedHere("codes with parameters per block as numbers")
        shape = [-1 if i == self.axis else 1 for i in range(rank)] if self.axis is not None else []
        scale, zero = (torch.tensor(v.astype(np.float32).reshape(-1).tolist()).reshape(shape) for v in (self.scale, self.zero_point))
        return scale, zero

    def equals(self, other: Scales) -> bool:
        """Whether codes mean the same under both, wherever both have them."""
        return bool(
            self.axis == other.axis and np.array_equal(self.scale, other.scale) and np.array_equal(self.zero_point, other.zero_point)
        )


@dataclass(frozen=True, eq=False)
class Coded:
    """Constant codes behind a dequantize: layers read them as quantized weights, all others as floats."""

    codes: Tensor
    scales: Scales


@dataclass(frozen=True, eq=False)
class CodedRows:
    """Rows of a constant table of codes at computed places, not dequantized yet."""

    table: Const
    indices: Tensor


@dataclass(frozen=True, eq=False)
class Codes:
    """An activation behind a quantize. Its quantizer is traced where the codes are read, with the range that is left then."""

    x: Tensor
    scales: Scales

    def by_channel(self) -> ChannelValues:
        """The same codes under one scale, the largest: x is scaled before it is quantized. Raises NotSupportedHere for other axes than 1,
        and for zero points that differ."""
        s = self.scales
        if s.axis != 1 or s.block or np.unique(s.zero_point).size > 1:
            raise NotSupportedHere("activations quantized per channel, with zero points that differ")
        largest = s.scale.max()
        ratio = (s.scale / largest).astype(np.float32)
        spread = torch.tensor((1 / ratio).astype(np.float32).tolist()).reshape([-1, *[1] * (self.x.ndim - 2)])
        values = quantize_dequantize(self.x * spread, float(largest), int(s.zero_point[0]), s.low, s.high)
        return ChannelValues(values, ratio)

    def numbers(self) -> Tensor:
        """The codes themselves, int32. Raises NotSupportedHere for parameters per block."""
        scale, zero = self.scales.broadcast(self.x.ndim)
        return torch.clamp(torch.round(self.x / scale) + zero, self.scales.low, self.scales.high).to(torch.int32)

    def values(self) -> Tensor:
        """What the codes stand for. Raises NotSupportedHere for parameters per channel."""
        s = self.scales
        if s.axis is not None:
            raise NotSupportedHere("activations quantized per channel")
        return quantize_dequantize(self.x, float(s.scale.reshape(-1)[0]), int(s.zero_point.reshape(-1)[0]), s.low, s.high)


@dataclass(frozen=True, eq=False)
class CodeNumbers:
    """An activation's codes as numbers to look up; with ``offsets`` (of channels, on axis 1) added where there are any."""

    codes: Codes
    offsets: Array | None = None


@dataclass(frozen=True, eq=False)
class LookedUp:
    """Codes that a constant table has for the codes of an activation: [256], or [channels, 256]."""

    codes: Codes
    table: Array
    low: int = 0
    high: int = 255


@dataclass(frozen=True, eq=False)
class ChannelValues:
    """What codes with parameters per channel (axis 1) stand for, as NNCF writes them in front of depthwise convolutions.

    They are ``values`` times ``ratio`` for each channel, and ``values`` is quantized with one scale for all.
    """

    values: Tensor
    ratio: Array


@dataclass(frozen=True, eq=False)
class RuntimeCodes:
    """``x`` behind DynamicQuantizeLinear: the codes."""

    x: Tensor


@dataclass(frozen=True, eq=False)
class RuntimeScale:
    """The scale that DynamicQuantizeLinear chose for ``x``, times constants."""

    x: Tensor
    factor: Array


@dataclass(frozen=True, eq=False)
class RuntimeZeroPoint:
    """The zero point that DynamicQuantizeLinear chose for ``x``."""

    x: Tensor


@dataclass(frozen=True, eq=False)
class IntegerProduct:
    """A product of run-time codes of ``x`` and constant codes [K, N], not scaled yet."""

    x: Tensor
    codes: Tensor
    zero_point: Array
    low: int
    high: int


Value = Any  # Tensor, or one of the classes above; None for an input that is left out

# Integer types of files: their least and largest number. Those below 8 bits come as int8 arrays.
INTEGERS: dict[str, tuple[int, int]] = {
    **{f"int{bits}": (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) for bits in (2, 4, 8, 16, 32, 64)},
    **{f"uint{bits}": (0, (1 << bits) - 1) for bits in (1, 2, 4, 8, 16, 32, 64)},
}
_TORCH_TYPES = {"bool": torch.bool, "uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16, "int32": torch.int32}


def as_tensor(array: Array) -> Tensor:
    """An array as torch computes with it: floats as float32, integers of types that torch knows little of as int64 or int32."""
    if array.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(array, np.float32).copy()).reshape(array.shape)
    wanted = _TORCH_TYPES.get(array.dtype.name, torch.int32 if array.dtype.name == "uint16" else torch.int64)
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64 if wanted != torch.bool else bool))).reshape(array.shape).to(wanted)
