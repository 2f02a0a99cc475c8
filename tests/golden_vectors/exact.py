"""docs/numerics.md a third time: one element after another in Python integers and fractions, rounded by hand.

It shares nothing with the engine or with NumPy's arithmetic: every float32 operation is a rational number rounded once by
`round_f32`, so a wrong rounding in either of the other two cannot hide here.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

import numpy as np
from exact_functions import FUNCTIONS
from exact_scalar import add, clamp, divide, fma, mul, quotient, round_f32
from one_op import OneOp, Quant


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


def evaluate(case: OneOp) -> np.ndarray:
    """The output of a one-op graph: uint8 codes or float32."""
    return _OPS[case.op](case)


def _operand(case: OneOp, i: int, index: tuple[int, ...]) -> float:
    array, q = case.inputs[i]
    return float(array[index]) if q is None else dequantize(int(array[index]), q)


def _fill(case: OneOp, shape: Iterable[int], element: Callable[..., float]) -> np.ndarray:
    """Compute each float32 element, and quantize it where the output is quantized."""
    shape = tuple(shape)
    y = np.empty(shape, np.float32 if case.output is None else np.uint8)
    for index in itertools.product(*map(range, shape)):
        value = element(*index)
        y[index] = value if case.output is None else quantize(value, case.output)
    return y


def _quantize_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    x = np.moveaxis(x, 1, 3) if case.attrs["layout"] == "to_nhwc" else x
    return _fill(case, x.shape, lambda *index: float(x[index]))


def _dequantize_op(case: OneOp) -> np.ndarray:
    y = _fill(case, case.inputs[0][0].shape, lambda *index: _operand(case, 0, index))
    return np.moveaxis(y, 3, 1) if case.attrs["layout"] == "to_nchw" else y


def _add_op(case: OneOp) -> np.ndarray:
    def element(*index: int) -> float:
        return activation(add(_operand(case, 0, index), _operand(case, 1, index)), case.attrs)

    return _fill(case, case.inputs[0][0].shape, element)


def _binary_op(case: OneOp) -> np.ndarray:
    function = case.attrs["function"]
    arrays = [array for array, _ in case.inputs] + list(case.constants.values())

    def value(i: int, index: tuple[int, ...]) -> float:
        own = tuple(0 if n == 1 else k for n, k in zip(arrays[i].shape, index, strict=True))
        return _operand(case, i, own) if i < len(case.inputs) else float(arrays[i][own])

    def element(*index: int) -> float:
        a, b = value(0, index), value(1, index)
        if function in ("rsub", "rdiv"):
            a, b = b, a
        if function in ("div", "rdiv"):
            return divide(a, b)
        return mul(a, b) if function == "mul" else add(a, b if function == "add" else -b)

    return _fill(case, np.broadcast_shapes(*(array.shape for array in arrays)), element)


def _clamp_op(case: OneOp) -> np.ndarray:
    lo, hi = from_bits(case.attrs["lo"]), from_bits(case.attrs["hi"])
    return _fill(case, case.inputs[0][0].shape, lambda *index: clamp(_operand(case, 0, index), lo, hi))


def _affine_op(case: OneOp) -> np.ndarray:
    scale, shift = (case.constants[key].tolist() for key in ("scale", "shift"))
    return _fill(case, case.inputs[0][0].shape, lambda *i: fma(_operand(case, 0, i), scale[i[-1]], shift[i[-1]]))


def _unary_op(case: OneOp) -> np.ndarray:
    function, alpha = FUNCTIONS[case.attrs["function"]], from_bits(case.attrs["alpha"])
    return _fill(case, case.inputs[0][0].shape, lambda *index: function(_operand(case, 0, index), alpha))


def _prelu_op(case: OneOp) -> np.ndarray:
    slope = case.constants["slope"].tolist()

    def element(*index: int) -> float:
        x = _operand(case, 0, index)
        return x if x > 0 else mul(x, slope[index[-1]])

    return _fill(case, case.inputs[0][0].shape, element)


def _table_op(case: OneOp) -> np.ndarray:
    table = case.constants["table"].tolist()
    return np.array([table[code] for code in case.inputs[0][0].ravel()], np.uint8).reshape(case.inputs[0][0].shape)


def _weighted(case: OneOp, taps: list[tuple[tuple[int, ...] | None, tuple[int, ...]]], o: int, out: tuple[int, ...]) -> float:
    """One output of channel `o`: taps are (index into x or None outside the image, index into the weight), in order."""
    x, q = case.inputs[0]
    constants, step = case.constants, case.attrs["step"]
    weight = constants["weight"]
    if q is not None:
        base = int(constants["base"][o]) if "base" in constants else 0
        pairs = [(int(x[i]) - q.zero_point if i is not None else 0, int(weight[w])) for i, w in taps]
        acc = step * sum(a * w for a, w in pairs) + base * sum(a for a, _ in pairs)
        y = mul(round_f32(Fraction(acc)), mul(q.scale, float(constants["scale"][o])))
    else:
        y = 0.0
        for i, w in taps:
            value = float(weight[w])
            if "scale" in constants:
                line = (o, w[1] * constants["scale"].shape[1] // weight.shape[1]) if constants["scale"].ndim == 2 else o
                offset = int(constants["base"][line]) if "base" in constants else 0
                value = mul(round_f32(Fraction(step * int(weight[w]) + offset)), float(constants["scale"][line]))
            y = fma(float(x[i]) if i is not None else 0.0, value, y)
    if "bias" in constants:
        y = add(y, float(constants["bias"][o]))
    if len(case.inputs) > 1:
        y = add(y, _operand(case, 1, out))
    return activation(y, case.attrs)


def _linear_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    outputs, inputs = case.constants["weight"].shape

    def element(*index: int) -> float:
        *row, o = index
        return _weighted(case, [((*row, k), (o, k)) for k in range(inputs)], o, index)

    return _fill(case, (*x.shape[:-1], outputs), element)


def _linear_dynamic_op(case: OneOp) -> np.ndarray:
    x, a = case.inputs[0][0], case.attrs
    weight, step = case.constants["weight"], a["step"]
    outputs, inputs = weight.shape
    scales = case.constants["scale"].reshape(outputs, -1)
    groups = scales.shape[1]
    bases = case.constants["base"].reshape(outputs, -1) if "base" in case.constants else np.zeros_like(scales, np.int32)

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
        if "bias" in case.constants:
            y = add(y, float(case.constants["bias"][o]))
        return activation(y, a)

    return _fill(case, (*x.shape[:-1], outputs), element)


def _conv2d_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    a = case.attrs
    outputs, kh, kw, depth = case.constants["weight"].shape
    (n, h, w, _), (top, left, bottom, right) = x.shape, a["padding"]
    out_h = (h + top + bottom - a["dilation"][0] * (kh - 1) - 1) // a["stride"][0] + 1
    out_w = (w + left + right - a["dilation"][1] * (kw - 1) - 1) // a["stride"][1] + 1

    def element(image: int, i: int, j: int, o: int) -> float:
        first = o // (outputs // a["groups"]) * depth
        taps = []
        for r, s, c in itertools.product(range(kh), range(kw), range(depth)):
            row, column = i * a["stride"][0] - top + r * a["dilation"][0], j * a["stride"][1] - left + s * a["dilation"][1]
            inside = 0 <= row < h and 0 <= column < w
            taps.append(((image, row, column, first + c) if inside else None, (o, r, s, c)))
        return _weighted(case, taps, o, (image, i, j, o))

    return _fill(case, (n, out_h, out_w, outputs), element)


def _positions(length: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: int) -> list[list[int]]:
    """For each output along one axis the positions of its window, padding included, up to the end of the padded image."""
    reach = dilation * (kernel - 1) + 1
    starts, start = [], -before
    while start + reach <= length + after or (ceil_mode and start + reach < length + after + stride and start < length):
        starts.append(start)
        start += stride
    return [[p for p in range(s, s + reach, dilation) if p < length + after] for s in starts]


def _pool_axes(case: OneOp) -> tuple[list[list[int]], list[list[int]]]:
    a = case.attrs
    _, h, w, _ = case.inputs[0][0].shape
    top, left, bottom, right = a["padding"]
    dilation = a.get("dilation", [1, 1])
    rows = _positions(h, a["kernel"][0], a["stride"][0], top, bottom, dilation[0], a["ceil_mode"])
    return rows, _positions(w, a["kernel"][1], a["stride"][1], left, right, dilation[1], a["ceil_mode"])


def _max_pool_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    rows, columns = _pool_axes(case)
    y = np.empty((x.shape[0], len(rows), len(columns), x.shape[3]), x.dtype)
    for image, i, j, c in itertools.product(*map(range, y.shape)):
        best = -math.inf
        for row, column in itertools.product(rows[i], columns[j]):
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                v = float(x[image, row, column, c])
                best = v if v > best or math.isnan(v) else best
        y[image, i, j, c] = best
    return y


def _average(case: OneOp, rows: list[list[int]], columns: list[list[int]], with_padding: bool) -> np.ndarray:
    x, q = case.inputs[0]
    _, h, w, channels = x.shape

    def element(image: int, i: int, j: int, c: int) -> float:
        inside = [(r, s) for r, s in itertools.product(rows[i], columns[j]) if 0 <= r < h and 0 <= s < w]
        n = len(rows[i]) * len(columns[j]) if with_padding else len(inside)
        if q is not None:
            total = sum(int(x[image, r, s, c]) - q.zero_point for r, s in inside)
            return mul(round_f32(Fraction(total)), quotient(q.scale, n))
        lanes = [0.0] * 16
        for k, (r, s) in enumerate(inside):
            lanes[k % 16] = add(lanes[k % 16], float(x[image, r, s, c]))
        for half in (8, 4, 2, 1):
            lanes = [add(lanes[k], lanes[k + half]) for k in range(half)]
        return quotient(lanes[0], n)

    return _fill(case, (x.shape[0], len(rows), len(columns), channels), element)


def _avg_pool_op(case: OneOp) -> np.ndarray:
    return _average(case, *_pool_axes(case), bool(case.attrs["count_include_pad"]))


def _adaptive_op(case: OneOp) -> np.ndarray:
    def bounds(length: int, out: int) -> list[list[int]]:
        return [list(range(math.floor(Fraction(i * length, out)), math.ceil(Fraction((i + 1) * length, out)))) for i in range(out)]

    _, h, w, _ = case.inputs[0][0].shape
    return _average(case, bounds(h, case.attrs["output"][0]), bounds(w, case.attrs["output"][1]), False)


def _mean_op(case: OneOp) -> np.ndarray:
    _, h, w, _ = case.inputs[0][0].shape
    y = _average(case, [list(range(h))], [list(range(w))], False)
    return y if case.attrs["keepdim"] else y[:, 0, 0]


_OPS: dict[str, Callable[[OneOp], np.ndarray]] = {
    "quantize": _quantize_op,
    "dequantize": _dequantize_op,
    "transpose": lambda case: np.transpose(case.inputs[0][0], case.attrs["perm"]),
    "reshape": lambda case: case.inputs[0][0].reshape([-1 if d == "?" else d for d in case.attrs["shape"]]),
    "conv2d": _conv2d_op,
    "linear": _linear_op,
    "linear_dynamic": _linear_dynamic_op,
    "add": _add_op,
    "clamp": _clamp_op,
    "affine": _affine_op,
    "table": _table_op,
    "unary": _unary_op,
    "prelu": _prelu_op,
    "binary": _binary_op,
    "max_pool2d": _max_pool_op,
    "avg_pool2d": _avg_pool_op,
    "adaptive_avg_pool2d": _adaptive_op,
    "mean": _mean_op,
}
