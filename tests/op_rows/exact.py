"""docs/numerics.md a third time: one element after another in Python integers and fractions, rounded by hand.

It shares nothing with the engine or with NumPy's arithmetic: every float32 operation is a rational number rounded once by
`round_f32`, so a wrong rounding in either of the other two cannot hide here. The ops themselves are in the files of their families.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np

from op_rows.exact_scalar import add, clamp, mul, quotient
from op_rows.one_op import OneOp, Quant


def quantize(x: float, q: Quant) -> int:
    if math.isnan(x):
        return q.zero_point
    v = mul(x, quotient(1.0, q.scale))
    v = min(max(v, q.qmin - q.zero_point), q.qmax - q.zero_point)
    return round(Fraction(v)) + q.zero_point


def dequantize(code: int, q: Quant) -> float:
    return mul(float(code - q.zero_point), q.scale)


def from_bits(bits: int) -> float:
    value: float = struct.unpack("<f", struct.pack("<I", bits))[0]
    return value


def activation(x: float, attrs: dict[str, Any]) -> float:
    if attrs["activation"] == "relu":
        return clamp(x, 0.0, math.inf)
    return clamp(x, from_bits(attrs["lo"]), from_bits(attrs["hi"])) if attrs["activation"] == "clamp" else x


def operand(node: OneOp, i: int, index: tuple[int, ...]) -> float:
    array, q = node.inputs[i]
    return float(array[index]) if q is None else dequantize(int(array[index]), q)


def fill(node: OneOp, shape: Iterable[int], element: Callable[..., float]) -> np.ndarray:
    """Compute each float32 element, and quantize it where the output is quantized."""
    shape = tuple(shape)
    y = np.empty(shape, np.float32 if node.output is None else np.uint8)
    for index in itertools.product(*map(range, shape)):
        value = element(*index)
        y[index] = value if node.output is None else quantize(value, node.output)
    return y


def sum16(elements: Iterable[float]) -> float:
    lanes = [0.0] * 16
    for k, x in enumerate(elements):
        lanes[k % 16] = add(lanes[k % 16], x)
    for half in (8, 4, 2, 1):
        lanes = [add(lanes[k], lanes[k + half]) for k in range(half)]
    return lanes[0]
