"""Ops that move elements, or resize images."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from op_rows.drawing import divisors, fits, one_of, pair
from op_rows.exact import fill, from_bits, operand
from op_rows.exact_scalar import add, mul, quotient
from op_rows.family import Case, Draw, Family, Kind, Shape
from op_rows.one_op import OneOp, Quant
from op_rows.random_nodes import generator, maybe_quants, quants, sizes, tensor
from op_rows.stream import INF_BITS, MINUS_1_BITS, NARROW, SPECIAL, U4, U8, U8B


def _concat(node: OneOp) -> np.ndarray:
    axis, arrays = node.attrs["axis"], [array for array, _ in node.inputs]
    starts = [sum(array.shape[axis] for array in arrays[:i]) for i in range(len(arrays))]
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)

    def element(*index: int) -> float:
        i = max(k for k, start in enumerate(starts) if start <= index[axis])
        return operand(node, i, (*index[:axis], index[axis] - starts[i], *index[axis + 1 :]))

    return fill(node, shape, element)


def _slice(node: OneOp) -> np.ndarray:
    a, (x, _) = node.attrs, node.inputs[0]
    kept = [i for i in range(x.shape[a["axis"]]) if a["start"] <= i < a["end"] and (i - a["start"]) % a["step"] == 0]
    return x.take(kept, a["axis"])


def _pad(node: OneOp) -> np.ndarray:
    a, (x, q) = node.attrs, node.inputs[0]
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


def _expand(node: OneOp) -> np.ndarray:
    x, _ = node.inputs[0]
    y = np.empty([d or n for d, n in zip(node.attrs["shape"], x.shape, strict=True)], x.dtype)
    for index in itertools.product(*map(range, y.shape)):
        y[index] = x[tuple(0 if n == 1 else i for i, n in zip(index, x.shape, strict=True))]
    return y


def _pixel_shuffle(node: OneOp) -> np.ndarray:
    a, (x, _) = node.attrs, node.inputs[0]
    (fh, fw), (top, left, bottom, right) = a["factor"], a["crop"]
    n, h, w, channels = x.shape
    count = channels // (fh * fw)
    y = np.empty((n, max(h * fh - top - bottom, 0), max(w * fw - left - right, 0), count), x.dtype)
    for image, i, j, c in itertools.product(*map(range, y.shape)):
        (row, phase), (column, part) = divmod(i + top, fh), divmod(j + left, fw)
        channel = (phase * fw + part) * count + c if a["order"] == "pixels" else (c * fh + phase) * fw + part
        y[image, i, j, c] = x[image, row, column, channel]
    return y


def _upsample(node: OneOp) -> np.ndarray:
    a, (x, _) = node.attrs, node.inputs[0]
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
        rows = [(w, [mul(v, operand(node, 0, (image, r, s, c))) for s, v in taps(1, j)]) for r, w in taps(0, i)]
        (w0, above), (w1, below) = rows
        return add(mul(w0, add(*above)), mul(w1, add(*below)))

    return fill(node, (x.shape[0], *sizes, x.shape[3]), element)


# ---- golden cases

_LAST = 2**31 - 1
_MIRRORED = {"mode": "reflect", "before": [0, 2, 1, 0], "after": [0, 1, 3, 0], "value": 0}
_NEAREST = {"mode": "nearest", "align_corners": 0, "size": [0, 0], "factor": [2, 3], "step": [0, 0]}
_BILINEAR = _NEAREST | {"mode": "bilinear"}
_THIRD = 0x3EAAAAAB  # f32(1/3)


def _upsample_case(name: str, attrs: dict[str, Any], shape: tuple[int, ...] = (), out: Quant | None = None) -> Case:
    """An upsample of floats of this shape, or of a small image of codes where there is none."""
    return Case(
        f"upsample: {name}",
        lambda d: OneOp("upsample", [(d.floats(*shape), None) if shape else (d.codes(1, 3, 4, 2), U8)], out, attrs=attrs),
    )


_CASES = [
    Case("transpose", lambda d: OneOp("transpose", [(d.codes(2, 3, 4), U8)], attrs={"perm": [2, 0, 1]})),
    Case("reshape with an inferred dimension", lambda d: OneOp("reshape", [(d.floats(2, 3, 4), None)], attrs={"shape": [4, "?"]})),
    Case(
        "concat: codes of three parameters",
        lambda d: OneOp("concat", [(d.codes(2, 3, q=q), q) for q in (U8, U8B, U4)], U8B, attrs={"axis": 1}),
    ),
    Case(
        "concat: to few bits",
        lambda d: OneOp("concat", [(d.codes(30), U8), (d.codes(30, q=NARROW), NARROW)], U4, attrs={"axis": 0}),
    ),
    Case("concat: floats", lambda d: OneOp("concat", [(d.floats(2, n, 3), None) for n in (1, 4)], attrs={"axis": 1})),
    Case(
        "slice: every second",
        lambda d: OneOp("slice", [(d.codes(2, 9, 3), U8)], attrs={"axis": 1, "start": 1, "end": 8, "step": 2}),
    ),
    Case("slice: to the end", lambda d: OneOp("slice", [(d.floats(2, 5), None)], attrs={"axis": 1, "start": 2, "end": _LAST, "step": 1})),
    Case(
        "pad: codes",
        lambda d: OneOp("pad", [(d.codes(2, 2, 3), U8)], attrs={"mode": "constant", "before": [0, 1, 2], "after": [1, 0, 1], "value": 117}),
    ),
    Case("pad: floats, reflect", lambda d: OneOp("pad", [(d.floats(1, 3, 4, 2), None)], attrs=_MIRRORED)),
    Case("pad: codes, replicate", lambda d: OneOp("pad", [(d.codes(1, 3, 4, 2), U8)], attrs=_MIRRORED | {"mode": "replicate"})),
    Case(
        "pad: minus infinity",
        lambda d: OneOp("pad", [(d.floats(3), None)], attrs={"mode": "constant", "before": [1], "after": [1], "value": INF_BITS | 1 << 31}),
    ),
    Case(
        "pixel_shuffle: torch's order",
        lambda d: OneOp("pixel_shuffle", [(d.codes(2, 3, 2, 12), U8)], attrs={"factor": [2, 3], "crop": [0, 0, 0, 0], "order": "channels"}),
    ),
    Case(
        "pixel_shuffle: pixels, less a border",
        lambda d: OneOp(
            "pixel_shuffle", [(d.floats(1, 3, 2, 12), None)], attrs={"factor": [3, 2], "crop": [1, 0, 4, 1], "order": "pixels"}
        ),
    ),
    Case("constant", lambda d: OneOp("constant", [(d.floats(1), None)], constants={"value": d.floats(2, 3)})),
    Case("expand", lambda d: OneOp("expand", [(d.codes(1, 3, 1, 2), U8)], attrs={"shape": [2, 0, 4, 0]})),
    _upsample_case("nearest, factors", _NEAREST),
    _upsample_case("nearest to a size", _NEAREST | {"size": [3, 10], "factor": [0, 0]}, (1, 5, 7, 1)),
    _upsample_case("nearest by a step", _NEAREST | {"size": [7, 10], "factor": [0, 0], "step": [_THIRD] * 2}),
    _upsample_case("bilinear, codes", _BILINEAR, out=U8B),
    _upsample_case("bilinear, codes to float, corners", _BILINEAR | {"align_corners": 1}),
    _upsample_case("bilinear, smaller, by a step", _BILINEAR | {"size": [3, 9], "factor": [0, 0], "step": [0, _THIRD]}, (2, 7, 5, 2), U8),
    Case(
        "upsample: bilinear, special floats",
        lambda d: OneOp("upsample", [(np.array(SPECIAL, np.float32).reshape(1, 3, 4, 1), None)], attrs=_BILINEAR),
    ),
    _upsample_case("bilinear to one row", _BILINEAR | {"size": [1, 4], "factor": [0, 0], "align_corners": 1}),
]


# ---- random nodes


@st.composite
def _nodes(draw: st.DrawFn) -> OneOp:
    rng = generator(draw)
    op = draw(st.sampled_from(["transpose", "reshape", "concat", "slice", "pad", "upsample", "pixel_shuffle", "expand", "constant"]))
    shape, quant = [draw(sizes) for _ in range(4)], draw(maybe_quants)
    x, axis = tensor(rng, quant, *shape), draw(st.integers(0, 3))
    if op == "transpose":
        return OneOp(op, [x], attrs={"perm": draw(st.permutations(range(4)))})
    if op == "reshape":
        return OneOp(op, [x], attrs={"shape": [shape[0], "?", shape[3]]})
    if op == "constant":
        return OneOp(op, [tensor(rng, None, 1)], constants={"value": rng.standard_normal(shape).astype(np.float32)})
    if op == "concat":
        inputs = [x]
        for _ in range(draw(st.integers(0, 3))):
            shape[axis] = draw(sizes)
            inputs.append(tensor(rng, None if quant is None else draw(quants()), *shape))
        return OneOp(op, inputs, None if quant is None else draw(quants()), {}, {"axis": axis})
    if op == "expand":
        target = [draw(st.integers(1, 4)) if n == 1 else draw(st.sampled_from([0, n])) for n in shape]
        return OneOp(op, [x], None, {}, {"shape": target})
    if op == "slice":
        start = draw(st.integers(0, shape[axis] - 1))
        end = draw(st.sampled_from([start + 1, shape[axis], _LAST]))
        return OneOp(op, [x], None, {}, {"axis": axis, "start": start, "end": end, "step": draw(st.integers(1, 4))})
    if op == "pad":
        mode = draw(st.sampled_from(["constant", "reflect", "replicate"]))
        before, after = ([draw(st.integers(0, min(3, n - 1) if mode == "reflect" else 3)) for n in shape] for _ in range(2))
        value = 0 if mode != "constant" else MINUS_1_BITS if quant is None else draw(st.integers(quant.qmin, quant.qmax))
        return OneOp(op, [x], None, {}, {"mode": mode, "before": before, "after": after, "value": value})
    if op == "pixel_shuffle":
        factor, crop = [draw(st.integers(1, 3)) for _ in range(2)], [draw(st.integers(0, 2)) for _ in range(4)]
        assume(all(shape[1 + i] * factor[i] > crop[i] + crop[2 + i] for i in range(2)))
        shape[3] *= factor[0] * factor[1]
        attrs = {"factor": factor, "crop": crop, "order": draw(st.sampled_from(["channels", "pixels"]))}
        return OneOp(op, [tensor(rng, quant, *shape)], None, {}, attrs)
    by_size, corners = ([draw(st.booleans()) for _ in range(2)] for _ in range(2))
    attrs = {
        "size": [draw(st.integers(1, 20)) if b else 0 for b in by_size],
        "factor": [0 if b else draw(st.integers(1, 4)) for b in by_size],
    }
    if draw(st.booleans()):
        return OneOp(op, [x], quant, {}, attrs | {"mode": "nearest", "align_corners": 0, "step": [0, _THIRD]})
    attrs |= {"align_corners": int(corners[0]), "step": [0 if corners[0] or not corners[1] else 0x3F19999A, 0]}
    return OneOp(op, [x], draw(maybe_quants), {}, attrs | {"mode": "bilinear"})


# ---- modules of random networks


def _draw_flatten(draw: Draw, x: Shape) -> str | None:
    return one_of(draw, "nn.Flatten()", "Method('reshape', -1)")


def _draw_unflatten(draw: Draw, x: Shape) -> str | None:
    height = one_of(draw, *divisors(x[1]))
    width = one_of(draw, *divisors(x[1] // height))
    return f"Method('reshape', {x[1] // height // width}, {height}, {width})"


def _draw_upsample(draw: Draw, x: Shape) -> str | None:
    size = one_of(draw, "scale_factor=2", "scale_factor=2", "scale_factor=(3, 2)", f"size=({x[2] + 3}, {2 * x[3] + 1})")
    mode = one_of(draw, "mode='nearest'", "mode='bilinear'", "mode='bilinear', align_corners=True")
    return f"nn.Upsample({size}, {mode})"


def _draw_pad(draw: Draw, x: Shape) -> str | None:
    top, left = draw(st.integers(0, min(2, x[2] - 1))), draw(st.integers(0, min(2, x[3] - 1)))
    sides = (left, draw(st.integers(0, left)), top, draw(st.integers(0, top)))
    if not any(sides):
        return None  # the input itself, which the engine refuses as an output
    return one_of(
        draw, f"nn.ZeroPad2d({sides})", f"nn.ReflectionPad2d({sides})", f"nn.ReplicationPad2d({sides})", f"nn.ConstantPad2d({sides}, 0.5)"
    )


def _draw_shuffle(draw: Draw, x: Shape) -> str | None:
    names = [f"nn.ChannelShuffle({groups})" for groups in divisors(x[1])[1:-1]]
    if x[1] % 4 == 0:
        names.append("nn.PixelShuffle(2)")
    if x[2] % 2 == 0 and x[3] % 2 == 0:
        names.append("nn.PixelUnshuffle(2)")
    return one_of(draw, *names) if names else None


def _draw_slice(draw: Draw, x: Shape) -> str | None:
    axis = draw(st.integers(1, len(x) - 1))
    if x[axis] == 1:
        return None  # all of it would be the operand itself, which is no output
    begin = draw(st.integers(1, x[axis] - 1))
    return f"Slice({axis}, {begin}, {draw(st.integers(begin + 1, x[axis]))}, {one_of(draw, 1, 1, 2)})"


def _draw_select(draw: Draw, x: Shape) -> str | None:
    axis = draw(st.integers(1, len(x) - 1))
    return f"Select({axis}, {one_of(draw, 0, x[axis] - 1, -1)})"


def _draw_chunk(draw: Draw, x: Shape) -> str | None:
    several = [d for d in divisors(x[1]) if 1 < d <= 4]
    if not several:
        return None
    pieces = one_of(draw, *several)
    return f"Chunk({pieces}, {draw(st.integers(-1, pieces - 1))})"


def _draw_permute(draw: Draw, x: Shape) -> str | None:
    order = draw(st.permutations(range(1, len(x))))
    return None if order == sorted(order) else f"Call(torch.permute, {(0, *order)})"


def _draw_unsqueeze(draw: Draw, x: Shape) -> str | None:
    return f"Call(torch.unsqueeze, {draw(st.integers(1, len(x)))})"


def _draw_windows(draw: Draw, x: Shape) -> str | None:
    kernel, stride, padding = pair(draw, 1, 3), pair(draw, 1, 2), pair(draw, 0, 1)
    if not fits(x[2:], kernel, padding, (1, 1)):
        return None
    return f"nn.Unfold({kernel}, padding={padding}, stride={stride})"


def _draw_resample(draw: Draw, x: Shape) -> str | None:
    size = (x[2] + draw(st.integers(1, 3)), max(1, x[3] - draw(st.integers(0, 3))))
    return f"nn.Upsample({size}, mode='bicubic', align_corners={one_of(draw, True, False)})"


def _draw_diagonal(draw: Draw, x: Shape) -> str | None:
    return f"Call(torch.diagonal, {draw(st.integers(1 - x[2], x[3] - 1))}, 2, 3)"


def _cats(a: Shape, b: Shape) -> bool:
    return len(a) == len(b) and a[0] == b[0] and a[2:] == b[2:]


FAMILY = Family(
    exact={
        "transpose": lambda node: np.transpose(node.inputs[0][0], node.attrs["perm"]),
        "reshape": lambda node: node.inputs[0][0].reshape([-1 if d == "?" else d for d in node.attrs["shape"]]),
        "concat": _concat,
        "slice": _slice,
        "pad": _pad,
        "upsample": _upsample,
        "pixel_shuffle": _pixel_shuffle,
        "constant": lambda node: node.constants["value"],
        "expand": _expand,
    },
    cases=_CASES,
    nodes=_nodes(),
    kinds=[
        Kind("flatten", ("reshape",), (3, 4), _draw_flatten),
        Kind("unflatten", ("reshape",), (2,), _draw_unflatten),
        Kind("upsample", ("upsample",), (4,), _draw_upsample),
        Kind("pad", ("pad",), (4,), _draw_pad),
        Kind("shuffle", ("pixel_shuffle", "transpose", "reshape"), (4,), _draw_shuffle),
        Kind("slice", ("slice",), (2, 3, 4), _draw_slice),
        Kind("select", ("slice", "reshape"), (3, 4), _draw_select),
        Kind("chunk", ("slice", "concat"), (2, 3, 4), _draw_chunk),
        Kind("permute", ("transpose",), (3, 4), _draw_permute),
        Kind("unsqueeze", ("reshape",), (2, 3), _draw_unsqueeze),
        Kind("tokens", ("reshape", "transpose"), (4,), lambda draw, x: "Call(tokens)"),
        Kind("class_token", ("constant", "expand", "concat"), (3,), lambda draw, x: f"ClassToken({x[2]})"),
        Kind("windows", ("slice", "concat", "pad", "reshape", "transpose"), (4,), _draw_windows),
        Kind("resample", ("linear", "transpose"), (4,), _draw_resample),
        Kind("diagonal", ("reshape", "slice"), (4,), _draw_diagonal),
        Kind("concat", ("concat",), (2, 3, 4), lambda draw, x: "Call(cat, 1)", _cats),
    ],
)
