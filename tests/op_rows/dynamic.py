"""linear_dynamic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from op_rows.exact import activation, fill, from_bits, quantize
from op_rows.exact_scalar import add, divide, mul, round_f32
from op_rows.family import Case, Family
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import activations, generator, maybe_quants, sizes, tensor
from op_rows.stream import CLAMP, NONE, RELU, U8, Stream

_EPS, _TORCH_EPS = 0x34000000, 0x00800000  # 2^-23 and the smallest normal number
_PLAIN = {"mapping": "symmetric", "granularity": "row", "qmin": 0, "qmax": 255, "eps": _EPS, "step": 1} | NONE
_ASYMMETRIC = _PLAIN | {"mapping": "asymmetric", "eps": _TORCH_EPS}


def _linear_dynamic(node: OneOp) -> np.ndarray:
    x, a = node.inputs[0][0], node.attrs
    weight, step = node.constants["weight"], a["step"]
    outputs, inputs = weight.shape
    scales = node.constants["scale"].reshape(outputs, -1)
    groups = scales.shape[1]
    bases = node.constants["base"].reshape(outputs, -1) if "base" in node.constants else np.zeros_like(scales, np.int32)

    def centred(row: tuple[int, ...]) -> tuple[float, list[int]]:
        values = x[row] if a["granularity"] == "row" else x
        numbers = [0.0, *(float(v) for v in values.ravel() if not math.isnan(v))]
        low, high, width = min(numbers), max(numbers), a["qmax"] - a["qmin"]
        symmetric = a["mapping"] == "symmetric"
        scale = divide(max(-low, high), width / 2) if symmetric else divide(add(high, -low), float(width))
        scale = min(max(scale, from_bits(a["eps"])), from_bits(0x7F7FFFFF))
        zero = (a["qmin"] + a["qmax"] + 1) // 2 if symmetric else a["qmin"] - round(Fraction(max(divide(low, scale), -width)))
        q = Quant(scale, zero, a["qmin"], a["qmax"])
        return scale, [quantize(float(v), q) - zero for v in x[row]]

    def element(*index: int) -> float:
        *row, o = index
        scale, codes = centred(tuple(row))
        terms = []
        for g in range(groups):
            columns = range(g * inputs // groups, (g + 1) * inputs // groups)
            acc = sum((step * int(weight[o, k]) + int(bases[o, g])) * codes[k] for k in columns)
            terms.append((round_f32(Fraction(acc)), float(scales[o, g])))
        if groups == 1:
            y = mul(mul(terms[0][0], scale), terms[0][1])
        else:
            total = mul(*terms[0])
            for term in terms[1:]:
                total = add(total, mul(*term))
            y = mul(total, scale)
        if "bias" in node.constants:
            y = add(y, float(node.constants["bias"][o]))
        return activation(y, a)

    return fill(node, (*x.shape[:-1], outputs), element)


# ---- golden cases


def _layer(d: Stream, x: np.ndarray, shape: tuple[int, ...], attrs: dict[str, Any], bits: int = 8, **more: np.ndarray) -> OneOp:
    """``shape``: of the scales."""
    weight = {"weight": d.weights(shape[0], x.shape[-1], bits=bits), "scale": d.scales(*shape)}
    return OneOp("linear_dynamic", [(x, None)], None, weight | more, attrs)


def _special(d: Stream) -> np.ndarray:
    x = d.floats(8, 12)
    x[0], x[1, 3], x[2, 0], x[3] = 0, math.nan, math.inf, math.nan
    x[4] *= np.float32(1e-44)
    x[5, :2], x[6], x[7] = (3.4028235e38, -3.4028235e38), -np.abs(x[6]), np.abs(x[7])
    return x


_TIES = np.array([[127.5, *(0.5 * k for k in range(-9, 10))], [-128, *(0.5 * k for k in range(-9, 10))]], np.float32)
_CASES = [
    Case("linear_dynamic: symmetric rows, bias", lambda d: _layer(d, d.floats(4, 21), (5,), _PLAIN, bias=d.floats(5))),
    Case("linear_dynamic: symmetric rows, special values", lambda d: _layer(d, _special(d), (3,), _PLAIN)),
    Case("linear_dynamic: asymmetric rows, special values", lambda d: _layer(d, _special(d), (3,), _ASYMMETRIC, bias=d.floats(3))),
    Case("linear_dynamic: symmetric rows, ties", lambda d: _layer(d, _TIES, (3,), _PLAIN)),
    Case("linear_dynamic: asymmetric rows, ties", lambda d: _layer(d, _TIES, (3,), _ASYMMETRIC)),
    Case("linear_dynamic: narrow range, ReLU", lambda d: _layer(d, d.floats(3, 9), (4,), _PLAIN | {"qmin": 1, "qmax": 127} | RELU)),
    Case(
        "linear_dynamic: one range for the tensor",
        lambda d: _layer(d, d.floats(2, 3, 10), (4,), _ASYMMETRIC | {"granularity": "tensor"} | CLAMP),
    ),
    Case(
        "linear_dynamic: one symmetric range for the tensor",
        lambda d: _layer(d, d.floats(3, 10, spread=9), (4,), _PLAIN | {"granularity": "tensor"}),
    ),
    Case("linear_dynamic: groups of 4", lambda d: _layer(d, d.floats(4, 20), (5, 5), _ASYMMETRIC, bits=4, bias=d.floats(5))),
    Case(
        "linear_dynamic: groups of 3, bases",
        lambda d: _layer(d, d.floats(3, 12), (4, 4), _ASYMMETRIC, bits=4, base=d.ints(4, 4, limit=8)),
    ),
    Case("linear_dynamic: bases", lambda d: _layer(d, d.floats(3, 12), (4,), _PLAIN, bits=4, base=d.ints(4, limit=8))),
    Case(
        "linear_dynamic: step 2, base 1",
        lambda d: _layer(d, d.floats(3, 8), (4, 2), _PLAIN | {"step": 2}, bits=3, base=np.ones((4, 2), np.int32)),
    ),
    Case(
        "linear_dynamic: to codes",
        lambda d: OneOp(
            "linear_dynamic",
            [(d.floats(4, 14), None)],
            U8,
            {"weight": d.weights(6, 14), "scale": d.scales(6)},
            _ASYMMETRIC,
        ),
    ),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    """linear_dynamic, and linear over floats, with a scale per output or per group of inputs."""
    rng = generator(draw)
    outputs, groups, bits = draw(st.integers(1, 20)), draw(st.integers(1, 4)), draw(st.integers(2, 8))
    inputs = groups * draw(st.integers(1, 12))
    lines = (outputs, groups) if groups > 1 or draw(st.booleans()) else (outputs,)
    constants: dict[str, np.ndarray] = {
        "weight": rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs), np.int8),
        "scale": (rng.choice([-1, 1], lines) * rng.uniform(1e-3, 0.1, lines)).astype(np.float32),
    }
    if draw(st.booleans()):
        constants["base"] = rng.integers(-20, 21, lines).astype(np.int32)
    if draw(st.booleans()):
        constants["bias"] = rng.standard_normal(outputs).astype(np.float32)
    x = tensor(rng, None, draw(sizes), draw(sizes), inputs)
    attrs = {"step": draw(st.sampled_from([1, 2]))} | draw(activations)
    if draw(st.booleans()):
        return OneOp("linear", [x], None, constants, attrs)
    qmin = draw(st.integers(0, 254))
    attrs |= {"mapping": draw(st.sampled_from(["symmetric", "asymmetric"])), "granularity": draw(st.sampled_from(["row", "tensor"]))}
    attrs |= {"qmin": qmin, "qmax": draw(st.integers(qmin + 1, 255)), "eps": draw(st.sampled_from([_TORCH_EPS, _EPS, 0x3F800000]))}
    return OneOp("linear_dynamic", [x], draw(maybe_quants), constants, attrs)


FAMILY = Family(
    exact={"linear_dynamic": _linear_dynamic},
    cases=_CASES,
    nodes=_nodes(),
    not_drawn={"linear_dynamic": "comes from tensors of torchao and from quantize_dynamic alone (tests/test_frontend_dynamic.py)"},
)
