"""Quantized values: parameters, quantize, dequantize, activation (docs/numerics.md, "Quantized values")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.rounding import F32, f32


@dataclass(frozen=True)
class Quant:
    """Parameters: codes `qmin`..`qmax` stand for ``(q - zero_point) * scale``."""

    scale: np.float32
    zero_point: int
    qmin: int
    qmax: int


@dataclass(frozen=True)
class Tensor:
    """A value while the graph runs: uint8 codes with `quant`, or float32 without."""

    data: NDArray[Any]
    quant: Quant | None = None


def quantize(x: F32, q: Quant) -> NDArray[np.uint8]:
    reciprocal = f32(1.0 / np.float64(q.scale))
    v = f32(np.where(np.isnan(x), np.float32(0), x)) * reciprocal
    v = np.minimum(np.maximum(v, np.float32(q.qmin - q.zero_point)), np.float32(q.qmax - q.zero_point))
    codes = np.rint(v).astype(np.int32) + q.zero_point
    return np.where(np.isnan(x), q.zero_point, codes).astype(np.uint8)


def dequantize(tensor: Tensor) -> F32:
    """Give the float32 that a quantized tensor stands for, and a float tensor as it is."""
    if tensor.quant is None:
        return f32(tensor.data)
    return f32(centred(tensor)) * tensor.quant.scale


def centred(tensor: Tensor) -> NDArray[np.int32]:
    """Give ``q - z`` of each code."""
    assert tensor.quant is not None
    return tensor.data.astype(np.int32) - np.int32(tensor.quant.zero_point)


def clamp(x: F32, lo: float, hi: float) -> F32:
    """Clamp so that NaN passes through, and -0 stays -0 for ``lo = 0``."""
    low, high = np.float32(lo), np.float32(hi)
    t = np.where(x < low, low, x)
    return np.where(t > high, high, t)


def float_attribute(bits: int) -> float:
    """Read a float attribute, which is stored as its float32 bit pattern."""
    return float(np.array(bits, np.uint32).view(np.float32))


def activation(x: F32, attrs: Mapping[str, Any]) -> F32:
    kind = attrs["activation"]
    if kind == "relu":
        return clamp(x, 0.0, float("inf"))
    if kind == "clamp":
        return clamp(x, float_attribute(attrs["lo"]), float_attribute(attrs["hi"]))
    return x


def store(y: F32, output: Quant | None) -> Tensor:
    """Make a node's output of its result: codes where it is quantized, else the float32."""
    return Tensor(y) if output is None else Tensor(quantize(y, output), output)
