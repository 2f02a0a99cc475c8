"""Arrays of golden vectors, and the quantization parameters and attributes that many of them share."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from op_rows.one_op import Quant

INF_BITS, RELU6_BITS, MINUS_1_BITS = 0x7F800000, 0x40C00000, 0xBF800000
NONE = {"activation": "none", "lo": 0, "hi": 0}
RELU = {"activation": "relu", "lo": 0, "hi": 0}
CLAMP = {"activation": "clamp", "lo": MINUS_1_BITS, "hi": RELU6_BITS}

U8 = Quant(float(np.float32(0.0235)), 117)
U8B = Quant(float(np.float32(0.4071)), 3)
U4 = Quant(float(np.float32(0.3)), 7, 0, 15)
NARROW = Quant(float(np.float32(0.011)), 128, 1, 255)
HALVES = Quant(0.5, 10)  # exact ties
SPECIAL = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, -1e-40, 2.0**-126, 3.4028235e38, -3.4028235e38, 1.0, -0.5]


class Stream:
    """Arrays drawn in order, the same for the same name; Python's generator, because its stream is the same for every version."""

    def __init__(self, name: str) -> None:
        self.random = random.Random(name)

    def _array(self, shape: tuple[int, ...], dtype: Any, element: Any) -> np.ndarray:
        return np.array([element() for _ in range(math.prod(shape))], dtype).reshape(shape)

    def codes(self, *shape: int, q: Quant = U8) -> np.ndarray:
        return self._array(shape, np.uint8, lambda: self.random.randint(q.qmin, q.qmax))

    def weights(self, *shape: int, bits: int = 8) -> np.ndarray:
        return self._array(shape, np.int8, lambda: self.random.randint(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))

    def ints(self, *shape: int, limit: int) -> np.ndarray:
        return self._array(shape, np.int32, lambda: self.random.randint(-limit, limit))

    def floats(self, *shape: int, spread: int = 2) -> np.ndarray:
        """Full 24-bit significands; exponents vary by `spread`."""

        def element() -> float:
            significand = self.random.randint(2**23, 2**24 - 1) * self.random.choice((-1, 1))
            return math.ldexp(significand, -23 + self.random.randint(-spread, spread))

        return self._array(shape, np.float32, element)

    def short_floats(self, *shape: int) -> np.ndarray:
        """Few bits, so that products and sums often lie halfway between two floats."""
        return self._array(shape, np.float32, lambda: math.ldexp(self.random.randint(-4097, 4097), self.random.choice((-12, 0, 12))))

    def scales(self, *shape: int) -> np.ndarray:
        """Scales of weights: positive, with one element per channel or per channel and group."""
        return np.abs(self.floats(*shape, spread=1)) * np.float32(2.0**-9)
