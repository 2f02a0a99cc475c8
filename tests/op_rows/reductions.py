"""Reductions over any axes, and sums along one."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from op_rows.drawing import one_of
from op_rows.exact import dequantize, fill, sum16
from op_rows.exact_scalar import add, mul, quotient, round_f32
from op_rows.family import Case, Draw, Family, Kind, Refusal, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, maybe_quants, sizes, tensor
from op_rows.stream import U8, U8B, Stream


def _reduce(node: OneOp) -> np.ndarray:
    x, q = node.inputs[0]
    axes, function, keep = node.attrs["axes"], node.attrs["function"], node.attrs["keepdim"]
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

    return fill(node, [1 if i in axes else x.shape[i] for i in kept], element)


def _cumsum(node: OneOp) -> np.ndarray:
    (x, _), axis = node.inputs[0], node.attrs["axis"]
    y = np.empty_like(x)
    for index in itertools.product(*(range(1 if d == axis else n) for d, n in enumerate(x.shape))):
        total: Any = 0.0
        for i in range(x.shape[axis]):
            at = (*index[:axis], i, *index[axis + 1 :])
            total = (int(total) + int(x[at]) + 2**31) % 2**32 - 2**31 if node.integer else add(total, float(x[at]))
            y[at] = total
    return y


# ---- golden cases


def _special(d: Stream) -> np.ndarray:
    x = d.floats(3, 4, 5)
    x[0, 1, 2], x[1, 0, 0], x[2, 3, 4] = math.nan, math.inf, -math.inf
    return x


def _cases(function: str) -> list[Case]:
    def of_codes(shape: tuple[int, ...], out: Quant | None, axes: list[int], keep: int) -> Case:
        attrs = {"function": function, "axes": axes, "keepdim": keep}
        return Case(f"reduce: {function} of codes over {axes}", lambda d: OneOp("reduce", [(d.codes(*shape), U8)], out, attrs=attrs))

    def of_floats(shape: tuple[int, ...] | None, out: Quant | None, axes: list[int], keep: int) -> Case:
        attrs = {"function": function, "axes": axes, "keepdim": keep}

        def build(d: Stream) -> OneOp:
            return OneOp("reduce", [(_special(d) if shape is None else d.floats(*shape), None)], out, attrs=attrs)

        return Case(f"reduce: {function} of floats over {axes}", build)

    return [
        of_codes((3, 4, 5), U8B, [1], 1),
        of_codes((2, 3, 4, 5), None, [0, 3], 0),
        of_floats((2, 9, 3, 4), None, [1, 2], 0),
        of_floats(None, None, [0, 2], 1),
        of_floats((6, 7, 2), U8, [0, 1], 0),
    ]


def _cumsum_case(name: str, axis: int, shape: tuple[int, ...] | None = None) -> Case:
    def build(d: Stream) -> OneOp:
        return OneOp("cumsum", [(_special(d) if shape is None else d.floats(*shape), None)], attrs={"axis": axis})

    return Case(f"cumsum: {name}", build)


_CUMSUM = [
    _cumsum_case("the last axis", 1, (3, 20)),
    _cumsum_case("the first axis", 0, (9, 2, 3)),
    _cumsum_case("an axis in the middle", 1, (2, 5, 3, 2)),
    _cumsum_case("NaN and infinities", 1),
    Case(
        "cumsum: zeros have signs",
        lambda d: OneOp("cumsum", [(np.float32([[-0.0, 0.0, -0.0], [-0.0, -0.0, 1.0]]), None)], attrs={"axis": 1}),
    ),
    Case("cumsum: sums halfway between floats", lambda d: OneOp("cumsum", [(d.short_floats(4, 30), None)], attrs={"axis": 1})),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng, shape = generator(draw), draw(st.lists(sizes, min_size=1, max_size=4))
    if draw(st.booleans()):
        return OneOp("cumsum", [tensor(rng, None, *shape)], attrs={"axis": draw(st.integers(0, len(shape) - 1))})
    axes = sorted(draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    attrs = {"function": draw(st.sampled_from(["mean", "sum", "amax"])), "axes": axes, "keepdim": draw(st.integers(0, 1))}
    return OneOp("reduce", [tensor(rng, draw(maybe_quants), *shape)], draw(maybe_quants), attrs=attrs)


# ---- modules of random networks


def _draw_reduce(draw: Draw, x: Shape) -> str | None:
    axes = sorted(draw(st.sets(st.integers(1, len(x) - 1), min_size=1)))
    return f"Call(torch.{one_of(draw, 'mean', 'sum', 'amax')}, {tuple(axes)}, keepdim={draw(st.booleans())})"


def _draw_cumsum(draw: Draw, x: Shape) -> str | None:
    return f"Call(torch.cumsum, {draw(st.integers(1, len(x) - 1))})"


FAMILY = Family(
    exact={"reduce": _reduce, "cumsum": _cumsum},
    cases=[*(case for function in ("mean", "sum", "amax") for case in _cases(function)), *_CUMSUM],
    nodes=_nodes(),
    refused=[
        Refusal("Call(torch.sum, 1, dtype=torch.float64)", (2, 3), "computes in torch.float64"),
        Refusal("Call(torch.cumsum, 1, dtype=torch.float64)", (2, 3), "0.cumsum: aten.cumsum: computes in torch.float64"),
    ],
    kinds=[
        Kind("cumsum", ("cumsum",), (2, 3, 4), _draw_cumsum),
        Kind("reduce", ("reduce", "mean"), (3, 4), _draw_reduce),
    ],
)
