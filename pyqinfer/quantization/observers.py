"""Observers: what they see of an activation while calibrating, and the quantization parameters they give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BINS = 8192  # over [-limit, limit]: at least 2048 over the range in use, also after the limit was doubled once too often
_CANDIDATES = 100
_SMALLEST_RANGE = 2.0**-40  # a tensor this small counts as zero: products of scales stay normal float32 numbers


@dataclass(frozen=True)
class ActivationParams:
    """Per-tensor parameters: codes quant_min..quant_max stand for ``(code - zero_point) * scale``; ``scale`` is a float32 value."""

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int


class Observer(Protocol):
    """Sees batches, then gives parameters."""

    def observe(self, x: Tensor) -> None:
        """Raises ValueError for NaN or infinity."""
        ...

    def params(self, bits: int) -> ActivationParams:
        """Raises ValueError if nothing was observed."""
        ...


def affine_params(low: float, high: float, bits: int) -> ActivationParams:
    """Affine parameters over [min(low, 0), max(high, 0)]: zero is exact, so that padding and ReLU cost nothing."""
    low, high = min(low, 0.0), max(high, 0.0)
    top = 2**bits - 1
    if high - low < _SMALLEST_RANGE:
        return ActivationParams(1.0, 0, 0, top)
    scale = float(np.float32((high - low) / top))
    return ActivationParams(scale, min(max(round(-low / scale), 0), top), 0, top)


class MinMaxObserver:
    """The whole range seen."""

    def __init__(self) -> None:
        self._low, self._high = float("inf"), -float("inf")

    def observe(self, x: Tensor) -> None:
        if x.numel():
            low, high = (float(v) for v in torch.aminmax(x))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"the activations reach {low} to {high}: NaN or infinity cannot be quantized")
            self._low, self._high = min(self._low, low), max(self._high, high)

    def params(self, bits: int) -> ActivationParams:
        if self._low > self._high:
            raise ValueError("nothing was observed")
        return affine_params(self._low, self._high, bits)


class HistogramObserver:
    """A histogram over all batches; of 100 candidate ranges (fractions of the range seen) the one of least squared error."""

    def __init__(self) -> None:
        self._range = MinMaxObserver()
        self._limit = 0.0
        self._counts = np.zeros(_BINS, np.float64)

    def observe(self, x: Tensor) -> None:
        self._range.observe(x)
        reach = float(x.abs().max()) if x.numel() else 0.0
        if reach == 0.0:
            self._counts[_BINS // 2] += x.numel()
            return
        if self._limit == 0.0:
            # What was seen so far is all zeros, in the middle bin whatever the limit.
            self._limit = reach
        while reach > self._limit:
            self._double_limit()
        self._counts += torch.histc(x.float(), _BINS, -self._limit, self._limit).double().numpy()

    def _double_limit(self) -> None:
        pairs = self._counts.reshape(-1, 2).sum(1)
        self._counts = np.zeros(_BINS, np.float64)
        self._counts[_BINS // 4 : _BINS // 4 + _BINS // 2] = pairs
        self._limit *= 2

    def params(self, bits: int) -> ActivationParams:
        full = self._range.params(bits)
        if self._limit == 0.0:
            return full
        width = 2 * self._limit / _BINS
        used = np.flatnonzero(self._counts)
        centers = (-self._limit + (used + 0.5) * width).astype(np.float64)
        counts = self._counts[used]
        low, high = -full.zero_point * full.scale, (full.quant_max - full.zero_point) * full.scale
        candidates = [affine_params(low * i / _CANDIDATES, high * i / _CANDIDATES, bits) for i in range(_CANDIDATES, 0, -1)]
        errors = [_squared_error(centers, counts, candidate) for candidate in candidates]
        return candidates[int(np.argmin(errors))]


def _squared_error(x: NDArray[np.float64], counts: NDArray[np.float64], p: ActivationParams) -> float:
    codes = np.clip(np.rint(x / p.scale) + p.zero_point, p.quant_min, p.quant_max)
    return float(np.dot(counts, np.square((codes - p.zero_point) * p.scale - x)))


OBSERVERS: dict[str, type[MinMaxObserver] | type[HistogramObserver]] = {"minmax": MinMaxObserver, "mse": HistogramObserver}
