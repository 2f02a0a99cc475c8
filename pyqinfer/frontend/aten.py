"""Handlers of aten ops: arguments by schema name in, IR nodes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor, float32, from_numpy, tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import dynamic, matmul, movement, rows, shapes
from pyqinfer.frontend.matmul import hides_scores, masked_sum, scaled
from pyqinfer.frontend.movement import inner, of_rank
from pyqinfer.frontend.movement import reshaped as _reshaped
from pyqinfer.frontend.one_d import either, over_rows
from pyqinfer.frontend.quantized import weight_constant
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, RuntimeQuantized, SymbolicSize
from pyqinfer.frontend.transposed import conv_transpose2d

INFINITY = float("inf")
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _pair(value: Any) -> tuple[int, int]:
    items = [value] if isinstance(value, int) else list(value)
    return (int(items[0]), int(items[-1]))


def _spatial_input(reader: GraphReader, a: Arguments) -> ir.Value:
    x = reader.activation(a.get("self", a.get("input")), "input")
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    return x


def _convolution(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a.get("transposed"):
        return conv_transpose2d(reader, node, a)
    x, weight = _spatial_input(reader, a), weight_constant(reader, a["weight"])
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    if len(shape) != 4:
        raise NotSupportedHere(f"convolution over {len(shape) - 2} dimensions")
    kernel, stride, dilation = shape[2:], _pair(a["stride"]), _pair(a["dilation"])
    padding = _conv_padding(a["padding"], kernel, stride, dilation)
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], padding[i] + padding[i + 2], dilation[i]) for i in (0, 1)]
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    attrs: dict[str, ir.Attr] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": int(a["groups"])}
    return reader.emit("conv2d", node, [x], (x.shape[0], shape[0], *size), attrs, constants)


def _conv_padding(padding: Any, kernel: Sequence[int], stride: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom, right. For "same" torch pads the odd one at the bottom and right."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        if stride != (1, 1):
            raise NotSupportedHere('padding "same" with a stride')
        total = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
        return (total[0] // 2, total[1] // 2, total[0] - total[0] // 2, total[1] - total[1] // 2)
    top, left = _pair(padding)
    return (top, left, top, left)


def _linear(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if isinstance(a["input"], RuntimeQuantized):
        return dynamic.linear(reader, node, a)
    x, weight = reader.activation(a["input"], "input"), weight_constant(reader, a["weight"])
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    return reader.emit("linear", node, [x], (*x.shape[:-1], shape[0]), {}, constants)


def _batch_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a.get("training"):
        raise NotSupportedHere("batch norm in training mode; call model.eval() before exporting")
    x = reader.activation(a["input"], "input")
    if len(x.shape) not in (2, 4):
        raise NotSupportedHere(f"batch norm over rank {len(x.shape)}")
    mean, variance = (reader.constant(a[key], key).astype(np.float64) for key in ("running_mean", "running_var"))
    gamma = reader.constant(a["weight"], "weight").astype(np.float64) if a["weight"] is not None else np.ones_like(mean)
    beta = reader.constant(a["bias"], "bias").astype(np.float64) if a["bias"] is not None else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + float(a["eps"]))
    return reader.emit("batch_norm", node, [x], x.shape, {}, {"scale": scale, "shift": beta - mean * scale})


def _batch_norm_tuple(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    return (either(_batch_norm)(reader, node, a), None, None)


def _clamp(reader: GraphReader, node: Node, a: Arguments, lo: Any, hi: Any) -> ir.Value:
    x = reader.activation(a["self"], "input")
    if isinstance(lo, ir.Value | Tensor) or isinstance(hi, ir.Value | Tensor):
        raise NotSupportedHere("bounds that are tensors")
    attrs: dict[str, ir.Attr] = {
        "lo": -INFINITY if lo is None else float(np.float32(lo)),
        "hi": INFINITY if hi is None else float(np.float32(hi)),
    }
    return reader.emit("clamp", node, [x], x.shape, attrs, name=reader.namer.name(node, "relu" if hi is None else "clamp"))


def _embedding(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Rows of a constant table; ``padding_idx`` and the like matter in training alone."""
    x = a["indices"]
    if isinstance(a["weight"], ir.Value):
        raise NotSupportedHere("its table is computed from the input")
    if not isinstance(x, ir.Value) or not x.indices:
        raise NotSupportedHere("its indices are not an input of the model")
    weight = weight_constant(reader, a["weight"])
    if isinstance(weight, ir.Weight) and weight.grouped:
        weight = weight.expand()
    width = (weight.codes if isinstance(weight, ir.Weight) else weight).shape[1]
    return reader.emit("embedding", node, [x], (*x.shape, width), {}, {"weight": weight})


def _with_alpha(reader: GraphReader, node: Node, a: Arguments) -> Arguments:
    """Arguments of an add or sub whose second operand is multiplied by alpha already."""
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
    """Arithmetic that broadcasts; one operand may be a number or a constant."""
    if a.get("rounding_mode") is not None:
        raise NotSupportedHere(f"{function} with rounding_mode")
    if function == "rsub" and a.get("alpha", 1) != 1:
        raise NotSupportedHere(f"rsub with alpha={a['alpha']}")
    a = _with_alpha(reader, node, a)
    x, y = a["self"], a["other"]
    if not isinstance(x, ir.Value):
        x, y, function = y, x, {"sub": "rsub", "div": "rdiv", "rsub": "sub"}.get(function, function)
    x = reader.activation(x, "first operand")
    if not isinstance(y, ir.Value):
        return _with_constant(reader, node, x, y, function)
    y = reader.activation(y, "second operand")
    rank = max(len(x.shape), len(y.shape))
    x, y = (of_rank(reader, node, v, rank) for v in (x, y))
    shape = shapes.broadcast(x.shape, y.shape)
    if shape is None:
        raise NotSupportedHere(f"{function} of shapes {x.shape} and {y.shape}")
    return reader.emit("binary", node, [x, y], shape, {"function": function}, name=reader.namer.name(node, function))


def _with_constant(reader: GraphReader, node: Node, x: ir.Value, operand: Any, function: str) -> ir.Value:
    if isinstance(operand, SymbolicSize):
        raise NotSupportedHere("arithmetic with a size of the input")
    if function == "add" and hides_scores(node, operand):
        return masked_sum(reader, node, x, operand)
    if isinstance(operand, (int, float)):
        operand = tensor(float(operand))
    other = reader.constant(operand, "second operand")
    rank = max(len(x.shape), other.ndim)
    other = other.reshape((1,) * (rank - other.ndim) + other.shape)
    x = of_rank(reader, node, x, rank)
    shape = shapes.broadcast(x.shape, other.shape)
    if shape is None:
        raise NotSupportedHere(f"{function} of shapes {x.shape} and {other.shape}")
    return reader.emit("binary", node, [x], shape, {"function": function}, {"other": other}, name=reader.namer.name(node, function))


def _max_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _spatial_input(reader, a)
    kernel, padding, dilation = _pair(a["kernel_size"]), _pair(a["padding"]), _pair(a["dilation"])
    stride, ceil_mode = _pair(a["stride"] or kernel), bool(a["ceil_mode"])
    attrs: dict[str, ir.Attr] = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding + padding,
        "dilation": dilation,
        "ceil_mode": int(ceil_mode),
    }
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], 2 * padding[i], dilation[i], ceil_mode) for i in (0, 1)]
    return reader.emit("max_pool2d", node, [x], (x.shape[0], x.shape[1], *size), attrs)


def _max_pool_tuple(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    return (_max_pool(reader, node, a), None)


def _avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _spatial_input(reader, a)
    if a.get("divisor_override") is not None:
        raise NotSupportedHere("average pool with divisor_override")
    kernel, padding = _pair(a["kernel_size"]), _pair(a["padding"])
    stride, ceil_mode = _pair(a["stride"] or kernel), bool(a["ceil_mode"])
    attrs: dict[str, ir.Attr] = {
        "kernel": kernel,
        "stride": stride,
        "padding": padding + padding,
        "ceil_mode": int(ceil_mode),
        "count_include_pad": int(bool(a["count_include_pad"])),
    }
    size = [shapes.window_output(x.shape[2 + i], kernel[i], stride[i], 2 * padding[i], 1, ceil_mode) for i in (0, 1)]
    return reader.emit("avg_pool2d", node, [x], (x.shape[0], x.shape[1], *size), attrs)


def _adaptive_avg_pool(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _spatial_input(reader, a)
    output = a["output_size"]
    if any(isinstance(d, SymbolicSize) for d in output):
        raise NotSupportedHere("an output size that depends on the input's")
    size = _pair(output)
    return reader.emit("adaptive_avg_pool2d", node, [x], (x.shape[0], x.shape[1], *size), {"output": size})


def _reduce(reader: GraphReader, node: Node, a: Arguments, function: str) -> ir.Value:
    """Over the dimensions named, or all of them."""
    x = reader.activation(a.get("self", a.get("input")), "input")
    if a.get("dtype") not in (None, float32):
        raise NotSupportedHere(f"computes in {a['dtype']}")
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


def _view(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.activation(a["self"], "input")
    target = [d.dim if isinstance(d, SymbolicSize) else int(d) for d in a.get("size") or a.get("shape") or []]
    return _reshaped(reader, node, x, target, "reshape")


def _flatten(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.activation(a["self"], "input")
    target = shapes.flatten(x.shape, a["start_dim"], a["end_dim"])
    return _reshaped(reader, node, x, target, "flatten")


def _squeeze_trailing(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = reader.activation(a["self"], "input")
    if "dim" not in a:
        # Symbols stay: torch.export takes them for sizes other than 1.
        if None in x.shape:
            raise NotSupportedHere("squeeze of a dimension that is not known while converting")
        return _reshaped(reader, node, x, [d for d in x.shape if d != 1], "squeeze")
    axes = [a["dim"]] if isinstance(a["dim"], int) else a["dim"]
    drop = {d % len(x.shape) for d in axes}
    if any(x.shape[d] is None or isinstance(x.shape[d], str) for d in drop):
        raise NotSupportedHere("squeeze of a dimension that is not known while converting")
    return _reshaped(reader, node, x, [d for i, d in enumerate(x.shape) if i not in drop or d != 1], "squeeze")


def _identity(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return a["self"]


def _dropout(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if a["train"]:
        raise NotSupportedHere("dropout in training mode; call model.eval() before exporting")
    return a["input"]


def _size(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if not isinstance(a["self"], ir.Value):
        raise NotSupportedHere("the size of a constant")
    dim = a["self"].shape[a["dim"]]
    return dim if isinstance(dim, int) else SymbolicSize(dim)


def _unary(reader: GraphReader, node: Node, a: Arguments, function: str, alpha: Any = 0.0) -> ir.Value:
    x = reader.activation(a.get("self", a.get("input")), "input")
    attrs: dict[str, ir.Attr] = {"function": function, "alpha": float(np.float32(alpha))}
    return reader.emit("unary", node, [x], x.shape, attrs, name=reader.namer.name(node, function))


def _elu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a["input_scale"] != 1:
        raise NotSupportedHere(f"elu with input_scale={a['input_scale']}")
    y = _unary(reader, node, a, "elu", a["alpha"])
    return y if a["scale"] == 1 else scaled(reader, node, inner(y), float(a["scale"]))


def _celu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """alpha * elu(x / alpha)"""
    alpha = float(a["alpha"])
    if alpha <= 0:
        raise NotSupportedHere(f"celu with alpha={alpha}")
    x = reader.activation(a["self"], "input")
    y = _unary(reader, node, {"self": x if alpha == 1 else inner(scaled(reader, node, x, 1 / alpha))}, "elu", 1.0)
    return y if alpha == 1 else scaled(reader, node, inner(y), alpha)


def _softplus(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """log(1 + e^(beta x)) / beta. From 20 on that is x in float32, so that a higher threshold changes nothing."""
    beta, threshold = float(a["beta"]), float(a["threshold"])
    if threshold < 20 or beta <= 0:
        raise NotSupportedHere(f"softplus with beta={beta}, threshold={threshold}")
    x = reader.activation(a["self"], "input")
    if beta == 1:
        return _unary(reader, node, a, "softplus")
    y = _unary(reader, node, {"self": inner(scaled(reader, node, x, beta))}, "softplus")
    return _with_constant(reader, node, inner(y), beta, "div")


def _variance(reader: GraphReader, node: Node, a: Arguments, root: bool) -> ir.Value:
    """sum((x - mean)^2) / (n - correction), over dimensions whose sizes are known."""
    x = reader.activation(a["self"], "input")
    dims, keep = a.get("dim"), bool(a.get("keepdim", False))
    # var(x, unbiased) says True for a correction of 1; var.correction has None for it.
    correction = a.get("correction", a.get("unbiased", 1))
    correction = 1.0 if correction is None else float(correction)
    rank = len(x.shape)
    axes = sorted({d % rank for d in ([dims] if isinstance(dims, int) else dims or range(rank))})
    count = 1
    for axis in axes:
        size = x.shape[axis]
        if not isinstance(size, int):
            raise NotSupportedHere("over a dimension that is not known while converting")
        count *= size
    if count <= correction:
        raise NotSupportedHere(f"over {count} elements with a correction of {correction:g}")
    mean = inner(_reduce(reader, node, {"self": x, "dim": axes, "keepdim": True}, "mean"))
    centred = inner(_binary(reader, node, {"self": x, "other": mean}, "sub"))
    squares = inner(_binary(reader, node, {"self": centred, "other": centred}, "mul"))
    total = _reduce(reader, node, {"self": squares, "dim": axes, "keepdim": keep}, "sum")
    y = _with_constant(reader, node, inner(total), count - correction, "div")
    return _unary(reader, node, {"self": inner(y)}, "sqrt") if root else y


def _vector_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Of order 1, 2 or infinity."""
    order = a.get("ord", a.get("p"))
    order = 2.0 if order is None else float(order)
    over = {"dim": a.get("dim"), "keepdim": a.get("keepdim", False), "dtype": a.get("dtype")}
    x = reader.activation(a["self"], "input")
    if order == 2:
        squares = inner(_binary(reader, node, {"self": x, "other": x}, "mul"))
        return _unary(reader, node, {"self": inner(_reduce(reader, node, {"self": squares, **over}, "sum"))}, "sqrt")
    if order not in (1, INFINITY):
        raise NotSupportedHere(f"a norm of order {order:g}")
    magnitude = inner(_unary(reader, node, {"self": x}, "abs"))
    return _reduce(reader, node, {"self": magnitude, **over}, "sum" if order == 1 else "amax")


def _pow(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """Whole powers by multiplication, as torch computes a square and a cube."""
    x, exponent = reader.activation(a["self"], "base"), a["exponent"]
    if exponent in (0.5, -0.5):
        return _unary(reader, node, {"self": x}, "sqrt" if exponent > 0 else "rsqrt")
    if exponent not in (1, 2, 3, -1):
        raise NotSupportedHere(f"a power of {exponent}")
    if exponent == -1:
        return _with_constant(reader, node, x, 1.0, "rdiv")
    y = x
    for _ in range(int(exponent) - 1):
        if y is not x:
            inner(y)
        y = reader.emit("binary", node, [y, x], x.shape, {"function": "mul"}, name=reader.namer.name(node, "pow"))
    return y


def _extremum(reader: GraphReader, node: Node, a: Arguments, largest: bool) -> ir.Value:
    """The larger or smaller of two tensors; one number is a bound."""
    x, bound = a["self"], a["other"]
    if not isinstance(x, ir.Value):
        x, bound = bound, x
    if not isinstance(bound, Tensor) or bound.numel() != 1 or bound.ndim > len(reader.activation(x, "operand").shape):
        return _binary(reader, node, {"self": x, "other": bound}, "maximum" if largest else "minimum")
    value = float(bound)
    return _clamp(reader, node, {"self": x}, value if largest else None, None if largest else value)


def _gelu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _unary(reader, node, a, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _prelu(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    slope = reader.constant(a["weight"], "weight").ravel()
    if slope.size == 1:
        return _unary(reader, node, a, "leaky_relu", slope[0])
    x = reader.activation(a["self"], "input")
    if len(x.shape) not in (2, 4):
        raise NotSupportedHere(f"prelu with a slope per channel over rank {len(x.shape)}")
    return reader.emit("prelu", node, [x], x.shape, {}, {"slope": slope})


HANDLERS: dict[str, Handler] = {
    "conv2d": _convolution,
    "convolution": either(_convolution),
    "conv1d": over_rows(_convolution),
    "conv_transpose1d": over_rows(conv_transpose2d),
    "conv_transpose2d": conv_transpose2d,
    "linear": _linear,
    "embedding": _embedding,
    "batch_norm": either(_batch_norm),
    "_native_batch_norm_legit_no_training": _batch_norm_tuple,
    "relu": lambda r, n, a: _clamp(r, n, a, 0.0, None),
    "relu6": lambda r, n, a: _clamp(r, n, a, 0.0, 6.0),
    "hardtanh": lambda r, n, a: _clamp(r, n, a, a["min_val"], a["max_val"]),
    "clamp": lambda r, n, a: _clamp(r, n, a, a["min"], a["max"]),
    "clamp_min": lambda r, n, a: _clamp(r, n, a, a["min"], None),
    "clamp_max": lambda r, n, a: _clamp(r, n, a, None, a["max"]),
    "exp": lambda r, n, a: _unary(r, n, a, "exp"),
    "sigmoid": lambda r, n, a: _unary(r, n, a, "sigmoid"),
    "tanh": lambda r, n, a: _unary(r, n, a, "tanh"),
    "erf": lambda r, n, a: _unary(r, n, a, "erf"),
    "silu": lambda r, n, a: _unary(r, n, a, "silu"),
    "gelu": _gelu,
    "sqrt": lambda r, n, a: _unary(r, n, a, "sqrt"),
    "rsqrt": lambda r, n, a: _unary(r, n, a, "rsqrt"),
    "abs": lambda r, n, a: _unary(r, n, a, "abs"),
    "log": lambda r, n, a: _unary(r, n, a, "log"),
    "softplus": _softplus,
    "var": lambda r, n, a: _variance(r, n, a, False),
    "std": lambda r, n, a: _variance(r, n, a, True),
    "linalg_vector_norm": _vector_norm,
    "norm": _vector_norm,
    "hardsigmoid": lambda r, n, a: _unary(r, n, a, "hardsigmoid"),
    "hardswish": lambda r, n, a: _unary(r, n, a, "hardswish"),
    "elu": _elu,
    "selu": lambda r, n, a: _elu(r, n, {"self": a["self"], "alpha": _SELU_ALPHA, "scale": _SELU_SCALE, "input_scale": 1}),
    "celu": _celu,
    "pow": _pow,
    "neg": lambda r, n, a: scaled(r, n, r.activation(a["self"], "input"), -1.0),
    "maximum": lambda r, n, a: _extremum(r, n, a, True),
    "minimum": lambda r, n, a: _extremum(r, n, a, False),
    "leaky_relu": lambda r, n, a: _unary(r, n, a, "leaky_relu", a["negative_slope"]),
    "prelu": _prelu,
    "_prelu_kernel": _prelu,
    "add": _add,
    "sub": lambda r, n, a: _binary(r, n, a, "sub"),
    "rsub": lambda r, n, a: _binary(r, n, a, "rsub"),
    "mul": lambda r, n, a: _binary(r, n, a, "mul"),
    "div": lambda r, n, a: _binary(r, n, a, "div"),
    "reciprocal": lambda r, n, a: _with_constant(r, n, r.activation(a["self"], "input"), 1.0, "rdiv"),
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool_tuple,
    "upsample_nearest1d": over_rows(movement.HANDLERS["upsample_nearest2d"]),
    "upsample_linear1d": over_rows(movement.HANDLERS["upsample_bilinear2d"]),
    "max_pool1d": over_rows(_max_pool),
    "avg_pool1d": over_rows(_avg_pool),
    "adaptive_avg_pool1d": over_rows(_adaptive_avg_pool),
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    "mean": lambda r, n, a: _reduce(r, n, a, "mean"),
    "sum": lambda r, n, a: _reduce(r, n, a, "sum"),
    "amax": lambda r, n, a: _reduce(r, n, a, "amax"),
    "view": _view,
    "_unsafe_view": _view,
    "reshape": _view,
    "flatten": _flatten,
    "squeeze": _squeeze_trailing,
    "dropout": _dropout,
    "feature_dropout": _dropout,
    "clone": _identity,
    "contiguous": _identity,
    "alias": _identity,
    "detach": _identity,
    "lift_fresh_copy": _identity,
    "sym_size": _size,
    **rows.HANDLERS,
    **matmul.HANDLERS,
    **movement.HANDLERS,
}
