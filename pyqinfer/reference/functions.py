"""Elementary functions (docs/numerics.md), float32 in and out: every operation rounded once, in the order of the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference import angles
from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, clamp, float_attribute, store
from pyqinfer.reference.rounding import F32, f32, fma


def _constants(*hexadecimal: str) -> list[np.float32]:
    return [np.float32(float.fromhex(text)) for text in hexadecimal]


(_LOG2_E, _LN2_HIGH, _LN2_LOW) = _constants("0x1.715476p+0", "0x1.62e4p-1", "0x1.7f7d1cp-20")
_EXP = _constants("0x1.0p-1", "0x1.55548cp-3", "0x1.55545cp-5", "0x1.123cep-7", "0x1.6db648p-10")
_ERF_NEAR = _constants("0x1.06eba6p-3", "-0x1.8126dcp-2", "0x1.ce1908p-4", "-0x1.b676eap-6", "0x1.46c2c6p-8", "-0x1.3827acp-11")
_ERF_FAR = _constants(
    "-0x1.bb22fcp-13", "-0x1.20ab22p+0", "-0x1.464aecp-1", "-0x1.a950f4p-4", "0x1.6b6b9ep-6", "-0x1.8d634ap-9", "0x1.987afep-13"
)
_ERF_SPLIT, _ERF_END = np.float32(0.93), np.float32(4)
_LOG = _constants(
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
_SQRT_TWO = np.float32(float.fromhex("0x1.6a09e6p+0"))
_GATE_END, _TANH_END, _TAIL_END, _TAIL_POLE = np.float32(120), np.float32(16), np.float32(15), np.float32(3.5)
_TAIL = _constants(
    "0x1.b396fap-4",
    "-0x1.7f4318p-3",
    "0x1.01c066p-3",
    "-0x1.f8f366p-5",
    "0x1.385f5ep-6",
    "-0x1.992728p-10",
    "-0x1.6a390ap-10",
    "0x1.96dfe6p-12",
    "0x1.17ff2cp-13",
    "-0x1.a03c60p-15",
    "-0x1.45fe4ep-16",
)
(_LINEAR, _LINEAR_LOW, _CUBIC, _CUBIC_LOW) = _constants("0x1.988454p+0", "-0x1.857936p-25", "0x1.2444f2p-4", "0x1.49b16ap-29")
_ZERO, _ONE, _HALF, _TWO, _SIX = np.float32(0), np.float32(1), np.float32(0.5), np.float32(2), np.float32(6)


def fused(a: F32 | np.float32, b: F32 | np.float32, c: F32 | np.float32) -> F32:
    """Compute ``fma(a, b, c)`` of float32 arrays."""
    wide = (np.asarray(v, np.float64) for v in np.broadcast_arrays(a, b, c))
    return f32(fma(*wide))


def _polynomial(coefficients: Sequence[np.float32], x: F32) -> F32:
    """Evaluate a polynomial of ascending coefficients by Horner's rule."""
    y: F32 = np.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        y = fused(y, x, c)
    return y


def _reduce(x: F32, low: F32 | np.float32 = _ZERO) -> tuple[NDArray[np.int32], F32]:
    """Split ``x + low = n*ln(2) + r`` and give n and e^r - 1."""
    v = x * _LOG2_E
    n = np.rint(np.where(np.isnan(v), np.float32(0), v)).astype(np.int32)
    whole = n.astype(np.float32)
    r = fused(whole, -_LN2_LOW, fused(whole, -_LN2_HIGH, x)) + low
    return n, fused(r * r, _polynomial(_EXP, r), r)


def _power_of_two(n: NDArray[np.int32]) -> F32:
    return f32(np.ldexp(_ONE, n))


def _scaled(v: F32, n: NDArray[np.int32]) -> F32:
    """Compute ``v * 2^n`` in two steps."""
    half = n >> 1
    return v * _power_of_two(half) * _power_of_two(n - half)


def exp(x: F32) -> F32:
    n, e = _reduce(clamp(x, -104, 89))
    return _scaled(_ONE + e, n)


def expm1(x: F32) -> F32:
    """Compute e^x - 1 for x <= 0; a positive x counts as 0."""
    n, e = _reduce(clamp(x, -87, 0))
    scale = _power_of_two(n)
    return fused(scale, e, scale - _ONE)


def erf(x: F32) -> F32:
    t = np.abs(x)
    far = np.copysign(_ONE - exp(_polynomial(_ERF_FAR, np.where(t > _ERF_END, _ERF_END, t))), x)
    return np.where(t > _ERF_SPLIT, far, fused(_polynomial(_ERF_NEAR, x * x), x, x))


def log(x: F32) -> F32:
    """Compute the logarithm: minus infinity of zeros, NaN of negative numbers."""
    plain = (x > 0) & np.isfinite(x)
    half, k = np.frexp(np.where(plain, x, _ONE))  # 1/2 <= half < 1
    low = half * _TWO <= _SQRT_TWO
    y = _log_of((k - low).astype(np.float32), np.where(low, half * _TWO, half) - _ONE)
    special = np.where(x < 0, np.float32(np.nan), np.where(x == 0, np.float32(-np.inf), x + x))
    return np.where(plain, y, special)


def softplus(x: F32) -> F32:
    u = exp(-np.abs(x))
    upper = u > _SQRT_TWO - _ONE
    z = np.where(upper, (u - _ONE) * _HALF, np.where(np.isnan(u), _ONE, u))
    return np.where(x < 0, np.float32(0), x) + _log_of(upper.astype(np.float32), z)


def _log_of(n: F32, z: F32) -> F32:
    """Compute ``n*ln(2) + log(1 + z)``."""
    t = fused(z * z, fused(z, _polynomial(_LOG, z), -_HALF), z)
    return fused(n, _LN2_HIGH, fused(n, _LN2_LOW, t))


def _gate(x: F32, high: F32, low: F32 | np.float32 = _ZERO) -> F32:
    """Compute ``x / (1 + e^-y)`` for y of the sign of x, ``|y| = high + low``."""
    n, e = _reduce(_ZERO - high, _ZERO - low)
    factor = _ONE + e
    y: F32 = np.where(x < 0, _scaled(x * factor, n), x) / (_ONE + _scaled(factor, n))
    return y


def _magnitude(x: F32, end: np.float32) -> F32:
    t = np.abs(x)
    return np.where(t > end, end, t)


def _at_least(low: np.float32, x: F32) -> F32:
    return np.where(x < low, low, x)


def _below(a: F32 | np.float32, b: F32, product: F32) -> F32:
    """Give what rounding took from ``a * b``."""
    return fused(a, b, -product)


def sigmoid(x: F32) -> F32:
    n, e = _reduce(_ZERO - _magnitude(x, _GATE_END))
    power = _scaled(_ONE + e, n)
    y: F32 = np.where(x < 0, power, _ONE) / (_ONE + power)
    return y


def silu(x: F32) -> F32:
    return _gate(_at_least(-_GATE_END, x), _magnitude(x, _GATE_END))


def gelu_tanh(x: F32) -> F32:
    t = _magnitude(x, _TANH_END)
    square = t * t
    term = _CUBIC * square
    total = _LINEAR + term
    part = total - _LINEAR
    lost = (_LINEAR - (total - part)) + (term - part)
    low = lost + fused(_CUBIC_LOW, square, fused(_CUBIC, _below(t, t, square), _below(_CUBIC, square, term) + _LINEAR_LOW))
    y = t * total
    return _gate(_at_least(-_TANH_END, x), np.where(y > _GATE_END, _GATE_END, y), _below(t, total, y) + t * low)


def tanh(x: F32) -> F32:
    e = expm1(-_TWO * np.abs(x))
    return f32(np.copysign(e / (e + _TWO), x))


def gelu(x: F32) -> F32:
    t = _magnitude(x, _TAIL_END)
    square = t * t
    n, e = _reduce(_ZERO - _HALF * square, _ZERO - _HALF * _below(t, t, square))
    tail = _polynomial(_TAIL, (t - _TAIL_POLE) / (t + _TAIL_POLE))
    v = _scaled(t * tail * (_ONE + e), n)
    return np.where(x < 0, _ZERO - v, x - v)


def _hard_gate(x: F32) -> F32:
    return clamp(x + np.float32(3), 0, 6)


_FUNCTIONS: Mapping[str, Callable[[F32, np.float32], F32]] = {
    "exp": lambda x, _: exp(x),
    "sigmoid": lambda x, _: sigmoid(x),
    "tanh": lambda x, _: tanh(x),
    "erf": lambda x, _: erf(x),
    "silu": lambda x, _: silu(x),
    "gelu": lambda x, _: gelu(x),
    "gelu_tanh": lambda x, _: gelu_tanh(x),
    "hardsigmoid": lambda x, _: _hard_gate(x) / _SIX,
    "hardswish": lambda x, _: x * _hard_gate(x) / _SIX,
    "elu": lambda x, alpha: np.where(x > 0, x, alpha * expm1(x)),
    "leaky_relu": lambda x, alpha: np.where(x > 0, x, x * alpha),
    "sqrt": lambda x, _: f32(np.sqrt(x)),
    "rsqrt": lambda x, _: f32(_ONE / f32(np.sqrt(x))),
    "abs": lambda x, _: np.abs(x),
    "log": lambda x, _: log(x),
    "softplus": lambda x, _: softplus(x),
    "sin": lambda x, _: angles.sin(x),
    "cos": lambda x, _: angles.cos(x),
    "floor": lambda x, _: np.floor(x),
    "ceil": lambda x, _: np.ceil(x),
    "round": lambda x, _: np.rint(x),
}


def unary(node: NodeArgs) -> Tensor:
    function = _FUNCTIONS[node.attrs["function"]]
    return store(f32(function(node.inputs[0].data, np.float32(float_attribute(node.attrs["alpha"])))), node.output)


def prelu(node: NodeArgs) -> Tensor:
    x = node.inputs[0].data
    return Tensor(f32(np.where(x > 0, x, x * node.constants["slope"])))


OPS: Mapping[str, Op] = {
    "unary": unary,
    "prelu": prelu,
}
