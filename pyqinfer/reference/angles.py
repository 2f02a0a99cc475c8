"""Sine and cosine of float32 arrays, computed in binary64 (docs/numerics.md, "Elementary functions")."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.rounding import F32

_F64 = NDArray[np.float64]
_TWO_OVER_PI = float.fromhex("0x1.45f306dc9c883p-1")
_HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
# pi/2 is the sum of these; the first has 33 bits.
_HALF_PI_HIGH, _HALF_PI_LOW = float.fromhex("0x1.921fb544p+0"), float.fromhex("0x1.0b4611a626331p-34")
# The bits of 2/pi behind the point, after 32 zeros.
_BITS = 0xA2F9836E4E441529FC2757D1F534DDC0DB6295993C439041FE5163ABDEBBC561B7246E3A
_BITS_COUNT = 32 + 9 * 32
_LARGE = 2.0**20
_SINE = [1 / 6227020800, -1 / 39916800, 1 / 362880, -1 / 5040, 1 / 120, -1 / 6]
_COSINE = [-1 / 87178291200, 1 / 479001600, -1 / 3628800, 1 / 40320, -1 / 720, 1 / 24]


def sin(x: F32) -> F32:
    y = _sine_of(np.abs(x), 0)
    return np.where(np.signbit(x), -y, y)


def cos(x: F32) -> F32:
    return _sine_of(np.abs(x), 1)


def _sine_of(x: F32, more: int) -> F32:
    """The sine of ``x`` >= 0 and ``more`` right angles."""
    finite = np.where(np.isfinite(x), x, np.float32(0))
    n = np.rint(finite.astype(np.float64) * _TWO_OVER_PI)
    rest = (finite.astype(np.float64) - n * _HALF_PI_HIGH) - n * _HALF_PI_LOW
    quarter = (np.where(finite < _LARGE, n, 0)).astype(np.int64)
    for at in zip(*np.nonzero(finite >= _LARGE), strict=True):
        quarter[at], rest[at] = _reduce_large(int(finite[at].view(np.uint32)))
    quarter = quarter + more
    square = rest * rest
    sine = rest + (rest * square) * _horner(_SINE, square)
    cosine = (1.0 - 0.5 * square) + (square * square) * _horner(_COSINE, square)
    y = np.where(quarter % 2 == 0, sine, cosine).astype(np.float32)
    return np.where(np.isfinite(x), np.where(quarter % 4 < 2, y, -y), np.float32(np.nan))


def _horner(coefficients: Sequence[float], x: _F64) -> _F64:
    y: _F64 = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = y * x + c
    return y


def _reduce_large(bits: int) -> tuple[int, float]:
    """Right angles and the rest of a float m * 2^e; of 2/pi only the bits count that make less than four right angles of it."""
    m, e = bits & 0x7FFFFF | 0x800000, (bits >> 23) - 150
    window = _BITS >> _BITS_COUNT - (e - 2 + 32) - 96 & 2**96 - 1
    product = (m * (window >> 32) + (m * (window & 2**32 - 1) >> 32)) % 2**64  # in units of 2^-62 right angles
    quarter = (product + 2**61) % 2**64 >> 62
    rest = (product - (quarter << 62) + 2**63) % 2**64 - 2**63
    return quarter, float(rest) * 2.0**-62 * _HALF_PI
