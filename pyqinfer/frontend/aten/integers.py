"""Handlers of aten ops over integers and truth values: positions, masks, indices, which are numbers only in a run.

An op that torch has for floats as well comes here only with such an operand (``or_integers``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import TO_END, inner, int32_array, of_rank, reshaped, sliced, tensor_of
from pyqinfer.frontend.aten.infinities import LOWEST, hides_scores, holds_infinity, with_infinities
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, Places, SymbolicSize

_MIRRORED = {"eq": "eq", "ne": "ne", "lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_COMMUTES = frozenset({"add", "mul", "maximum", "minimum"})
# What torch makes of floats where integers have an op of their own.
_OF_QUOTIENTS: dict[str, Callable[..., Tensor]] = {
    "floor_divide": lambda self, other: (self / other).floor(),
    "remainder": lambda self, other: self - (self / other).floor() * other,
}


def kind_of(operand: Any) -> str:
    """ "truth", "integer" or "float": what torch computes with where operands of several kinds meet, least first."""
    if isinstance(operand, ir.Value):
        return "integer" if operand.integer else "truth" if operand.quant == ir.TRUTH else "float"
    if isinstance(operand, Tensor):
        return "truth" if operand.dtype == torch.bool else "float" if operand.is_floating_point() else "integer"
    if isinstance(operand, bool):
        return "truth"
    return "integer" if isinstance(operand, (int, Places, SymbolicSize)) else "float"


def _common_kind(x: Any, y: Any) -> str:
    """The kind in which torch combines two operands."""
    return max((kind_of(x), kind_of(y)), key=["truth", "integer", "float"].index)


def is_other(operand: Any) -> bool:
    """Whether an operand is no float, and known only in a run."""
    return isinstance(operand, Places) or (isinstance(operand, ir.Value) and kind_of(operand) != "float")


def or_integers(handlers: Mapping[str, Handler]) -> dict[str, Handler]:
    """Handlers for floats, each preceded by the one for integers and truth values where that has the op's name."""
    return {op: _typed(_SHARED[op], handler) if op in _SHARED else handler for op, handler in handlers.items()}


def _typed(integers: Handler, floats: Handler) -> Handler:
    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        sized = any(isinstance(a.get(key), SymbolicSize) for key in ("self", "other"))
        return (integers if sized or any(is_other(value) for value in a.values()) else floats)(reader, node, a)

    return run


def as_kind(reader: GraphReader, node: Node, operand: Any, kind: str) -> ir.Value:
    """A value of the graph as floats, integers or truth values."""
    x = _value(reader, node, operand)
    if kind_of(x) == kind:
        return x
    name = reader.namer.name(node, "cast")
    if kind == "truth":
        return compared(reader, node, x, constant_of(0, kind_of(x), len(x.shape)), "ne")
    if kind_of(x) == "truth" and kind == "float":
        return inner(reader.emit("dequantize", node, [x], x.shape, {"layout": "same"}, name=name))
    return inner(reader.emit("cast", node, [x], x.shape, name=name, integer=kind == "integer"))


def _value(reader: GraphReader, node: Node, operand: Any) -> ir.Value:
    if isinstance(operand, Places):
        return reader.tensor(operand)
    if isinstance(operand, Tensor) and operand.dtype == torch.bool:
        floats = tensor_of(reader, node, operand.to(torch.float32))
        return compared(reader, node, floats, constant_of(0, "float", operand.ndim), "ne")
    if isinstance(operand, (bool, int, float)):
        return _value(reader, node, torch.tensor(operand))
    if isinstance(operand, SymbolicSize):
        return _size(reader, node, operand)
    return tensor_of(reader, node, operand)


def _size(reader: GraphReader, node: Node, size: SymbolicSize) -> ir.Value:
    """A size of the input as an integer that a run computes with."""
    number = inner(reader.counted(1, reader.size(size), 0))
    return inner(reshaped(reader, node, number, (), "size"))


def constant_of(operand: Any, kind: str, rank: int) -> np.ndarray[Any, Any]:
    """A number or a constant as an array of this rank: float32, or int32 where ``kind`` is "integer"."""
    tensor = operand if isinstance(operand, Tensor) else torch.tensor(operand)
    array = int32_array(tensor, "operand") if kind == "integer" else tensor.detach().to(torch.float32).numpy()
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def _broadcast(x: ir.Shape, y: ir.Shape) -> ir.Shape:
    shape = shapes.broadcast(x, y)
    if shape is None:
        raise NotSupportedHere(f"combines shapes {x} and {y}")
    return shape


def compared(reader: GraphReader, node: Node, x: ir.Value, y: Any, function: str) -> ir.Value:
    """The truth values of a comparison; ``y`` is a value, or a constant as ``constant_of`` makes it."""
    name = reader.namer.name(node, function)
    attrs: dict[str, ir.Attr] = {"function": function}
    if isinstance(y, ir.Value):
        rank = max(len(x.shape), len(y.shape))
        x, y = (of_rank(reader, node, v, rank) for v in (x, y))
        return reader.emit("compare", node, [x, y], _broadcast(x.shape, y.shape), attrs, quant=ir.TRUTH, name=name)
    x = of_rank(reader, node, x, y.ndim) if y.ndim > len(x.shape) else x
    return reader.emit("compare", node, [x], _broadcast(x.shape, y.shape), attrs, {"other": y}, ir.TRUTH, name)


def _holds_everywhere(places: Places, function: str, bound: Any) -> bool:
    """Whether a comparison of places with a number is true for all of them, however many there are."""
    if not isinstance(bound, (int, float)) or places.step < 0:
        return False
    return (function == "ge" and places.start >= bound) or (function == "gt" and places.start > bound)


def _compare(function: str) -> Handler:
    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        x, y = a["self"], a["other"]
        if isinstance(x, Places) and _holds_everywhere(x, function, y):
            return torch.ones((1,) * x.rank, dtype=torch.bool)
        kind = _common_kind(x, y)
        kind = "integer" if kind == "truth" else kind
        if not isinstance(x, (ir.Value, Places)):
            x, y, function_ = y, x, _MIRRORED[function]
        else:
            function_ = function
        x = as_kind(reader, node, x, kind)
        is_computed = isinstance(y, (ir.Value, Places, SymbolicSize))
        return compared(reader, node, x, as_kind(reader, node, y, kind) if is_computed else constant_of(y, kind, len(x.shape)), function_)

    return run


def _arithmetic(function: str) -> Handler:
    """Arithmetic of which an operand is integers or truth values, in the kind that torch gives the result."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        x, y = a["self"], a["other"]
        if a.get("alpha", 1) != 1:
            raise NotSupportedHere(f"{function} with alpha={a['alpha']}")
        if isinstance(x, Places) and isinstance(y, int) and function in ("add", "sub", "mul"):
            return _moved(x, function, y)
        kind = _common_kind(x, y)
        if function == "div":
            kind = "integer" if a.get("rounding_mode") == "floor" and kind != "float" else "float"
        if kind == "float":
            return _on_floats(reader, node, a, x, y, function)
        return calculated(reader, node, x, y, "floor_divide" if function == "div" else function)

    return run


def _moved(places: Places, function: str, number: int) -> Places:
    start, step = places.start, places.step
    if function == "mul":
        return Places(places.dim, places.rank, places.axis, start * number, step * number)
    return Places(places.dim, places.rank, places.axis, start + (number if function == "add" else -number), step)


def _on_floats(reader: GraphReader, node: Node, a: Arguments, x: Any, y: Any, function: str) -> Any:
    """The op of floats, once what is none is cast."""
    x, y = (as_kind(reader, node, v, "float") if is_other(v) or isinstance(v, SymbolicSize) else v for v in (x, y))
    if function in _OF_QUOTIENTS:
        return composed(reader, node, _OF_QUOTIENTS[function], {"self": x, "other": y})
    name = node.target._schema.name.removesuffix("_")  # type: ignore[union-attr]
    return reader.handlers[name](reader, node, {**a, "self": x, "other": y})


def calculated(reader: GraphReader, node: Node, x: Any, y: Any, function: str) -> ir.Value:
    """Integers of two operands, each a value, a number, a constant, places, or a size of the input."""
    name = reader.namer.name(node, function)
    attrs: dict[str, ir.Attr] = {"function": function}
    if not isinstance(x, (ir.Value, Places)) and function in _COMMUTES:
        x, y = y, x
    x = as_kind(reader, node, x, "integer")
    if not isinstance(y, (ir.Value, Places, SymbolicSize)):
        other = constant_of(y, "integer", len(x.shape))
        x = of_rank(reader, node, x, other.ndim) if other.ndim > len(x.shape) else x
        return reader.emit("integer", node, [x], _broadcast(x.shape, other.shape), attrs, {"other": other}, name=name, integer=True)
    y = as_kind(reader, node, y, "integer")
    rank = max(len(x.shape), len(y.shape))
    x, y = (of_rank(reader, node, v, rank) for v in (x, y))
    return reader.emit("integer", node, [x, y], _broadcast(x.shape, y.shape), attrs, name=name, integer=True)


def _negative(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if isinstance(a["self"], Places):
        return _moved(a["self"], "mul", -1)
    return calculated(reader, node, a["self"], -1, "mul")


def _magnitude(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = as_kind(reader, node, a["self"], "integer")
    return calculated(reader, node, x, inner(calculated(reader, node, x, -1, "mul")), "maximum")


def _sign(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """1, 0 or -1, which torch gives in the operand's own type."""
    kind = "float" if kind_of(a["self"]) == "float" else "integer"
    x = as_kind(reader, node, a["self"], kind)
    zero = constant_of(0, kind, len(x.shape))
    above, below = (as_kind(reader, node, inner(compared(reader, node, x, zero, function)), kind) for function in ("gt", "lt"))
    if kind == "integer":
        return calculated(reader, node, above, below, "sub")
    return reader.emit("binary", node, [above, below], x.shape, {"function": "sub"}, name=reader.namer.name(node, "sign"))


def _smaller_or_larger(function: str) -> Handler:
    """torch's min and max of two operands; of one operand they reduce it."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        if "other" not in a:
            raise NotSupportedHere("the least or largest of integers")
        return _arithmetic(function)(reader, node, a)

    return run


def _clamped(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = as_kind(reader, node, a["self"], "integer")
    for key, function in (("min", "maximum"), ("max", "minimum")):
        if a.get(key) is not None:
            x = calculated(reader, node, x, a[key], function)
    return x


def _logical(function: str) -> Handler:
    """and, or, xor of truth values; bits of integers are not combined."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        values = [a["self"], a["other"]]
        if node.meta["val"].dtype != torch.bool:
            raise NotSupportedHere("combines the bits of integers")
        constant = next((v for v in values if isinstance(v, (bool, Tensor))), None)
        if constant is not None and function == "and" and bool(torch.as_tensor(constant).all()):
            x = as_kind(reader, node, values[0] if constant is values[1] else values[1], "truth")
            return _of_shape(reader, node, x, torch.as_tensor(constant).shape)
        x, y = (as_kind(reader, node, v, "truth") for v in values)
        if function == "xor":
            return compared(reader, node, x, y, "ne")
        rank = max(len(x.shape), len(y.shape))
        x, y = (of_rank(reader, node, v, rank) for v in (x, y))
        name = reader.namer.name(node, function)
        attrs: dict[str, ir.Attr] = {"function": "minimum" if function == "and" else "maximum"}
        return reader.emit("binary", node, [x, y], _broadcast(x.shape, y.shape), attrs, quant=ir.TRUTH, name=name)

    return run


def _of_shape(reader: GraphReader, node: Node, x: ir.Value, other: torch.Size) -> ir.Value:
    """``x``, broadcast with a shape."""
    x = of_rank(reader, node, x, max(len(x.shape), len(other)))
    sizes = [n if d == 1 and n > 1 else 0 for d, n in zip(x.shape[len(x.shape) - len(other) :], other, strict=True)]
    if not any(sizes):
        return x
    target = (*(0,) * (len(x.shape) - len(other)), *sizes)
    return reader.emit("expand", node, [x], tuple(t or d for t, d in zip(target, x.shape, strict=True)), {"shape": target})


def _not(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = as_kind(reader, node, a["self"], "truth")
    return compared(reader, node, x, constant_of(0, "float", len(x.shape)), "eq")


def _inverted(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Each bit of an integer the other way round is its negative less 1."""
    return composed(reader, node, lambda self: -self - 1, a) if kind_of(a["self"]) == "integer" else _not(reader, node, a)


def _cast(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """A cast to the type that torch gives the result; all floats are float32 here, all integers int32."""
    dtype, x = node.meta["val"].dtype, a["self"]
    kind = "truth" if dtype == torch.bool else "float" if dtype.is_floating_point else "integer"
    if dtype.is_floating_point and dtype not in (torch.float32, torch.float64):
        raise NotSupportedHere(f"a cast to {dtype}")
    return x if kind_of(x) == kind and isinstance(x, (ir.Value, Places)) else as_kind(reader, node, x, kind)


def _where(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _chosen(reader, node, as_kind(reader, node, a["condition"], "truth"), a["self"], a["other"])


def _chosen(reader: GraphReader, node: Node, condition: ir.Value, x: Any, y: Any) -> ir.Value:
    kind = _common_kind(x, y)
    x, y = (as_kind(reader, node, _finite(reader, node, v), kind) for v in (x, y))
    rank = max(len(v.shape) for v in (condition, x, y))
    condition, x, y = (of_rank(reader, node, v, rank) for v in (condition, x, y))
    shape = _broadcast(_broadcast(condition.shape, x.shape), y.shape)
    name, quant = reader.namer.name(node, "where"), ir.TRUTH if kind == "truth" else None
    return reader.emit("where", node, [condition, x, y], shape, quant=quant, name=name, integer=kind == "integer")


def _finite(reader: GraphReader, node: Node, operand: Any) -> Any:
    """An operand without infinities: what hides positions from a softmax becomes the lowest float32."""
    if isinstance(operand, ir.Value | Places | SymbolicSize) or kind_of(operand) != "float":
        return operand
    tensor = torch.as_tensor(operand, dtype=torch.float32)
    if hides_scores(node, tensor):
        tensor = tensor.masked_fill(tensor == -math.inf, LOWEST)
    return with_infinities(reader, node, tensor) if holds_infinity(tensor) else tensor


def _masked_fill(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _chosen(reader, node, as_kind(reader, node, a["mask"], "truth"), a["value"], a["self"])


def _sum_along(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = as_kind(reader, node, a["self"], "integer")
    return reader.emit("cumsum", node, [x], x.shape, {"axis": int(a["dim"]) % len(x.shape)}, integer=True)


def _sum(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The last of the running sums, which are exact modulo 2^32."""
    dims, traced = a.get("dim"), node.args[0].meta.get("val") if isinstance(node.args[0], Node) else None
    x = as_kind(reader, node, a["self"], "integer")
    axes = sorted({d % len(x.shape) for d in ([dims] if isinstance(dims, int) else dims or range(len(x.shape)))}, reverse=True)
    if a.get("dtype") not in (None, torch.int64) or not isinstance(traced, Tensor):
        raise NotSupportedHere("a sum of integers in another type")
    for axis in axes:
        sums = inner(reader.emit("cumsum", node, [x], x.shape, {"axis": axis}, integer=True, name=reader.namer.unique(f"{node.name}.sums")))
        last = sums if x.shape[axis] == 1 else inner(sliced(reader, node, sums, axis, reader.named(traced.shape[axis], -1), TO_END))
        keep = (1,) if a.get("keepdim") else ()
        x = inner(reshaped(reader, node, last, (*x.shape[:axis], *keep, *x.shape[axis + 1 :]), "sum"))
    return x


# Ops that torch has for floats too, whose handlers are in other families.
_SHARED: dict[str, Handler] = {
    **{function: _arithmetic(function) for function in ("add", "sub", "mul", "div", "maximum", "minimum")},
    "rsub": lambda r, n, a: _arithmetic("sub")(r, n, {**a, "self": a["other"], "other": a["self"]}),
    "min": _smaller_or_larger("minimum"),
    "max": _smaller_or_larger("maximum"),
    "neg": _negative,
    "abs": _magnitude,
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamped),
    "masked_fill": _masked_fill,
    "cumsum": _sum_along,
    "sum": _sum,
}
HANDLERS: dict[str, Handler] = {
    **{function: _compare(function) for function in _MIRRORED},
    **{function: _arithmetic(function) for function in ("floor_divide", "remainder")},
    **{
        name: _logical(function)
        for function in ("and", "or", "xor")
        for name in (f"bitwise_{function}", f"logical_{function}", f"__{function}__")
    },
    "bitwise_not": _inverted,
    "logical_not": _not,
    "_to_copy": _cast,
    "to": _cast,
    "type_as": _cast,
    "where": _where,
    "sign": _sign,
}
