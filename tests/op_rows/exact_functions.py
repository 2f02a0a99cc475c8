"""docs/numerics.md, "Elementary functions", one number at a time over the exactly rounded operations of exact.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from op_rows.exact_scalar import add, clamp, divide, fma, mul, round_f32, square_root

_HEX = float.fromhex
_LOG2_E, _LN2_HIGH, _LN2_LOW = map(_HEX, ("0x1.715476p+0", "0x1.62e4p-1", "0x1.7f7d1cp-20"))
_EXP = [*map(_HEX, ("0x1.0p-1", "0x1.55548cp-3", "0x1.55545cp-5", "0x1.123cep-7", "0x1.6db648p-10"))]
_NEAR = [*map(_HEX, ("0x1.06eba6p-3", "-0x1.8126dcp-2", "0x1.ce1908p-4", "-0x1.b676eap-6", "0x1.46c2c6p-8", "-0x1.3827acp-11"))]
_FAR_TEXT = ("-0x1.bb22fcp-13", "-0x1.20ab22p+0", "-0x1.464aecp-1", "-0x1.a950f4p-4", "0x1.6b6b9ep-6", "-0x1.8d634ap-9", "0x1.987afep-13")
_FAR = [*map(_HEX, _FAR_TEXT)]
_SPLIT = round_f32(Fraction(93, 100))
_WIDE_LOG2_E, _WIDE_LN2 = map(_HEX, ("0x1.71547652b82fep+0", "0x1.62e42fefa39efp-1"))
_WIDE_EXP_TEXT = (
    "0x1.00000027f85d1p-1 0x1.555555890b86ap-3 0x1.5554ad8d1b6ebp-5 0x1.11108f8a6d83fp-7 0x1.6d74cf34ae11ep-10 0x1.a1a181b3b5a5fp-13"
)
_TAIL_TEXT = (
    "0x1.b396f9d1c5649p-4 -0x1.7f4318dcd6e8cp-3 0x1.01c06552e7854p-3 -0x1.f8f365a70e650p-5 0x1.385f5d7966bacp-6 -0x1.9927288a548d9p-10 "
    "-0x1.6a3909282c997p-10 0x1.96dfe5f69849dp-12 0x1.17ff2c1cb980ap-13 -0x1.a03c6129a86dcp-15 -0x1.45fe5265e9a66p-16"
)
_WIDE_EXP, _TAIL = ([*map(_HEX, text.split())] for text in (_WIDE_EXP_TEXT, _TAIL_TEXT))
_GELU_SCALE, _GELU_CUBE = _HEX("-0x1.9884533d43651p+0"), 0.044715
_SQRT_TWO = _HEX("0x1.6a09e6p+0")
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


# Python's float is binary64 and rounds each operation once; only the result needs rounding to binary32.


def _narrow(x: float) -> float:
    return round_f32(Fraction(x), x) if math.isfinite(x) else x


def _wide_polynomial(c: Sequence[float], x: float) -> float:
    pairs = [c[i + 1] * x + c[i] if i + 1 < len(c) else c[i] for i in range(0, len(c), 2)]
    y = pairs[-1]
    for pair in reversed(pairs[:-1]):
        y = y * (x * x) + pair
    return y


def _wide_reduce(y: float) -> tuple[float, float]:
    n = 0 if math.isnan(y) else round(y * _WIDE_LOG2_E)
    r = y - n * _WIDE_LN2
    return 2.0**n, r + (r * r) * _wide_polynomial(_WIDE_EXP, r)


def _wide_exp(y: float) -> float:
    power, e = _wide_reduce(y if math.isnan(y) else min(max(y, -708.0), 708.0))
    return (1.0 + e) * power


def _gate(x: float, y: float) -> float:
    return _narrow((-708.0 if x < -708.0 else x) / (1.0 + _wide_exp(y)))


def sigmoid(x: float) -> float:
    return _narrow(1.0 / (1.0 + _wide_exp(-x)))


def tanh(x: float) -> float:
    power, e = _wide_reduce(x if math.isnan(x) else max(-2.0 * abs(x), -100.0))
    t = power * e + (power - 1.0)
    return math.copysign(_narrow(t / (t + 2.0)), x)


def _gelu(x: float) -> float:
    t = x if math.isnan(x) else min(abs(x), 15.0)
    tail = _wide_polynomial(_TAIL, (t - 3.5) / (t + 3.5)) * _wide_exp(-0.5 * (t * t))
    return _narrow((-15.0 if x < -15.0 else x) * (tail if x < 0 else 1.0 - tail))


def _gelu_tanh(x: float) -> float:
    return _gate(x, _GELU_SCALE * (x + _GELU_CUBE * ((x * x) * x)))


def erf(x: float) -> float:
    t = abs(x)
    if t > _SPLIT:
        return math.copysign(add(1.0, -exp(_polynomial(_FAR, min(t, 4.0)))), x)
    return fma(_polynomial(_NEAR, mul(x, x)), x, x)


def log(x: float) -> float:
    if math.isnan(x) or x < 0:
        return math.nan
    if x == 0 or math.isinf(x):
        return -math.inf if x == 0 else x
    k = 0
    while x > _SQRT_TWO:
        x, k = x / 2, k + 1
    while x <= _SQRT_TWO / 2:
        x, k = x * 2, k - 1
    return _log_of(float(k), add(x, -1.0))


def _log_of(n: float, z: float) -> float:
    t = fma(mul(z, z), fma(z, _polynomial(_LOG, z), -0.5), z)
    return fma(n, _LN2_HIGH, fma(n, _LN2_LOW, t))


def _softplus(x: float) -> float:
    u = exp(-abs(x))
    linear = 0.0 if x < 0 else x
    return add(linear, _log_of(1.0, mul(add(u, -1.0), 0.5)) if u > add(_SQRT_TWO, -1.0) else _log_of(0.0, u))


def _sqrt(x: float) -> float:
    return math.nan if x < 0 else square_root(x) if 0 < x < math.inf else x


def _hard_gate(x: float) -> float:
    return clamp(add(x, 3.0), 0.0, 6.0)


def _arctan_of_one_over(n: int, bits: int) -> int:
    """In units of 2^-bits, rounded down term by term."""
    term, total, k = (1 << bits) // n, 0, 1
    while term:
        total += term // k if k % 4 == 1 else -(term // k)
        term, k = term // (n * n), k + 2
    return total


_PI_BITS = 500
_PI = 4 * (4 * _arctan_of_one_over(5, _PI_BITS) - _arctan_of_one_over(239, _PI_BITS))
_HALF_PI = _HEX("0x1.921fb54442d18p+0")
_HALF_PI_HIGH, _HALF_PI_LOW = _HEX("0x1.921fb544p+0"), _HEX("0x1.0b4611a626331p-34")


def _right_angles(x: float) -> tuple[int, float]:
    """Right angles (modulo 4) and the rest of an angle that is not negative."""
    if x < 2.0**20:
        n = round(x * _HEX("0x1.45f306dc9c883p-1"))  # a tie goes to the even number
        return n, (x - n * _HALF_PI_HIGH) - n * _HALF_PI_LOW
    mantissa, exponent = math.frexp(x)
    m, e = int(mantissa * 2**24), exponent - 24
    kept = e + 94  # bits of 2/pi behind the point; those of 2^(1-e) and more make whole turns
    two_over_pi = (1 << kept + _PI_BITS + 1) // _PI % (1 << 96)
    product = (m * (two_over_pi >> 32) + (m * (two_over_pi % 2**32) >> 32)) % 2**64
    n, rest = product >> 62, product % 2**62
    if rest >= 2**61:
        n, rest = n + 1, rest - 2**62
    return n, float(rest) / 2.0**62 * _HALF_PI


def _sine(x: float, more: int) -> float:
    if not math.isfinite(x):
        return math.nan
    n, r = _right_angles(abs(x))
    n, q, t = n + more, r * r, 0.0
    if n % 2 == 0:
        for k in (13, 11, 9, 7, 5, 3):
            t = t * q + (1 if k % 4 == 1 else -1) / math.factorial(k)
        y = r + (r * q) * t
    else:
        for k in (14, 12, 10, 8, 6, 4):
            t = t * q + (1 if k % 4 == 0 else -1) / math.factorial(k)
        y = (1.0 - 0.5 * q) + (q * q) * t
    y = round_f32(Fraction(y)) if y else y
    return -y if n % 4 >= 2 else y


def _to_whole(x: float, rule: Callable[[float], int]) -> float:
    return math.copysign(float(rule(x)), x) if math.isfinite(x) else x


FUNCTIONS: dict[str, Callable[[float, float], float]] = {
    "exp": lambda x, _: exp(x),
    "sigmoid": lambda x, _: sigmoid(x),
    "tanh": lambda x, _: tanh(x),
    "erf": lambda x, _: erf(x),
    "silu": lambda x, _: _gate(x, -x),
    "gelu": lambda x, _: _gelu(x),
    "gelu_tanh": lambda x, _: _gelu_tanh(x),
    "hardsigmoid": lambda x, _: divide(_hard_gate(x), 6.0),
    "hardswish": lambda x, _: divide(mul(x, _hard_gate(x)), 6.0),
    "elu": lambda x, alpha: x if x > 0 else mul(alpha, expm1(x)),
    "leaky_relu": lambda x, alpha: x if x > 0 else mul(x, alpha),
    "sqrt": lambda x, _: _sqrt(x),
    "rsqrt": lambda x, _: divide(1.0, _sqrt(x)),
    "abs": lambda x, _: abs(x),
    "log": lambda x, _: log(x),
    "softplus": lambda x, _: _softplus(x),
    "sin": lambda x, _: math.copysign(1.0, x) * _sine(x, 0),
    "cos": lambda x, _: _sine(x, 1),
    "floor": lambda x, _: _to_whole(x, math.floor),
    "ceil": lambda x, _: _to_whole(x, math.ceil),
    "round": lambda x, _: _to_whole(x, round),
}
