"""Reductions, normalizations and softmax."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler, axis_of
from pyqinfer.frontend.sources.onnx.ops.sizes import as_objects, objects
from pyqinfer.frontend.sources.onnx.values import Sizes, Value
from pyqinfer.frontend.values import NotSupportedHere


def _reduced(function: Callable[[Tensor, list[int], bool], Tensor]) -> Handler:
    """A handler of an operator whose axes are an attribute, or operand 1 in newer versions."""

    def handler(c: Call) -> Value:
        axes, keep = c.listed(1, "axes", "axes"), bool(c.attribute("keepdims", 1))
        if not axes and c.attribute("noop_with_empty_axes", 0):
            return function(c.tensor(0), [], True) if c.operation.op not in _KEEPING else c.value(0)
        if isinstance(c.value(0), Sizes):
            return _of_sizes(c, keep)
        x = c.tensor(0)
        over = [axis_of(int(a), x.ndim) for a in axes] if axes else list(range(x.ndim))
        if not over:
            return function(x.reshape(1), [0], False)
        return function(x, over, keep)

    return handler


# Reductions that leave an element alone where they reduce no axis.
_KEEPING = frozenset({"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSumExp"})


def _of_sizes(c: Call, keep: bool) -> Sizes:
    array = as_objects(c.value(0))
    functions: dict[str, Any] = {"ReduceProd": prod, "ReduceSum": sum, "ReduceMax": max, "ReduceMin": min}
    if array is None or c.operation.op not in functions:
        raise NotSupportedHere("sizes of the input")
    return Sizes(objects([functions[c.operation.op](array.reshape(-1).tolist())], (1,) if keep else ()))


def _over(function: Callable[..., Tensor]) -> Callable[[Tensor, list[int], bool], Tensor]:
    return lambda x, axes, keep: function(x, axes, keep) if axes else x


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = torch.prod(x, axis, keep)
    return x


_sum, _amax, _amin = _over(torch.sum), _over(torch.amax), _over(torch.amin)


def _mean(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.mean(x, axes, keep) if x.is_floating_point() else torch.sum(x, axes, keep) // prod(x.shape[a] for a in axes)


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    most = torch.amax(x, axes, True)
    total = torch.log(torch.sum(torch.exp(x - most), axes, True)) + most
    return total if keep else total.squeeze(axes)


def _arg(function: Callable[..., Tensor]) -> Handler:
    def handler(c: Call) -> Tensor:
        x, keep = c.tensor(0), bool(c.attribute("keepdims", 1))
        axis = c.axis(x.ndim, 0)
        if not c.attribute("select_last_index", 0):
            return function(x, axis, keep)
        return x.shape[axis] - 1 - function(x.flip(axis), axis, keep)

    return handler


def _top_k(c: Call) -> Any:
    x = c.tensor(0)
    k = int(c.number(1, "number", c.attribute("k")))
    return tuple(torch.topk(x, k, c.axis(x.ndim, -1), bool(c.attribute("largest", 1)), bool(c.attribute("sorted", 1))))


def _cumsum(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = axis_of(int(c.number(1, "axis")), x.ndim)
    backwards, exclusive = c.attribute("reverse", 0), c.attribute("exclusive", 0)
    x = x.flip(axis) if backwards else x
    y = torch.cumsum(x, axis)
    y = y - x if exclusive else y
    return y.flip(axis) if backwards else y


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Handler:
    """Before version 13 it is over all axes from one on, together."""

    def handler(c: Call) -> Tensor:
        x = c.tensor(0)
        if c.version >= 13:
            return function(x, c.axis(x.ndim, -1))
        axis = c.axis(x.ndim, 1)
        if axis == x.ndim - 1:
            return function(x, axis)
        return function(x.flatten(axis), axis).reshape(x.shape)

    return handler


def _hardmax(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = c.axis(x.ndim, -1 if c.version >= 13 else 1)
    return (torch.argmax(x, axis, True) == torch.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])).to(x.dtype)


def _batch_norm(c: Call) -> Tensor:
    if c.attribute("training_mode", 0):
        raise NotSupportedHere("batch normalization in training mode")
    x = c.tensor(0)
    scale, bias, mean, variance = (c.tensor(i) for i in range(1, 5))
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, float(c.attribute("epsilon", 1e-5)))


def _instance_norm(c: Call) -> Tensor:
    return F.instance_norm(c.tensor(0), None, None, c.tensor(1), c.tensor(2), True, 0.0, float(c.attribute("epsilon", 1e-5)))


def _layer_norm(c: Call) -> Any:
    x = c.tensor(0)
    axis, eps = c.axis(x.ndim, -1), float(c.attribute("epsilon", 1e-5))
    shape = list(x.shape[axis:])
    weight, bias = c.tensor(1), c.tensor(2) if c.has(2) else None
    if list(weight.shape) == shape and (bias is None or list(bias.shape) == shape):
        y = F.layer_norm(x, shape, weight, bias, eps)
    else:
        y = F.layer_norm(x, shape, None, None, eps) * weight
        y = y if bias is None else y + bias
    if len([name for name in c.operation.outputs if name]) == 1:
        return y
    axes = list(range(axis, x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    return y, mean, torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)


def _rms_norm(c: Call) -> Tensor:
    x = c.tensor(0)
    shape = list(x.shape[c.axis(x.ndim, -1) :])
    return F.rms_norm(x, shape, None, float(c.attribute("epsilon", 1e-5))) * c.tensor(1)


def _group_norm(c: Call) -> Tensor:
    x, groups = c.tensor(0), int(c.attribute("num_groups", 1))
    weight, bias = c.tensor(1), c.tensor(2)
    if weight.shape[0] != x.shape[1]:  # before version 21 there is one for each group
        weight, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (weight, bias))
    return F.group_norm(x, groups, weight, bias, float(c.attribute("epsilon", 1e-5)))


def _mean_variance(c: Call) -> Tensor:
    x, axes = c.tensor(0), [int(a) for a in c.attribute("axes") or (0, 2, 3)]
    centred = x - x.mean(axes, keepdim=True)
    return centred / (torch.sqrt((centred * centred).mean(axes, keepdim=True)) + 1e-9)


def _lp_norm(c: Call) -> Tensor:
    x, p = c.tensor(0), int(c.attribute("p", 2))
    axis = c.axis(x.ndim, -1)
    if p not in (1, 2):
        raise NotSupportedHere(f"p = {p}")
    norm = torch.sum(torch.abs(x), axis, True) if p == 1 else torch.sqrt(torch.sum(x * x, axis, True))
    return x / norm.clamp(min=torch.finfo(torch.float32).tiny)  # rows of zeros stay zeros


def _lrn(c: Call) -> Tensor:
    x, size = c.tensor(0), int(c.attribute("size", 1))
    alpha, beta, bias = (float(c.attribute(name, default)) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    squares = F.pad(x * x, [0, 0] * (x.ndim - 2) + [(size - 1) // 2, size // 2])
    channels = x.shape[1]
    total = squares.narrow(1, 0, channels)
    for i in range(1, size):
        total = total + squares.narrow(1, i, channels)
    return x / torch.pow(bias + total * (alpha / size), beta)


def _skip_norm(center: bool) -> Handler:
    """com.microsoft.Skip(Simplified)LayerNormalization: the sum of both inputs [and a bias], normalized; the sum is the fourth output."""

    def handler(c: Call) -> tuple[Any, ...]:
        total = c.tensor(0) + c.tensor(1)
        bias_at = 4 if center else 3
        total = total + c.tensor(bias_at) if c.has(bias_at) else total
        eps, shape = float(c.attribute("epsilon", 1e-12)), [total.shape[-1]]
        if center:
            y = F.layer_norm(total, shape, c.tensor(2), c.tensor(3) if c.has(3) else None, eps)
        else:
            y = F.rms_norm(total, shape, c.tensor(2), eps)
        return y, None, None, total

    return handler


ROWS: dict[str, Handler] = {
    "ReduceSum": _reduced(_sum),
    "ReduceMean": _reduced(_mean),
    "ReduceMax": _reduced(_amax),
    "ReduceMin": _reduced(_amin),
    "ReduceProd": _reduced(_product),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: _sum(x * x, axes, keep)),
    "ReduceL1": _reduced(lambda x, axes, keep: _sum(torch.abs(x), axes, keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: torch.sqrt(_sum(x * x, axes, keep))),
    "ReduceLogSum": _reduced(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _reduced(_log_sum_exp),
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "TopK": _top_k,
    "CumSum": _cumsum,
    "Softmax": _softmax(F.softmax),
    "LogSoftmax": _softmax(F.log_softmax),
    "Hardmax": _hardmax,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
    "SimplifiedLayerNormalization": _rms_norm,
    "GroupNormalization": _group_norm,
    "MeanVarianceNormalization": _mean_variance,
    "LpNormalization": _lp_norm,
    "LRN": _lrn,
}
MICROSOFT_ROWS: dict[str, Handler] = {
    "SkipLayerNormalization": _skip_norm(True),
    "SkipSimplifiedLayerNormalization": _skip_norm(False),
}
