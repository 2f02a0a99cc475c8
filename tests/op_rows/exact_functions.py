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
_TAIL_TEXT = (
    "0x1.b396fap-4 -0x1.7f4318p-3 0x1.01c066p-3 -0x1.f8f366p-5 0x1.385f5ep-6 -0x1.992728p-10 "
    "-0x1.6a390ap-10 0x1.96dfe6p-12 0x1.17ff2cp-13 -0x1.a03c60p-15 -0x1.45fe4ep-16"
)
_TAIL = [*map(_HEX, _TAIL_TEXT.split())]
_LINEAR, _LINEAR_LOW, _CUBIC, _CUBIC_LOW = map(_HEX, ("0x1.988454p+0", "-0x1.857936p-25", "0x1.2444f2p-4", "0x1.49b16ap-29"))
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


def _reduce(x: float, low: float = 0.0) -> tuple[int, float]:
    n = 0 if math.isnan(x) else round(Fraction(mul(x, _LOG2_E)))
    r = add(fma(float(n), -_LN2_LOW, fma(float(n), -_LN2_HIGH, x)), low)
    return n, fma(mul(r, r), _polynomial(_EXP, r), r)


def _scaled(v: float, n: int) -> float:
    return mul(mul(v, 2.0 ** (n // 2)), 2.0 ** (n - n // 2))


def exp(x: float) -> float:
    n, e = _reduce(clamp(x, -104.0, 89.0))
    return _scaled(add(1.0, e), n)


def expm1(x: float) -> float:
    n, e = _reduce(clamp(x, -87.0, 0.0))
    return fma(2.0**n, e, add(2.0**n, -1.0))


def _gate(x: float, high: float, low: float = 0.0) -> float:
    n, e = _reduce(-high, -low)
    factor = add(1.0, e)
    return divide(_scaled(mul(x, factor), n) if x < 0 else x, add(1.0, _scaled(factor, n)))


def _magnitude(x: float, end: float) -> float:
    return x if math.isnan(x) else min(abs(x), end)


def _at_least(low: float, x: float) -> float:
    return low if x < low else x


def _below(a: float, b: float, product: float) -> float:
    return fma(a, b, -product)


def sigmoid(x: float) -> float:
    n, e = _reduce(-_magnitude(x, 120.0))
    power = _scaled(add(1.0, e), n)
    return divide(power if x < 0 else 1.0, add(1.0, power))


def _silu(x: float) -> float:
    return _gate(_at_least(-120.0, x), _magnitude(x, 120.0))


def tanh(x: float) -> float:
    e = expm1(mul(-2.0, abs(x)))
    return math.copysign(divide(e, add(e, 2.0)), x)


def _gelu(x: float) -> float:
    t = _magnitude(x, 15.0)
    square = mul(t, t)
    n, e = _reduce(-mul(0.5, square), -mul(0.5, _below(t, t, square)))
    v = _scaled(mul(mul(t, _polynomial(_TAIL, divide(add(t, -3.5), add(t, 3.5)))), add(1.0, e)), n)
    return add(0.0, -v) if x < 0 else add(x, -v)


def _gelu_tanh(x: float) -> float:
    t = _magnitude(x, 16.0)
    square = mul(t, t)
    term = mul(_CUBIC, square)
    total = add(_LINEAR, term)
    part = add(total, -_LINEAR)
    lost = add(add(_LINEAR, -add(total, -part)), add(term, -part))
    low = add(lost, fma(_CUBIC_LOW, square, fma(_CUBIC, _below(t, t, square), add(_below(_CUBIC, square, term), _LINEAR_LOW))))
    y = mul(t, total)
    return _gate(_at_least(-16.0, x), _magnitude(y, 120.0), add(_below(t, total, y), mul(t, low)))


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
    "silu": lambda x, _: _silu(x),
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
