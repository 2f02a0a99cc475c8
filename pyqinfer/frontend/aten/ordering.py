"""Handlers of aten ops that put elements in order: each one's rank is the number of those that come before it, counted pair by pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.aten.pooling import PLACES
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere

# More elements would take too many comparisons, whose number is their square.
_MOST = 512
_LONGEST_RUN = 128


def _ordered(x: Tensor, k: int, dim: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The first ``k`` elements and their places; equal elements keep their order, as in torch's stable sort."""
    axis = dim % x.ndim
    last = x if axis == x.ndim - 1 else x.transpose(axis, -1)
    own, other = last.unsqueeze(-1), last.unsqueeze(-2)
    places = torch.arange(last.shape[-1])
    before = (other > own if largest else other < own) | ((other == own) & (places.unsqueeze(0) < places.unsqueeze(1)))
    rank = before.to(torch.float32).sum(-1)
    index = (rank.unsqueeze(-2) == torch.arange(k).unsqueeze(1)).to(torch.float32).argmax(-1)
    values = torch.gather(last, -1, index)
    return (values, index) if last is x else (values.transpose(axis, -1), index.transpose(axis, -1))


def _in_order(reader: GraphReader, node: Node, a: Arguments, dim: int, k: int | None, largest: bool) -> Any:
    x = reader.activation(a["self"], "input")
    size = x.shape[dim] if x.shape else 1
    if not isinstance(size, int) or size > _MOST:
        raise NotSupportedHere(f"orders {size} elements, and the engine at most {_MOST} (order them outside of the model)")
    count = size if k is None else k
    return composed(reader, node, lambda self: _ordered(self, count, dim, largest), {"self": a["self"]})


def _sort(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return _in_order(reader, node, a, int(a["dim"]), None, bool(a["descending"]))


def _topk(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if not isinstance(a["k"], int):
        raise NotSupportedHere("a number of elements that depends on the input's size")
    return _in_order(reader, node, a, int(a["dim"]), a["k"], bool(a["largest"]))


def _nth(reader: GraphReader, node: Node, a: Arguments, dim: int, k: int | None) -> Any:
    """The k-th element in ascending order, from 1, and its place; the median, the lower of two, without ``k``."""
    x, keep = reader.activation(a["self"], "input"), bool(a.get("keepdim", False))
    size = x.shape[dim] if x.shape else 1
    if not isinstance(size, int) or size > _MOST:
        raise NotSupportedHere(f"orders {size} elements, and the engine at most {_MOST} (order them outside of the model)")
    at = (size - 1) // 2 if k is None else k - 1

    def picked(self: Tensor) -> list[Tensor]:
        parts = [part.narrow(dim, at, 1) for part in _ordered(self, size, dim, False)]
        return parts if keep else [part.squeeze(dim) for part in parts]

    return composed(reader, node, picked, {"self": a["self"]})


def _median(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if "dim" not in a:
        raise NotSupportedHere("the median of all elements")
    return _nth(reader, node, a, int(a["dim"]), None)


def _running(function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    """Running products, or largest elements, along one short dimension."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        x, dim = reader.activation(a["self"], "input"), int(a["dim"])
        size = x.shape[dim] if x.shape else None
        if not isinstance(size, int) or size > _LONGEST_RUN:
            raise NotSupportedHere(f"runs over {size} elements, more than {_LONGEST_RUN}")

        def results(self: Tensor) -> Tensor:
            found = [self.narrow(dim, 0, 1)]
            for i in range(1, size):
                found.append(function(found[-1], self.narrow(dim, i, 1)))
            return torch.cat(found, dim)

        return composed(reader, node, results, {"self": a["self"]})

    return run


def _log_of_running_sums(self: Tensor, dim: int) -> Tensor:
    largest = self.amax(dim, keepdim=True)
    return (self - largest).exp().cumsum(dim).log() + largest


def _place_among(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """How many bounds lie below each element, or (``right``) not above it."""
    bounds = a.get("boundaries", a.get("sorted_sequence"))
    if not isinstance(bounds, Tensor) or bounds.ndim != 1 or a.get("sorter") is not None:
        raise NotSupportedHere("looks among bounds that are computed, or differ from row to row")
    right = bool(a["right"]) or a.get("side") == "right"

    def counted(self: Tensor, bounds: Tensor) -> Tensor:
        x = self.unsqueeze(-1)
        return (bounds <= x if right else bounds < x).to(torch.float32).sum(-1).to(torch.int64)

    return composed(reader, node, counted, {"self": a["self"], "bounds": bounds.float()})


_LARGEST, _LEAST = (_running(function) for function in (torch.maximum, torch.minimum))
HANDLERS: dict[str, Handler] = {
    "sort": _sort,
    "argsort": lambda r, n, a: _sort(r, n, a)[1],
    "topk": _topk,
    "median": _median,
    "kthvalue": lambda r, n, a: _nth(r, n, a, int(a["dim"]), int(a["k"])),
    "cumprod": _running(torch.mul),
    "cummax": lambda r, n, a: (_LARGEST(r, n, a), PLACES),
    "cummin": lambda r, n, a: (_LEAST(r, n, a), PLACES),
    "logcumsumexp": lambda r, n, a: composed(r, n, _log_of_running_sums, a),
    "bucketize": _place_among,
    "searchsorted": _place_among,
}
