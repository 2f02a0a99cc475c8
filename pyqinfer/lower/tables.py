"""Tables of 256 codes for an elementwise chain between dequantize and quantize (docs/numerics.md, in float32 throughout)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ir import Quant


def code_table(source: Quant, lo: float, hi: float, target: Quant) -> NDArray[np.uint8]:
    """``table[q] = quantize(clamp(dequantize(q), lo, hi))`` for q = 0..255."""
    codes = np.arange(256, dtype=np.int32)
    x = (codes - source.zero_point).astype(np.float32) * np.float32(source.scale)
    x = np.where(x < np.float32(lo), np.float32(lo), x)
    x = np.where(x > np.float32(hi), np.float32(hi), x)
    v = x * np.float32(1.0 / target.scale)
    v = np.maximum(v, np.float32(target.qmin - target.zero_point))
    v = np.minimum(v, np.float32(target.qmax - target.zero_point))
    table: NDArray[np.uint8] = (np.rint(v).astype(np.int32) + target.zero_point).astype(np.uint8)
    return table
