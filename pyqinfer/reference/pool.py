"""Pools and means (docs/numerics.md, "Other operations")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.quantize import Tensor, centred, store
from pyqinfer.reference.rounding import F32, f32
from pyqinfer.reference.windows import count, patches

# A window along one axis: [first, last) of its positions that lie in the image, and how many positions count.
Window = tuple[int, int, int]


def max_pool2d(node: NodeArgs) -> Tensor:
    x = node.inputs[0]
    a = node.attrs
    # Padding does not take part: no code is below 0, and a float is greater than -inf or changes nothing.
    fill = np.float32(-np.inf) if x.quant is None else np.uint8(0)
    view = patches(x.data, tuple(a["kernel"]), tuple(a["stride"]), tuple(a["padding"]), tuple(a["dilation"]), bool(a["ceil_mode"]), fill)
    best = np.full_like(view[:, :, :, 0, 0], fill)
    for i in range(view.shape[3]):
        for j in range(view.shape[4]):
            v = view[:, :, :, i, j]
            best = np.where((v > best) | np.isnan(v), v, best)
    return Tensor(best, x.quant)


def avg_pool2d(node: NodeArgs) -> Tensor:
    a = node.attrs
    _, height, width, _ = node.inputs[0].data.shape
    top, left, bottom, right = a["padding"]
    ceil_mode, with_padding = bool(a["ceil_mode"]), bool(a["count_include_pad"])
    rows = _pool_windows(height, a["kernel"][0], a["stride"][0], top, bottom, ceil_mode, with_padding)
    columns = _pool_windows(width, a["kernel"][1], a["stride"][1], left, right, ceil_mode, with_padding)
    return _average(node, rows, columns)


def adaptive_avg_pool2d(node: NodeArgs) -> Tensor:
    _, height, width, _ = node.inputs[0].data.shape
    out_h, out_w = node.attrs["output"]
    return _average(node, _adaptive_windows(height, out_h), _adaptive_windows(width, out_w))


def mean(node: NodeArgs) -> Tensor:
    _, height, width, _ = node.inputs[0].data.shape
    y = _average(node, [(0, height, height)], [(0, width, width)])
    return y if node.attrs["keepdim"] else Tensor(y.data[:, 0, 0, :], y.quant)


def reduce(node: NodeArgs) -> Tensor:
    x, axes = node.inputs[0], node.attrs["axes"]
    values: NDArray[Any] = x.data if x.quant is None else centred(x)
    kept = [i for i in range(values.ndim) if i not in axes]
    elements = values.transpose([*kept, *axes]).reshape(prod(values.shape[i] for i in kept), -1, 1)
    n, function = elements.shape[1], node.attrs["function"]
    if function == "amax":
        largest: NDArray[Any] = elements[:, 0]
        for i in range(1, n):  # of equal elements the first one stays, because zeros have signs
            v = elements[:, i]
            largest = np.where((v > largest) | np.isnan(v), v, largest)
        y = f32(largest) if x.quant is None else f32(largest) * x.quant.scale
    elif x.quant is None:
        y = sum16(elements) / np.float32(n) if function == "mean" else sum16(elements)
    else:
        factor = f32(np.float64(x.quant.scale) / n) if function == "mean" else x.quant.scale
        y = f32(elements.sum(1, dtype=np.int64)) * factor
    shape = [1 if i in axes else d for i, d in enumerate(values.shape) if node.attrs["keepdim"] or i not in axes]
    return store(f32(y).reshape(shape), node.output)


def cumsum(node: NodeArgs) -> Tensor:
    x = np.moveaxis(node.inputs[0].data, node.attrs["axis"], 0)
    if x.dtype == np.int32:
        sums = np.cumsum(x, 0, dtype=np.int64).astype(np.uint32).view(np.int32)
        return Tensor(np.moveaxis(sums, 0, node.attrs["axis"]))
    y = np.empty_like(x)
    total = np.zeros(x.shape[1:], np.float32)
    for i, elements in enumerate(x):
        total = f32(total + elements)
        y[i] = total
    return Tensor(np.moveaxis(y, 0, node.attrs["axis"]))


def _pool_windows(length: int, kernel: int, stride: int, before: int, after: int, ceil_mode: bool, with_padding: bool) -> list[Window]:
    windows = []
    for i in range(count(length, kernel, stride, before, after, 1, ceil_mode)):
        start = i * stride - before
        end = min(start + kernel, length + after)
        first, last = max(start, 0), min(end, length)
        windows.append((first, last, end - start if with_padding else last - first))
    return windows


def _adaptive_windows(length: int, out: int) -> list[Window]:
    bounds = [(i * length // out, -(-(i + 1) * length // out)) for i in range(out)]
    return [(first, last, last - first) for first, last in bounds]


def _average(node: NodeArgs, rows: Sequence[Window], columns: Sequence[Window]) -> Tensor:
    x = node.inputs[0]
    values: NDArray[Any] = x.data if x.quant is None else centred(x)
    y = np.empty((values.shape[0], len(rows), len(columns), values.shape[3]), np.float32)
    for i, (top, bottom, count_h) in enumerate(rows):
        for j, (left, right, count_w) in enumerate(columns):
            window = values[:, top:bottom, left:right]
            n = count_h * count_w
            if x.quant is None:
                y[:, i, j] = sum16(window.reshape(window.shape[0], -1, window.shape[3])) / np.float32(n)
            else:
                y[:, i, j] = f32(window.sum((1, 2), dtype=np.int64)) * f32(np.float64(x.quant.scale) / n)
    return store(y, node.output)


def sum16(elements: F32) -> F32:
    """Sum ``[N, E, C]`` over E in 16 lanes and a fixed tree; gives ``[N, C]``."""
    n, e, c = elements.shape
    # Zeros that fill the last round change no lane: a lane starts at +0, so it never is -0.
    rounds = np.zeros((n, -(-e // 16), 16, c), np.float32)
    rounds.reshape(n, -1, c)[:, :e] = elements
    lanes = np.zeros((n, 16, c), np.float32)
    for k in range(rounds.shape[1]):
        lanes = lanes + rounds[:, k]
    for half in (8, 4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half : 2 * half]
    return lanes[:, 0]


OPS: Mapping[str, Op] = {
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "adaptive_avg_pool2d": adaptive_avg_pool2d,
    "mean": mean,
    "reduce": reduce,
    "cumsum": cumsum,
}
