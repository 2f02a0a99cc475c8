"""The steps that op handlers share: one IR node each, or none where nothing would change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, from_numpy, int64
from torch import bool as bool_
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant

INFINITY = float("inf")
TO_END = 2**31 - 1  # end of a slice that goes to the end of its dimension


def triple(value: Any) -> tuple[int, int, int]:
    """A window's argument over depth, height and width; torch writes one number where they are equal."""
    items = [value] if isinstance(value, int) else list(value)
    first, second, third = items * 3 if len(items) == 1 else items
    return int(first), int(second), int(third)


def pair(value: Any) -> tuple[int, int]:
    """A window's argument as (vertical, horizontal); torch writes one number where they are equal."""
    items = [value] if isinstance(value, int) else list(value)
    return (int(items[0]), int(items[-1]))


def operand(reader: GraphReader, a: Arguments) -> ir.Value:
    """The first operand, which torch's schemas call "self" or "input"."""
    return reader.activation(a.get("self", a.get("input")), "input")


def any_operand(reader: GraphReader, a: Arguments) -> ir.Value:
    """The first operand of what moves elements, which may be integers or truth values as well."""
    return reader.tensor(a.get("self", a.get("input")), "input")


def image_operand(reader: GraphReader, a: Arguments) -> ir.Value:
    """The first operand, which has to be [N, C, H, W]."""
    x = operand(reader, a)
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    return x


def inner(value: ir.Value) -> ir.Value:
    """``value``, marked as equal to no single tensor of torch's graph, so that nobody compares it with one."""
    value.origin = ""
    return value


def reshaped(reader: GraphReader, node: Node, x: ir.Value, target: Sequence[ir.Dim], op: str) -> ir.Value:
    """The elements of ``x`` under another shape, which may hold one -1 or None; ``x`` itself where nothing changes."""
    shape = shapes.reshape(x.shape, target)
    if shape is None:
        raise NotSupportedHere(f"reshape of {x.shape} to {tuple(target)}: more than one unknown dimension")
    if shape == x.shape and None not in shape:
        return x
    return reader.emit("reshape", node, [x], shape, {"shape": shape}, name=reader.namer.name(node, op))


def of_rank(reader: GraphReader, node: Node, x: ir.Value, rank: int) -> ir.Value:
    """``x`` with dimensions of 1 in front, so that it has the rank of what it is broadcast with; ``x`` itself where it has."""
    missing = rank - len(x.shape)
    return x if missing == 0 else inner(reshaped(reader, node, x, (1,) * missing + x.shape, "unsqueeze"))


def permuted(reader: GraphReader, node: Node, x: ir.Value, perm: Sequence[int]) -> ir.Value:
    """``x`` with its axes in another order; ``x`` itself where the order is kept."""
    if list(perm) == list(range(len(x.shape))):
        return x
    return reader.emit("transpose", node, [x], tuple(x.shape[i] for i in perm), {"perm": tuple(perm)})


def sliced(reader: GraphReader, node: Node, x: ir.Value, axis: int, start: int | str, end: int | str, step: int = 1) -> ir.Value:
    """``x[start:end:step]`` along an axis; bounds are names of sizes, or not negative, and ``end`` may lie behind the dimension."""
    dim = x.shape[axis]
    if start == 0 and end == dim and step == 1:
        return x
    if isinstance(start, str) or isinstance(end, str):
        bounds: dict[str, ir.Attr] = {"axis": axis, "start": start, "end": end, "step": step}
        return reader.emit("slice", node, [x], (*x.shape[:axis], None, *x.shape[axis + 1 :]), bounds)
    if isinstance(dim, int):
        start, end = min(start, dim), min(end, dim)
        if start >= end:
            raise NotSupportedHere(f"no elements [{start}:{end}] of a dimension of {dim}")
    if step == 1 and start == 0 and end in (dim, TO_END):
        return x
    size = -(-(end - start) // step) if isinstance(dim, int) else None
    attrs: dict[str, ir.Attr] = {"axis": axis, "start": start, "end": end, "step": step}
    return reader.emit("slice", node, [x], (*x.shape[:axis], size, *x.shape[axis + 1 :]), attrs)


def padded(
    reader: GraphReader, node: Node, x: ir.Value, before: Sequence[int], after: Sequence[int], mode: str = "constant", value: float = 0.0
) -> ir.Value:
    """``x`` with so many elements in front and behind, for each dimension."""
    shape = tuple(d if b + e == 0 else d + b + e if isinstance(d, int) else None for d, b, e in zip(x.shape, before, after, strict=True))
    attrs: dict[str, ir.Attr] = {"mode": mode, "before": tuple(before), "after": tuple(after), "value": value}
    return reader.emit("pad", node, [x], shape, attrs)


def tensor_of(reader: GraphReader, node: Node, operand: Any, what: str = "operand") -> ir.Value:
    """``operand`` as a float value of the graph; a constant becomes a node."""
    if not isinstance(operand, (Tensor, QuantizedConstant)):
        return reader.tensor(operand, what)
    is_integer = isinstance(operand, Tensor) and not operand.is_floating_point() and operand.dtype != bool_
    value = int32_array(operand, what) if is_integer else reader.constant(operand, what)
    name = reader.namer.unique(f"{node.name}.constant")
    return inner(reader.emit("constant", node, [], value.shape, {}, {"value": value}, name=name, integer=is_integer))


def constant_under(operand: Any) -> Tensor | None:
    """A constant of floats, perhaps repeated along open dimensions, for which it has 1; None for what is computed from the input."""
    if isinstance(operand, Tensor):
        return operand
    producer = operand.producer if isinstance(operand, ir.Value) else None
    if producer is None or producer.op not in ("expand", "reshape", "constant"):
        return None
    if producer.op == "constant":
        value = producer.constants["value"]
        return from_numpy(value) if isinstance(value, np.ndarray) else None
    source = constant_under(producer.inputs[0])
    shape = [size for size in producer.output.shape if isinstance(size, int)]
    return source if source is None or producer.op == "expand" or len(shape) < len(producer.output.shape) else source.reshape(shape)


def int32_array(operand: Any, what: str) -> np.ndarray[Any, Any]:
    """A constant of integers as int32. Raises NotSupportedHere for one that does not fit."""
    wide = operand.detach().to(int64).contiguous().numpy()
    narrow: np.ndarray[Any, Any] = wide.astype(np.int32)
    if not np.array_equal(wide, narrow):
        raise NotSupportedHere(f"its {what} holds integers that do not fit 32 bits")
    return narrow


def expanded(reader: GraphReader, node: Node, x: ir.Value, target: Sequence[ir.Dim]) -> ir.Value:
    """``x`` with dimensions of 1 repeated; ``target`` has None for one that is kept."""
    x = of_rank(reader, node, x, len(target))
    sizes: list[ir.Dim] = [0 if d is None or d == n else d for d, n in zip(target, x.shape, strict=True)]
    if not any(sizes):
        return x
    wrong = [n for d, n in zip(sizes, x.shape, strict=True) if d and n != 1]
    if wrong:
        raise NotSupportedHere(f"expands a dimension of {wrong[0]}")
    shape = tuple(d or n for d, n in zip(sizes, x.shape, strict=True))
    return reader.emit("expand", node, [x], shape, {"shape": tuple(sizes)})


def known_size(x: ir.Value, axis: int) -> int:
    """The size of a dimension, which has to be known while converting."""
    dim = x.shape[axis]
    if not isinstance(dim, int):
        raise NotSupportedHere(f"splits dimension {axis}, which is not known while converting")
    return dim


def unary(reader: GraphReader, node: Node, x: ir.Value, function: str, alpha: Any = 0.0) -> ir.Value:
    """One of the engine's elementary functions; ``alpha`` is the parameter of those that have one."""
    attrs: dict[str, ir.Attr] = {"function": function, "alpha": float(np.float32(alpha))}
    return reader.emit("unary", node, [x], x.shape, attrs, name=reader.namer.name(node, function))


def clamped(reader: GraphReader, node: Node, x: ir.Value, lo: Any, hi: Any) -> ir.Value:
    """``x`` between two numbers; None: no bound."""
    lo, hi = (float(bound) if isinstance(bound, Tensor) and bound.numel() == 1 else bound for bound in (lo, hi))
    if isinstance(lo, ir.Value | Tensor) or isinstance(hi, ir.Value | Tensor):
        raise NotSupportedHere("bounds that are tensors")
    attrs: dict[str, ir.Attr] = {
        "lo": -INFINITY if lo is None else float(np.float32(lo)),
        "hi": INFINITY if hi is None else float(np.float32(hi)),
    }
    return reader.emit("clamp", node, [x], x.shape, attrs, name=reader.namer.name(node, "relu" if hi is None else "clamp"))


def scaled(reader: GraphReader, node: Node, x: ir.Value, factor: float) -> ir.Value:
    """``x * factor``, where an operation of torch's has such a step."""
    if factor == 1:
        return x
    other = np.full((1,) * len(x.shape), factor, np.float32)
    return reader.emit("binary", node, [x], x.shape, {"function": "mul"}, {"other": other}, name=reader.namer.name(node, "scale"))


def summed(reader: GraphReader, node: Node, x: ir.Value, other: ir.Value | np.ndarray[Any, Any]) -> ir.Value:
    """``x + other``, which broadcasts to the shape of ``x``."""
    rank, name = len(x.shape), reader.namer.name(node, "add")
    padded = (1,) * (rank - len(other.shape)) + tuple(other.shape)
    shape = shapes.broadcast(x.shape, padded)
    if shape is None:
        raise NotSupportedHere(f"adds shapes {x.shape} and {padded}")
    if isinstance(other, ir.Value):
        return reader.emit("binary", node, [x, of_rank(reader, node, other, rank)], shape, {"function": "add"}, name=name)
    return reader.emit("binary", node, [x], shape, {"function": "add"}, {"other": other.reshape(padded)}, name=name)
