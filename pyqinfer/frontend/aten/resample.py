"""Handlers of aten ops that move elements between channels and positions of an image, or give it another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import inner, known_size, operand, permuted, reshaped
from pyqinfer.frontend.aten.linear_maps import separable
from pyqinfer.frontend.aten.one_row import in_one_dimension
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _pixel_shuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, factor = operand(reader, a), int(a["upscale_factor"])
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    n, channels = x.shape[0], known_size(x, 1) // factor**2
    size = [d * factor if isinstance(d, int) else None for d in x.shape[2:]]
    attrs: dict[str, ir.Attr] = {"factor": (factor, factor), "crop": (0, 0, 0, 0), "order": "channels"}
    return reader.emit("pixel_shuffle", node, [x], (n, channels, *size), attrs)


def _regrouped(reader: GraphReader, node: Node, x: ir.Value, inside: ir.Shape, perm: Sequence[int], shape: ir.Shape) -> ir.Value:
    """``x`` under the shape ``inside``, its axes permuted, under ``shape``."""
    wide = inner(reshaped(reader, node, x, inside, "reshape"))
    y = reshaped(reader, node, inner(permuted(reader, node, wide, perm)), shape, "reshape")
    y.origin = node.name
    return y


def _pixel_unshuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, f = operand(reader, a), int(a["downscale_factor"])
    n, (c, h, w) = x.shape[0], (known_size(x, axis) for axis in (1, 2, 3))
    inside = (n, c, h // f, f, w // f, f)
    return _regrouped(reader, node, x, inside, (0, 1, 3, 5, 2, 4), (n, c * f * f, h // f, w // f))


def _channel_shuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, groups = operand(reader, a), int(a["groups"])
    n, _, *rest = x.shape
    inside = (n, groups, known_size(x, 1) // groups, *rest)
    return _regrouped(reader, node, x, inside, (0, 2, 1, *range(3, len(inside))), x.shape)


def _upsample(reader: GraphReader, node: Node, a: Arguments, mode: str) -> ir.Value:
    x = operand(reader, a)
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    scales = a.get("scale_factors") or [a.get("scales_h"), a.get("scales_w")]
    corners = bool(a.get("align_corners"))
    factor, step, shape = [0, 0], [0.0, 0.0], list(x.shape)
    size: list[int | str] = [0, 0]
    for i, dim in enumerate(x.shape[2:]):
        scale = scales[i]
        if a.get("output_size"):
            wanted = a["output_size"][i]
            if scale is not None and scale == int(scale) and not isinstance(dim, int):
                factor[i] = int(scale)
            else:
                size[i] = reader.size(wanted)
        elif isinstance(dim, int):
            size[i] = math.floor(dim * scale)
        elif scale == int(scale):
            factor[i] = int(scale)
        else:
            raise NotSupportedHere(f"a scale factor of {scale} for a dimension that is not known while converting")
        if scale is not None and not corners:
            step[i] = float(np.float32(1.0 / scale))
        shape[2 + i] = size[i] or (dim if factor[i] == 1 else None)
    attrs: dict[str, ir.Attr] = {
        "mode": mode,
        "align_corners": int(corners),
        "size": tuple(size),
        "factor": tuple(factor),
        "step": tuple(step),
    }
    return reader.emit("upsample", node, [x], tuple(shape), attrs)


def nearest(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The element that lies in front of each new one."""
    return _upsample(reader, node, a, "nearest")


def _nearest_exact(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The element under the centre of each new one; for whole factors that is the one that ``nearest`` takes."""
    x = operand(reader, a)
    sizes, scales = x.shape[2:], a.get("scale_factors") or [a.get("scales_h"), a.get("scales_w")]
    outputs = a.get("output_size") or [None, None]
    if all(_is_whole(*factor) for factor in zip(sizes, outputs, scales, strict=True)):
        return nearest(reader, node, a)
    y: ir.Value = separable(2)(reader, node, a)
    return y


def _is_whole(size: ir.Dim, output: Any, scale: float | None) -> bool:
    """Whether a dimension grows by a whole factor."""
    if isinstance(size, int) and isinstance(output, int):
        return output % size == 0
    return scale is not None and scale % 1 == 0


def _bilinear(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _upsample(reader, node, a, "bilinear")


HANDLERS: dict[str, Handler] = {
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "upsample_nearest1d": in_one_dimension(nearest),
    "upsample_nearest2d": nearest,
    "_upsample_nearest_exact1d": in_one_dimension(_nearest_exact),
    "_upsample_nearest_exact2d": _nearest_exact,
    "upsample_linear1d": in_one_dimension(_bilinear),
    "upsample_bilinear2d": _bilinear,
}
