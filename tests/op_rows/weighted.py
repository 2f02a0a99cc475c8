"""conv2d and linear: integer or float inputs, any grid of weights."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from op_rows.drawing import divisors, fits, one_of, pair
from op_rows.exact import activation, fill, operand
from op_rows.exact_scalar import add, fma, mul, round_f32
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import activations, generator, maybe_quants, sizes, tensor
from op_rows.stream import CLAMP, NONE, RELU, U4, U8, U8B, Stream

_POINT = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": 1, "step": 1}
_PADDED = {"padding": [1, 1, 1, 1]}
_STEP_1 = {"step": 1}


def _weighted(node: OneOp, taps: list[tuple[tuple[int, ...] | None, tuple[int, ...]]], o: int, out: tuple[int, ...]) -> float:
    """One output of channel `o`: taps are (index into x or None outside the image, index into the weight), in order."""
    x, q = node.inputs[0]
    constants, step = node.constants, node.attrs["step"]
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
    if len(node.inputs) > 1:
        y = add(y, operand(node, 1, out))
    return activation(y, node.attrs)


def _linear(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    outputs, inputs = node.constants["weight"].shape

    def element(*index: int) -> float:
        *row, o = index
        return _weighted(node, [((*row, k), (o, k)) for k in range(inputs)], o, index)

    return fill(node, (*x.shape[:-1], outputs), element)


def _conv2d(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    a = node.attrs
    outputs, kh, kw, depth = node.constants["weight"].shape
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
        return _weighted(node, taps, o, (image, i, j, o))

    return fill(node, (n, out_h, out_w, outputs), element)


# ---- golden cases


def _conv(
    d: Stream, x: np.ndarray, q: Quant, weight: np.ndarray, out: Quant | None, attrs: dict[str, Any], *residual: Any, **constants: Any
) -> OneOp:
    scale = {"scale": d.scales(len(weight))}
    return OneOp("conv2d", [(x, q), *residual], out, {"weight": weight} | scale | constants, _POINT | NONE | attrs)


# Products and sums so that fma(x[1], w[1], x[0]) lies very close to halfway between two floats: a double cannot tell on which side. That is
# 1 + 2^-11 + 2^-24 with a rest of 2^-60 either way, and a subnormal with a rest of half its last bit, less 2^-196.
_NEAR, _BELOW = 1 + 2.0**-12, [(2**23 + k) * 2.0**-98 for k in (1, -1)]
_BESIDE_X = np.array([[2.0**-60, _NEAR], [-(2.0**-60), _NEAR], [2.0**-60, -_NEAR], [2.0**-127 + 2.0**-149, _BELOW[0]]], np.float32)
_BESIDE_W = np.array([[1, _NEAR], [1, _BELOW[1]]], np.float32)

_INTEGER = [
    Case(
        "conv2d: 3x3, padding, bias, ReLU",
        lambda d: _conv(d, d.codes(1, 5, 4, 3), U8, d.weights(4, 3, 3, 3), U8B, _PADDED | RELU, bias=d.floats(4)),
    ),
    Case("conv2d: 1x1 to float", lambda d: _conv(d, d.codes(2, 2, 3, 9), U8, d.weights(3, 1, 1, 9), None, {})),
    Case(
        "conv2d: stride 2, uneven padding",
        lambda d: _conv(d, d.codes(1, 6, 7, 2), U8B, d.weights(3, 3, 2, 2), U8, {"stride": [2, 3], "padding": [1, 0, 0, 2]}),
    ),
    Case("conv2d: dilation", lambda d: _conv(d, d.codes(1, 7, 6, 2), U8, d.weights(2, 2, 3, 2), U8B, {"dilation": [3, 2]} | _PADDED)),
    Case(
        "conv2d: two groups",
        lambda d: _conv(d, d.codes(1, 4, 4, 6), U8, d.weights(4, 3, 3, 3), U8B, {"groups": 2} | _PADDED, bias=d.floats(4)),
    ),
    Case(
        "conv2d: depthwise, ReLU6",
        lambda d: _conv(d, d.codes(1, 4, 4, 5), U8, d.weights(5, 3, 3, 1), U8B, {"groups": 5} | _PADDED | CLAMP),
    ),
    Case(
        "conv2d: asymmetric weights",
        lambda d: _conv(d, d.codes(1, 4, 4, 3), U8, d.weights(4, 3, 3, 3, bits=4), U8B, _PADDED, base=d.ints(4, limit=9)),
    ),
    Case(
        "conv2d: step 2 and base 1",
        lambda d: _conv(d, d.codes(1, 3, 3, 4, q=U4), U4, d.weights(3, 2, 2, 4, bits=3), U4, {"step": 2}, base=np.ones(3, np.int32)),
    ),
    Case(
        "conv2d: ternary",
        lambda d: _conv(d, d.codes(1, 4, 4, 4, q=U4), U4, np.clip(d.weights(3, 3, 3, 4, bits=2), -1, 1), U4, _PADDED),
    ),
    Case(
        "conv2d: negative weight scale",
        lambda d: _conv(d, d.codes(1, 3, 3, 2), U8, d.weights(2, 3, 3, 2), U8, _PADDED, scale=-d.scales(2)),
    ),
    Case(
        "conv2d: u8 residual, ReLU",
        lambda d: _conv(d, d.codes(1, 3, 3, 4), U8, d.weights(4, 3, 3, 4), U8B, _PADDED | RELU, (d.codes(1, 3, 3, 4), U8)),
    ),
    Case(
        "conv2d: float residual to float",
        lambda d: _conv(d, d.codes(1, 3, 3, 4), U8, d.weights(4, 1, 1, 4), None, {}, (d.floats(1, 3, 3, 4), None)),
    ),
    Case(
        "conv2d: sums beyond 2^24",
        lambda d: _conv(d, np.full((1, 1, 1, 2100), 255, np.uint8), Quant(1.0, 0), np.full((3, 1, 1, 2100), 127, np.int8), None, {}),
    ),
    Case(
        "linear: bias",
        lambda d: OneOp(
            "linear",
            [(d.codes(3, 20), U8)],
            U8B,
            {"weight": d.weights(5, 20), "scale": d.scales(5), "bias": d.floats(5)},
            _STEP_1 | NONE,
        ),
    ),
    Case(
        "linear: rank 3, residual",
        lambda d: OneOp(
            "linear",
            [(d.codes(2, 2, 7), U8B), (d.codes(2, 2, 3), U8)],
            U8,
            {"weight": d.weights(3, 7), "scale": d.scales(3)},
            _STEP_1 | RELU,
        ),
    ),
]

_FLOAT = [
    Case(
        "conv2d: float, padding, ReLU",
        lambda d: OneOp(
            "conv2d",
            [(d.floats(1, 4, 4, 3), None)],
            None,
            {"weight": d.floats(4, 3, 3, 3), "bias": d.floats(4)},
            _POINT | _PADDED | RELU,
        ),
    ),
    Case(
        "conv2d: float, groups, residual",
        lambda d: OneOp(
            "conv2d",
            [(d.floats(1, 4, 3, 4), None), (d.floats(1, 4, 3, 2), None)],
            None,
            {"weight": d.floats(2, 3, 3, 2)},
            _POINT | _PADDED | CLAMP | {"groups": 2},
        ),
    ),
    Case(
        "conv2d: codes expanded to float",
        lambda d: OneOp(
            "conv2d",
            [(d.floats(1, 4, 3, 3), None)],
            None,
            {"weight": d.weights(3, 2, 2, 3, bits=4), "scale": d.scales(3), "base": d.ints(3, limit=9), "bias": d.floats(3)},
            _POINT | NONE | {"stride": [2, 1]},
        ),
    ),
    Case(
        "linear: sums halfway between floats",
        lambda d: OneOp("linear", [(d.short_floats(6, 24), None)], None, {"weight": d.short_floats(8, 24)}, _STEP_1 | NONE),
    ),
    Case("linear: sums beside halfway", lambda d: OneOp("linear", [(_BESIDE_X, None)], None, {"weight": _BESIDE_W}, _STEP_1 | NONE)),
    Case(
        "linear: float, wide exponents",
        lambda d: OneOp(
            "linear",
            [(d.floats(4, 40, spread=14), None)],
            None,
            {"weight": d.floats(6, 40, spread=14), "bias": d.floats(6)},
            _STEP_1 | NONE,
        ),
    ),
    Case(
        "linear: subnormal sums",
        lambda d: OneOp(
            "linear",
            [(np.float32(2.0**-75) * d.floats(4, 9), None)],
            None,
            {"weight": np.float32(2.0**-68) * d.floats(5, 9)},
            _STEP_1 | NONE,
        ),
    ),
    Case(
        "linear: overflow to infinity",
        lambda d: OneOp(
            "linear",
            [(np.float32(2.0**100) * d.floats(3, 6), None)],
            None,
            {"weight": np.float32(2.0**27) * d.floats(4, 6)},
            _STEP_1 | RELU,
        ),
    ),
    Case(
        "linear: float, codes in groups",
        lambda d: OneOp(
            "linear",
            [(d.floats(3, 12), None)],
            None,
            {"weight": d.weights(4, 12, bits=4), "scale": d.scales(4, 4), "base": d.ints(4, 4, limit=8)},
            _STEP_1 | NONE,
        ),
    ),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    """Any geometry, residual and output."""
    rng = generator(draw)
    is_conv = draw(st.booleans())
    groups = draw(st.sampled_from([1, 1, 2, 3])) if is_conv else 1
    outputs, depth = groups * draw(st.integers(1, 20)), draw(st.integers(1, 20))
    x_quant, step = draw(maybe_quants), draw(st.sampled_from([1, 2]))
    kh, kw = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if is_conv else (1, 1)
    stride, dilation = ([draw(st.integers(1, 2)) for _ in range(2)] for _ in range(2))
    padding = [draw(st.integers(0, 2)) for _ in range(4)]
    h, w = draw(sizes), draw(sizes)
    out_h = (h + padding[0] + padding[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    out_w = (w + padding[1] + padding[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    assume(out_h > 0 and out_w > 0)
    shape = (outputs, kh, kw, depth) if is_conv else (outputs, depth)
    constants: dict[str, np.ndarray] = {}
    if x_quant is not None or draw(st.booleans()):
        bits = draw(st.integers(2, 8))
        constants["weight"] = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, np.int8)
        constants["scale"] = (rng.choice([-1, 1], outputs) * rng.uniform(1e-3, 0.1, outputs)).astype(np.float32)
        if draw(st.booleans()):
            constants["base"] = rng.integers(-20, 21, outputs).astype(np.int32)
    else:
        step = 1
        constants["weight"] = rng.standard_normal(shape).astype(np.float32)
    if draw(st.booleans()):
        constants["bias"] = rng.standard_normal(outputs).astype(np.float32)
    output = draw(maybe_quants) if x_quant is not None else None
    x_shape, y_shape = ((2, h, w, groups * depth), (2, out_h, out_w, outputs)) if is_conv else ((h, w, depth), (h, w, outputs))
    inputs = [tensor(rng, x_quant, *x_shape)]
    if draw(st.booleans()):
        inputs.append(tensor(rng, draw(maybe_quants) if x_quant is not None else None, *y_shape))
    attrs = {"step": step} | draw(activations)
    if is_conv:
        attrs |= {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return OneOp("conv2d" if is_conv else "linear", inputs, output, constants, attrs)


# ---- modules of random networks


def _draw_conv(draw: Draw, x: Shape) -> str | None:
    groups = one_of(draw, 1, 1, *divisors(x[1]))
    outputs = groups * draw(st.integers(1, max(1, 12 // groups)))
    kernel, dilation = pair(draw, 1, 4), pair(draw, 1, 2)
    padding, stride = (one_of(draw, 0, 1, kernel[0] // 2), one_of(draw, 0, 1, kernel[1] // 2)), pair(draw, 1, 3)
    if not fits(x[2:], kernel, padding, dilation):
        return None
    bias = draw(st.booleans())
    if draw(st.integers(0, 7)) == 7:
        return f"nn.Conv2d({x[1]}, {outputs}, {kernel}, padding='same', dilation={dilation}, groups={groups}, bias={bias})"
    return f"nn.Conv2d({x[1]}, {outputs}, {kernel}, {stride}, {padding}, {dilation}, {groups}, {bias})"


def _draw_conv3x3(draw: Draw, x: Shape) -> str | None:
    return f"nn.Conv2d({x[1]}, {one_of(draw, x[1], 2 * x[1], 16)}, 3, {one_of(draw, 1, 1, 2)}, 1)"


def _draw_depthwise(draw: Draw, x: Shape) -> str | None:
    return f"nn.Conv2d({x[1]}, {x[1]}, 3, {one_of(draw, 1, 2)}, 1, groups={x[1]}, bias={draw(st.booleans())})"


def _draw_linear(draw: Draw, x: Shape) -> str | None:
    return f"nn.Linear({x[-1]}, {draw(st.integers(1, 20))}, {draw(st.booleans())})" if x[-1] <= 4096 else None


def _draw_batch_norm(draw: Draw, x: Shape) -> str | None:
    return f"nn.BatchNorm{2 if len(x) == 4 else 1}d({x[1]})"


def _draw_conv_transpose(draw: Draw, x: Shape) -> str | None:
    groups = one_of(draw, 1, 1, *divisors(x[1]))
    kernel, stride, dilation = pair(draw, 1, 4), pair(draw, 1, 3), pair(draw, 1, 2)
    padding = (draw(st.integers(0, kernel[0] - 1)), draw(st.integers(0, kernel[1] - 1)))
    more = (draw(st.integers(0, stride[0] - 1)), draw(st.integers(0, stride[1] - 1)))
    outputs, bias = groups * draw(st.integers(1, max(1, 12 // groups))), draw(st.booleans())
    return f"nn.ConvTranspose2d({x[1]}, {outputs}, {kernel}, {stride}, {padding}, {more}, {groups}, {bias}, {dilation})"


def _draw_conv1d(draw: Draw, x: Shape) -> str | None:
    kernel = draw(st.integers(1, min(3, x[2])))
    return f"nn.Conv1d({x[1]}, {draw(st.integers(1, 12))}, {kernel}, {draw(st.integers(1, 2))}, {kernel // 2}, bias={draw(st.booleans())})"


FAMILY = Family(
    exact={"conv2d": _conv2d, "linear": _linear},
    cases=[*_INTEGER, *_FLOAT],
    nodes=_nodes(),
    kinds=[
        Kind("conv", ("conv2d",), (4,), _draw_conv),
        Kind("conv3x3", ("conv2d",), (4,), _draw_conv3x3),
        Kind("depthwise", ("conv2d",), (4,), _draw_depthwise),
        Kind("linear", ("linear",), (2, 3, 4), _draw_linear),
        Kind("batch_norm", ("affine", "conv2d", "linear"), (2, 4), _draw_batch_norm),
        Kind("conv_transpose", ("conv2d", "pixel_shuffle"), (4,), _draw_conv_transpose),
        Kind("conv1d", ("conv2d",), (3,), _draw_conv1d),
    ],
)
