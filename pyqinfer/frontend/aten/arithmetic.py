"""Handlers of aten ops that combine two operands element by element, and of powers, which are products."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, float32, from_numpy, tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import clamped, inner, of_rank, operand, scaled, unary
from pyqinfer.frontend.aten.infinities import hides_scores, holds_infinity, with_infinities
from pyqinfer.frontend.aten.integers import as_kind, compared, constant_of, or_integers
from pyqinfer.frontend.aten.masks import masked_sum
from pyqinfer.frontend.aten.per_channel import or_per_channel
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, SymbolicSize

# A higher whole power is not worth its multiplications.
_LARGEST_PRODUCT = 16


def _with_alpha(reader: GraphReader, node: Node, a: Arguments) -> Arguments:
    """The arguments of an add or sub, with alpha multiplied into the second operand."""
    alpha, other = a.get("alpha", 1), a["other"]
    if alpha == 1:
        return a
    if isinstance(other, SymbolicSize):
        raise NotSupportedHere("arithmetic with a size of the input")
    if isinstance(other, ir.Value):
        other = inner(scaled(reader, node, reader.activation(other, "second operand"), float(alpha)))
    elif isinstance(other, (int, float)):
        other = other * alpha
    else:
        other = from_numpy(reader.constant(other, "second operand") * np.float32(alpha))
    return {**a, "other": other, "alpha": 1}


def _add(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    a = _with_alpha(reader, node, a)
    if not (isinstance(a["self"], ir.Value) and isinstance(a["other"], ir.Value)):
        return _binary(reader, node, a, "add")
    left, right = reader.activation(a["self"], "first operand"), reader.activation(a["other"], "second operand")
    shape = shapes.merge(left.shape, right.shape)
    return _binary(reader, node, a, "add") if shape is None else reader.emit("add", node, [left, right], shape)


def _binary(reader: GraphReader, node: Node, a: Arguments, function: str) -> ir.Value:
    if a.get("rounding_mode") is not None:
        quotient = inner(_binary(reader, node, {**a, "rounding_mode": None}, function))
        return unary(reader, node, quotient, "floor") if a["rounding_mode"] == "floor" else truncated(reader, node, quotient)
    if function == "rsub" and a.get("alpha", 1) != 1:
        raise NotSupportedHere(f"rsub with alpha={a['alpha']}")
    a = _with_alpha(reader, node, a)
    return combined(reader, node, a["self"], a["other"], function)


def truncated(reader: GraphReader, node: Node, x: ir.Value) -> ir.Value:
    """``x`` without what lies behind the point: floor of its size, with its sign."""
    size = inner(unary(reader, node, inner(unary(reader, node, x, "abs")), "floor"))
    negative = inner(compared(reader, node, x, constant_of(0, "float", len(x.shape)), "lt"))
    sign = inner(with_constant(reader, node, inner(scaled(reader, node, as_kind(reader, node, negative, "float"), -2.0)), 1.0, "add"))
    return combined(reader, node, size, sign, "mul")


def combined(reader: GraphReader, node: Node, x: Any, y: Any, function: str) -> ir.Value:
    """``x function y``, broadcast; one of them may be a number or a constant."""
    if not isinstance(x, ir.Value):
        x, y, function = y, x, {"sub": "rsub", "div": "rdiv", "rsub": "sub"}.get(function, function)
    x = reader.activation(x, "first operand")
    if not isinstance(y, ir.Value):
        return with_constant(reader, node, x, y, function)
    y = reader.activation(y, "second operand")
    rank = max(len(x.shape), len(y.shape))
    x, y = (of_rank(reader, node, v, rank) for v in (x, y))
    shape = shapes.broadcast(x.shape, y.shape)
    if shape is None:
        raise NotSupportedHere(f"{function} of shapes {x.shape} and {y.shape}")
    return reader.emit("binary", node, [x, y], shape, {"function": function}, name=reader.namer.name(node, function))


def with_constant(reader: GraphReader, node: Node, x: ir.Value, constant: Any, function: str) -> ir.Value:
    """``x function constant``, broadcast; "rsub" and "rdiv" exchange the operands."""
    if isinstance(constant, SymbolicSize):
        raise NotSupportedHere("arithmetic with a size of the input")
    if function == "add" and hides_scores(node, constant):
        return masked_sum(reader, node, x, constant)
    if isinstance(constant, (int, float)):
        constant = tensor(float(constant))
    if holds_infinity(constant):
        return combined(reader, node, x, with_infinities(reader, node, constant), function)
    other = reader.constant(constant, "second operand")
    rank = max(len(x.shape), other.ndim)
    other = other.reshape((1,) * (rank - other.ndim) + other.shape)
    x = of_rank(reader, node, x, rank)
    shape = shapes.broadcast(x.shape, other.shape)
    if shape is None:
        raise NotSupportedHere(f"{function} of shapes {x.shape} and {other.shape}")
    return reader.emit("binary", node, [x], shape, {"function": function}, {"other": other}, name=reader.namer.name(node, function))


def _pow(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Small whole powers by multiplication, as torch computes a square and a cube; others are e^(exponent * log(x)), NaN below 0."""
    base, exponent = a["self"], a["exponent"]
    if not isinstance(base, ir.Value) and isinstance(exponent, ir.Value):
        base = base if isinstance(base, Tensor) else tensor(float(base))
        return unary(reader, node, inner(combined(reader, node, exponent, base.to(float32).log(), "mul")), "exp")
    x = reader.activation(base, "base")
    if isinstance(exponent, Tensor) and exponent.numel() == 1 and exponent.ndim <= len(x.shape):
        exponent = float(exponent)
    if not isinstance(exponent, (int, float)):
        logarithm = inner(combined(reader, node, inner(unary(reader, node, x, "log")), exponent, "mul"))
        return unary(reader, node, logarithm, "exp")
    if exponent in (0.5, -0.5):
        return unary(reader, node, x, "sqrt" if exponent > 0 else "rsqrt")
    if exponent < 0:
        positive = inner(_pow(reader, node, {**a, "exponent": -exponent}))
        return with_constant(reader, node, positive, 1.0, "rdiv")
    if exponent % 1:
        return unary(reader, node, inner(scaled(reader, node, inner(unary(reader, node, x, "log")), float(exponent))), "exp")
    if not 0 < exponent <= _LARGEST_PRODUCT:
        raise NotSupportedHere(f"a power of {exponent}")
    return _power(reader, node, x, int(exponent))


def _power(reader: GraphReader, node: Node, x: ir.Value, exponent: int) -> ir.Value:
    """Squares of squares, times ``x`` where the exponent is odd."""
    if exponent == 1:
        return x
    half = x if exponent in (2, 3) else inner(_power(reader, node, x, exponent // 2))
    name = reader.namer.name(node, "pow")
    y = reader.emit("binary", node, [half, half], x.shape, {"function": "mul"}, name=name)
    return y if exponent % 2 == 0 else reader.emit("binary", node, [inner(y), x], x.shape, {"function": "mul"}, name=name)


def _lerp(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """start + weight * (end - start), with a number or a tensor for a weight."""
    start, end, weight = a["self"], a["end"], a["weight"]
    difference = inner(combined(reader, node, end, start, "sub"))
    step = inner(combined(reader, node, difference, weight, "mul"))
    return combined(reader, node, step, start, "add")


def extremum(reader: GraphReader, node: Node, a: Arguments, largest: bool) -> ir.Value:
    """The larger or smaller of two tensors; where one of them is a single number, it bounds the other."""
    x, bound = a["self"], a["other"]
    if not isinstance(x, ir.Value):
        x, bound = bound, x
    if not isinstance(bound, Tensor) or bound.numel() != 1 or bound.ndim > len(reader.activation(x, "operand").shape):
        return combined(reader, node, x, bound, "maximum" if largest else "minimum")
    value = float(bound)
    return clamped(reader, node, reader.activation(x, "input"), value if largest else None, None if largest else value)


_FLOATS: dict[str, Handler] = {
    "lerp": _lerp,
    "add": or_per_channel("add", _add),
    "sub": or_per_channel("sub", lambda r, n, a: _binary(r, n, a, "sub")),
    "rsub": lambda r, n, a: _binary(r, n, a, "rsub"),
    "mul": or_per_channel("mul", lambda r, n, a: _binary(r, n, a, "mul")),
    "div": or_per_channel("div", lambda r, n, a: _binary(r, n, a, "div")),
    "neg": lambda r, n, a: scaled(r, n, operand(r, a), -1.0),
    "reciprocal": lambda r, n, a: with_constant(r, n, operand(r, a), 1.0, "rdiv"),
    "maximum": lambda r, n, a: extremum(r, n, a, True),
    "minimum": lambda r, n, a: extremum(r, n, a, False),
    "pow": _pow,
}
HANDLERS = or_integers(_FLOATS)
