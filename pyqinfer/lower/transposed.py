"""A transposed convolution of stride s is a convolution of stride 1 with s*s times the channels, whose pixels are then put side by side.

Output position u = o + padding along one axis is position m = u div s of phase r = u mod s, and sums over input[m - j] * w[r + j*s].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ir import Attr, Graph, Node, Value, Weight, numbers


def expand_transposed(graph: Graph) -> None:
    """Exchange every ``conv_transpose2d`` for ``conv2d`` and, where there is anything to put side by side or cut off, ``pixel_shuffle``."""
    nodes: list[Node] = []
    for node in graph.nodes:
        nodes += _expanded(node) if node.op == "conv_transpose2d" else [node]
    graph.nodes = nodes


@dataclass(frozen=True)
class _Axis:
    """Height or width of the convolution that takes the place: its ``taps``, its padding, and what is cut off behind it."""

    taps: int
    before: int
    after: int
    crop_before: int
    crop_after: int


def _axis(kernel: int, stride: int, padding: int, output_padding: int) -> _Axis:
    taps = -(-kernel // stride)
    skipped = min(padding // stride, taps - 1)  # how many positions m lie in the border altogether
    missing = kernel + output_padding - stride - padding
    after = max(0, -(-missing // stride))
    return _Axis(taps, taps - 1 - skipped, after, padding - skipped * stride, stride * after - missing)


def _expanded(node: Node) -> list[Node]:
    stride, padding, dilation, more = (numbers(node, key) for key in ("stride", "padding", "dilation", "output_padding"))
    groups, weight = node.attrs["groups"], node.constants["weight"]
    codes = weight.codes if isinstance(weight, Weight) else weight
    kernel = [d * (k - 1) + 1 for k, d in zip(codes.shape[2:], dilation, strict=True)]
    rows, columns = (_axis(*pieces) for pieces in zip(kernel, stride, padding, more, strict=True))
    order = "pixels" if groups == 1 else "channels"
    constants = dict(node.constants)
    constants["weight"] = _phases(weight, dilation, stride, (rows.taps, columns.taps), order)
    if "bias" in constants:
        constants["bias"] = _per_phase(np.asarray(constants["bias"]), stride[0] * stride[1], order)
    crop = (rows.crop_before, columns.crop_before, rows.crop_after, columns.crop_after)
    attrs = {key: value for key, value in node.attrs.items() if key in ("groups", "lo", "hi")}
    attrs |= {"stride": (1, 1), "dilation": (1, 1), "padding": (rows.before, columns.before, rows.after, columns.after)}
    if stride == (1, 1) and not any(crop):
        return [Node("conv2d", node.name, node.inputs, node.output, attrs, constants, node.source)]
    n, channels, *_ = node.output.shape
    assert isinstance(channels, int)
    wide = Value(node.name, (n, channels * stride[0] * stride[1], None, None), node.output.quant)
    shuffle: dict[str, Attr] = {"factor": stride, "crop": crop, "order": order}
    return [
        Node("conv2d", node.name, node.inputs, wide, attrs, constants, node.source),
        Node("pixel_shuffle", f"{node.name}.pixels", [wide], node.output, shuffle, {}, node.source),
    ]


def _phases(weight: Weight | NDArray[Any], dilation: Sequence[int], stride: Sequence[int], taps: Sequence[int], order: str) -> Any:
    """Make weights [O*sh*sw, I/groups, taps...] of [O, I/groups, kh, kw], each phase's taps in reverse."""
    if isinstance(weight, Weight):
        zero = _zero_codes(
            weight, all(d == 1 and k == s * t for d, k, s, t in zip(dilation, weight.codes.shape[2:], stride, taps, strict=True))
        )
        if zero is None:
            return _phases(weight.expand(), dilation, stride, taps, order)
        count = stride[0] * stride[1]
        base = None if weight.base is None else _per_phase(weight.base, count, order)
        codes = _arrange(weight.codes, zero, dilation, stride, taps, order)
        return replace(weight, codes=codes, scale=_per_phase(weight.scale, count, order), base=base)
    return _arrange(weight, np.zeros(len(weight), weight.dtype), dilation, stride, taps, order)


def _zero_codes(weight: Weight, unused: bool) -> NDArray[np.int8] | None:
    """Give the code of each channel that stands for 0, for taps that no weight falls on; None where there is none and it is needed."""
    if weight.base is None or unused:
        return np.zeros(len(weight.codes), np.int8)
    zero = -weight.base // weight.step
    reach = 1 if weight.ternary else 1 << (weight.bits - 1)
    exact = zero * weight.step == -weight.base
    fits = (zero >= -reach) & (zero < (reach + 1 if weight.ternary else reach))
    return zero.astype(np.int8) if bool(np.all(exact & fits)) else None


def _arrange(
    weight: NDArray[Any], zero: NDArray[Any], dilation: Sequence[int], stride: Sequence[int], taps: Sequence[int], order: str
) -> NDArray[Any]:
    outputs, inputs, kh, kw = weight.shape
    spread = [s * t for s, t in zip(stride, taps, strict=True)]
    full = np.broadcast_to(zero.reshape(-1, 1, 1, 1), (outputs, inputs, *spread)).copy()
    full[:, :, : dilation[0] * (kh - 1) + 1 : dilation[0], : dilation[1] * (kw - 1) + 1 : dilation[1]] = weight
    parts = full.reshape(outputs, inputs, taps[0], stride[0], taps[1], stride[1])[:, :, ::-1, :, ::-1]
    # The phases of [O, I, th, sh, tw, sw] become channels of conv2d.
    axes = (3, 5, 0, 1, 2, 4) if order == "pixels" else (0, 3, 5, 1, 2, 4)
    return parts.transpose(axes).reshape(-1, inputs, *taps)


def _per_phase(values: NDArray[Any], count: int, order: str) -> NDArray[Any]:
    return np.tile(values, count) if order == "pixels" else np.repeat(values, count)
