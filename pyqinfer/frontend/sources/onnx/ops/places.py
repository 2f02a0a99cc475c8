"""Operators that read or write elements at places which other tensors say."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler, axis_of, check_count
from pyqinfer.frontend.values import NotSupportedHere

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _from_front(places: Tensor, size: Any) -> Tensor:
    """Places along an axis; negative ones are counted from the end."""
    places = places.to(torch.int64)
    return torch.where(places < 0, places + size, places)


def _gather_elements(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = c.axis(x.ndim, 0)
    return torch.gather(x, axis, _from_front(c.tensor(1), x.shape[axis]))


def _gather_nd(c: Call) -> Tensor:
    """Slices at places of several axes, as rows at places of one."""
    x, places, batch = c.tensor(0), c.tensor(1), int(c.attribute("batch_dims", 0))
    count = places.shape[-1]
    lead, rest = x.shape[:batch], x.shape[batch + count :]
    rows = x.reshape(prod(lead) * prod(x.shape[batch : batch + count]), *rest)
    picked = rows.index_select(0, _row_numbers(x, places, batch).reshape(-1))
    return picked.reshape(*places.shape[:-1], *rest)


def _row_numbers(x: Tensor, places: Tensor, batch: int) -> Tensor:
    """Numbers [...] of the slices that places [..., axes] name, in order of execution through the axes behind ``batch`` others."""
    number = torch.zeros_like(places[..., 0])
    for i in range(places.shape[-1]):
        size = x.shape[batch + i]
        number = number * size + _from_front(places[..., i], size)
    if batch:
        lead = prod(x.shape[:batch])
        if not isinstance(lead, int):
            raise NotSupportedHere("an open batch among the places")
        first = torch.arange(lead).reshape(*x.shape[:batch], *[1] * (number.ndim - batch))
        number = first * prod(x.shape[batch : batch + places.shape[-1]]) + number
    return number


def _written(x: Tensor, axis: int, places: Tensor, updates: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return torch.scatter(x, axis, places, updates)
    if reduction not in _REDUCTIONS:
        raise NotSupportedHere(f"reduction {reduction!r}")
    return torch.scatter_reduce(x, axis, places, updates, _REDUCTIONS[reduction], include_self=True)


def _scatter_elements(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = c.axis(x.ndim, 0)
    return _written(x, axis, _from_front(c.tensor(1), x.shape[axis]), c.tensor(2), str(c.attribute("reduction", "none")))


def _scatter_nd(c: Call) -> Tensor:
    """Slices at places of several axes are rows at places of one."""
    x, places, updates = c.tensor(0), c.tensor(1), c.tensor(2)
    rest = x.shape[places.shape[-1] :]
    rows = x.reshape(-1, prod(rest))
    numbers = _row_numbers(x, places, 0).reshape(-1, 1)
    written = _written(rows, 0, numbers.expand(-1, rows.shape[1]), updates.reshape(-1, prod(rest)), str(c.attribute("reduction", "none")))
    return written.reshape(x.shape)


def _tensor_scatter(c: Call) -> Tensor:
    """Updates written into a cache from a place of each sample on, or round about."""
    cache, update = c.tensor(0), c.tensor(1)
    axis = axis_of(int(c.attribute("axis", -2)), cache.ndim)
    steps = torch.arange(update.shape[axis])
    places = c.tensor(2).to(torch.int64).unsqueeze(-1) + steps if c.has(2) else steps.unsqueeze(0)
    if str(c.attribute("mode", "linear")) == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.ndim
    shape[0], shape[axis] = places.shape[0], places.shape[1]
    return torch.scatter(cache, axis, places.reshape(shape).expand(update.shape), update)


def _reverse_sequence(c: Call) -> Tensor:
    """The first elements of each sequence, as many as its length says, backwards."""
    x, lengths = c.tensor(0), c.tensor(1).to(torch.int64)
    batch, time = int(c.attribute("batch_axis", 1)), int(c.attribute("time_axis", 0))
    steps = torch.arange(x.shape[time])
    steps, lengths = (v.reshape([-1 if i == a else 1 for i in range(x.ndim)]) for v, a in ((steps, time), (lengths, batch)))
    places = torch.where(steps < lengths, lengths - 1 - steps, steps + 0 * lengths)
    return torch.gather(x, time, places.expand(x.shape))


def _cumprod(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = axis_of(int(c.number(1, "axis")), x.ndim)
    x = x.flip(axis) if c.attribute("reverse", 0) else x
    y = torch.cumprod(x, axis)
    if c.attribute("exclusive", 0):
        y = torch.cat([torch.ones_like(x.narrow(axis, 0, 1)), y.narrow(axis, 0, y.shape[axis] - 1)], axis)
    return y.flip(axis) if c.attribute("reverse", 0) else y


def _center_crop_pad(c: Call) -> Tensor:
    x, sizes = c.tensor(0), c.sizes(1, "shape")
    axes = [axis_of(int(a), x.ndim) for a in c.attribute("axes") or range(x.ndim)]
    check_count([n for n in sizes if isinstance(n, int)])
    for axis, size in zip(axes, sizes, strict=True):
        missing = size - x.shape[axis]
        if not isinstance(missing, int):
            raise NotSupportedHere("an open size")
        if missing > 0:
            x = F.pad(x, [0, 0] * (x.ndim - 1 - axis) + [missing // 2, missing - missing // 2])
        elif missing < 0:
            x = x.narrow(axis, -missing // 2, size)
    return x


ROWS: dict[str, Handler] = {
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "Scatter": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TensorScatter": _tensor_scatter,
    "ReverseSequence": _reverse_sequence,
    "CumProd": _cumprod,
    "CenterCropPad": _center_crop_pad,
}
