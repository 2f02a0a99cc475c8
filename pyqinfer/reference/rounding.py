"""Correctly rounded float32 operations that NumPy does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_MIN_NORMAL = 2.0**-126
_LOW_BITS = (1 << 29) - 1  # the bits of a double's significand that a float32 drops
_HALFWAY = 1 << 28


def f32(x: Any) -> F32:
    """Round once to binary32, to nearest even; beyond the largest float is infinity."""
    return np.asarray(x).astype(np.float32)


def fma(x: F64, w: F64, t: F64) -> F64:
    """Compute ``f32(x*w + t)`` with one rounding; arguments and result are doubles that hold float32 values, and broadcast.

    A product of two float32 has 48 bits, so it is exact in double. The sum is rounded to double and then to float32, which can
    differ from one rounding only where the double lies halfway between two floats, or where the result is subnormal and so
    keeps fewer bits. There the double is rounded to odd instead: 53 bits with an odd last bit on inexact sums hold enough
    (at least 24 + 2) for the second rounding to be right.
    """
    product = x * w
    total = product + t
    halfway = (total.view(np.int64) & _LOW_BITS) == _HALFWAY
    doubtful = halfway | (np.abs(total) < _MIN_NORMAL)
    if doubtful.any():
        p = np.broadcast_to(product, total.shape)[doubtful]
        total[doubtful] = _add_to_odd(p, np.broadcast_to(t, total.shape)[doubtful])
    return total.astype(np.float32).astype(np.float64)


def _add_to_odd(a: F64, b: F64) -> F64:
    """Compute ``a + b`` rounded to odd: exact where a double can hold it, else the neighbour whose last bit is 1."""
    total = a + b
    back = total - a
    error = (a - (total - back)) + (b - back)  # Knuth's TwoSum: a + b = total + error exactly
    bits = total.view(np.int64)
    towards_zero = (error != 0) & ((error < 0) != (total < 0))
    odd: F64 = ((bits - towards_zero) | (error != 0)).view(np.float64)
    return odd
