"""Weights to codes: symmetric, narrow range, one scale per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyqinfer.bits import LayerBits

# A channel this small counts as zero, so that products of scales stay normal float32 numbers.
SMALLEST_RANGE = 2.0**-40
_COARSE = [i / 10 for i in range(1, 11)]
_FINE_STEP = 0.01
# Rows are taken in blocks of about so many weights, which stay in a core's cache through all passes of the search.
_BLOCK = 2**16


@dataclass(frozen=True)
class WeightCodes:
    """A weight of a graph: ``(codes - zero_point) * scale[c]`` for output channel c.

    Args:
        codes: int8, output channels on axis 0.
        scale: float32 [channels].
        low, high: the range of the codes, which carries the bits.
        zero_point: 0, or -0.5 for a grid without zero, whose 2^b levels lie symmetrically around it.
    """

    codes: Tensor
    scale: Tensor
    low: int
    high: int
    zero_point: float = 0

    def times(self, gain: Tensor) -> WeightCodes:
        """The codes of the weight with each output channel multiplied by ``gain`` [channels]; a channel's gain of 0 becomes a tiny one."""
        negative = (gain < 0).reshape(-1, *[1] * (self.codes.ndim - 1))
        codes = torch.where(negative, round(2 * self.zero_point) - self.codes, self.codes)
        return WeightCodes(codes, (self.scale * gain.abs()).clamp_min(SMALLEST_RANGE), self.low, self.high, self.zero_point)


def quantize_weight(weight: Tensor, bits: LayerBits, search: bool, smallest_scale: float = 0.0) -> tuple[Tensor, Tensor]:
    """Codes (int8, the weight's shape) and scales (float32, [channels]) with ``weight ~ scale[c] * code``.

    Args:
        weight: float32, output channels on axis 0.
        bits: ``weight_range`` gives the codes, -7..7 for 4 bits.
        search: choose each channel's range by least squared error (fractions 0.01 to 1 of its largest magnitude, first in steps of 0.1,
            then of 0.01 around the best), then fit the scale to the codes; else the largest magnitude is the range.
        smallest_scale: channels whose scale would be smaller count as zero.

    Raises:
        ValueError: NaN or infinity in the weights.
    """
    if not torch.isfinite(weight).all():
        raise ValueError("the weights hold NaN or infinity")
    rows, top = weight.detach().reshape(weight.shape[0], -1).float(), bits.weight_range[1]
    codes, scales = torch.empty(rows.shape, dtype=torch.int8), torch.empty(len(rows))
    step = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        codes[block], scales[block] = _quantize_rows(rows[block], top, search, smallest_scale)
    return codes.reshape(weight.shape), scales


class WeightSearch:
    """`quantize_weight`, which searches once for one tensor: trials quantize most weights again."""

    def __init__(self) -> None:
        # With each tensor, so that no other can take its place in memory.
        self._found: dict[tuple[object, ...], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, weight: Tensor, bits: LayerBits, search: bool, smallest_scale: float = 0.0) -> tuple[Tensor, Tensor]:
        """Arguments, result and errors: see `quantize_weight`. The codes are the caller's own."""
        key = (weight.data_ptr(), weight.shape, weight.stride(), bits.weight, search, smallest_scale)
        if key not in self._found:
            self._found[key] = (weight, *quantize_weight(weight, bits, search, smallest_scale))
        _, codes, scales = self._found[key]
        return codes.clone(), scales.clone()


def _quantize_rows(rows: Tensor, top: int, search: bool, smallest_scale: float) -> tuple[Tensor, Tensor]:
    largest = rows.abs().amax(1)
    zero = (largest < SMALLEST_RANGE) | (largest / top < smallest_scale)
    full = torch.where(zero, torch.ones_like(largest), largest / top)
    scale = full * _best_fraction(rows, full, top) if search else full
    codes = _codes(rows, scale, top)
    if search:
        codes, scale = _refit(rows, codes, scale, top)
    codes[zero] = 0
    return codes, torch.where(zero, torch.ones_like(scale), scale)


def _codes(rows: Tensor, scale: Tensor, top: int) -> Tensor:
    return (rows / scale[:, None]).round_().clamp_(-top, top)


def _error(rows: Tensor, scale: Tensor, top: int) -> Tensor:
    return _codes(rows, scale, top).mul_(scale[:, None]).sub_(rows).square_().sum(1)


def _best_fraction(rows: Tensor, full: Tensor, top: int) -> Tensor:
    best = torch.ones_like(full)
    least = _error(rows, full, top)
    for candidate in _COARSE[:-1]:
        best, least = _keep_better(rows, full, top, torch.full_like(full, candidate), best, least)
    center = best
    for i in range(-9, 10):
        best, least = _keep_better(rows, full, top, (center + i * _FINE_STEP).clamp(_FINE_STEP, 1), best, least)
    return best


def _keep_better(rows: Tensor, full: Tensor, top: int, fraction: Tensor, best: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    error = _error(rows, full * fraction, top)
    better = error < least
    return torch.where(better, fraction, best), torch.where(better, error, least)


def _refit(rows: Tensor, codes: Tensor, scale: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Least-squares scale for the codes and codes for that scale, twice: neither step can raise the error."""
    for _ in range(2):
        energy = codes.square().sum(1)
        fitted = (rows * codes).sum(1) / energy.clamp_min(1)
        scale = torch.where((energy > 0) & (fitted > 0), fitted, scale)
        codes = _codes(rows, scale, top)
    return codes, scale
