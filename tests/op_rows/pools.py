"""Pools of images: max_pool2d, avg_pool2d, adaptive_avg_pool2d, mean."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from op_rows.drawing import fits, one_of, pair
from op_rows.exact import fill, sum16
from op_rows.exact_scalar import mul, quotient, round_f32
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, maybe_quants, sizes, tensor
from op_rows.stream import U8, U8B, Stream


def _positions(length: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: int) -> list[list[int]]:
    """For each output along one axis the positions of its window, padding included, up to the end of the padded image."""
    reach = dilation * (kernel - 1) + 1
    starts, start = [], -before
    while start + reach <= length + after or (ceil_mode and start + reach < length + after + stride and start < length):
        starts.append(start)
        start += stride
    return [[p for p in range(s, s + reach, dilation) if p < length + after] for s in starts]


def _pool_axes(node: OneOp) -> tuple[list[list[int]], list[list[int]]]:
    a = node.attrs
    _, h, w, _ = node.inputs[0][0].shape
    top, left, bottom, right = a["padding"]
    dilation = a.get("dilation", [1, 1])
    rows = _positions(h, a["kernel"][0], a["stride"][0], top, bottom, dilation[0], a["ceil_mode"])
    return rows, _positions(w, a["kernel"][1], a["stride"][1], left, right, dilation[1], a["ceil_mode"])


def _max_pool(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    rows, columns = _pool_axes(node)
    y = np.empty((x.shape[0], len(rows), len(columns), x.shape[3]), x.dtype)
    for image, i, j, c in itertools.product(*map(range, y.shape)):
        best = -math.inf
        for row, column in itertools.product(rows[i], columns[j]):
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                v = float(x[image, row, column, c])
                best = v if v > best or math.isnan(v) else best
        y[image, i, j, c] = best
    return y


def _average(node: OneOp, rows: list[list[int]], columns: list[list[int]], with_padding: bool) -> np.ndarray:
    x, q = node.inputs[0]
    _, h, w, channels = x.shape

    def element(image: int, i: int, j: int, c: int) -> float:
        inside = [(r, s) for r, s in itertools.product(rows[i], columns[j]) if 0 <= r < h and 0 <= s < w]
        n = len(rows[i]) * len(columns[j]) if with_padding else len(inside)
        if q is not None:
            total = sum(int(x[image, r, s, c]) - q.zero_point for r, s in inside)
            return mul(round_f32(Fraction(total)), quotient(q.scale, n))
        return quotient(sum16(float(x[image, r, s, c]) for r, s in inside), n)

    return fill(node, (x.shape[0], len(rows), len(columns), channels), element)


def _avg_pool(node: OneOp) -> np.ndarray:
    return _average(node, *_pool_axes(node), bool(node.attrs["count_include_pad"]))


def _adaptive(node: OneOp) -> np.ndarray:
    def bounds(length: int, out: int) -> list[list[int]]:
        return [list(range(math.floor(Fraction(i * length, out)), math.ceil(Fraction((i + 1) * length, out)))) for i in range(out)]

    _, h, w, _ = node.inputs[0][0].shape
    return _average(node, bounds(h, node.attrs["output"][0]), bounds(w, node.attrs["output"][1]), False)


def _mean(node: OneOp) -> np.ndarray:
    _, h, w, _ = node.inputs[0][0].shape
    y = _average(node, [list(range(h))], [list(range(w))], False)
    return y if node.attrs["keepdim"] else y[:, 0, 0]


# ---- golden cases

_MAX = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1], "dilation": [1, 1], "ceil_mode": 0}
_AVG = {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1], "ceil_mode": 0, "count_include_pad": 1}
_INSIDE, _CEIL = {"count_include_pad": 0}, {"ceil_mode": 1}


def _special(d: Stream) -> np.ndarray:
    x = d.floats(1, 5, 6, 2)
    x[0, 1, 2, 0], x[0, 3, 3, 1], x[0, 0, 0, :] = math.nan, math.inf, -math.inf
    return x


def _average_case(name: str, floats: bool, out: Quant | None, more: dict[str, object]) -> Case:
    def build(d: Stream) -> OneOp:
        x = (d.floats(1, 6, 5, 3), None) if floats else (d.codes(1, 6, 5, 3), U8)
        return OneOp("avg_pool2d", [x], out, attrs=_AVG | more)

    return Case(f"avg_pool2d: {name}", build)


_CASES = [
    Case("max_pool2d: codes", lambda d: OneOp("max_pool2d", [(d.codes(2, 7, 6, 3), U8)], attrs=_MAX)),
    Case("max_pool2d: float, NaN and infinities", lambda d: OneOp("max_pool2d", [(_special(d), None)], attrs=_MAX)),
    Case(
        "max_pool2d: ceil mode",
        lambda d: OneOp("max_pool2d", [(d.codes(1, 6, 8, 2), U8)], attrs=_MAX | _CEIL | {"padding": [0] * 4}),
    ),
    Case(
        "max_pool2d: ceil mode drops a window in the padding",
        lambda d: OneOp("max_pool2d", [(d.codes(1, 5, 5, 1), U8)], attrs=_MAX | _CEIL | {"kernel": [2, 2]}),
    ),
    Case(
        "max_pool2d: dilation",
        lambda d: OneOp("max_pool2d", [(d.codes(1, 7, 7, 2), U8)], attrs=_MAX | {"dilation": [2, 2], "stride": [1, 2]}),
    ),
    _average_case("codes, padding counts", False, U8B, {}),
    _average_case("codes, padding does not count", False, U8, _INSIDE),
    _average_case("codes to float, ceil mode", False, None, _CEIL),
    _average_case("float, padding counts", True, None, {}),
    _average_case("float, 5x4 window, padding does not count", True, None, _INSIDE | {"kernel": [5, 4]}),
    _average_case("float to codes, ceil mode", True, U8, _CEIL),
    Case("adaptive_avg_pool2d: codes", lambda d: OneOp("adaptive_avg_pool2d", [(d.codes(1, 6, 5, 3), U8)], U8, attrs={"output": [4, 2]})),
    Case(
        "adaptive_avg_pool2d: codes to float, 1x1",
        lambda d: OneOp("adaptive_avg_pool2d", [(d.codes(1, 6, 5, 3), U8)], None, attrs={"output": [1, 1]}),
    ),
    Case(
        "adaptive_avg_pool2d: float, larger than the image",
        lambda d: OneOp("adaptive_avg_pool2d", [(d.floats(1, 6, 5, 3), None)], None, attrs={"output": [7, 3]}),
    ),
    Case("mean: codes", lambda d: OneOp("mean", [(d.codes(2, 7, 7, 4), U8)], U8, attrs={"keepdim": 0})),
    Case(
        "mean: codes, ties",
        lambda d: OneOp("mean", [(d.codes(1, 1, 4, 60), Quant(1.0, 0))], Quant(0.5, 0), attrs={"keepdim": 1}),
    ),
    Case("mean: float", lambda d: OneOp("mean", [(d.floats(2, 7, 9, 3), None)], None, attrs={"keepdim": 1})),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    op = draw(st.sampled_from(["max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean"]))
    h, w, channels = draw(sizes), draw(sizes), draw(st.integers(1, 20))
    x = tensor(rng, draw(maybe_quants), 2, h, w, channels)
    if op == "mean":
        return OneOp(op, [x], draw(maybe_quants), {}, {"keepdim": draw(st.integers(0, 1))})
    if op == "adaptive_avg_pool2d":
        return OneOp(op, [x], draw(maybe_quants), {}, {"output": [draw(sizes), draw(sizes)]})
    kernel = [draw(st.integers(1, min(h, 5))), draw(st.integers(1, min(w, 5)))]
    attrs = {"kernel": kernel, "stride": [draw(st.integers(1, 3)) for _ in range(2)], "ceil_mode": draw(st.integers(0, 1))}
    attrs["padding"] = [draw(st.integers(0, kernel[i % 2] // 2)) for i in range(4)]
    if op == "max_pool2d":
        dilation = [1 if k == 1 or (k - 1) * 2 + 1 > n else draw(st.integers(1, 2)) for k, n in zip(kernel, (h, w), strict=True)]
        return OneOp(op, [x], None, {}, attrs | {"dilation": dilation})
    return OneOp(op, [x], draw(maybe_quants), {}, attrs | {"count_include_pad": draw(st.integers(0, 1))})


# ---- modules of random networks


def _draw_max_pool(draw: Draw, x: Shape) -> str | None:
    kernel = pair(draw, 1, 3)
    padding = (kernel[0] // 2 * one_of(draw, 0, 1), kernel[1] // 2 * one_of(draw, 0, 1))
    # The engine refuses windows that hold nothing but padding, which only dilated ones can.
    dilation = (1, 1) if any(padding) else pair(draw, 1, 2)
    if not fits(x[2:], kernel, padding, dilation):
        return None
    return f"nn.MaxPool2d({kernel}, {pair(draw, 1, 3)}, {padding}, {dilation}, ceil_mode={draw(st.booleans())})"


def _draw_avg_pool(draw: Draw, x: Shape) -> str | None:
    kernel = pair(draw, 1, 3)
    padding = (kernel[0] // 2 * one_of(draw, 0, 1), kernel[1] // 2 * one_of(draw, 0, 1))
    if not fits(x[2:], kernel, padding, (1, 1)):
        return None
    return f"nn.AvgPool2d({kernel}, {pair(draw, 1, 3)}, {padding}, {draw(st.booleans())}, {draw(st.booleans())})"


def _draw_adaptive_pool(draw: Draw, x: Shape) -> str | None:
    return f"nn.AdaptiveAvgPool2d({pair(draw, 1, 4)})"


def _draw_adaptive_max(draw: Draw, x: Shape) -> str | None:
    size = (draw(st.integers(1, x[2])), draw(st.integers(1, x[3])))
    return None if size == x[2:] else f"nn.AdaptiveMaxPool2d({size})"


def _draw_mean(draw: Draw, x: Shape) -> str | None:
    return f"Call(torch.mean, (2, 3), keepdim={draw(st.booleans())})"


FAMILY = Family(
    exact={"max_pool2d": _max_pool, "avg_pool2d": _avg_pool, "adaptive_avg_pool2d": _adaptive, "mean": _mean},
    cases=_CASES,
    nodes=_nodes(),
    kinds=[
        Kind("max_pool", ("max_pool2d",), (4,), _draw_max_pool),
        Kind("avg_pool", ("avg_pool2d",), (4,), _draw_avg_pool),
        Kind("adaptive_pool", ("adaptive_avg_pool2d",), (4,), _draw_adaptive_pool),
        Kind("adaptive_max", ("reduce", "max_pool2d", "slice", "concat"), (4,), _draw_adaptive_max),
        Kind("mean", ("mean",), (4,), _draw_mean),
    ],
)
