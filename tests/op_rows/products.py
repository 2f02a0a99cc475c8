"""Products of matrices."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from op_rows.drawing import one_of
from op_rows.exact import fill
from op_rows.exact_scalar import fma, mul, round_f32
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, maybe_quants, quants, sizes, tensor
from op_rows.stream import SPECIAL, U4, U8, U8B


def _matmul(node: OneOp) -> np.ndarray:
    (a, qa), (b, qb) = node.inputs
    if node.attrs["transpose_b"]:
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

    return fill(node, (*leading, a.shape[-2], b.shape[-1]), element)


# ---- golden cases

_PLAIN, _TRANSPOSED = {"transpose_b": 0}, {"transpose_b": 1}
_MIDDLE = Quant(U8.scale, 128)
_CASES = [
    Case("matmul: codes", lambda d: OneOp("matmul", [(d.codes(3, 9), U8), (d.codes(9, 4), U8B)], U8B, attrs=_PLAIN)),
    Case(
        "matmul: codes, zero point 128, to float",
        lambda d: OneOp("matmul", [(d.codes(2, 3, 8), U8B), (d.codes(2, 8, 5), _MIDDLE)], None, attrs=_PLAIN),
    ),
    Case(
        "matmul: codes, transposed, one right operand for all",
        lambda d: OneOp("matmul", [(d.codes(3, 2, 7), U8), (d.codes(1, 4, 7, q=U4), U4)], U8, attrs=_TRANSPOSED),
    ),
    Case(
        "matmul: codes, one left operand for all",
        lambda d: OneOp("matmul", [(d.codes(1, 2, 3, 5, q=U4), U4), (d.codes(2, 1, 5, 3), U8)], None, attrs=_PLAIN),
    ),
    Case("matmul: float", lambda d: OneOp("matmul", [(d.floats(3, 9), None), (d.floats(9, 4), None)], None, attrs=_PLAIN)),
    Case(
        "matmul: float, transposed, sums halfway",
        lambda d: OneOp("matmul", [(d.short_floats(2, 5, 24), None), (d.short_floats(2, 6, 24), None)], None, attrs=_TRANSPOSED),
    ),
    Case(
        "matmul: float, NaN and infinities",
        lambda d: OneOp("matmul", [(np.array([SPECIAL], np.float32), None), (d.floats(len(SPECIAL), 2), None)], None, attrs=_PLAIN),
    ),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    m, k, n, batch = (draw(sizes) for _ in range(4))
    transposed, integer = draw(st.integers(0, 1)), draw(st.booleans())
    leading = [[draw(st.sampled_from([1, batch]))] for _ in range(2)] if draw(st.booleans()) else [[], []]
    shapes = [*leading[0], m, k], [*leading[1], *((n, k) if transposed else (k, n))]
    inputs = [tensor(rng, draw(quants()) if integer else None, *shape) for shape in shapes]
    return OneOp("matmul", inputs, draw(maybe_quants) if integer else None, attrs={"transpose_b": transposed})


# ---- modules of random networks


def _draw_product(draw: Draw, x: Shape) -> str | None:
    return one_of(draw, "Call(times_transposed)", "Call(times_transposed)", "Call(attention)")


def _multiply(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and a[:-2] == b[:-2] and a[-1] == b[-1]


FAMILY = Family(
    exact={"matmul": _matmul},
    cases=_CASES,
    nodes=_nodes(),
    kinds=[Kind("product", ("matmul",), (3, 4), _draw_product, _multiply)],
)
