"""Rows of tables."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from op_rows.exact import fill
from op_rows.exact_scalar import mul, round_f32
from op_rows.family import Case, Family
from op_rows.one_op import OneOp
from op_rows.random_nodes import generator, maybe_quants, sizes
from op_rows.stream import U8, U8B


def _embedding(node: OneOp) -> np.ndarray:
    indices, weight = node.inputs[0][0], node.constants["weight"]

    def element(*index: int) -> float:
        row, column = int(indices[index[:-1]]), index[-1]
        if "scale" not in node.constants:
            return float(weight[row, column])
        base = int(node.constants["base"][row]) if "base" in node.constants else 0
        value = round_f32(Fraction(node.attrs["step"] * int(weight[row, column]) + base))
        return mul(value, float(node.constants["scale"][row]))

    return fill(node, (*indices.shape, weight.shape[1]), element)


# ---- golden cases

_INDICES = np.array([[0, 6, 3], [3, 3, 5]], np.int32)
_CASES = [
    Case("embedding: float", lambda d: OneOp("embedding", [(_INDICES, None)], None, {"weight": d.floats(7, 5)}, {"step": 1})),
    Case("embedding: float to codes", lambda d: OneOp("embedding", [(_INDICES[0], None)], U8, {"weight": d.floats(7, 5)}, {"step": 1})),
    Case(
        "embedding: codes",
        lambda d: OneOp("embedding", [(_INDICES, None)], None, {"weight": d.weights(7, 5), "scale": d.scales(7)}, {"step": 1}),
    ),
    Case(
        "embedding: codes and bases to codes",
        lambda d: OneOp(
            "embedding",
            [(_INDICES, None)],
            U8B,
            {"weight": d.weights(7, 5), "scale": d.scales(7), "base": d.ints(7, limit=9)},
            {"step": 2},
        ),
    ),
]


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    rows, columns, step = draw(sizes), draw(sizes), 1
    indices = rng.integers(0, rows, draw(st.lists(st.integers(1, 5), max_size=3))).astype(np.int32)
    if draw(st.booleans()):
        constants = {"weight": rng.standard_normal((rows, columns)).astype(np.float32)}
    else:
        step = draw(st.integers(1, 2))
        constants = {"weight": rng.integers(-128, 128, (rows, columns), np.int8), "scale": rng.uniform(1e-3, 0.1, rows).astype(np.float32)}
        if draw(st.booleans()):
            constants["base"] = rng.integers(-20, 21, rows).astype(np.int32)
    return OneOp("embedding", [(indices, None)], draw(maybe_quants), constants, {"step": step})


FAMILY = Family(
    exact={"embedding": _embedding},
    cases=_CASES,
    nodes=_nodes(),
    not_drawn={"embedding": "reads indices, and random networks have inputs of floats (tests/test_embedding.py)"},
)
