"""docs/numerics.md, "Elementary functions", one number at a time over the exactly rounded operations of exact.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from exact_scalar import add, clamp, divide, fma, mul, round_f32

_HEX = float.fromhex
_LOG2_E, _LN2_HIGH, _LN2_LOW = map(_HEX, ("0x1.715476p+0", "0x1.62e4p-1", "0x1.7f7d1cp-20"))
_EXP = [*map(_HEX, ("0x1.0p-1", "0x1.55548cp-3", "0x1.55545cp-5", "0x1.123cep-7", "0x1.6db648p-10"))]
_NEAR = [*map(_HEX, ("0x1.06eba6p-3", "-0x1.8126dcp-2", "0x1.ce1908p-4", "-0x1.b676eap-6", "0x1.46c2c6p-8", "-0x1.3827acp-11"))]
_FAR_TEXT = ("-0x1.bb22fcp-13", "-0x1.20ab22p+0", "-0x1.464aecp-1", "-0x1.a950f4p-4", "0x1.6b6b9ep-6", "-0x1.8d634ap-9", "0x1.987afep-13")
_FAR = [*map(_HEX, _FAR_TEXT)]
_LOG = [
    _HEX(text)
    for text in (
        "0x1.555548p-2",
        "-0x1.000006p-2",
        "0x1.99a4b6p-3",
        "-0x1.555c4cp-3",
        "0x1.233766p-3",
        "-0x1.fc2222p-4",
        "0x1.e6f0a6p-4",
        "-0x1.de3b9ap-4",
        "0x1.145696p-4",
    )
]
_SPLIT, _TANH_SPLIT = round_f32(Fraction(93, 100)), round_f32(Fraction(55, 100))
_SQRT_HALF, _GELU_SCALE, _GELU_CUBE = map(_HEX, ("0x1.6a09e6p-1", "0x1.988454p-1", "0x1.6e4e26p-5"))


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    y = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        y = fma(y, x, c)
    return y


def _reduce(x: float) -> tuple[int, float]:
    n = 0 if math.isnan(x) else round(Fraction(mul(x, _LOG2_E)))
    r = fma(float(n), -_LN2_LOW, fma(float(n), -_LN2_HIGH, x))
    return n, fma(mul(r, r), _polynomial(_EXP, r), r)


def exp(x: float) -> float:
    n, e = _reduce(clamp(x, -104.0, 89.0))
    return mul(mul(add(1.0, e), 2.0 ** (n // 2)), 2.0 ** (n - n // 2))


def expm1(x: float) -> float:
    n, e = _reduce(clamp(x, -87.0, 0.0))
    return fma(2.0**n, e, add(2.0**n, -1.0))


def sigmoid(x: float) -> float:
    z = exp(-abs(x))
    return divide(z if x < 0 else 1.0, add(1.0, z))


def tanh(x: float) -> float:
    n, e = _reduce(clamp(mul(-2.0, abs(x)), -87.0, 0.0))
    if abs(x) > _TANH_SPLIT:
        z = fma(2.0**n, e, 2.0**n)
        return math.copysign(add(1.0, -divide(mul(2.0, z), add(1.0, z))), x)
    t = fma(2.0**n, e, add(2.0**n, -1.0))
    return math.copysign(divide(t, add(t, 2.0)), x)


def erf(x: float) -> float:
    t = abs(x)
    if t > _SPLIT:
        return math.copysign(add(1.0, -exp(_polynomial(_FAR, min(t, 4.0)))), x)
    return fma(_polynomial(_NEAR, mul(x, x)), x, x)


def log(x: float) -> float:
    """For x >= 1."""
    k = 0
    while x > _HEX("0x1.6a09e6p+0"):
        x, k = x / 2, k + 1
    z = add(x, -1.0)
    t = fma(mul(z, z), fma(z, _polynomial(_LOG, z), -0.5), z)
    return fma(float(k), _LN2_HIGH, fma(float(k), _LN2_LOW, t))


def _gelu_tanh(x: float) -> float:
    inner = mul(_GELU_SCALE, fma(_GELU_CUBE, mul(mul(x, x), x), x))
    return mul(mul(0.5, x), add(1.0, tanh(inner)))


def _hard_gate(x: float) -> float:
    return clamp(add(x, 3.0), 0.0, 6.0)


FUNCTIONS: dict[str, Callable[[float, float], float]] = {
    "exp": lambda x, _: exp(x),
    "sigmoid": lambda x, _: sigmoid(x),
    "tanh": lambda x, _: tanh(x),
    "erf": lambda x, _: erf(x),
    "silu": lambda x, _: mul(x, sigmoid(x)),
    "gelu": lambda x, _: mul(mul(0.5, x), add(1.0, erf(mul(x, _SQRT_HALF)))),
    "gelu_tanh": lambda x, _: _gelu_tanh(x),
    "hardsigmoid": lambda x, _: divide(_hard_gate(x), 6.0),
    "hardswish": lambda x, _: divide(mul(x, _hard_gate(x)), 6.0),
    "elu": lambda x, alpha: x if x > 0 else mul(alpha, expm1(x)),
    "leaky_relu": lambda x, alpha: x if x > 0 else mul(x, alpha),
}
