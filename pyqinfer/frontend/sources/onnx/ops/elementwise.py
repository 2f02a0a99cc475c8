"""Operators that work element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.ops.integers import multiplied
from pyqinfer.frontend.sources.onnx.ops.sizes import combined_sizes
from pyqinfer.frontend.sources.onnx.values import Coded, CodeNumbers, Codes, Const, IntegerProduct, LookedUp, RuntimeScale, Sizes, Value
from pyqinfer.frontend.values import NotSupportedHere

_TYPES = {
    1: torch.float32, 10: torch.float32, 16: torch.float32, 11: torch.float32,
    2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    4: torch.int32, 12: torch.int64, 13: torch.int64,
}  # fmt: skip


def _unary(function: Callable[[Tensor], Tensor]) -> Handler:
    return lambda c: function(c.tensor(0))


def _binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    """A handler that computes with sizes where all operands are sizes or constants, one of them a size."""

    def handler(c: Call) -> Any:
        sizes = combined_sizes(name, c.operands)
        return sizes if sizes is not None else function(*_aligned(c))

    return handler


def _aligned(c: Call) -> tuple[Tensor, Tensor]:
    """Both operands; before version 7 the second one's first axis is that of an attribute."""
    x, y = c.tensor(0), c.tensor(1)
    if c.attribute("broadcast") and c.version < 7 and c.attribute("axis") is not None:
        y = y.reshape(*y.shape, *[1] * (x.ndim - y.ndim - int(c.attribute("axis"))))
    return x, y


def _add(c: Call) -> Any:
    x, offsets = c.value(0), c.value(1)
    if isinstance(x, CodeNumbers) and isinstance(offsets, Const):
        return CodeNumbers(x.codes, offsets.array)
    return _binary("Add", torch.add)(c)


def _mul(c: Call) -> Any:
    special = multiplied(c.value(0), c.value(1))
    return special if special is not None else _binary("Mul", torch.mul)(c)


def _div(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _mod(c: Call) -> Any:
    sizes = combined_sizes("Mod", c.operands)
    if sizes is not None:
        return sizes
    return torch.fmod(c.tensor(0), c.tensor(1)) if c.attribute("fmod", 0) else torch.remainder(c.tensor(0), c.tensor(1))


def _power(c: Call) -> Tensor:
    exponent = c.value(1)
    if isinstance(exponent, Const) and exponent.array.size == 1 and c.tensor(0).is_floating_point():
        number = exponent.array.reshape(-1)[0].item()
        return torch.pow(c.tensor(0), int(number) if number == int(number) else number)
    return torch.pow(c.tensor(0), c.tensor(1))


def _folded(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> Handler:
    """An operator of any number of operands."""

    def handler(c: Call) -> Any:
        sizes = combined_sizes(name, c.operands)
        return sizes if sizes is not None else reduce(function, c.tensors())

    return handler


def _mean(c: Call) -> Tensor:
    return reduce(torch.add, c.tensors()) / len(c.operands)


def _clip(c: Call) -> Value:
    low, high = c.attribute("min"), c.attribute("max")
    low, high = c.number(1, "lower bound", low), c.number(2, "upper bound", high)
    x = c.value(0)
    if isinstance(x, LookedUp):
        return replace(x, low=max(x.low, int(low or 0)), high=min(x.high, 255 if high is None else int(high)))
    if isinstance(x, Codes):
        least = x.scales.low if low is None else max(int(low), x.scales.low)
        most = x.scales.high if high is None else min(int(high), x.scales.high)
        return Codes(x.x, replace(x.scales, low=least, high=most))
    if low is not None and high is not None and low > high:
        low = high
    return torch.clamp(c.tensor(0), low, high) if low is not None or high is not None else c.tensor(0)


def _relu(c: Call) -> Value:
    x = c.value(0)
    return Codes(F.relu(x.values()), x.scales) if isinstance(x, Codes) and not x.scales.zero_point.any() else F.relu(c.tensor(0))


def _prelu(c: Call) -> Tensor:
    x, slope = c.tensor(0), c.tensor(1)
    axes = [i for i, d in enumerate(slope.shape) if d != 1]
    first = x.ndim - slope.ndim
    if not axes or (len(axes) == 1 and axes[0] + first == 1):
        return F.prelu(x, slope.reshape(-1))
    return F.relu(x) - slope * F.relu(-x)


def _hardsigmoid(c: Call) -> Tensor:
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(c.tensor(0))
    return torch.clamp(c.tensor(0) * alpha + beta, 0, 1)


def _thresholded(c: Call) -> Tensor:
    x, alpha = c.tensor(0), c.attribute("alpha", 1.0)
    return torch.where(x > alpha, x, torch.zeros_like(x))


def _shrink(c: Call) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, 0 between: without a bias for x itself this is a sum of two shifted clamps."""
    x, bias, edge = c.tensor(0), c.attribute("bias", 0.0), c.attribute("lambd", 0.5)
    if bias == edge:
        return F.relu(x - edge) - F.relu(-x - edge)
    return torch.where(x < -edge, x + bias, torch.where(x > edge, x - bias, torch.zeros_like(x)))


def _gelu(c: Call) -> Tensor:
    return F.gelu(c.tensor(0), approximate="tanh" if c.attribute("approximate", "none") == "tanh" else "none")


def _bias_gelu(c: Call) -> Tensor:
    return F.gelu(c.tensor(0) + c.tensor(1))


def _fast_gelu(c: Call) -> Tensor:
    x = c.tensor(0) + c.tensor(1) if c.has(1) else c.tensor(0)
    return F.gelu(x, approximate="tanh")


def _quick_gelu(c: Call) -> Tensor:
    x = c.tensor(0)
    return x * torch.sigmoid(x * c.attribute("alpha", 1.702))


def _swish(c: Call) -> Tensor:
    x, alpha = c.tensor(0), c.attribute("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(x * alpha)


def _cast(c: Call) -> Value:
    to, x = int(c.attribute("to", 1)), c.value(0)
    if to not in _TYPES:
        raise NotSupportedHere(f"a cast to type {to}")
    wanted = _TYPES[to]
    if isinstance(x, Codes) and wanted == torch.int32 and x.scales.low >= 0 and x.scales.axis is None:
        return CodeNumbers(x)
    if isinstance(x, Sizes) and not wanted.is_floating_point and wanted != torch.bool:
        return x
    if isinstance(x, (IntegerProduct, RuntimeScale)) and wanted.is_floating_point:
        return x
    if isinstance(x, Coded) and wanted.is_floating_point:
        return x
    return c.tensor(0).to(wanted)


def _cast_like(c: Call) -> Value:
    if isinstance(c.value(0), Coded) and c.tensor(1).is_floating_point():
        return c.value(0)
    return c.tensor(0).to(c.tensor(1).dtype)


def _where(c: Call) -> Any:
    sizes = combined_sizes("Where", c.operands)
    return sizes if sizes is not None else torch.where(c.tensor(0).bool(), c.tensor(1), c.tensor(2))


def _isinf(c: Call) -> Tensor:
    x = c.tensor(0)
    positive, negative = c.attribute("detect_positive", 1), c.attribute("detect_negative", 1)
    if positive and negative:
        return torch.isinf(x)
    return x == float("inf") if positive else x == float("-inf") if negative else torch.zeros_like(x, dtype=torch.bool)


def _bit_shift(c: Call) -> Tensor:
    shift = torch.bitwise_left_shift if c.attribute("direction") == "LEFT" else torch.bitwise_right_shift
    return shift(c.tensor(0), c.tensor(1))


def _identity(c: Call) -> Value:
    return c.value(0)


def _dropout(c: Call) -> Value:
    if c.has(2) and c.number(2, "training mode"):
        raise NotSupportedHere("dropout in training mode")
    return c.value(0)


ROWS: dict[str, Handler] = {
    "Add": _add,
    "Sub": _binary("Sub", torch.sub),
    "Mul": _mul,
    "Div": _binary("Div", _div),
    "Mod": _mod,
    "Pow": _power,
    "Min": _folded("Min", torch.minimum),
    "Max": _folded("Max", torch.maximum),
    "Sum": _folded("Add", torch.add),
    "Mean": _mean,
    "Neg": _unary(torch.neg),
    "Abs": _unary(torch.abs),
    "Sign": _unary(torch.sign),
    "Reciprocal": _unary(torch.reciprocal),
    "Sqrt": _unary(torch.sqrt),
    "Exp": _unary(torch.exp),
    "Log": _unary(torch.log),
    "Erf": _unary(torch.erf),
    "Floor": _unary(torch.floor),
    "Ceil": _unary(torch.ceil),
    "Round": _unary(torch.round),
    "Sin": _unary(torch.sin),
    "Cos": _unary(torch.cos),
    "Tan": _unary(torch.tan),
    "Asin": _unary(torch.asin),
    "Acos": _unary(torch.acos),
    "Atan": _unary(torch.atan),
    "Sinh": _unary(torch.sinh),
    "Cosh": _unary(torch.cosh),
    "Asinh": _unary(torch.asinh),
    "Acosh": _unary(torch.acosh),
    "Atanh": _unary(torch.atanh),
    "Not": _unary(torch.logical_not),
    "IsNaN": _unary(torch.isnan),
    "IsInf": _isinf,
    "And": _binary("And", torch.logical_and),
    "Or": _binary("Or", torch.logical_or),
    "Xor": _binary("Xor", torch.logical_xor),
    "Equal": _binary("Equal", torch.eq),
    "Greater": _binary("Greater", torch.gt),
    "GreaterOrEqual": _binary("GreaterOrEqual", torch.ge),
    "Less": _binary("Less", torch.lt),
    "LessOrEqual": _binary("LessOrEqual", torch.le),
    "BitwiseAnd": _binary("BitwiseAnd", torch.bitwise_and),
    "BitwiseOr": _binary("BitwiseOr", torch.bitwise_or),
    "BitwiseXor": _binary("BitwiseXor", torch.bitwise_xor),
    "BitwiseNot": _unary(torch.bitwise_not),
    "BitShift": _bit_shift,
    "Where": _where,
    "Cast": _cast,
    "CastLike": _cast_like,
    "Identity": _identity,
    "Dropout": _dropout,
    "Clip": _clip,
    "Relu": _relu,
    "LeakyRelu": lambda c: F.leaky_relu(c.tensor(0), c.attribute("alpha", 0.01)),
    "PRelu": _prelu,
    "Elu": lambda c: F.elu(c.tensor(0), c.attribute("alpha", 1.0)),
    "Selu": lambda c: c.attribute("gamma", 1.0507009873554805) * F.elu(c.tensor(0), c.attribute("alpha", 1.6732632423543772)),
    "Celu": lambda c: F.celu(c.tensor(0), c.attribute("alpha", 1.0)),
    "Sigmoid": _unary(torch.sigmoid),
    "Tanh": _unary(torch.tanh),
    "Softplus": _unary(F.softplus),
    "Softsign": lambda c: c.tensor(0) / (1 + torch.abs(c.tensor(0))),
    "HardSigmoid": _hardsigmoid,
    "HardSwish": _unary(F.hardswish),
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "Mish": _unary(F.mish),
    "Gelu": _gelu,
    "Swish": _swish,
    "SwiGLU": lambda c: _swish(c) * c.tensor(1),
}
MICROSOFT_ROWS: dict[str, Handler] = {
    "Gelu": _unary(F.gelu),
    "BiasGelu": _bias_gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
}
