"""Handlers of aten ops that pick elements at constant places along a dimension, replace those of a slice, or fill a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import TO_END, any_operand, expanded, inner, known_size, operand, permuted, reshaped, sliced, tensor_of
from pyqinfer.frontend.aten.counting import covers
from pyqinfer.frontend.aten.integers import as_kind
from pyqinfer.frontend.aten.lookup import along, at_places
from pyqinfer.frontend.aten.movement import axis_of, concatenated, position
from pyqinfer.frontend.aten.scatter import replaced_rows
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, Places, SymbolicSize

# An index is cut into runs of places with one step between them; where there are more of these, elements are looked up.
_MOST_RUNS = 256


def _index(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Elements at constant places along one dimension: a concatenation of slices, one for each run of places with one step."""
    if isinstance(a["self"], Tensor):
        if (
            any(isinstance(index, ir.Value) for index in a["indices"])
            and (found := at_places(reader, node, a["self"], a["indices"])) is not None
        ):
            return found
        return _of_constant(a["self"], a["indices"])
    x, indices = any_operand(reader, a), list(a["indices"])
    if (view := _all_places(reader, node, x, indices)) is not None:
        return view
    if (found := at_places(reader, node, x, indices)) is not None:
        return found
    given = [axis for axis, index in enumerate(indices) if index is not None]
    tensors = [indices[axis] for axis in given]
    if not all(isinstance(index, Tensor) for index in tensors):
        raise NotSupportedHere("an index that is computed from the input")
    if given != list(range(given[0], given[0] + len(given))):
        raise NotSupportedHere("an index of dimensions that are not neighbours")
    if tensors[0].dtype == torch.bool:
        if len(given) > 1 or tensors[0].ndim != 1:
            raise NotSupportedHere("a mask of several dimensions for an index")
        tensors = [tensors[0].nonzero().flatten()]
    return _at(reader, node, x, given, tensors)


def _at(reader: GraphReader, node: Node, x: ir.Value, axes: Sequence[int], indices: Sequence[Tensor]) -> ir.Value:
    """Elements at constant places of neighbouring dimensions, which become one dimension for it."""
    if len(axes) == 1 and not isinstance(x.shape[axes[0]], int) and bool((indices[0] >= 0).all()):
        return along(reader, node, x, inner(tensor_of(reader, node, indices[0])), axes[0])
    sizes = [known_size(x, axis) for axis in axes]
    first, last = axes[0], axes[-1] + 1
    flat = x
    if len(axes) > 1:
        flat = inner(reshaped(reader, node, x, (*x.shape[:first], math.prod(sizes), *x.shape[last:]), "flatten"))
    places = torch.zeros((), dtype=torch.int64)
    for size, index in zip(sizes, indices, strict=True):
        places = places * size + index % size
    y = picked(reader, node, flat, first, places.flatten().tolist())
    if places.ndim == 1:
        return y
    y = reshaped(reader, node, y if y is flat else inner(y), (*x.shape[:first], *places.shape, *x.shape[last:]), "index")
    y.origin = node.name
    return y


def _of_constant(x: Tensor, indices: Sequence[Any]) -> Tensor:
    """Elements of a constant: where an index counts along an open dimension, that is 1 here, because the constant is the same all along."""
    places: list[Any] = []
    for axis, index in enumerate(indices):
        if isinstance(index, Places) and x.shape[axis] == 1 and not x.is_floating_point():
            index = torch.zeros((1,) * index.rank, dtype=torch.int64)
        if index is not None and not isinstance(index, Tensor):
            raise NotSupportedHere("an index into a constant that is computed from the input")
        places.append(slice(None) if index is None else index)
    return x[tuple(places)]


def _all_places(reader: GraphReader, node: Node, x: ir.Value, indices: Sequence[Any]) -> ir.Value | None:
    """``x`` under another shape, where indices of its first dimensions take all places of each along an axis of their own, in order."""
    axes = [covers(index, dim) for index, dim in zip(indices, x.shape, strict=False)]
    ranks = {index.rank if isinstance(index, Places) else index.ndim for index in indices if isinstance(index, (Places, Tensor))}
    known = [axis for axis in axes if axis is not None]
    if len(known) != len(axes) or len(ranks) != 1 or sorted(set(known)) != known:
        return None
    shape: list[ir.Dim] = [1] * ranks.pop()
    for axis, dim in zip(known, x.shape, strict=False):
        shape[axis] = dim
    return reshaped(reader, node, x, (*shape, *x.shape[len(axes) :]), "index")


def _index_select(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = any_operand(reader, a) if not isinstance(a["self"], Tensor) else tensor_of(reader, node, a["self"])
    axis = axis_of(a, len(x.shape))
    if not isinstance(a["index"], Tensor):
        return along(reader, node, x, as_kind(reader, node, a["index"], "integer"), axis)
    return picked(reader, node, x, axis, [int(place) % known_size(x, axis) for place in a["index"].flatten()])


def picked(reader: GraphReader, node: Node, x: ir.Value, axis: int, places: Sequence[int]) -> ir.Value:
    """The elements at these places along an axis, in this order."""
    runs: list[list[int]] = []
    for place in places:
        run = runs[-1] if runs else []
        if run and place > run[-1] and (len(run) == 1 or place - run[-1] == run[1] - run[0]):
            run.append(place)
        else:
            runs.append([place])
    if not runs:
        raise NotSupportedHere("an index without places")
    if len(runs) > _MOST_RUNS:
        return along(reader, node, x, inner(tensor_of(reader, node, torch.tensor(places))), axis)
    pieces = [sliced(reader, node, x, axis, run[0], run[-1] + 1, run[1] - run[0] if len(run) > 1 else 1) for run in runs]
    return pieces[0] if len(pieces) == 1 else concatenated(reader, node, [inner(p) if p is not x else p for p in pieces], axis)


def _copy(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """What is written over a tensor: ``src`` under the shape of ``self``."""
    x, source = any_operand(reader, a), tensor_of(reader, node, a["src"])
    missing = len(x.shape) - len(source.shape)
    sizes = [d if i < missing or source.shape[i - missing] == 1 else None for i, d in enumerate(x.shape)]
    return expanded(reader, node, source, sizes)


def _slice_scatter(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """``x`` with a slice of one dimension replaced: what stands in front of it, the new part, what stands behind it."""
    x = operand(reader, a)
    axis = axis_of(a, len(x.shape))
    dim = x.shape[axis]
    start, end = (position(a[key], dim, default) for key, default in (("start", 0), ("end", TO_END)))
    if a["step"] != 1:
        places = torch.arange(start, min(end, known_size(x, axis)), int(a["step"]))
        return replaced_rows(reader, node, {"self": x, "values": a["src"]}, axis, places, {"values": "src"})
    part = tensor_of(reader, node, a["src"])
    if start == 0 and (end == TO_END or (isinstance(dim, int) and end >= dim)):
        return expanded(reader, node, part, x.shape)
    end = min(end, known_size(x, axis))
    whole = (*x.shape[:axis], end - start, *x.shape[axis + 1 :])
    part = expanded(reader, node, part, [None if size != 1 else d for d, size in zip(whole, part.shape, strict=True)])
    return _around(reader, node, x, axis, start, end, part)


def _select_scatter(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = operand(reader, a)
    axis = axis_of(a, len(x.shape))
    start = position(a["index"], known_size(x, axis), 0)
    row = (*x.shape[:axis], *x.shape[axis + 1 :])
    part = expanded(reader, node, tensor_of(reader, node, a["src"]), row)
    part = inner(reshaped(reader, node, part, (*x.shape[:axis], 1, *x.shape[axis + 1 :]), "unsqueeze"))
    return _around(reader, node, x, axis, start, start + 1, part)


def _filled(reader: GraphReader, node: Node, shape: Sequence[Any], value: Any) -> Any:
    """A tensor of one number, whose sizes may be those of the input."""
    traced = node.meta.get("val")
    if isinstance(traced, Tensor) and not traced.is_floating_point() and isinstance(value, (int, float)):
        # Integers and truth values are broadcast where they are read, so that a dimension of 1 may stand for an open one.
        return torch.full([1 if isinstance(size, SymbolicSize) else int(size) for size in shape], value, dtype=traced.dtype)
    if not isinstance(value, (int, float)):
        raise NotSupportedHere("fills a tensor with a number that is computed from the input")
    dims = reader.named_shape(node) or [reader.size(size) for size in shape]
    number = tensor_of(reader, node, torch.full((1,) * len(dims), float(value)))
    return expanded(reader, node, number, dims)


def _full_like(reader: GraphReader, node: Node, a: Arguments, value: Any) -> Any:
    x = any_operand(reader, a)
    return _filled(reader, node, [SymbolicSize(dim) if isinstance(dim, str) else dim or SymbolicSize(None) for dim in x.shape], value)


def _around(reader: GraphReader, node: Node, x: ir.Value, axis: int, start: int, end: int, part: ir.Value) -> ir.Value:
    pieces = [inner(sliced(reader, node, x, axis, 0, start))] if start else []
    pieces.append(part)
    if end < known_size(x, axis):
        pieces.append(inner(sliced(reader, node, x, axis, end, TO_END)))
    return concatenated(reader, node, pieces, axis)


def _diagonal(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A diagonal of two dimensions as the last one: every n-th element of both under one another."""
    x = any_operand(reader, a)
    rank = len(x.shape)
    rows, columns = int(a["dim1"]) % rank, int(a["dim2"]) % rank
    others = [i for i in range(rank) if i not in (rows, columns)]
    height, width, offset = known_size(x, rows), known_size(x, columns), int(a["offset"])
    count = min(height + min(offset, 0), width - max(offset, 0))
    if count < 1:
        raise NotSupportedHere(f"diagonal {offset} of {height}x{width}")
    last = permuted(reader, node, x, [*others, rows, columns])
    shape = last.shape[:-2]
    flat = inner(reshaped(reader, node, last if last is x else inner(last), (*shape, height * width), "flatten"))
    start = offset if offset > 0 else -offset * width
    return sliced(reader, node, flat, len(shape), start, start + (count - 1) * (width + 1) + 1, width + 1)


HANDLERS: dict[str, Handler] = {
    "diagonal": _diagonal,
    "full": lambda r, n, a: _filled(r, n, a["size"], a["fill_value"]),
    "zeros": lambda r, n, a: _filled(r, n, a["size"], 0.0),
    "ones": lambda r, n, a: _filled(r, n, a["size"], 1.0),
    "full_like": lambda r, n, a: _full_like(r, n, a, a["fill_value"]),
    "zeros_like": lambda r, n, a: _full_like(r, n, a, 0.0),
    "ones_like": lambda r, n, a: _full_like(r, n, a, 1.0),
    "index": _index,
    "index_select": _index_select,
    "copy": _copy,
    "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter,
}
