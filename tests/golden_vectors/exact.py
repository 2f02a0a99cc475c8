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
from exact_functions import FUNCTIONS, exp, log
from exact_scalar import add, clamp, divide, fma, mul, quotient, round_f32, square_root
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
        if function in ("maximum", "minimum"):
            larger = max if function == "maximum" else min
            return math.nan if math.isnan(a) or math.isnan(b) else b if a == b else larger(a, b)
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
    (x, _), tables = case.inputs[0], case.constants["table"].reshape(-1, 256).tolist()
    flat = [tables[i % len(tables)][code] for i, code in enumerate(x.ravel())]
    return np.array(flat, np.uint8).reshape(x.shape)


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


def sum16(elements: Iterable[float]) -> float:
    lanes = [0.0] * 16
    for k, x in enumerate(elements):
        lanes[k % 16] = add(lanes[k % 16], x)
    for half in (8, 4, 2, 1):
        lanes = [add(lanes[k], lanes[k + half]) for k in range(half)]
    return lanes[0]


def _reduce_op(case: OneOp) -> np.ndarray:
    x, q = case.inputs[0]
    axes, function, keep = case.attrs["axes"], case.attrs["function"], case.attrs["keepdim"]
    kept = [i for i in range(x.ndim) if keep or i not in axes]

    def element(*index: int) -> float:
        places = dict(zip(kept, index, strict=True))
        ranges = [range(n) if i in axes else [places[i]] for i, n in enumerate(x.shape)]
        values = [x[at].item() for at in itertools.product(*ranges)]
        if function == "amax":
            largest = math.nan if any(map(math.isnan, values)) else max(values)
            return largest if q is None else dequantize(largest, q)
        if q is None:
            return quotient(sum16(values), len(values)) if function == "mean" else sum16(values)
        total = round_f32(Fraction(sum(v - q.zero_point for v in values)))
        return mul(total, quotient(q.scale, len(values)) if function == "mean" else q.scale)

    return _fill(case, [1 if i in axes else x.shape[i] for i in kept], element)


def _softmax_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    rows: dict[tuple[int, ...], tuple[float, float]] = {}

    def element(*index: int) -> float:
        *row, column = index
        visible = [float(v) for v in x[tuple(row)][: row[-1] + 1 if case.attrs["causal"] else None]]
        if tuple(row) not in rows:
            largest = max((v for v in visible if not math.isnan(v)), default=-math.inf)
            rows[tuple(row)] = largest, sum16(exp(add(v, -largest)) for v in visible)
        largest, total = rows[tuple(row)]
        if column >= len(visible):
            return 0.0
        shifted = add(visible[column], -largest)
        return add(shifted, -log(total)) if case.attrs["log"] else divide(exp(shifted), total)

    return _fill(case, x.shape, element)


def _normalized(case: OneOp, elements: list[float], x: float, channel: int, center: bool) -> float:
    n = float(len(elements))
    mean = divide(sum16(elements), n) if center else 0.0
    squares = (mul(d, d) for d in (add(v, -mean) for v in elements))
    r = divide(1.0, square_root(add(divide(sum16(squares), n), from_bits(case.attrs["eps"]))))
    y = mul(add(x, -mean), r)
    if "weight" in case.constants:
        y = mul(y, float(case.constants["weight"][channel]))
    return add(y, float(case.constants["bias"][channel])) if "bias" in case.constants else y


def _layer_norm_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    center = bool(case.attrs["center"])
    return _fill(case, x.shape, lambda *i: _normalized(case, x[i[:-1]].tolist(), float(x[i]), i[-1], center))


def _group_norm_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    length = x.shape[3] // case.attrs["groups"]

    def element(image: int, i: int, j: int, c: int) -> float:
        first = c // length * length
        return _normalized(case, x[image, :, :, first : first + length].ravel().tolist(), float(x[image, i, j, c]), c, True)

    return _fill(case, x.shape, element)


def _matmul_op(case: OneOp) -> np.ndarray:
    (a, qa), (b, qb) = case.inputs
    if case.attrs["transpose_b"]:
        b = b.swapaxes(-1, -2)
    leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])

    def element(*index: int) -> float:
        *product, i, j = index
        own_a, own_b = (tuple(0 if n == 1 else k for n, k in zip(v.shape, product, strict=False)) for v in (a, b))
        row, column = a[own_a][i].tolist(), b[own_b][:, j].tolist()
        if qa is None or qb is None:
            y = 0.0
            for p, q in zip(row, column, strict=True):
                y = fma(p, q, y)
            return y
        acc = sum((p - qa.zero_point) * (q - qb.zero_point) for p, q in zip(row, column, strict=True))
        return mul(round_f32(Fraction(acc)), mul(qa.scale, qb.scale))

    return _fill(case, (*leading, a.shape[-2], b.shape[-1]), element)


def _concat_op(case: OneOp) -> np.ndarray:
    axis, arrays = case.attrs["axis"], [array for array, _ in case.inputs]
    starts = [sum(array.shape[axis] for array in arrays[:i]) for i in range(len(arrays))]
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)

    def element(*index: int) -> float:
        i = max(k for k, start in enumerate(starts) if start <= index[axis])
        return _operand(case, i, (*index[:axis], index[axis] - starts[i], *index[axis + 1 :]))

    return _fill(case, shape, element)


def _slice_op(case: OneOp) -> np.ndarray:
    a, (x, _) = case.attrs, case.inputs[0]
    kept = [i for i in range(x.shape[a["axis"]]) if a["start"] <= i < a["end"] and (i - a["start"]) % a["step"] == 0]
    return x.take(kept, a["axis"])


def _pad_op(case: OneOp) -> np.ndarray:
    a, (x, q) = case.attrs, case.inputs[0]
    y = np.empty([n + b + e for n, b, e in zip(x.shape, a["before"], a["after"], strict=True)], x.dtype)
    for index in itertools.product(*map(range, y.shape)):
        source = [i - b for i, b in zip(index, a["before"], strict=True)]
        inside = all(0 <= i < n for i, n in zip(source, x.shape, strict=True))
        if a["mode"] == "constant" and not inside:
            y[index] = from_bits(a["value"]) if q is None else a["value"]
            continue
        if a["mode"] == "replicate":
            source = [min(max(i, 0), n - 1) for i, n in zip(source, x.shape, strict=True)]
        elif a["mode"] == "reflect":
            source = [abs(i) if i < n else 2 * (n - 1) - i for i, n in zip(source, x.shape, strict=True)]
        y[index] = x[tuple(source)]
    return y


def _expand_op(case: OneOp) -> np.ndarray:
    x, _ = case.inputs[0]
    y = np.empty([d or n for d, n in zip(case.attrs["shape"], x.shape, strict=True)], x.dtype)
    for index in itertools.product(*map(range, y.shape)):
        y[index] = x[tuple(0 if n == 1 else i for i, n in zip(index, x.shape, strict=True))]
    return y


def _pixel_shuffle_op(case: OneOp) -> np.ndarray:
    a, (x, _) = case.attrs, case.inputs[0]
    (fh, fw), (top, left, bottom, right) = a["factor"], a["crop"]
    n, h, w, channels = x.shape
    count = channels // (fh * fw)
    y = np.empty((n, max(h * fh - top - bottom, 0), max(w * fw - left - right, 0), count), x.dtype)
    for image, i, j, c in itertools.product(*map(range, y.shape)):
        (row, phase), (column, part) = divmod(i + top, fh), divmod(j + left, fw)
        channel = (phase * fw + part) * count + c if a["order"] == "pixels" else (c * fh + phase) * fw + part
        y[image, i, j, c] = x[image, row, column, channel]
    return y


def _upsample_op(case: OneOp) -> np.ndarray:
    a, (x, _) = case.attrs, case.inputs[0]
    corners, lengths = bool(a["align_corners"]), x.shape[1:3]
    sizes = [size or factor * n for size, factor, n in zip(a["size"], a["factor"], lengths, strict=True)]

    def step(axis: int) -> float:
        n, out = lengths[axis], sizes[axis]
        if corners:
            return quotient(float(n - 1), out - 1) if out > 1 else 0.0
        return from_bits(a["step"][axis]) if a["step"][axis] else quotient(float(n), out)

    def taps(axis: int, i: int) -> list[tuple[int, float]]:
        n, s = lengths[axis], step(axis)
        if a["mode"] == "nearest":
            return [(min(math.floor(mul(float(i), s)), n - 1), 1.0)]
        at = mul(s, float(i)) if corners else max(0.0, add(mul(s, add(float(i), 0.5)), -0.5))
        first = min(math.floor(at), n - 1)
        weight = min(add(at, -float(first)), 1.0)
        return [(first, add(1.0, -weight)), (min(first + 1, n - 1), weight)]

    if a["mode"] == "nearest":
        return x[:, [taps(0, i)[0][0] for i in range(sizes[0])]][:, :, [taps(1, i)[0][0] for i in range(sizes[1])]]

    def element(image: int, i: int, j: int, c: int) -> float:
        rows = [(w, [mul(v, _operand(case, 0, (image, r, s, c))) for s, v in taps(1, j)]) for r, w in taps(0, i)]
        (w0, above), (w1, below) = rows
        return add(mul(w0, add(*above)), mul(w1, add(*below)))

    return _fill(case, (x.shape[0], *sizes, x.shape[3]), element)


def _embedding_op(case: OneOp) -> np.ndarray:
    indices, weight = case.inputs[0][0], case.constants["weight"]

    def element(*index: int) -> float:
        row, column = int(indices[index[:-1]]), index[-1]
        if "scale" not in case.constants:
            return float(weight[row, column])
        base = int(case.constants["base"][row]) if "base" in case.constants else 0
        value = round_f32(Fraction(case.attrs["step"] * int(weight[row, column]) + base))
        return mul(value, float(case.constants["scale"][row]))

    return _fill(case, (*indices.shape, weight.shape[1]), element)


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
    "reduce": _reduce_op,
    "softmax": _softmax_op,
    "matmul": _matmul_op,
    "layer_norm": _layer_norm_op,
    "group_norm": _group_norm_op,
    "embedding": _embedding_op,
    "concat": _concat_op,
    "slice": _slice_op,
    "pad": _pad_op,
    "upsample": _upsample_op,
    "pixel_shuffle": _pixel_shuffle_op,
    "constant": lambda case: case.constants["value"],
    "expand": _expand_op,
}
