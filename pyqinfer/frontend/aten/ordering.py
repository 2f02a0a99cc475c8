"""Handlers of aten ops that put elements in order: each one's rank is the number of those that come before it, counted pair by pair."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere

# More elements would take too many comparisons, whose number is their square.
_MOST = 512
_LONGEST_PRODUCT = 128


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


def _cumprod(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Running products along one short dimension."""
    x, dim = reader.activation(a["self"], "input"), int(a["dim"])
    size = x.shape[dim] if x.shape else None
    if not isinstance(size, int) or size > _LONGEST_PRODUCT:
        raise NotSupportedHere(f"running products of {size} elements, more than {_LONGEST_PRODUCT}")

    def products(self: Tensor) -> Tensor:
        found = [self.narrow(dim, 0, 1)]
        for i in range(1, size):
            found.append(found[-1] * self.narrow(dim, i, 1))
        return torch.cat(found, dim)

    return composed(reader, node, products, {"self": a["self"]})


HANDLERS: dict[str, Handler] = {
    "sort": _sort,
    "argsort": lambda r, n, a: _sort(r, n, a)[1],
    "topk": _topk,
    "cumprod": _cumprod,
}
