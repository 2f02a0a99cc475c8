"""Operations that move elements and resize images (docs/numerics.md, "Movement and space")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, dequantize, float_attribute, store
from pyqinfer.reference.rounding import F32


def transpose(node: NodeArgs) -> Tensor:
    x = node.inputs[0]
    return Tensor(x.data.transpose(node.attrs["perm"]), x.quant)


def reshape(node: NodeArgs) -> Tensor:
    x = node.inputs[0]
    names = {**node.symbols, "?": -1}
    return Tensor(x.data.reshape([names[d] if isinstance(d, str) else d for d in node.attrs["shape"]]), x.quant)


def concat(node: NodeArgs) -> Tensor:
    def piece(x: Tensor) -> Tensor:
        same = x.quant is None or x.quant == node.output
        return x if same else store(dequantize(x), node.output)

    return Tensor(np.concatenate([piece(x).data for x in node.inputs], node.attrs["axis"]), node.output)


def slice_axis(node: NodeArgs) -> Tensor:
    a, x = node.attrs, node.inputs[0]
    index = [slice(None)] * x.data.ndim
    start, end = (node.symbols[at] if isinstance(at, str) else at for at in (a["start"], a["end"]))
    index[a["axis"]] = slice(start, end, a["step"])
    return Tensor(x.data[tuple(index)], x.quant)


def pad(node: NodeArgs) -> Tensor:
    a, x = node.attrs, node.inputs[0]
    amounts = list(zip(a["before"], a["after"], strict=True))
    if a["mode"] == "constant":
        value = np.float32(float_attribute(a["value"])) if x.quant is None else a["value"]
        return Tensor(np.pad(x.data, amounts, constant_values=value), x.quant)
    return Tensor(np.pad(x.data, amounts, mode="reflect" if a["mode"] == "reflect" else "edge"), x.quant)


def constant(node: NodeArgs) -> Tensor:
    return Tensor(node.constants["value"])


def expand(node: NodeArgs) -> Tensor:
    x = node.inputs[0]
    sizes = [node.symbols[d] if isinstance(d, str) else d for d in node.attrs["shape"]]
    return Tensor(np.broadcast_to(x.data, [d or n for d, n in zip(sizes, x.data.shape, strict=True)]), x.quant)


def pixel_shuffle(node: NodeArgs) -> Tensor:
    a, x = node.attrs, node.inputs[0]
    n, h, w, channels = x.data.shape
    fh, fw = a["factor"]
    top, left, bottom, right = a["crop"]
    if a["order"] == "pixels":
        parts = x.data.reshape(n, h, w, fh, fw, channels // (fh * fw)).transpose(0, 1, 3, 2, 4, 5)
    else:
        parts = x.data.reshape(n, h, w, channels // (fh * fw), fh, fw).transpose(0, 1, 4, 2, 5, 3)
    y = parts.reshape(n, h * fh, w * fw, -1)
    return Tensor(y[:, top : max(h * fh - bottom, top), left : max(w * fw - right, left)], x.quant)


def upsample(node: NodeArgs) -> Tensor:
    a, x = node.attrs, node.inputs[0]
    lengths = x.data.shape[1:3]
    wanted = [node.symbols[size] if isinstance(size, str) else size for size in a["size"]]
    sizes = [size or factor * n for size, factor, n in zip(wanted, a["factor"], lengths, strict=True)]
    steps = [_step(n, out, bits, bool(a["align_corners"])) for n, out, bits in zip(lengths, sizes, a["step"], strict=True)]
    if a["mode"] == "nearest":
        rows, columns = (_nearest(out, step, n) for out, step, n in zip(sizes, steps, lengths, strict=True))
        return Tensor(x.data[:, rows][:, :, columns], x.quant)
    return store(_bilinear(dequantize(x), sizes, steps, bool(a["align_corners"])), node.output)


def _step(length: int, out: int, bits: int, align_corners: bool) -> np.float32:
    if align_corners:
        return np.float32(length - 1) / np.float32(out - 1) if out > 1 else np.float32(0)
    return np.float32(float_attribute(bits)) if bits else np.float32(length) / np.float32(out)


def _nearest(out: int, step: np.float32, length: int) -> NDArray[np.int64]:
    at = np.floor(np.arange(out).astype(np.float32) * step)
    return _at_most(at, length - 1)


def _at_most(at: F32, last: int) -> NDArray[np.int64]:
    """Compute ``min(floor(at), last)``, compared as floats."""
    inside = at < np.float32(last)
    return np.where(inside, np.where(inside, at, 0).astype(np.int64), last)


def _bilinear(x: F32, sizes: Sequence[int], steps: Sequence[np.float32], align_corners: bool) -> F32:
    first, second, w0, w1 = [], [], [], []
    for axis, (out, step) in enumerate(zip(sizes, steps, strict=True)):
        last, i, half = x.shape[1 + axis] - 1, np.arange(out).astype(np.float32), np.float32(0.5)
        at = np.maximum(step * i if align_corners else step * (i + half) - half, np.float32(0))
        low = _at_most(at, last)
        weight = np.clip(at - low.astype(np.float32), np.float32(0), np.float32(1))
        first.append(low)
        second.append(np.minimum(low + 1, last))
        w1.append(weight)
        w0.append(np.float32(1) - weight)

    def row(r: NDArray[np.int64]) -> F32:
        y: F32 = w0[1][:, None] * x[:, r][:, :, first[1]] + w1[1][:, None] * x[:, r][:, :, second[1]]
        return y

    result: F32 = w0[0][:, None, None] * row(first[0]) + w1[0][:, None, None] * row(second[0])
    return result


OPS: Mapping[str, Op] = {
    "transpose": transpose,
    "reshape": reshape,
    "concat": concat,
    "slice": slice_axis,
    "pad": pad,
    "upsample": upsample,
    "pixel_shuffle": pixel_shuffle,
    "constant": constant,
    "expand": expand,
}
