"""Elementary functions that docs/numerics.md computes in binary64: float32 in and out, every operation rounded once to binary64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyqinfer.reference.rounding import F32, F64, f32

_LOG2_E, _LN2 = float.fromhex("0x1.71547652b82fep+0"), float.fromhex("0x1.62e42fefa39efp-1")
_EXP = [
    float.fromhex(text)
    for text in (
        "0x1.00000027f85d1p-1",
        "0x1.555555890b86ap-3",
        "0x1.5554ad8d1b6ebp-5",
        "0x1.11108f8a6d83fp-7",
        "0x1.6d74cf34ae11ep-10",
        "0x1.a1a181b3b5a5fp-13",
    )
]
_TAIL = [
    float.fromhex(text)
    for text in (
        "0x1.b396f9d1c5649p-4",
        "-0x1.7f4318dcd6e8cp-3",
        "0x1.01c06552e7854p-3",
        "-0x1.f8f365a70e650p-5",
        "0x1.385f5d7966bacp-6",
        "-0x1.9927288a548d9p-10",
        "-0x1.6a3909282c997p-10",
        "0x1.96dfe5f69849dp-12",
        "0x1.17ff2c1cb980ap-13",
        "-0x1.a03c6129a86dcp-15",
        "-0x1.45fe5265e9a66p-16",
    )
]
_EXP_END, _TANH_END, _TAIL_END, _TAIL_POLE = 708.0, -100.0, 15.0, 3.5
_GELU_SCALE, _GELU_CUBE = float.fromhex("-0x1.9884533d43651p+0"), 0.044715


def _clamp(y: F64, low: float, high: float) -> F64:
    """Clamp so that NaN passes through."""
    t: F64 = np.where(y < low, low, y)
    return np.where(t > high, high, t)


def _polynomial(coefficients: Sequence[float], x: F64) -> F64:
    """Evaluate a polynomial by Horner's rule over ``x*x`` on pairs ``c[i] + c[i+1]*x``; an odd last coefficient stands alone."""
    c = coefficients
    pairs = [c[i + 1] * x + c[i] if i + 1 < len(c) else np.full_like(x, c[i]) for i in range(0, len(c), 2)]
    y = pairs[-1]
    for pair in reversed(pairs[:-1]):
        y = y * (x * x) + pair
    return y


def _reduce(y: F64) -> tuple[F64, F64]:
    """Split ``y = n*ln(2) + r`` and give 2^n and e^r - 1."""
    n = np.rint(y * _LOG2_E)
    r = y - n * _LN2
    power: F64 = np.ldexp(1.0, np.where(np.isnan(n), 0, n).astype(np.int32))
    return power, r + (r * r) * _polynomial(_EXP, r)


def _exp(y: F64) -> F64:
    power, e = _reduce(_clamp(y, -_EXP_END, _EXP_END))
    return (1.0 + e) * power


def _gate(x: F64, y: F64) -> F32:
    """Compute ``x / (1 + e^y)``."""
    return f32(np.where(x < -_EXP_END, -_EXP_END, x) / (1.0 + _exp(y)))


def sigmoid(x: F32) -> F32:
    return f32(1.0 / (1.0 + _exp(-x.astype(np.float64))))


def silu(x: F32) -> F32:
    v = x.astype(np.float64)
    return _gate(v, -v)


def tanh(x: F32) -> F32:
    power, e = _reduce(_clamp(-2.0 * np.abs(x.astype(np.float64)), _TANH_END, 0.0))
    t = power * e + (power - 1.0)
    result: F32 = np.copysign(f32(t / (t + 2.0)), x)
    return result


def gelu(x: F32) -> F32:
    v = x.astype(np.float64)
    t = _clamp(np.abs(v), 0.0, _TAIL_END)
    tail = _polynomial(_TAIL, (t - _TAIL_POLE) / (t + _TAIL_POLE)) * _exp(-0.5 * (t * t))
    return f32(np.where(v < -_TAIL_END, -_TAIL_END, v) * np.where(v < 0, tail, 1.0 - tail))


def gelu_tanh(x: F32) -> F32:
    v = x.astype(np.float64)
    return _gate(v, _GELU_SCALE * (v + _GELU_CUBE * ((v * v) * v)))
