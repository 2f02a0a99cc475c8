"""float32 operations on Python floats: every result is a rational number rounded once by `round_f32`."""

from __future__ import annotations

import math
from fractions import Fraction

_LARGEST = Fraction(2**24 - 1) * 2**104


def round_f32(x: Fraction, zero: float = 0.0) -> float:
    """`x` rounded to binary32, to nearest even; `zero` is a number of the sign that a result of 0 gets."""
    if x == 0:
        return math.copysign(0.0, zero)
    magnitude = abs(x)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, -126) - 23)
    rounded = round(magnitude / unit) * unit  # round() of a Fraction is half to even
    value = math.inf if rounded > _LARGEST else float(rounded)
    return math.copysign(value, x)


def _is_special(*xs: float) -> bool:
    return not all(map(math.isfinite, xs))


def mul(a: float, b: float) -> float:
    return a * b if _is_special(a, b) else round_f32(Fraction(a) * Fraction(b), math.copysign(1, a) * math.copysign(1, b))


def add(a: float, b: float) -> float:
    return a + b if _is_special(a, b) else round_f32(Fraction(a) + Fraction(b), a + b)


def fma(a: float, b: float, c: float) -> float:
    # Where the exact result is 0 the double expression has the sign that IEEE gives to a fused multiply-add.
    return a * b + c if _is_special(a, b, c) else round_f32(Fraction(a) * Fraction(b) + Fraction(c), a * b + c)


def quotient(a: float, b: float) -> float:
    return a / b if _is_special(a) else round_f32(Fraction(a) / Fraction(b), a)


def divide(a: float, b: float) -> float:
    if _is_special(a, b) or b == 0:
        return math.nan if math.isnan(a) or math.isnan(b) or (a == 0 == b) or (math.isinf(a) and math.isinf(b)) else _divide_limits(a, b)
    return round_f32(Fraction(a) / Fraction(b), math.copysign(1, a) * math.copysign(1, b))


def square_root(x: float) -> float:
    if _is_special(x) or x <= 0:
        return math.sqrt(x)
    # At least 125 bits of the root, floored and made odd where inexact: enough for one rounding.
    scaled = Fraction(x) * Fraction(4) ** 200
    root = math.isqrt(scaled.numerator // scaled.denominator)
    odd = root | (Fraction(root) ** 2 != scaled)
    return round_f32(Fraction(odd) / Fraction(2) ** 200)


def _divide_limits(a: float, b: float) -> float:
    """Infinity or zero: one operand is infinite, or b is 0."""
    sign = math.copysign(1, a) * math.copysign(1, b)
    return math.copysign(math.inf if math.isinf(a) or b == 0 else 0.0, sign)


def clamp(x: float, lo: float, hi: float) -> float:
    t = lo if x < lo else x
    return hi if t > hi else t
