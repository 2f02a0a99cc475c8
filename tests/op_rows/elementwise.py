"""Ops that work element by element: add, binary, clamp, affine, unary, prelu, table."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from op_rows.drawing import one_of
from op_rows.exact import activation, fill, from_bits, operand
from op_rows.exact_functions import FUNCTIONS
from op_rows.exact_scalar import add, clamp, divide, fma, mul
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp
from op_rows.random_nodes import activations, codes, generator, maybe_quants, quants, sizes, tensor
from op_rows.stream import CLAMP, INF_BITS, MINUS_1_BITS, NONE, RELU, RELU6_BITS, SPECIAL, U4, U8, U8B, Stream

_BINARY = ("add", "sub", "mul", "div", "rsub", "rdiv", "maximum", "minimum")
_WITH_ALPHA = {"elu": 0x3FC00000, "leaky_relu": 0x3E4CCCCD}  # 1.5, 0.2


def _add(node: OneOp) -> np.ndarray:
    def element(*index: int) -> float:
        return activation(add(operand(node, 0, index), operand(node, 1, index)), node.attrs)

    return fill(node, node.inputs[0][0].shape, element)


def _binary(node: OneOp) -> np.ndarray:
    function = node.attrs["function"]
    arrays = [array for array, _ in node.inputs] + list(node.constants.values())

    def value(i: int, index: tuple[int, ...]) -> float:
        own = tuple(0 if n == 1 else k for n, k in zip(arrays[i].shape, index, strict=True))
        return operand(node, i, own) if i < len(node.inputs) else float(arrays[i][own])

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

    return fill(node, np.broadcast_shapes(*(array.shape for array in arrays)), element)


def _clamp(node: OneOp) -> np.ndarray:
    lo, hi = from_bits(node.attrs["lo"]), from_bits(node.attrs["hi"])
    return fill(node, node.inputs[0][0].shape, lambda *index: clamp(operand(node, 0, index), lo, hi))


def _affine(node: OneOp) -> np.ndarray:
    scale, shift = (node.constants[key].tolist() for key in ("scale", "shift"))
    return fill(node, node.inputs[0][0].shape, lambda *i: fma(operand(node, 0, i), scale[i[-1]], shift[i[-1]]))


def _unary(node: OneOp) -> np.ndarray:
    function, alpha = FUNCTIONS[node.attrs["function"]], from_bits(node.attrs["alpha"])
    return fill(node, node.inputs[0][0].shape, lambda *index: function(operand(node, 0, index), alpha))


def _prelu(node: OneOp) -> np.ndarray:
    slope = node.constants["slope"].tolist()

    def element(*index: int) -> float:
        x = operand(node, 0, index)
        return x if x > 0 else mul(x, slope[index[-1]])

    return fill(node, node.inputs[0][0].shape, element)


def _table(node: OneOp) -> np.ndarray:
    (x, _), tables = node.inputs[0], node.constants["table"].reshape(-1, 256).tolist()
    flat = [tables[i % len(tables)][code] for i, code in enumerate(x.ravel())]
    return np.array(flat, np.uint8).reshape(x.shape)


# ---- golden cases

_SPECIAL = np.array(SPECIAL, np.float32)
_PAIRS = [(np.array(column, np.float32), None) for column in zip(*((a, b) for a in SPECIAL for b in SPECIAL), strict=True)]
# Where definitions of functions change, and large arguments.
_EDGES = [-104.0, -103.5, -88.0, -87.0, 88.7, 88.8, 89.0, 0.93, -0.93, 4.0, -4.1, 3.0, -3.0, 0.3466, -0.3465, 9.5, -17.5]
_EDGES += [1e-6, -1e-20, 1.4142135, 1.4142137, 1e-42, 0.8813735]


def _function(d: Stream, function: str) -> OneOp:
    x = np.concatenate([np.array([*SPECIAL, *_EDGES], np.float32), d.floats(24), d.floats(12, spread=6)])
    return OneOp("unary", [(x, None)], attrs={"function": function, "alpha": _WITH_ALPHA.get(function, 0)})


def _special_binary(function: str) -> Case:
    operands = [(_SPECIAL[:, None], None), (_SPECIAL[None], None)]
    return Case(f"binary: {function}, special floats", lambda d: OneOp("binary", operands, attrs={"function": function}))


_CASES = [
    Case("add: codes, ReLU", lambda d: OneOp("add", [(d.codes(40), U8), (d.codes(40), U8B)], U8B, attrs=RELU)),
    Case("add: codes and float to float", lambda d: OneOp("add", [(d.codes(40), U8), (d.floats(40), None)], None, attrs=NONE)),
    Case("add: special floats", lambda d: OneOp("add", _PAIRS, None, attrs=NONE)),
    Case("add: special floats, ReLU6, to codes", lambda d: OneOp("add", _PAIRS, U4, attrs=CLAMP)),
    Case(
        "clamp: special floats",
        lambda d: OneOp("clamp", [(np.concatenate([_SPECIAL, d.floats(30)]), None)], attrs={"lo": 0, "hi": RELU6_BITS}),
    ),
    Case("clamp: no upper bound", lambda d: OneOp("clamp", [(_SPECIAL, None)], attrs={"lo": 0, "hi": INF_BITS})),
    Case("affine", lambda d: OneOp("affine", [(d.floats(6, 5), None)], None, {"scale": d.floats(5), "shift": d.floats(5)})),
    Case(
        "affine: codes to codes",
        lambda d: OneOp("affine", [(d.codes(3, 4, 5), U8)], U4, {"scale": d.floats(5), "shift": d.floats(5)}),
    ),
    Case("affine: floats to codes", lambda d: OneOp("affine", [(d.floats(6, 5), None)], U8, {"scale": d.floats(5), "shift": d.floats(5)})),
    Case(
        "affine: halfway between floats",
        lambda d: OneOp("affine", [(d.short_floats(30, 4), None)], None, {"scale": d.short_floats(4), "shift": d.short_floats(4)}),
    ),
    Case(
        "table",
        lambda d: OneOp(
            "table", [(np.arange(256, dtype=np.uint8), U8)], U8B, {"table": np.array(d.random.sample(range(256), 256), np.uint8)}
        ),
    ),
    Case("table: per channel", lambda d: OneOp("table", [(d.codes(4, 3), U8)], U8B, {"table": d.codes(3, 256)})),
    *(Case(f"unary: {f}", lambda d, f=f: _function(d, f)) for f in FUNCTIONS),
    Case(
        "unary: silu to codes",
        lambda d: OneOp("unary", [(np.float32(0.5) * d.floats(40), None)], U8, attrs={"function": "silu", "alpha": 0}),
    ),
    *(_special_binary(function) for function in _BINARY),
    Case(
        "binary: gate of codes",
        lambda d: OneOp("binary", [(d.codes(2, 3, 3, 4), U8), (d.codes(2, 1, 1, 4), U8B)], U4, attrs={"function": "mul"}),
    ),
    Case(
        "binary: constant",
        lambda d: OneOp(
            "binary",
            [(d.floats(2, 3, 1, 4), None)],
            constants={"other": d.floats(1, 3, 2, 1)},
            attrs={"function": "rdiv"},
        ),
    ),
    Case("prelu", lambda d: OneOp("prelu", [(d.floats(9, 5), None)], constants={"slope": d.floats(5)})),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    op = draw(st.sampled_from(["add", "clamp", "affine", "table", "unary", "prelu", "binary"]))
    shape = [draw(sizes) for _ in range(4)]
    x_quant = {"table": quants(), "add": maybe_quants, "binary": maybe_quants, "affine": maybe_quants}
    inputs = [tensor(rng, draw(x_quant.get(op, st.none())), *shape)]
    if op == "add":
        inputs.append(tensor(rng, draw(maybe_quants), *shape))
        return OneOp(op, inputs, draw(maybe_quants), attrs=draw(activations))
    if op == "clamp":
        return OneOp(op, inputs, attrs={"lo": MINUS_1_BITS, "hi": draw(st.sampled_from([RELU6_BITS, INF_BITS]))})
    if op == "affine":
        vectors = {key: rng.standard_normal(shape[-1]).astype(np.float32) for key in ("scale", "shift")}
        return OneOp(op, inputs, draw(maybe_quants), vectors)
    if op == "table":
        output = draw(quants())
        return OneOp(op, inputs, output, {"table": codes(rng, output, 256)})
    if op == "prelu":
        return OneOp(op, inputs, constants={"slope": rng.standard_normal(shape[-1]).astype(np.float32)})
    if op == "unary":
        attrs = {"function": draw(st.sampled_from(sorted(FUNCTIONS))), "alpha": 0}
        if attrs["function"] in _WITH_ALPHA:
            attrs["alpha"] = draw(st.sampled_from([RELU6_BITS, MINUS_1_BITS]))
        return OneOp(op, inputs, draw(maybe_quants), attrs=attrs)
    other, constants = [draw(st.sampled_from([1, n])) for n in shape], {}
    if draw(st.booleans()):
        constants = {"other": rng.standard_normal(other).astype(np.float32)}
    else:
        inputs.append(tensor(rng, draw(maybe_quants), *other))
    return OneOp(op, inputs, draw(maybe_quants), constants, {"function": draw(st.sampled_from(_BINARY))})


# ---- modules of random networks


def _draw_activation(draw: Draw, x: Shape) -> str | None:
    return one_of(
        draw,
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
        "nn.ReLU6()",
        "nn.Hardtanh(-0.5, 0.75)",
        "Call(torch.clamp, min=-0.25)",
        "Call(torch.clamp, max=0.5)",
        "nn.LeakyReLU(0.1)",
        "nn.Hardswish()",
        "nn.Hardsigmoid()",
        "nn.Sigmoid()",
        "nn.SiLU()",
        "nn.GELU()",
        "nn.GELU('tanh')",
        "nn.Tanh()",
        "nn.ELU(0.7)",
        "nn.PReLU()",
        "nn.SELU()",
        "nn.CELU()",
        f"nn.PReLU({x[1] if len(x) != 3 else 1})",
    )


def _draw_scalar_arithmetic(draw: Draw, x: Shape) -> str | None:
    function, number = one_of(draw, "add", "sub", "mul", "div"), one_of(draw, 0.5, -1.25, 3.0)
    return one_of(
        draw,
        f"Call(torch.{function}, {number})",
        f"Call(torch.{function}, {number})",
        f"Reversed(torch.{'sub' if function == 'div' else function}, {number})",
    )


def _draw_per_channel(draw: Draw, x: Shape) -> str | None:
    return f"PerChannel(torch.{one_of(draw, 'add', 'sub', 'mul', 'div')}, {x[1]}, {len(x)})"


def _draw_arithmetic(draw: Draw, x: Shape) -> str | None:
    return f"Call(torch.{one_of(draw, 'add', 'sub', 'mul')})"


def _same(a: Shape, b: Shape) -> bool:
    return a == b


def _broadcasts(a: Shape, b: Shape) -> bool:
    return a != b and len(a) == len(b) and a[0] == b[0] and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))


FAMILY = Family(
    exact={
        "add": _add,
        "binary": _binary,
        "clamp": _clamp,
        "affine": _affine,
        "unary": _unary,
        "prelu": _prelu,
        "table": _table,
    },
    cases=_CASES,
    nodes=_nodes(),
    kinds=[
        Kind("activation", ("clamp", "unary", "prelu", "table"), (2, 3, 4), _draw_activation),
        Kind("scalar", ("binary", "table"), (2, 4), _draw_scalar_arithmetic),
        Kind("per_channel", ("binary", "affine"), (2, 4), _draw_per_channel),
        Kind("residual", ("add",), (2, 3, 4), lambda draw, x: "Call(torch.add)", _same),
        Kind("arithmetic", ("add", "binary"), (2, 3, 4), _draw_arithmetic, _same),
        Kind("broadcast", ("binary",), (2, 3, 4), _draw_arithmetic, _broadcasts),
    ],
)
