"""Handlers of aten ops that apply one function to every element: activations, clamps and elementary functions."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.arithmetic import combined, with_constant
from pyqinfer.frontend.aten.build import clamped, inner, operand, scaled, unary
from pyqinfer.frontend.aten.integers import as_kind, or_integers
from pyqinfer.frontend.aten.one_row import in_one_or_two_dimensions
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, SymbolicSize

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
# Functions without parameters that have the same name in torch and in the engine.
_FUNCTIONS = (
    "exp",
    "log",
    "sin",
    "cos",
    "floor",
    "ceil",
    "sqrt",
    "rsqrt",
    "abs",
    "erf",
    "sigmoid",
    "tanh",
    "silu",
    "hardsigmoid",
    "hardswish",
)


def _function(name: str) -> Handler:
    """The handler of an op that is one of the engine's elementary functions."""
    return lambda reader, node, a: unary(reader, node, operand(reader, a), name)


def _clamp(reader: GraphReader, node: Node, a: Arguments, lo: Any, hi: Any) -> ir.Value:
    """Between two bounds, each a number, a tensor, a size of the input, or None."""
    lo, hi = (float(bound) if isinstance(bound, Tensor) and bound.numel() == 1 else bound for bound in (lo, hi))
    bounds = [
        (bound, function) for bound, function in ((lo, "maximum"), (hi, "minimum")) if isinstance(bound, (ir.Value, Tensor, SymbolicSize))
    ]
    x = operand(reader, a)
    if not bounds:
        return clamped(reader, node, x, lo, hi)
    lo, hi = (bound if isinstance(bound, (int, float)) else None for bound in (lo, hi))
    y = x if lo is None and hi is None else inner(clamped(reader, node, x, lo, hi))
    for i, (bound, function) in enumerate(bounds):
        other = as_kind(reader, node, bound, "float") if isinstance(bound, SymbolicSize) else bound
        y = combined(reader, node, y if i == 0 else inner(y), other, function)
    return y


def _elu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a["input_scale"] != 1:
        raise NotSupportedHere(f"elu with input_scale={a['input_scale']}")
    y = unary(reader, node, operand(reader, a), "elu", a["alpha"])
    return y if a["scale"] == 1 else scaled(reader, node, inner(y), float(a["scale"]))


def _celu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """celu is alpha * elu(x / alpha)."""
    alpha = float(a["alpha"])
    if alpha <= 0:
        raise NotSupportedHere(f"celu with alpha={alpha}")
    x = operand(reader, a)
    y = unary(reader, node, x if alpha == 1 else inner(scaled(reader, node, x, 1 / alpha)), "elu", 1.0)
    return y if alpha == 1 else scaled(reader, node, inner(y), alpha)


def _softplus(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """softplus is log(1 + e^(beta x)) / beta. From beta x = 20 on that is x in float32, so that a higher threshold changes nothing."""
    beta, threshold = float(a["beta"]), float(a["threshold"])
    if threshold < 20 or beta <= 0:
        raise NotSupportedHere(f"softplus with beta={beta}, threshold={threshold}")
    x = operand(reader, a)
    if beta == 1:
        return unary(reader, node, x, "softplus")
    y = unary(reader, node, inner(scaled(reader, node, x, beta)), "softplus")
    return with_constant(reader, node, inner(y), beta, "div")


def _mish(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """mish is x * tanh(softplus(x))."""
    x = operand(reader, a)
    gate = inner(unary(reader, node, inner(unary(reader, node, x, "softplus")), "tanh"))
    return combined(reader, node, x, gate, "mul")


def _log_sigmoid(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """log(sigmoid(x)) is -softplus(-x)."""
    flipped = inner(scaled(reader, node, operand(reader, a), -1.0))
    return scaled(reader, node, inner(unary(reader, node, flipped, "softplus")), -1.0)


def _log1p(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """log(1 + x); the sum's rounding makes an absolute error of at most 6e-8."""
    return unary(reader, node, inner(with_constant(reader, node, operand(reader, a), 1.0, "add")), "log")


def _gelu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return unary(reader, node, operand(reader, a), "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _prelu(reader: GraphReader, node: Node, a: Arguments) -> Any:
    slope, x = reader.constant(a["weight"], "weight").ravel(), operand(reader, a)
    if slope.size == 1:
        return unary(reader, node, x, "leaky_relu", slope[0])
    return in_one_or_two_dimensions(_prelu_per_channel)(reader, node, a)


def _prelu_per_channel(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    slope, x = reader.constant(a["weight"], "weight").ravel(), operand(reader, a)
    if len(x.shape) not in (2, 4):
        raise NotSupportedHere(f"prelu with a slope per channel over rank {len(x.shape)}")
    return reader.emit("prelu", node, [x], x.shape, {}, {"slope": slope})


_FLOATS: dict[str, Handler] = {
    "relu": lambda r, n, a: _clamp(r, n, a, 0.0, None),
    "relu6": lambda r, n, a: _clamp(r, n, a, 0.0, 6.0),
    "hardtanh": lambda r, n, a: _clamp(r, n, a, a["min_val"], a["max_val"]),
    "clamp": lambda r, n, a: _clamp(r, n, a, a["min"], a["max"]),
    "clamp_min": lambda r, n, a: _clamp(r, n, a, a["min"], None),
    "clamp_max": lambda r, n, a: _clamp(r, n, a, None, a["max"]),
    **{name: _function(name) for name in _FUNCTIONS},
    "round": lambda r, n, a: unary(r, n, operand(r, a), "round"),
    "softplus": _softplus,
    "elu": _elu,
    "selu": lambda r, n, a: _elu(r, n, {"self": a["self"], "alpha": _SELU_ALPHA, "scale": _SELU_SCALE, "input_scale": 1}),
    "celu": _celu,
    "gelu": _gelu,
    "mish": _mish,
    "log_sigmoid": _log_sigmoid,
    "log_sigmoid_forward": lambda r, n, a: (_log_sigmoid(r, n, a), None),
    "log1p": _log1p,
    "leaky_relu": lambda r, n, a: unary(r, n, operand(r, a), "leaky_relu", a["negative_slope"]),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
}
HANDLERS = or_integers(_FLOATS)
