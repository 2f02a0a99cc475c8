"""Integers and truth values: casts, comparisons, choices, arithmetic, counting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st

from op_rows.exact import fill, operand
from op_rows.exact_scalar import round_f32
from op_rows.family import Case, Draw, Family, Kind, Refusal, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import floats, generator, quants, tensor
from op_rows.stream import SPECIAL, U8, U8B

TRUTH = Quant(1.0, 0, 0, 1)
_WIDE = [-(2**31), 2**31 - 1, 0, 1, -1, 2**24 + 1, -7, 7]
_RELATIONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
_COMBINED: Mapping[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floor_divide": lambda a, b: a // b if b else 0,
    "remainder": lambda a, b: a % b if b else 0,
    "maximum": max,
    "minimum": min,
}


def _wrapped(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


def _at(array: np.ndarray, index: tuple[int, ...]) -> Any:
    """The element of an operand that is broadcast."""
    return array[tuple(0 if n == 1 else i for i, n in zip(index, array.shape, strict=True))]


def _arrays(node: OneOp) -> list[np.ndarray]:
    return [array for array, _ in node.inputs] + [node.constants[key] for key in ("other",) if key in node.constants]


def _filled(shape: tuple[int, ...], element: Callable[..., int]) -> np.ndarray:
    y = np.empty(shape, np.int32)
    for index in itertools.product(*map(range, shape)):
        y[index] = element(*index)
    return y


def _cast(node: OneOp) -> np.ndarray:
    x, quant = node.inputs[0]
    if quant is not None:
        return _filled(x.shape, lambda *i: int(x[i]) - quant.zero_point)
    if x.dtype == np.int32:
        return fill(node, x.shape, lambda *i: round_f32(Fraction(int(x[i]))))

    def truncated(*i: int) -> int:
        value = float(x[i])
        if math.isnan(value):
            return 0
        return int(min(max(value, -(2**31)), 2**31 - 1)) if math.isinf(value) else min(max(int(value), -(2**31)), 2**31 - 1)

    return _filled(x.shape, truncated)


def _compare(node: OneOp) -> np.ndarray:
    arrays, relation = _arrays(node), _RELATIONS[node.attrs["function"]]

    def element(*index: int) -> float:
        values = []
        for i, array in enumerate(arrays):
            place = tuple(0 if n == 1 else k for k, n in zip(index, array.shape, strict=True))
            values.append(array[place] if i >= len(node.inputs) or array.dtype == np.int32 else operand(node, i, place))
        return float(relation(*values))

    return fill(node, np.broadcast_shapes(*(a.shape for a in arrays)), element)


def _where(node: OneOp) -> np.ndarray:
    (condition, quant), (a, _), (b, _) = node.inputs
    assert quant is not None
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    y = np.empty(shape, a.dtype)
    for index in itertools.product(*map(range, shape)):
        y[index] = _at(a, index) if int(_at(condition, index)) != quant.zero_point else _at(b, index)
    return y


def _integer(node: OneOp) -> np.ndarray:
    a, b = _arrays(node)
    combine = _COMBINED[node.attrs["function"]]
    return _filled(np.broadcast_shapes(a.shape, b.shape), lambda *i: _wrapped(combine(int(_at(a, i)), int(_at(b, i)))))


def _arange(node: OneOp) -> np.ndarray:
    count = node.inputs[0][0].shape[node.attrs["axis"]]
    return _filled((count,), lambda i: _wrapped(node.attrs["start"] + i * node.attrs["step"]))


def _gather(node: OneOp) -> np.ndarray:
    (x, _), (index, _) = node.inputs
    axis = node.attrs["axis"]
    shape = tuple(n if d == axis else length for d, (n, length) in enumerate(zip(index.shape, x.shape, strict=True)))
    y = np.empty(shape, x.dtype)
    for place in itertools.product(*map(range, shape)):
        y[place] = x[(*place[:axis], int(_at(index, place)), *place[axis + 1 :])]
    return y


def _argmax(node: OneOp) -> np.ndarray:
    x, axis, sign = node.inputs[0][0], node.attrs["axis"], 1 if node.attrs["function"] == "max" else -1

    def rank(value: Any) -> tuple[bool, float]:
        return (True, 0.0) if math.isnan(float(value)) else (False, sign * float(value))

    def element(*place: int) -> int:
        row = [rank(x[(*place[:axis], k, *place[axis + 1 :])]) for k in range(x.shape[axis])]
        return row.index(max(row))

    y = _filled(tuple(1 if d == axis else n for d, n in enumerate(x.shape)), element)
    return y if node.attrs["keepdim"] else y.squeeze(axis)


# ---- golden cases

_INTEGERS = np.array(_WIDE, np.int32).reshape(2, 4)
_ROW = np.array([[3, -2, 0, 2**31 - 1]], np.int32)
_CASES = [
    Case("cast: integers to floats", lambda d: OneOp("cast", [(_INTEGERS, None)])),
    Case(
        "cast: floats to integers", lambda d: OneOp("cast", [(np.array([*SPECIAL, 2.5, -2.5, 3e9, -3e9], np.float32), None)], integer=True)
    ),
    Case("cast: codes to integers", lambda d: OneOp("cast", [(d.codes(3, 5), U8)], integer=True)),
    *(
        Case(f"compare: {name}", lambda d, name=name: OneOp("compare", [(_INTEGERS, None), (_ROW, None)], TRUTH, attrs={"function": name}))
        for name in _RELATIONS
    ),
    Case(
        "compare: special floats with a constant",
        lambda d: OneOp("compare", [(np.array(SPECIAL, np.float32), None)], TRUTH, {"other": np.zeros(1, np.float32)}, {"function": "le"}),
    ),
    Case(
        "compare: codes with floats",
        lambda d: OneOp("compare", [(d.codes(3, 4), U8), (d.floats(3, 1), None)], U8B, attrs={"function": "gt"}),
    ),
    Case("where: floats", lambda d: OneOp("where", [(d.codes(2, 1, q=TRUTH), TRUTH), (d.floats(1, 4), None), (d.floats(2, 4), None)])),
    Case("where: integers", lambda d: OneOp("where", [(d.codes(2, 4, q=TRUTH), TRUTH), (_INTEGERS, None), (_ROW, None)], integer=True)),
    *(
        Case(
            f"integer: {name}",
            lambda d, name=name: OneOp("integer", [(_INTEGERS, None), (_ROW, None)], attrs={"function": name}, integer=True),
        )
        for name in _COMBINED
    ),
    Case("integer: with a constant", lambda d: OneOp("integer", [(_INTEGERS, None)], None, {"other": _ROW}, {"function": "mul"}, True)),
    Case("arange", lambda d: OneOp("arange", [(d.floats(2, 5), None)], attrs={"axis": 1, "start": 2**32 - 3, "step": 2}, integer=True)),
    Case(
        "gather: floats, an index for each row",
        lambda d: OneOp("gather", [(d.floats(2, 5, 3), None), (np.array([[[4], [0]], [[2], [2]]], np.int32), None)], attrs={"axis": 1}),
    ),
    Case("gather: codes", lambda d: OneOp("gather", [(d.codes(3, 4), U8), (np.array([[3, 0, 1]], np.int32), None)], U8, attrs={"axis": 1})),
    Case(
        "gather: integers",
        lambda d: OneOp("gather", [(_INTEGERS, None), (np.array([[1, 1, 0, 1]], np.int32), None)], attrs={"axis": 0}, integer=True),
    ),
    *(
        Case(
            f"argmax: {name} of special floats",
            lambda d, name=name: OneOp(
                "argmax",
                [(np.array([SPECIAL, SPECIAL[::-1]], np.float32), None)],
                attrs={"function": name, "axis": 1, "keepdim": 1},
                integer=True,
            ),
        )
        for name in ("max", "min")
    ),
    Case(
        "argmax: codes",
        lambda d: OneOp("argmax", [(d.codes(3, 4, 2), U8)], attrs={"function": "max", "axis": 1, "keepdim": 0}, integer=True),
    ),
    Case(
        "argmax: integers",
        lambda d: OneOp("argmax", [(_INTEGERS, None)], attrs={"function": "min", "axis": 0, "keepdim": 0}, integer=True),
    ),
    Case("cumsum: integers", lambda d: OneOp("cumsum", [(_INTEGERS, None)], attrs={"axis": 1}, integer=True)),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    op = draw(st.sampled_from(["cast", "compare", "where", "integer", "arange", "gather", "argmax"]))
    shape = [draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 4)))]

    def integers(*size: int) -> np.ndarray:
        limit = int(2 ** rng.integers(1, 32))
        return rng.integers(-limit, limit, size).clip(-(2**31), 2**31 - 1).astype(np.int32)

    def broadcast() -> list[int]:
        return [draw(st.sampled_from([1, n])) for n in shape]

    if op == "arange":
        attrs = {
            "axis": draw(st.integers(0, len(shape) - 1)),
            "start": draw(st.integers(0, 2**32 - 1)),
            "step": draw(st.integers(0, 2**32 - 1)),
        }
        return OneOp(op, [(floats(rng, *shape), None)], attrs=attrs, integer=True)
    if op in ("gather", "argmax"):
        kind = draw(st.sampled_from(["integers", "floats", "codes"]))
        q = draw(quants()) if kind == "codes" else None
        x = (integers(*shape), None) if kind == "integers" else tensor(rng, q, *shape)
        axis = draw(st.integers(0, len(shape) - 1))
        if op == "argmax":
            attrs = {"function": draw(st.sampled_from(["max", "min"])), "axis": axis, "keepdim": draw(st.integers(0, 1))}
            return OneOp(op, [x], attrs=attrs, integer=True)
        size = [draw(st.integers(1, 4)) if d == axis else n for d, n in enumerate(broadcast())]
        index = rng.integers(0, shape[axis], size).astype(np.int32)
        return OneOp(op, [x, (index, None)], q, attrs={"axis": axis}, integer=kind == "integers")
    if op == "cast":
        kind = draw(st.sampled_from(["integers", "floats", "codes"]))
        if kind == "integers":
            return OneOp(op, [(integers(*shape), None)])
        return OneOp(op, [tensor(rng, draw(quants()) if kind == "codes" else None, *shape)], integer=True)
    if op == "where":
        condition = tensor(rng, TRUTH, *broadcast())
        if draw(st.booleans()):
            return OneOp(op, [condition, (integers(*shape), None), (integers(*broadcast()), None)], integer=True)
        return OneOp(op, [condition, (floats(rng, *shape), None), (floats(rng, *broadcast()), None)])
    is_integer = op == "integer" or draw(st.booleans())
    make = integers if is_integer else lambda *size: floats(rng, *size)
    function = draw(st.sampled_from(list(_COMBINED if op == "integer" else _RELATIONS)))
    first, second = make(*shape), make(*broadcast())
    output = None if op == "integer" else draw(st.sampled_from([TRUTH, U8]))
    if draw(st.booleans()):
        constant = second if is_integer else np.where(np.isfinite(second), second, 0).astype(np.float32)
        return OneOp(op, [(first, None)], output, {"other": constant}, {"function": function}, op == "integer")
    return OneOp(op, [(first, None), (second, None)], output, {}, {"function": function}, op == "integer")


def _draw_step(draw: Draw, x: Shape) -> str | None:
    return f"Step({draw(st.sampled_from([-0.5, 0.0, 0.3]))})"


FAMILY = Family(
    exact={
        "cast": _cast,
        "compare": _compare,
        "where": _where,
        "integer": _integer,
        "arange": _arange,
        "gather": _gather,
        "argmax": _argmax,
    },
    cases=_CASES,
    nodes=_nodes(),
    kinds=[Kind("step", ("compare", "where", "constant"), (2, 3, 4), _draw_step)],
    not_drawn={
        "cast": "reads integers, and random networks have inputs of floats (tests/test_integers.py)",
        "integer": "reads integers, and random networks have inputs of floats (tests/test_integers.py)",
        "gather": "reads integers, and random networks have inputs of floats (tests/test_integers.py)",
        "argmax": "gives integers, and random networks have outputs of floats (tests/test_integers.py)",
        "arange": "counts along open dimensions (tests/test_integers.py)",
    },
    refused=[Refusal("Bits()", (2, 3), "combines the bits of integers")],
)
