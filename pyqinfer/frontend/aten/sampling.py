"""Handlers of aten ops that read images at places which are numbers only in a run, written as torch functions of known ops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.aten.linear_maps import sampled_at_constants
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere

_BILINEAR, _NEAREST = 0, 1
_ZEROS, _BORDER = 0, 1


def _grid_sample(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Elements between others, at constant places by a matrix, at computed ones by four lookups."""
    if (found := sampled_at_constants(reader, node, a)) is not None:
        return found
    if len(reader.activation(a["input"], "input").shape) != 4 or a["interpolation_mode"] not in (_BILINEAR, _NEAREST):
        raise NotSupportedHere("reads volumes, or bicubically, at places that are computed from the input")
    return composed(reader, node, _sampled, a)


def _sampled(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
    """torch's grid_sample over images [N, C, H, W] at places [N, rows, columns, 2] between -1 and 1, horizontal first."""
    height, width = input.shape[2:]
    x, y = (
        _inside(_in_pixels(grid[..., i], size, align_corners), size, padding_mode, align_corners) for i, size in ((0, width), (1, height))
    )
    flat = input.flatten(2)
    if interpolation_mode == _NEAREST:
        return _looked_up(flat, y.round(), x.round(), height, width, padding_mode)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    corners = [(i, j, (down if i else 1 - down) * (right if j else 1 - right)) for i in (0, 1) for j in (0, 1)]
    first, *rest = (_looked_up(flat, top + i, left + j, height, width, padding_mode) * w.unsqueeze(1) for i, j, w in corners)
    total = first
    for part in rest:
        total = total + part
    return total


def _in_pixels(place: Tensor, size: int, align_corners: bool) -> Tensor:
    return (place + 1) / 2 * (size - 1) if align_corners else ((place + 1) * size - 1) / 2


def _inside(place: Tensor, size: int, padding_mode: int, align_corners: bool) -> Tensor:
    """Places in an image as the padding has them: as they are, at its border, or reflected there until they lie in it."""
    if padding_mode == _ZEROS:
        return place
    if padding_mode == _BORDER:
        return place.clamp(min=0).clamp(max=size - 1)
    low, span = (0.0, size - 1) if align_corners else (-0.5, size)
    place = (place - low).abs()
    times = (place / span).floor()
    rest, odd = place - times * span, times - 2 * (times / 2).floor()
    return (rest + odd * (span - 2 * rest) + low).clamp(min=0).clamp(max=size - 1)


def _looked_up(flat: Tensor, y: Tensor, x: Tensor, height: int, width: int, padding_mode: int) -> Tensor:
    """Elements [N, C, rows, columns] of images [N, C, H * W] at whole places; those outside are 0."""
    row, column = (place.clamp(min=0).clamp(max=size - 1).to(torch.int64) for place, size in ((y, height), (x, width)))
    index = (row * width + column).flatten(1).unsqueeze(1).expand(-1, flat.shape[1], -1)
    found = torch.gather(flat, 2, index).reshape(flat.shape[0], flat.shape[1], y.shape[1], y.shape[2])
    if padding_mode != _ZEROS:
        return found
    seen = ((y >= 0) & (y <= height - 1)) & ((x >= 0) & (x <= width - 1))
    return found * seen.to(torch.float32).unsqueeze(1)


HANDLERS: dict[str, Handler] = {"grid_sampler": _grid_sample, "grid_sampler_2d": _grid_sample}
