"""Handlers of aten ops that write or add elements at places of a tensor, which may be numbers only in a run.

A computed place is compared with all that there are: what is written is a product with a matrix of zeros and ones, or a choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.integers import kind_of
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, Places

# Rows that are written one after the other, so that of equal places the last one counts.
_MOST_WRITES = 64


def _index_add(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return composed(reader, node, _rows_added, a)


def _rows_added(self: Tensor, dim: int, index: Tensor, source: Tensor, alpha: float = 1) -> Tensor:
    """``self`` plus the rows of ``source`` at the places ``index`` of a dimension."""
    total, rows = (x.unsqueeze(1) if x.ndim == 1 else x for x in (self, source))
    swapped = dim % self.ndim != total.ndim - 2
    total, rows = (x.transpose(dim, -2) if swapped else x for x in (total, rows))
    chosen = torch.arange(total.shape[-2]).unsqueeze(1) == index.reshape(1, -1)
    added = torch.matmul(chosen.to(torch.float32), rows)
    total = total + (added if alpha == 1 else added * alpha)
    total = total.transpose(dim, -2) if swapped else total
    return total.squeeze(1) if self.ndim == 1 else total


def _scatter_add(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Adds whole rows where the places are the same all along a row, else each element by itself."""
    axis = int(a["dim"]) % max(1, _shape(node, "self", 0).ndim)
    return composed(reader, node, _equal_rows_added if _is_equal_along_rows(a["index"], axis) else _elements_added, a)


def _shape(node: Node, name: str, at: int) -> Any:
    value: Any = node.args[at] if len(node.args) > at else node.kwargs.get(name)
    found = value.meta.get("val") if isinstance(value, Node) else value
    if not isinstance(found, Tensor):
        raise NotSupportedHere("an operand whose shape is not known")
    return found


def _is_equal_along_rows(index: Any, axis: int) -> bool:
    """Whether places differ along one axis alone."""
    if isinstance(index, Tensor):
        return torch.equal(
            index, index.movedim(axis, 0).flatten(1)[:, :1].reshape([-1 if i == axis else 1 for i in range(index.ndim)]).expand_as(index)
        )
    producer = index.producer if isinstance(index, ir.Value) else None
    if producer is None or producer.op != "expand":
        return isinstance(index, ir.Value) and len(index.shape) == 1
    return all(n == 1 for i, n in enumerate(producer.inputs[0].shape) if i != axis)


def _equal_rows_added(self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    rows = index
    for axis in range(index.ndim):
        rows = rows if axis == dim % index.ndim else rows.narrow(axis, 0, 1)
    return _rows_added(self, dim, rows.reshape(-1), src)


def _hits(self: Tensor, axis: int, index: Tensor) -> Tensor:
    """[..., n, entries, ...]: whether an entry of the index is a place of the axis."""
    places = torch.arange(self.shape[axis]).reshape([-1 if i == axis else 1 for i in range(self.ndim + 1)])
    return index.unsqueeze(axis) == places


def _elements_added(self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    axis = dim % self.ndim
    return self + (_hits(self, axis, index).to(torch.float32) * src.unsqueeze(axis)).sum(axis + 1)


def _scatter_reduce(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if a["reduce"] == "sum" and a["include_self"]:
        return _scatter_add(reader, node, {key: a[key] for key in ("self", "dim", "index", "src")})
    if a["reduce"] not in ("amax", "amin") or not a["include_self"]:
        raise NotSupportedHere(f"reduces by {a['reduce']}, or leaves out what the tensor held")
    largest = a["reduce"] == "amax"

    def reduced(self: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
        axis, none = dim % self.ndim, torch.finfo(torch.float32).min
        sources = torch.where(_hits(self, axis, index), src.unsqueeze(axis), none if largest else -none)
        found = sources.amax(axis + 1) if largest else sources.amin(axis + 1)
        return torch.maximum(self, found) if largest else torch.minimum(self, found)

    return composed(reader, node, reduced, {key: a[key] for key in ("self", "dim", "index", "src")})


def _scatter(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """One entry of the index after the other: the last one that names a place counts."""
    if a.get("reduce") is not None:
        raise NotSupportedHere("scatter with reduce")
    index = _shape(node, "index", 2)
    if not isinstance(count := reader.named(index.shape[int(a["dim"])]), int) or count > _MOST_WRITES:
        raise NotSupportedHere(f"writes {count} elements along a dimension, more than {_MOST_WRITES}")
    return composed(
        reader,
        node,
        _written_in_order,
        {"source": a.get("src", a.get("value")), **{k: a[k] for k in ("self", "dim", "index")}},
        {"source": "src"},
    )


def _written_in_order(self: Tensor, dim: int, index: Tensor, source: Any) -> Tensor:
    axis = dim % self.ndim
    places = torch.arange(self.shape[axis]).reshape([-1 if i == axis else 1 for i in range(self.ndim)])
    for i in range(int(index.shape[axis])):
        self = torch.where(places == index.narrow(axis, i, 1), source.narrow(axis, i, 1) if isinstance(source, Tensor) else source, self)
    return self


def _index_put(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """``x[index] = values`` or ``x[index] += values`` with one index: a mask, or places along a dimension."""
    indices: Any = a["indices"]
    given = [i for i, index in enumerate(indices) if index is not None]
    if len(given) != 1:
        raise NotSupportedHere("writes at places of several dimensions")
    axis, index = given[0], indices[given[0]]
    nodes: Any = node.args[1]
    operands, sources = {"self": a["self"], "index": index, "values": a["values"]}, {"index": nodes[axis]}
    x, values = _shape(node, "self", 0), _shape(node, "values", 2)
    if kind_of(index) == "truth":
        rank = index.ndim if isinstance(index, Tensor) else len(index.shape)
        if a["accumulate"] or (values.numel() != 1 and values.ndim > x.ndim - axis - rank):
            raise NotSupportedHere("writes different values at the places of a mask")
        return composed(reader, node, lambda self, index, values: _masked(self, index, values, axis), operands, sources)
    if not isinstance(index, Tensor | ir.Value | Places) or nodes[axis].meta["val"].ndim != 1:
        raise NotSupportedHere("writes at places of several dimensions")
    if a["accumulate"]:
        return composed(
            reader, node, lambda self, index, values: _rows_added(self, axis, index, _rows(self, index, values, axis)), operands, sources
        )
    if isinstance(index, Tensor):
        return replaced_rows(reader, node, operands, axis, index)
    if not isinstance(count := reader.named(nodes[axis].meta["val"].shape[0]), int) or count > _MOST_WRITES:
        raise NotSupportedHere(f"writes {count} rows, more than {_MOST_WRITES}")

    def written(self: Tensor, index: Tensor, values: Tensor) -> Tensor:
        places = index.reshape([-1 if i == axis else 1 for i in range(self.ndim)])
        return _written_in_order(self, axis, places, _rows(self, index, values, axis))

    return composed(reader, node, written, operands, sources)


def _masked(self: Tensor, mask: Tensor, values: Tensor, axis: int) -> Tensor:
    values = values.reshape(()) if values.numel() == 1 else values
    return torch.where(mask.reshape([*mask.shape, *(1,) * (self.ndim - axis - mask.ndim)]), values, self)


def _rows(self: Tensor, index: Tensor, values: Tensor, axis: int) -> Tensor:
    """Values as one row for each place."""
    return values.expand([*self.shape[:axis], index.shape[0], *self.shape[axis + 1 :]])


def replaced_rows(
    reader: GraphReader, node: Node, operands: Arguments, axis: int, index: Tensor, nodes: Mapping[str, Any] | None = None
) -> Any:
    """``self`` with ``values`` at constant places of an axis: both behind one another, of which rows are picked."""
    x: Any = _shape(node, "self", 0)
    if not isinstance(size := reader.named(x.shape[axis]), int):
        raise NotSupportedHere("writes at places of an open dimension")
    order = torch.arange(size)
    order[index] = size + torch.arange(len(index))

    def replaced(self: Tensor, index: Tensor, values: Tensor, order: Tensor) -> Tensor:
        return torch.cat([self, _rows(self, index, values, axis)], axis).index_select(axis, order)

    return composed(reader, node, replaced, {**operands, "index": index, "order": order}, nodes)


HANDLERS: dict[str, Handler] = {
    "index_add": _index_add,
    "scatter_add": _scatter_add,
    "scatter_reduce": _scatter_reduce,
    "scatter": _scatter,
    "index_put": _index_put,
}
