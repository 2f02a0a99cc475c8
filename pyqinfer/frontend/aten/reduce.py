"""Handlers of aten ops that reduce dimensions: sums, means, largest values, variances and norms."""

from __future__ import annotations

import math
import operator

from torch import Tensor, float32
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.arithmetic import combined, extremum, with_constant
from pyqinfer.frontend.aten.build import INFINITY, inner, known_size, operand, reshaped, scaled, sliced, unary
from pyqinfer.frontend.aten.integers import or_integers
from pyqinfer.frontend.aten.lookup import place_of_extreme
from pyqinfer.frontend.aten.pooling import PLACES
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import Absent, NotSupportedHere


def _float_operand(reader: GraphReader, a: Arguments) -> ir.Value:
    """The operand of an op that may be asked to compute in another type, which the engine does not."""
    if a.get("dtype") not in (None, float32):
        raise NotSupportedHere(f"computes in {a['dtype']}")
    return operand(reader, a)


def _reduce(reader: GraphReader, node: Node, a: Arguments, function: str) -> ir.Value:
    """Reduces the dimensions that are named, or all of them where none is."""
    x = _float_operand(reader, a)
    rank, dims = len(x.shape), a.get("dim")
    if not rank:
        raise NotSupportedHere(f"{function} of one number")
    axes = tuple(sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))}))
    keep = bool(a.get("keepdim", False))
    if function == "mean" and rank == 4 and axes == (2, 3):
        return _mean(reader, node, x, keep)
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape) if keep or i not in axes)
    attrs: dict[str, ir.Attr] = {"function": function, "axes": axes, "keepdim": int(keep)}
    return reader.emit("reduce", node, [x], shape, attrs, name=reader.namer.name(node, function))


def _mean(reader: GraphReader, node: Node, x: ir.Value, keep: bool) -> ir.Value:
    shape: ir.Shape = (x.shape[0], x.shape[1], 1, 1) if keep else (x.shape[0], x.shape[1])
    return reader.emit("mean", node, [x], shape, {"keepdim": int(keep)})


def _cumsum(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Running sums along one dimension, in float32."""
    x = _float_operand(reader, a)
    if not x.shape:
        raise NotSupportedHere("cumsum of one number")
    return reader.emit("cumsum", node, [x], x.shape, {"axis": int(a["dim"]) % len(x.shape)})


def _variance(reader: GraphReader, node: Node, a: Arguments, root: bool) -> ir.Value:
    """The variance, sum((x - mean)^2) / (n - correction), or its root."""
    x = operand(reader, a)
    dims, keep = a.get("dim"), bool(a.get("keepdim", False))
    # torch's var(x, unbiased) has True for a correction of 1, its var.correction has None.
    correction = a.get("correction", a.get("unbiased", 1))
    correction = 1.0 if correction is None else float(correction)
    rank = len(x.shape)
    axes = sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))})
    count = 1
    for axis in axes:
        size = x.shape[axis]
        if not isinstance(size, int):
            found: ir.Value = composed(reader, node, lambda self: _open_variance(self, axes, keep, correction, root), {"self": a["self"]})
            return found
        count *= size
    if count <= correction:
        raise NotSupportedHere(f"over {count} elements with a correction of {correction:g}")
    mean = inner(_reduce(reader, node, {"self": x, "dim": axes, "keepdim": True}, "mean"))
    centred = inner(combined(reader, node, x, mean, "sub"))
    squares = inner(combined(reader, node, centred, centred, "mul"))
    total = _reduce(reader, node, {"self": squares, "dim": axes, "keepdim": keep}, "sum")
    y = with_constant(reader, node, inner(total), count - correction, "div")
    return unary(reader, node, inner(y), "sqrt") if root else y


def _open_variance(x: Tensor, axes: list[int], keep: bool, correction: float, root: bool) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    count = math.prod(x.shape[axis] for axis in axes)
    y = (centred * centred).sum(axes, keepdim=keep) / (count - int(correction))
    result: Tensor = y.sqrt() if root else y
    return result


def _vector_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The norm of an order from 1 on, infinity among them."""
    order = a.get("ord", a.get("p"))
    order = 2.0 if order is None else float(order)
    over = {"dim": a.get("dim"), "keepdim": a.get("keepdim", False), "dtype": a.get("dtype")}
    x = operand(reader, a)
    if order == 2:
        squares = inner(combined(reader, node, x, x, "mul"))
        return unary(reader, node, inner(_reduce(reader, node, {"self": squares, **over}, "sum")), "sqrt")
    if not order >= 1:
        raise NotSupportedHere(f"a norm of order {order:g}")
    if order not in (1, INFINITY):
        sizes: ir.Value = composed(reader, node, lambda self: self.abs() ** order, {"self": a["self"]})
        total = inner(_reduce(reader, node, {"self": inner(sizes), **over}, "sum"))
        logarithm = inner(unary(reader, node, total, "log"))
        return unary(reader, node, inner(scaled(reader, node, logarithm, 1 / order)), "exp")
    magnitude = inner(unary(reader, node, x, "abs"))
    return _reduce(reader, node, {"self": magnitude, **over}, "sum" if order == 1 else "amax")


def _amin(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The smallest element is the largest one with all signs turned."""
    turned = inner(scaled(reader, node, operand(reader, a), -1.0))
    return scaled(reader, node, inner(_reduce(reader, node, {**a, "self": turned}, "amax")), -1.0)


def _max(reader: GraphReader, node: Node, a: Arguments) -> ir.Value | tuple[ir.Value, ir.Value | Absent]:
    """The largest element, of all or along one dimension; then torch gives its place too. With a second operand, the larger of two."""
    if "other" in a:
        return extremum(reader, node, a, True)
    return _with_place(reader, node, a, _reduce(reader, node, a, "amax"), "max")


def _min(reader: GraphReader, node: Node, a: Arguments) -> ir.Value | tuple[ir.Value, ir.Value | Absent]:
    if "other" in a:
        return extremum(reader, node, a, False)
    return _with_place(reader, node, a, _amin(reader, node, a), "min")


def _with_place(reader: GraphReader, node: Node, a: Arguments, y: ir.Value, function: str) -> ir.Value | tuple[ir.Value, ir.Value | Absent]:
    """``y`` alone, or with the place that it has along the dimension where anything reads that."""
    if "dim" not in a:
        return y
    if not any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users):
        return y, PLACES
    return y, place_of_extreme(reader, node, operand(reader, a), a["dim"], bool(a.get("keepdim", False)), function)


def _log_of_sum(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """log(sum(exp(x))), as largest + log(sum(exp(x - largest)))."""
    x, over = operand(reader, a), {"dim": a["dim"], "keepdim": True}
    largest = inner(_reduce(reader, node, {"self": x, **over}, "amax"))
    shifted = inner(unary(reader, node, inner(combined(reader, node, x, largest, "sub")), "exp"))
    total = inner(unary(reader, node, inner(_reduce(reader, node, {"self": shifted, **over}, "sum")), "log"))
    y = combined(reader, node, total, largest, "add")
    if a["keepdim"]:
        return y
    rank = len(x.shape)
    axes = {d % rank for d in ([a["dim"]] if isinstance(a["dim"], int) else a["dim"])}
    return reshaped(reader, node, inner(y), [d for i, d in enumerate(y.shape) if i not in axes], "squeeze")


def _product(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """The product along one short dimension."""
    x = _float_operand(reader, a)
    if "dim" not in a:
        raise NotSupportedHere("the product of all elements")
    axis = int(a["dim"]) % len(x.shape)
    size = known_size(x, axis)
    if size > 64:
        raise NotSupportedHere(f"a product over {size} elements, more than 64")
    y = sliced(reader, node, x, axis, 0, 1)
    for i in range(1, size):
        y = combined(reader, node, inner(y), inner(sliced(reader, node, x, axis, i, i + 1)), "mul")
    return y if a["keepdim"] else reshaped(reader, node, inner(y) if y is not x else y, (*x.shape[:axis], *x.shape[axis + 1 :]), "squeeze")


_FLOATS: dict[str, Handler] = {
    "logsumexp": _log_of_sum,
    "prod": _product,
    "mean": lambda r, n, a: _reduce(r, n, a, "mean"),
    "sum": lambda r, n, a: _reduce(r, n, a, "sum"),
    "amax": lambda r, n, a: _reduce(r, n, a, "amax"),
    "amin": _amin,
    "max": _max,
    "min": _min,
    "cumsum": _cumsum,
    "var": lambda r, n, a: _variance(r, n, a, False),
    "std": lambda r, n, a: _variance(r, n, a, True),
    "var_mean": lambda r, n, a: (inner(_variance(r, n, a, False)), inner(_reduce(r, n, {**a, "dtype": None}, "mean"))),
    "std_mean": lambda r, n, a: (inner(_variance(r, n, a, True)), inner(_reduce(r, n, {**a, "dtype": None}, "mean"))),
    "aminmax": lambda r, n, a: (inner(_amin(r, n, a)), inner(_reduce(r, n, a, "amax"))),
    "linalg_vector_norm": _vector_norm,
    "norm": _vector_norm,
}
HANDLERS = or_integers(_FLOATS)
