"""Handlers of aten ops that take elements at places which are numbers only in a run, and of those that find such places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import inner, of_rank, reshaped, sliced, tensor_of
from pyqinfer.frontend.aten.counting import covers
from pyqinfer.frontend.aten.integers import as_kind, calculated, compared, constant_of, is_other
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, Places, SymbolicSize


def taken(reader: GraphReader, node: Node, x: ir.Value, index: ir.Value, axis: int) -> ir.Value:
    """``x`` at ``index`` along an axis; the index has the rank of ``x``, and 1 or the dimension of ``x`` on every other axis."""
    shape = tuple(index.shape[d] if d == axis else dim for d, dim in enumerate(x.shape))
    return reader.emit("gather", node, [x, index], shape, {"axis": axis}, name=reader.namer.name(node, "gather"))


def _gather(reader: GraphReader, node: Node, a: Arguments) -> Any:
    index, table = as_kind(reader, node, a["index"], "integer"), a["self"]
    axis = int(a["dim"]) % max(1, len(table.shape))
    if isinstance(table, Tensor) and (found := _of_equal_rows(reader, node, table, index, axis)) is not None:
        return found
    x = tensor_of(reader, node, table)
    for d, (dim, count) in enumerate(zip(x.shape, index.shape, strict=True)):
        if d != axis and dim != count and isinstance(dim, int) and isinstance(count, int):
            x = inner(sliced(reader, node, x, d, 0, count))
    return taken(reader, node, x, _once(index, axis), axis)


def _once(index: ir.Value, axis: int) -> ir.Value:
    """An index without its repetitions along other dimensions than that of the lookup, which reads it for all of them."""
    producer = index.producer
    if producer is None or producer.op != "expand" or len(producer.inputs[0].shape) != len(index.shape):
        return index
    once = producer.inputs[0]
    return once if once.shape[axis] == index.shape[axis] else index


def _of_equal_rows(reader: GraphReader, node: Node, table: Tensor, index: ir.Value, axis: int) -> Any:
    """Elements of a constant whose rows are all alike, which is a table of one column; None for any other constant."""
    row = table.movedim(axis, 0).flatten(1)[:, 0] if table.ndim > 1 else table
    if not torch.equal(table, row.reshape([-1 if i == axis else 1 for i in range(table.ndim)]).expand_as(table)):
        return None
    if bool((row == row[0]).all()):
        return row[0].reshape((1,) * len(index.shape))
    values = row.to(torch.float32)
    if not torch.equal(values.to(row.dtype), row):
        return None
    weight = values.reshape(-1, 1).numpy()
    y = reader.emit("embedding", node, [index], (*index.shape, 1), {}, {"weight": weight}, name=reader.namer.name(node, "gather"))
    y = inner(reshaped(reader, node, inner(y), index.shape, "gather"))
    return as_kind(reader, node, y, "float" if row.is_floating_point() else "integer")


def at_places(reader: GraphReader, node: Node, x: Any, indices: Sequence[Any]) -> ir.Value | None:
    """``x[indices]`` with one index that is computed, alone or behind one that counts through the dimension in front; None for others."""
    given = [axis for axis, index in enumerate(indices) if index is not None]
    if not given or not is_other(indices[given[-1]]):
        return None
    axis, places = given[-1], as_kind(reader, node, indices[given[-1]], "integer")
    x = tensor_of(reader, node, x)
    if isinstance(indices[axis], Places) or _may_be_negative(places):
        places = _from_the_front(reader, node, places, node.args[0], axis)
    if len(given) == 1:
        return along(reader, node, x, places, axis)
    if given == [0, 1] and covers(indices[0], x.shape[0]) == 0:
        return _in_each_row(reader, node, x, indices[0], places)
    return None


def _in_each_row(reader: GraphReader, node: Node, x: ir.Value, rows: Any, places: ir.Value) -> ir.Value:
    """``x[rows, places]`` where ``rows`` counts through the first dimension along its own first axis, as ``places`` does."""
    rank = max(len(places.shape), rows.rank if isinstance(rows, Places) else rows.ndim)
    places = of_rank(reader, node, places, rank)
    behind = places.shape[1:]
    first = x.shape[0] if places.shape[0] == 1 else places.shape[0]
    flat = behind[0] if len(behind) == 1 else shapes.count(behind)
    index = inner(reshaped(reader, node, places, (places.shape[0], flat, *(1,) * (len(x.shape) - 2)), "places"))
    return reshaped(reader, node, inner(taken(reader, node, x, index, 1)), (first, *behind, *x.shape[2:]), "index")


def _may_be_negative(places: ir.Value) -> bool:
    """Whether integers may count from the end of what they are looked up in."""
    producer = places.producer
    while producer is not None and producer.op in ("reshape", "expand", "transpose", "slice"):
        producer = producer.inputs[0].producer
    return producer is None or producer.op not in ("argmax", "arange")


def _from_the_front(reader: GraphReader, node: Node, places: ir.Value, source: Any, axis: int) -> ir.Value:
    """Places of which the negative ones count from the end, as others."""
    traced = source.meta.get("val") if isinstance(source, Node) else None
    if not isinstance(traced, Tensor):
        raise NotSupportedHere("an index into a tensor whose shape is not known")
    size = reader.named(traced.shape[axis])
    below = inner(compared(reader, node, places, constant_of(0, "integer", len(places.shape)), "lt"))
    length = size if isinstance(size, int) else SymbolicSize(size)
    more = inner(calculated(reader, node, as_kind(reader, node, below, "integer"), length, "mul"))
    return inner(calculated(reader, node, places, more, "add"))


def along(reader: GraphReader, node: Node, x: ir.Value, places: ir.Value, axis: int, op: str = "index") -> ir.Value:
    """``x`` at places along an axis, which gets their shape; none of them counts from the end."""
    flat = places if len(places.shape) == 1 else inner(reshaped(reader, node, places, [None], "places"))
    index = inner(reshaped(reader, node, flat, (*(1,) * axis, flat.shape[0], *(1,) * (len(x.shape) - axis - 1)), "places"))
    y = taken(reader, node, x, index, axis)
    shape = (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :])
    return y if len(places.shape) == 1 else reshaped(reader, node, inner(y), shape, op)


def _argmax(function: str) -> Handler:
    def run(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        return place_of_extreme(reader, node, tensor_of(reader, node, a["self"]), a.get("dim"), bool(a.get("keepdim", False)), function)

    return run


def place_of_extreme(reader: GraphReader, node: Node, x: ir.Value, dim: int | None, keep: bool, function: str) -> ir.Value:
    """Where the largest ("max") or least ("min") element lies along a dimension, or in all of the tensor."""
    if dim is None or not x.shape:
        x, dim = inner(reshaped(reader, node, x, [None], "flatten")), 0
    axis = dim % len(x.shape)
    shape = (*x.shape[:axis], *((1,) if keep else ()), *x.shape[axis + 1 :])
    attrs: dict[str, ir.Attr] = {"function": function, "axis": axis, "keepdim": int(keep)}
    return reader.emit("argmax", node, [x], shape, attrs, name=reader.namer.unique(f"arg{function}"), integer=True)


HANDLERS: dict[str, Handler] = {"gather": _gather, "argmax": _argmax("max"), "argmin": _argmax("min")}
