"""softmax, layer_norm and group_norm."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from op_rows.drawing import divisors, one_of
from op_rows.exact import fill, from_bits, sum16
from op_rows.exact_functions import exp, log
from op_rows.exact_scalar import add, divide, mul, square_root
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, maybe_quants, sizes, tensor
from op_rows.stream import U8, U8B, Stream


def _softmax(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    rows: dict[tuple[int, ...], tuple[float, float]] = {}

    def element(*index: int) -> float:
        *row, column = index
        visible = [float(v) for v in x[tuple(row)][: row[-1] + 1 if node.attrs["causal"] else None]]
        if tuple(row) not in rows:
            largest = max((v for v in visible if not math.isnan(v)), default=-math.inf)
            rows[tuple(row)] = largest, sum16(exp(add(v, -largest)) for v in visible)
        largest, total = rows[tuple(row)]
        if column >= len(visible):
            return 0.0
        shifted = add(visible[column], -largest)
        return add(shifted, -log(total)) if node.attrs["log"] else divide(exp(shifted), total)

    return fill(node, x.shape, element)


def _normalized(node: OneOp, elements: list[float], x: float, channel: int, center: bool) -> float:
    n = float(len(elements))
    mean = divide(sum16(elements), n) if center else 0.0
    squares = (mul(d, d) for d in (add(v, -mean) for v in elements))
    r = divide(1.0, square_root(add(divide(sum16(squares), n), from_bits(node.attrs["eps"]))))
    y = mul(add(x, -mean), r)
    if "weight" in node.constants:
        y = mul(y, float(node.constants["weight"][channel]))
    return add(y, float(node.constants["bias"][channel])) if "bias" in node.constants else y


def _layer_norm(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    center = bool(node.attrs["center"])
    return fill(node, x.shape, lambda *i: _normalized(node, x[i[:-1]].tolist(), float(x[i]), i[-1], center))


def _group_norm(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    length = x.shape[3] // node.attrs["groups"]

    def element(image: int, i: int, j: int, c: int) -> float:
        first = c // length * length
        return _normalized(node, x[image, :, :, first : first + length].ravel().tolist(), float(x[image, i, j, c]), c, True)

    return fill(node, x.shape, element)


# ---- golden cases

_PLAIN, _CAUSAL, _LOG = ({"causal": c, "log": g} for c, g in ((0, 0), (1, 0), (0, 1)))
_NORM, _RMS = ({"eps": 0x3727C5AC, "center": c} for c in (1, 0))
_SPECIAL = np.tile(np.float32([0.5, 1, -2]), (7, 1))
_SPECIAL[:6, 1] = [math.nan, math.inf, -math.inf, 1e30, -1e30, -104]
_SPECIAL[6] = -math.inf


def _softmax_case(name: str, shape: tuple[int, ...], attrs: dict[str, int], out: Quant | None = None) -> Case:
    return Case(f"softmax: {name}", lambda d: OneOp("softmax", [(d.floats(*shape), None)], out, attrs=attrs))


def _both(d: Stream, channels: int) -> dict[str, np.ndarray]:
    return {"weight": d.floats(channels), "bias": d.floats(channels)}


# Rows shorter, as long and longer than 16 elements, special values, constant rows.
_CASES = [
    _softmax_case("one element", (3, 1), _PLAIN),
    _softmax_case("37 elements", (3, 37), _PLAIN),
    _softmax_case("to codes", (2, 16), _PLAIN, Quant(1 / 256, 0)),
    Case("softmax: special values", lambda d: OneOp("softmax", [(_SPECIAL, None)], attrs=_PLAIN)),
    _softmax_case("causal", (2, 5, 5), _CAUSAL),
    _softmax_case("causal, wider than high, to codes", (3, 7), _CAUSAL, U8B),
    _softmax_case("causal, higher than wide", (6, 3), _CAUSAL),
    _softmax_case("logarithm", (4, 19), _LOG),
    Case("softmax: logarithm, special values", lambda d: OneOp("softmax", [(_SPECIAL, None)], attrs=_LOG)),
    Case(
        "layer_norm: weight and bias",
        lambda d: OneOp("layer_norm", [(d.floats(3, 21), None)], constants=_both(d, 21), attrs=_NORM),
    ),
    Case("layer_norm: to codes", lambda d: OneOp("layer_norm", [(d.floats(2, 32), None)], U8, attrs=_NORM)),
    Case(
        "layer_norm: bias",
        lambda d: OneOp("layer_norm", [(d.floats(2, 2, 3), None)], constants={"bias": d.floats(3)}, attrs=_NORM),
    ),
    Case(
        "layer_norm: equal elements, no eps",
        lambda d: OneOp("layer_norm", [(np.full((2, 5), 0.3, np.float32), None)], attrs=_NORM | {"eps": 0}),
    ),
    Case("layer_norm: NaN and infinities", lambda d: OneOp("layer_norm", [(_SPECIAL, None)], attrs=_NORM)),
    Case(
        "layer_norm: root mean square",
        lambda d: OneOp("layer_norm", [(d.floats(3, 21), None)], constants=_both(d, 21), attrs=_RMS),
    ),
    Case(
        "group_norm: groups of 3",
        lambda d: OneOp("group_norm", [(d.floats(2, 3, 2, 6), None)], attrs={"eps": 0x3727C5AC, "groups": 2}),
    ),
    Case(
        "group_norm: groups of 16, weight and bias, to codes",
        lambda d: OneOp("group_norm", [(d.floats(1, 2, 3, 32), None)], U8, _both(d, 32), {"eps": 0x3727C5AC, "groups": 2}),
    ),
    Case(
        "group_norm: channels by themselves",
        lambda d: OneOp("group_norm", [(d.floats(2, 5, 4, 3), None)], attrs={"eps": 0x3A83126F, "groups": 3}),
    ),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng, op = generator(draw), draw(st.sampled_from(["softmax", "layer_norm", "group_norm"]))
    if op == "softmax":
        shape, attrs = [draw(sizes), draw(st.integers(1, 20))], draw(st.sampled_from([_PLAIN, _CAUSAL, _LOG]))
        return OneOp(op, [tensor(rng, None, *shape)], draw(maybe_quants), attrs=attrs)
    attrs = {"eps": draw(st.sampled_from([0x3727C5AC, 0x3A83126F]))}
    if op == "layer_norm":
        shape = [draw(sizes), draw(st.integers(1, 40))]
        attrs["center"] = draw(st.integers(0, 1))
    else:
        attrs["groups"] = draw(st.integers(1, 4))
        shape = [draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), attrs["groups"] * draw(st.integers(1, 5))]
    kept = draw(st.sets(st.sampled_from(["weight", "bias"])))
    constants = {key: rng.standard_normal(shape[-1]).astype(np.float32) for key in sorted(kept)}
    return OneOp(op, [tensor(rng, None, *shape)], draw(maybe_quants), constants, attrs)


# ---- modules of random networks


def _draw_softmax(draw: Draw, x: Shape) -> str | None:
    return f"nn.{one_of(draw, 'Softmax', 'Softmax', 'LogSoftmax')}({draw(st.integers(1, len(x) - 1))})"


def _draw_layer_norm(draw: Draw, x: Shape) -> str | None:
    axes = list(x[-one_of(draw, 1, 1, len(x) - 1) :])
    return f"nn.LayerNorm({axes})" if math.prod(axes) > 1 else None  # one element: a constant, and noise behind the next normalization


def _draw_group_norm(draw: Draw, x: Shape) -> str | None:
    return f"nn.GroupNorm({one_of(draw, *divisors(x[1]))}, {x[1]})"


FAMILY = Family(
    exact={"softmax": _softmax, "layer_norm": _layer_norm, "group_norm": _group_norm},
    cases=_CASES,
    nodes=_nodes(),
    kinds=[
        Kind("softmax", ("softmax",), (2, 3, 4), _draw_softmax),
        Kind("layer_norm", ("layer_norm",), (2, 3, 4), _draw_layer_norm),
        Kind("group_norm", ("group_norm",), (3, 4), _draw_group_norm),
    ],
)
