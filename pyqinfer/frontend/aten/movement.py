"""Handlers of aten ops that move elements or leave them as they are: views, permutations, concatenation, slices, repetition, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import (
    TO_END,
    any_operand,
    expanded,
    inner,
    known_size,
    of_rank,
    permuted,
    reshaped,
    sliced,
    tensor_of,
)
from pyqinfer.frontend.aten.counting import piece_of_counted, view_of_places
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import Absent, NotSupportedHere, Places, SymbolicSize


def axis_of(a: Arguments, rank: int, key: str = "dim") -> int:
    """The dimension that an op works along, counted from the front."""
    return int(a[key]) % rank if rank else 0


def _identity(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return a["self"]


def _dropout(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if a["train"]:
        raise NotSupportedHere("dropout in training mode; call model.eval() before exporting")
    return a["input"]


def _size_of(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if not isinstance(a["self"], ir.Value):
        raise NotSupportedHere("the size of a constant")
    dim = a["self"].shape[a["dim"]]
    return dim if isinstance(dim, int) else SymbolicSize(dim, node.meta.get("val"))


def _view(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.tensor(a["self"], "input")
    target: list[ir.Dim] = [d.dim if isinstance(d, SymbolicSize) else int(d) for d in a.get("size") or a.get("shape") or []]
    traced = reader.shape_of(node)
    if traced is not None and len(traced) == len(target):
        target = [d if known is None else known for d, known in zip(target, traced, strict=True)]
    if shapes.reshape(x.shape, target) is None:  # several dimensions are known only in a run
        target = list(reader.named_shape(node) or target)
    return reshaped(reader, node, x, target, "reshape")


def _flatten(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.tensor(a["self"], "input")
    target = shapes.flatten(x.shape, a["start_dim"], a["end_dim"])
    return reshaped(reader, node, x, target, "flatten")


def _unflatten(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape))
    traced = reader.shape_of(node) or ()
    sizes = traced[axis : axis + len(a["sizes"])]
    return reshaped(reader, node, x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]), "reshape")


def _squeeze(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.tensor(a["self"], "input")
    traced = reader.shape_of(node)
    named = [a["dim"]] if isinstance(a.get("dim"), int) else a.get("dim", range(len(x.shape)))
    dims = dict.fromkeys(x.shape[axis] for axis in named)
    if traced is not None and len(traced) == len(x.shape) and 1 not in dims:
        # torch kept all of them, which is right where none is 1.
        reader.conditions += [("!=", d, 1) for d in dims if isinstance(d, str)]
        return x
    if "dim" not in a:
        if None in x.shape:
            raise NotSupportedHere("squeeze of a dimension that is not known while converting")
        # An open dimension stays, which is right where it is not 1.
        reader.conditions += [("!=", d, 1) for d in dict.fromkeys(x.shape) if isinstance(d, str)]
        return reshaped(reader, node, x, [d for d in x.shape if d != 1], "squeeze")
    axes = [a["dim"]] if isinstance(a["dim"], int) else a["dim"]
    drop = {d % len(x.shape) for d in axes}
    if any(x.shape[d] is None or isinstance(x.shape[d], str) for d in drop):
        raise NotSupportedHere("squeeze of a dimension that is not known while converting")
    return reshaped(reader, node, x, [d for i, d in enumerate(x.shape) if i not in drop or d != 1], "squeeze")


def _unsqueeze(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if isinstance(a["self"], Places):
        return view_of_places(a, "unsqueeze")
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape) + 1)
    return reshaped(reader, node, x, (*x.shape[:axis], 1, *x.shape[axis:]), "unsqueeze")


def _permute(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = any_operand(reader, a)
    return permuted(reader, node, x, [d % len(x.shape) for d in a["dims"]])


def _swap(reader: GraphReader, node: Node, a: Arguments, first: int, second: int) -> ir.Value:
    x = any_operand(reader, a)
    perm = list(range(len(x.shape)))
    if perm:
        perm[first], perm[second] = perm[second], perm[first]
    return permuted(reader, node, x, perm)


def _t(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _swap(reader, node, a, 0, len(any_operand(reader, a).shape) - 1)


def _cat(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    for x in a["tensors"]:
        if isinstance(x, Absent) and not x.empty:
            raise NotSupportedHere(f"reads {x.what}")
    return concatenated(reader, node, [tensor_of(reader, node, x) for x in a["tensors"] if not isinstance(x, Absent)], a["dim"])


def _stack(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    values = [tensor_of(reader, node, x) for x in a["tensors"]]
    axis = axis_of(a, len(values[0].shape) + 1)
    rows = [inner(reshaped(reader, node, x, (*x.shape[:axis], 1, *x.shape[axis:]), "unsqueeze")) for x in values]
    return concatenated(reader, node, rows, axis)


def concatenated(reader: GraphReader, node: Node, values: list[ir.Value], dim: int) -> ir.Value:
    """The values behind one another along a dimension."""
    values = [x for x in values if x.shape != (0,)]  # torch allows empty tensors of rank 1 beside any others
    rank = len(values[0].shape)
    axis = dim % rank
    shape: ir.Shape | None = values[0].shape
    for x in values[1:]:
        shape = None if shape is None or len(x.shape) != rank else shapes.merge(_without(shape, axis), _without(x.shape, axis))
    if shape is None:
        raise NotSupportedHere(f"concatenates shapes {', '.join(str(x.shape) for x in values)} along {axis}")
    while len(values) > 64:  # the most inputs of a concat in the engine
        values = [inner(concatenated(reader, node, values[:64], axis)), *values[64:]]
    if len(values) == 1:
        return values[0]
    size = shapes.total([x.shape[axis] for x in values])
    integer, quants = values[0].integer, ir.quants_of(values)
    if any(x.integer != integer or x.quant != values[0].quant for x in values):
        raise NotSupportedHere("concatenates floats, integers and truth values")
    result = (*shape[:axis], size, *shape[axis + 1 :])
    return reader.emit("concat", node, values, result, {"axis": axis}, quant=quants[0] if quants else None, integer=integer)


def _without(shape: ir.Shape, axis: int) -> ir.Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _slice(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if isinstance(a["self"], Places) and (places := view_of_places(a, "slice")) is not None:
        return places
    if isinstance(a["self"], Tensor) and (places := piece_of_counted(reader, a)) is not None:
        return places
    x = tensor_of(reader, node, a["self"], "input")
    axis = axis_of(a, len(x.shape))
    start, end = (place_of(reader, node, a[key], x.shape[axis], axis, default) for key, default in (("start", 0), ("end", TO_END)))
    dim = x.shape[axis]
    if isinstance(dim, int) and isinstance(start, int) and isinstance(end, int) and min(start, dim) >= min(end, dim):
        return Absent(f"the slice [{start}:{end}] of a dimension of {dim}, which has no elements", empty=True)
    return sliced(reader, node, x, axis, start, end, int(a["step"]))


def place_of(reader: GraphReader, node: Node, value: Any, dim: ir.Dim, axis: int, default: int) -> int | str:
    """A start or end of a slice of the node's first operand, which may be a size or lie so far in front of an open dimension's end."""
    if isinstance(value, SymbolicSize) and value.dim != dim:
        return reader.size(value)
    if isinstance(value, int) and value < 0 and not isinstance(dim, int):
        operand_node = node.args[0]
        traced = operand_node.meta.get("val") if isinstance(operand_node, Node) else None
        if isinstance(traced, Tensor):
            return reader.named(traced.shape[axis], value)
    return position(value, dim, default)


def _narrow_end(a: Arguments) -> int:
    if not isinstance(a["start"], int) or not isinstance(a["length"], int) or a["start"] < 0:
        raise NotSupportedHere(f"narrow from {a['start']}, length {a['length']}")
    return a["start"] + a["length"]


def position(value: Any, dim: ir.Dim, default: int) -> int:
    """A start or end of a slice without torch's negative numbers, which count from the end."""
    if value is None:
        return default
    if isinstance(value, SymbolicSize):
        if value.dim is not None and value.dim == dim:
            return TO_END
        raise NotSupportedHere("a slice to a place that depends on the input's size")
    if value >= 0:
        return min(int(value), TO_END)
    if not isinstance(dim, int):
        raise NotSupportedHere(f"a slice to place {value} of a dimension that is not known while converting")
    return max(dim + int(value), 0)


def _select(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape))
    index = a["index"]
    if isinstance(index, SymbolicSize) or (index < 0 and not isinstance(x.shape[axis], int)):
        start = place_of(reader, node, index, None, axis, 0)
        end = (
            reader.size(index, 1)
            if isinstance(index, SymbolicSize)
            else TO_END
            if index == -1
            else place_of(reader, node, index + 1, None, axis, 0)
        )
        piece = inner(sliced(reader, node, x, axis, start, end))
        return reshaped(reader, node, piece, (*x.shape[:axis], *x.shape[axis + 1 :]), "select")
    return _selected(reader, node, x, axis, position(index, x.shape[axis], 0))


def _selected(reader: GraphReader, node: Node, x: ir.Value, axis: int, index: int) -> ir.Value:
    piece = sliced(reader, node, x, axis, index, index + 1)
    if piece is not x:
        inner(piece)
    return reshaped(reader, node, piece, (*x.shape[:axis], *x.shape[axis + 1 :]), "select")


def _pieces(reader: GraphReader, node: Node, x: ir.Value, axis: int, sizes: Sequence[int]) -> list[ir.Value]:
    ends = np.cumsum(sizes).tolist()
    return [inner(sliced(reader, node, x, axis, end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def _split(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape))
    size: Any = a.get("split_size", a.get("split_sizes", a.get("split_sections")))
    if not isinstance(x.shape[axis], int) or isinstance(size, SymbolicSize):
        return _open_pieces(reader, node, x, axis)
    if not isinstance(size, int):
        return _pieces(reader, node, x, axis, [int(n) for n in size])
    length = known_size(x, axis)
    return _pieces(reader, node, x, axis, [min(size, length - i) for i in range(0, length, size)])


def _open_pieces(reader: GraphReader, node: Node, x: ir.Value, axis: int) -> list[ir.Value]:
    """The pieces of an open dimension, as many as torch's graph has; the last one ends with the dimension."""
    traced = node.meta.get("val")
    if not isinstance(traced, (list, tuple)):
        raise NotSupportedHere(f"splits dimension {axis}, which is not known while converting")
    start: int | str = 0
    behind: Any = 0
    pieces: list[ir.Value] = []
    for i, piece in enumerate(traced):
        behind = behind + piece.shape[axis]
        end = TO_END if i + 1 == len(traced) else reader.named(behind)
        pieces.append(inner(sliced(reader, node, x, axis, start, end)))
        start = end
    return pieces


def _chunk(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape))
    if not isinstance(x.shape[axis], int):
        return _open_pieces(reader, node, x, axis)
    size = -(-known_size(x, axis) // int(a["chunks"]))
    return _split(reader, node, {"self": x, "dim": axis, "split_size": size})


def _unbind(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = any_operand(reader, a)
    axis = axis_of(a, len(x.shape))
    return [inner(_selected(reader, node, x, axis, i)) for i in range(known_size(x, axis))]


def _repeat(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, repeats = tensor_of(reader, node, a["self"]), [reader.size(n) for n in a["repeats"]]
    if any(isinstance(n, int) and n < 1 for n in repeats):
        raise NotSupportedHere(f"repeat by {repeats}")
    x = of_rank(reader, node, x, len(repeats))
    once = [count if count != 1 and size == 1 else None for count, size in zip(repeats, x.shape, strict=True)]
    x = expanded(reader, node, x, once)
    for axis, count in enumerate(repeats):
        if count == 1 or once[axis] is not None:
            continue
        if not isinstance(count, int):
            x = _tiled(reader, node, x, axis, count)
        elif count > 1:
            x = inner(concatenated(reader, node, [x] * count, axis))
    return x


def _tiled(reader: GraphReader, node: Node, x: ir.Value, axis: int, count: str) -> ir.Value:
    """``x`` behind itself along an axis, as often as a size says: a new dimension in front of the axis, merged with it."""
    one = inner(reshaped(reader, node, x, (*x.shape[:axis], 1, *x.shape[axis:]), "unsqueeze"))
    many = inner(expanded(reader, node, one, [None] * axis + [count] + [None] * (len(x.shape) - axis)))
    traced = reader.named_shape(node)
    if traced is None or len(traced) != len(x.shape):
        raise NotSupportedHere(f"repeats a dimension of {x.shape[axis]} by a size of the input")
    return reshaped(reader, node, many, [traced[axis] if i == axis else d for i, d in enumerate(x.shape)], "repeat")


def _expand(reader: GraphReader, node: Node, a: Arguments) -> Any:
    x = a["self"]
    if isinstance(x, Tensor) and not x.is_floating_point():
        # Integers and truth values are broadcast where they are read, so that a dimension of 1 may stand for an open one.
        sizes = [-1 if isinstance(d, SymbolicSize) else int(d) for d in a["size"]]
        new = len(sizes) - x.ndim
        return x.expand([1 if d == -1 and i < new else d for i, d in enumerate(sizes)])
    x = tensor_of(reader, node, x)
    return expanded(reader, node, x, [None if d == -1 else d for d in map(reader.size, a["size"])])


def _expand_as(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    other = a["other"]
    shape = other.shape if isinstance(other, ir.Value) else tuple(other.shape)
    x = tensor_of(reader, node, a["self"])
    return expanded(reader, node, x, shape)


def _tile(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    missing = len(any_operand(reader, a).shape) - len(a["dims"])
    return _repeat(reader, node, {"self": a["self"], "repeats": [1] * missing + list(a["dims"])})


HANDLERS: dict[str, Handler] = {
    "clone": _identity,
    "contiguous": _identity,
    "alias": _identity,
    "detach": _identity,
    "lift_fresh_copy": _identity,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "sym_size": _size_of,
    "view": _view,
    "_unsafe_view": _view,
    "reshape": _view,
    "flatten": _flatten,
    "unflatten": _unflatten,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "permute": _permute,
    "transpose": lambda r, n, a: _swap(r, n, a, int(a["dim0"]), int(a["dim1"])),
    **dict.fromkeys(("swapaxes", "swapdims"), lambda r, n, a: _swap(r, n, a, *(v for k, v in a.items() if k != "self"))),
    "t": _t,
    "mT": lambda r, n, a: _swap(r, n, a, -2, -1),
    "numpy_T": lambda r, n, a: permuted(r, n, any_operand(r, a), range(len(any_operand(r, a).shape))[::-1]),
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "stack": _stack,
    "slice": _slice,
    "slice_copy": _slice,
    "narrow": lambda r, n, a: _slice(r, n, {**a, "end": _narrow_end(a), "step": 1}),
    "select": _select,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "repeat": _repeat,
    "expand": _expand,
    "expand_as": _expand_as,
    "tile": _tile,
}
