"""Observers: what they see of an activation while calibrating, and the quantization parameters they give.

Cutting the calibration images into other batches changes "average", which is about batches, and the quarter of each batch that "best"
holds out; other observers stay where they are, to the width of a bin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Bins over [-limit, limit]: at least 2048 lie in the range in use, even after the limit was doubled for a value just above it.
_BINS = 8192
# So many values are counted at once, which bounds what counting needs beside the tensor.
_PART = 1 << 20
_CANDIDATES = 100
# The range in front of a function: each end is a fraction of what was seen, and the ends take turns.
_STEPS, _TURNS = 64, 2
# A tensor this small counts as zero: the scale of its codes would be below 2^-100, the least that the converter takes.
SMALLEST_RANGE = 2.0**-92
# A float32 magnitude without its last 15 bits is a bin of `_Magnitudes`: 256 bins between two powers of two. Those below 2^-92 are one bin.
_DROPPED_BITS = 15
_FIRST_BIN = (127 - 92) << 8


@dataclass(frozen=True)
class ActivationParams:
    """Parameters of one tensor: codes quant_min..quant_max stand for ``(code - zero_point) * scale``; ``scale`` is a float32 value.

    ``vanishes``: all values seen count as zero though some are not.
    """

    scale: float
    zero_point: int
    quant_min: int
    quant_max: int
    vanishes: bool = False


class Watcher(Protocol):
    """Sees a tensor of every calibration batch."""

    def observe(self, x: Tensor) -> None:
        """Raises ValueError for NaN or infinity."""
        ...


class Observer(Watcher, Protocol):
    """Sees batches, then gives parameters."""

    def params(self, bits: int) -> ActivationParams:
        """Raises ValueError if nothing was observed."""
        ...


def affine_params(low: float, high: float, bits: int) -> ActivationParams:
    """Affine parameters over [min(low, 0), max(high, 0)]: zero is exact, so that padding and ReLU cost nothing."""
    low, high = min(low, 0.0), max(high, 0.0)
    top = 2**bits - 1
    if high - low < SMALLEST_RANGE:
        return ActivationParams(1.0, 0, 0, top, vanishes=high > low)
    scale = float(np.float32((high - low) / top))
    return ActivationParams(scale, min(max(round(-low / scale), 0), top), 0, top)


def _finite_range(x: Tensor) -> tuple[float, float]:
    low, high = (float(v) for v in torch.aminmax(x))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"the activations reach {low} to {high}: NaN or infinity cannot be quantized")
    return low, high


class MinMaxObserver:
    """The whole range seen."""

    def __init__(self) -> None:
        self._low, self._high = float("inf"), -float("inf")

    def observe(self, x: Tensor) -> None:
        if x.numel():
            self.widen(*_finite_range(x))

    def widen(self, low: float, high: float) -> None:
        """These values were seen, and others between them."""
        self._low, self._high = min(self._low, low), max(self._high, high)

    def seen(self) -> tuple[float, float]:
        """The least and the largest value. Raises ValueError if nothing was observed."""
        if self._low > self._high:
            raise ValueError("nothing was observed")
        return self._low, self._high

    def params(self, bits: int) -> ActivationParams:
        return affine_params(*self.seen(), bits)


class AverageObserver:
    """The mean over batches of each batch's range; a batch counts by its size, so that a short last one moves little."""

    def __init__(self) -> None:
        self._low = self._high = 0.0
        self._seen = 0

    def observe(self, x: Tensor) -> None:
        if x.numel():
            low, high = _finite_range(x)
            self._low, self._high = self._low + low * x.numel(), self._high + high * x.numel()
            self._seen += x.numel()

    def params(self, bits: int) -> ActivationParams:
        if self._seen == 0:
            raise ValueError("nothing was observed")
        return affine_params(self._low / self._seen, self._high / self._seen, bits)


class _Histogram:
    """Counts over all batches in bins of equal width around zero, as squared errors need them: the largest values weigh most."""

    def __init__(self) -> None:
        self._range = MinMaxObserver()
        self._limit = 0.0
        self._counts = np.zeros(_BINS, np.float64)

    def observe(self, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = _finite_range(x)
        self._range.widen(low, high)
        reach = max(-low, high)
        if reach == 0.0:
            self._counts[_BINS // 2] += x.numel()
            return
        if self._limit == 0.0:
            # What was seen so far is all zeros, in the middle bin whatever the limit.
            self._limit = reach
        while reach > self._limit:
            self._double_limit()
        self._counts += self._counted(x.detach().reshape(-1))

    def _counted(self, x: Tensor) -> NDArray[np.float64]:
        """Counts of finite values within the limit: what torch.histc gives, in a third of its time."""
        counts = torch.zeros(_BINS + 2, dtype=torch.int64)
        for part in torch.split(x, _PART):
            # The limit itself falls into the first of the two bins too many, or by rounding into the second.
            bins = part.float().mul(_BINS / 2 / self._limit).add_(_BINS / 2).to(torch.int16)
            counts += torch.bincount(bins, minlength=_BINS + 2)
        found: NDArray[np.float64] = counts[:_BINS].double().numpy()
        found[-1] += int(counts[_BINS:].sum())
        return found

    def _double_limit(self) -> None:
        pairs = self._counts.reshape(-1, 2).sum(1)
        self._counts = np.zeros(_BINS, np.float64)
        self._counts[_BINS // 4 : _BINS // 4 + _BINS // 2] = pairs
        self._limit *= 2

    def _bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres and counts of the bins in use."""
        used = np.flatnonzero(self._counts)
        width = 2 * self._limit / _BINS
        return (-self._limit + (used + 0.5) * width).astype(np.float64), self._counts[used]

    def squared_error(self, params: ActivationParams) -> float:
        """The error that the parameters make on the values seen, each taken for its bin's centre."""
        return _squared_error(*self._bins(), params)


class MSEObserver(_Histogram):
    """The range of least squared error among 100 candidates, fractions of the range seen."""

    def params(self, bits: int) -> ActivationParams:
        full = self._range.params(bits)
        if self._limit == 0.0 or full.vanishes:
            return full
        centers, counts = self._bins()
        low, high = -full.zero_point * full.scale, (full.quant_max - full.zero_point) * full.scale
        candidates = [affine_params(low * i / _CANDIDATES, high * i / _CANDIDATES, bits) for i in range(_CANDIDATES, 0, -1)]
        errors = [_squared_error(centers, counts, candidate) for candidate in candidates]
        return candidates[int(np.argmin(errors))]


class FunctionObserver(_Histogram):
    """For a tensor that only functions read: the range of least squared error behind them.

    Where a function has ended, as GELU has below -3, the range need not go on, whatever values were seen there.

    Args:
        functions: of float32 tensors, element by element.
    """

    def __init__(self, functions: Sequence[Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self._functions = functions

    def params(self, bits: int) -> ActivationParams:
        full = self._range.params(bits)
        if self._limit == 0.0 or full.vanishes:
            return full
        low, high = self._range.seen()
        part = [1.0, 1.0]
        for end in (0, 1) * _TURNS:
            tried = [[i / _STEPS, part[1]] if end == 0 else [part[0], i / _STEPS] for i in range(_STEPS, 0, -1)]
            part = tried[self._best([affine_params(low * a, high * b, bits) for a, b in tried])]
        return affine_params(low * part[0], high * part[1], bits)

    def _best(self, candidates: Sequence[ActivationParams]) -> int:
        """Which candidate makes the least squared error behind the functions, summed over all values seen."""
        centers, counts = self._bins()
        codes = [(np.clip(np.rint(centers / p.scale) + p.zero_point, p.quant_min, p.quant_max)).astype(np.int64) for p in candidates]
        values = np.stack([(np.arange(p.quant_max + 1) - p.zero_point) * np.float64(p.scale) for p in candidates])
        errors = np.zeros(len(candidates))
        for function in self._functions:
            exact, tables = self._apply(function, centers), self._apply(function, values)
            errors += [float(np.dot(counts, np.square(table[code] - exact))) for table, code in zip(tables, codes, strict=True)]
        return int(np.argmin(errors))

    @staticmethod
    def _apply(function: Callable[[Tensor], Tensor], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """A function's values; where they are not finite they count as 0, which no range can mend.

        Constants in the function may have more dimensions of 1 than ``x``, which the result then has as well.
        """
        y: NDArray[np.float64] = np.nan_to_num(function(torch.from_numpy(x).float()).double().numpy(), posinf=0.0, neginf=0.0)
        return y.reshape(x.shape)


class _Magnitudes:
    """Counts of values >= 0 over all batches, in bins whose ends differ by at most a 256th, wherever they lie.

    Bins of equal width would give the values beside one large outlier a single bin, and their percentiles would be lost.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)

    def add(self, x: Tensor) -> None:
        """``x``: float32, finite, not negative."""
        bins = ((x.view(torch.int32) >> _DROPPED_BITS) - _FIRST_BIN).clamp_(min=0)
        counts = torch.bincount(bins, minlength=len(self._counts)).numpy()
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def bound(self, tail: float) -> float:
        """The least upper end of a bin that at most ``tail`` values exceed; 0 if no more values than that were seen."""
        above = self._counts.sum() - np.cumsum(self._counts)
        if self._counts.sum() <= tail:
            return 0.0
        next_bin = _FIRST_BIN + int(np.argmax(above <= tail)) + 1
        return float(np.uint32(next_bin << _DROPPED_BITS).view(np.float32))


class PercentileObserver:
    """Cuts the tails off: ``percent`` of the values lie below the range's upper end, and as many above its lower end.

    Each end is at most a 256th, one step of eight bits, further from zero than that percentile, however far outliers reach.
    """

    def __init__(self, percent: float) -> None:
        self._tail = 1 - percent / 100
        self._range = MinMaxObserver()
        self._positive, self._negative = _Magnitudes(), _Magnitudes()
        self._seen = 0

    def observe(self, x: Tensor) -> None:
        self._range.observe(x)
        x = x.float()
        self._positive.add(x[x >= 0])
        self._negative.add(-x[x < 0])
        self._seen += x.numel()

    def params(self, bits: int) -> ActivationParams:
        low, high = self._range.seen()
        tail = self._tail * self._seen
        return affine_params(max(low, -self._negative.bound(tail)), min(high, self._positive.bound(tail)), bits)


class BestObserver:
    """Runs every other observer and takes the one whose parameters do best on a quarter of the images, which it has not seen."""

    def __init__(self) -> None:
        self._candidates: list[Observer] = [make() for name, make in OBSERVERS.items() if name != "best"]
        self._judge = _Histogram()
        self._batches = 0

    def observe(self, x: Tensor) -> None:
        rows = x.shape[0] if x.ndim else 1
        if rows > 1:
            held_out = max(1, rows // 4)
            self._fit(x[:-held_out])
            self._judge.observe(x[-held_out:])
        elif self._batches % 4 == 3:
            self._judge.observe(x)
        else:
            self._fit(x)
        self._batches += 1

    def _fit(self, x: Tensor) -> None:
        for candidate in self._candidates:
            candidate.observe(x)

    def params(self, bits: int) -> ActivationParams:
        candidates = [candidate.params(bits) for candidate in self._candidates]
        return min(candidates, key=self._judge.squared_error)


def _squared_error(x: NDArray[np.float64], counts: NDArray[np.float64], p: ActivationParams) -> float:
    steps = x / p.scale
    # One buffer for all, and no np.clip, whose checks take longer than its work on so few numbers.
    np.rint(steps, out=steps)
    np.maximum(steps, p.quant_min - p.zero_point, out=steps)
    np.minimum(steps, p.quant_max - p.zero_point, out=steps)
    np.multiply(steps, p.scale, out=steps)
    np.subtract(steps, x, out=steps)
    return float(np.dot(counts, np.square(steps, out=steps)))


# The default stands first: "best" takes it where candidates are equally good.
OBSERVERS: dict[str, Callable[[], Observer]] = {
    "mse": MSEObserver,
    "minmax": MinMaxObserver,
    "average": AverageObserver,
    "percentile99.9": lambda: PercentileObserver(99.9),
    "percentile99.99": lambda: PercentileObserver(99.99),
    "best": BestObserver,
}
