"""One row per op of the engine: the ONNX nodes that compute the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pyqinfer.onnx_export import moves
from pyqinfer.onnx_export.builder import TO_NCHW, Builder, real
from pyqinfer.onnx_export.moves import Node, Row, along, axis_of, moved, refuse


def _conv2d(b: Builder, n: Node) -> None:
    a, x = n["attrs"], b.get(n["inputs"][0], True)
    weight = b.weight(n, (0, 3, 1, 2))
    bias = [b.constant(b.constants[n["constants"]["bias"]], f"{n['name']}.bias")] if "bias" in n["constants"] else []
    shape = b.constants[n["constants"]["weight"]].shape
    y = b.add(
        "Conv",
        [x, weight, *bias],
        n["name"],
        kernel_shape=shape[1:3],
        strides=a["stride"],
        pads=a["padding"],
        dilations=a["dilation"],
        group=a["groups"],
    )
    _finish(b, n, y, True)


def _linear(b: Builder, n: Node) -> None:
    x, weight = b.get(n["inputs"][0], False), b.weight(n)
    bias = [b.constant(b.constants[n["constants"]["bias"]], f"{n['name']}.bias")] if "bias" in n["constants"] else []
    if len(b.shape(n["inputs"][0])) == 2:
        y = b.add("Gemm", [x, weight, *bias], n["name"], transB=1)
    else:
        y = b.add("MatMul", [x, b.add("Transpose", [weight], f"{n['name']}.transposed", perm=(1, 0))], n["name"])
        y = b.add("Add", [y, *bias], f"{n['name']}.add") if bias else y
    _finish(b, n, y, False)


def _finish(b: Builder, n: Node, y: str, nchw: bool) -> None:
    """The residual, the activation and the quantize that are part of a layer."""
    if len(n["inputs"]) > 1:
        y = b.add("Add", [y, b.get(n["inputs"][1], nchw)], f"{n['name']}.residual")
    b.store(n["outputs"][0], b.activation(n, y), nchw, n["name"])


def _quantize(b: Builder, n: Node) -> None:
    if n["attrs"]["layout"] == "to_nhwc":  # the engine's NHWC output is NCHW here
        b.store(n["outputs"][0], b.get(n["inputs"][0], False), True, n["name"])
        return
    nchw = b.has_nchw(n["inputs"][0])
    b.store(n["outputs"][0], b.get(n["inputs"][0], nchw), nchw, n["name"])


def _dequantize(b: Builder, n: Node) -> None:
    if n["attrs"]["layout"] == "to_nchw":
        b.set(n["outputs"][0], b.get(n["inputs"][0], True), False)
        return
    nchw = b.has_nchw(n["inputs"][0])
    b.set(n["outputs"][0], b.get(n["inputs"][0], nchw), nchw)


def _add(b: Builder, n: Node) -> None:
    nchw = any(b.has_nchw(v) for v in n["inputs"])
    y = b.add("Add", [b.get(v, nchw) for v in n["inputs"]], n["name"])
    b.store(n["outputs"][0], b.activation(n, y), nchw, n["name"])


def _clamp(b: Builder, n: Node) -> None:
    nchw = b.has_nchw(n["inputs"][0])
    low, high = real(n["attrs"]["lo"]), real(n["attrs"]["hi"])
    x = b.get(n["inputs"][0], nchw)
    y = b.add("Relu", [x], n["name"]) if low == 0 and np.isinf(high) else b.clamp(x, low, high, n["name"])
    b.set(n["outputs"][0], y, nchw)


def _channels(array: Any, rank: int, nchw: bool) -> Any:
    """One number per channel, in a shape that broadcasts."""
    return array.reshape(-1, 1, 1) if nchw and rank == 4 else array


def _affine(b: Builder, n: Node) -> None:
    nchw, rank = b.has_nchw(n["inputs"][0]), len(b.shape(n["inputs"][0]))
    if nchw or rank == 2:  # one rounding, as the engine has it, which a multiplication and an addition do not have
        arrays = [b.constants[n["constants"][k]] for k in ("scale", "shift")]
        arrays += [np.zeros_like(arrays[0]), np.ones_like(arrays[0])]
        parameters = [b.constant(a, f"{n['name']}.{k}") for a, k in zip(arrays, ("scale", "shift", "mean", "variance"), strict=True)]
        y = b.add("BatchNormalization", [b.get(n["inputs"][0], nchw), *parameters], n["name"], epsilon=0.0)
        b.set(n["outputs"][0], y, nchw)
        return
    scale, shift = (b.constant(_channels(b.constants[n["constants"][k]], rank, nchw), f"{n['name']}.{k}") for k in ("scale", "shift"))
    y = b.add("Mul", [b.get(n["inputs"][0], nchw), scale], f"{n['name']}.mul")
    b.set(n["outputs"][0], b.add("Add", [y, shift], n["name"]), nchw)


def _table(b: Builder, n: Node) -> None:
    """Codes looked up in a table of codes."""
    table = b.constants[n["constants"]["table"]]
    nchw = b.has_nchw(n["inputs"][0])
    index = b.add("Cast", [b.codes(n["inputs"][0], nchw)], f"{n['name']}.index", to=b.onnx.TensorProto.INT32)
    if table.ndim == 2:
        offsets = _channels(np.arange(len(table), dtype=np.int32) * 256, len(b.shape(n["inputs"][0])), nchw)
        index = b.add("Add", [index, b.constant(offsets, f"{n['name']}.offsets")], f"{n['name']}.places")
    y = b.add("Gather", [b.constant(table.reshape(-1), f"{n['name']}.table"), index], n["name"], axis=0)
    b.store_codes(n["outputs"][0], y, nchw, n["name"])


def _pooled(b: Builder, n: Node, op: str, **more: Any) -> str:
    """The output of a pool; ``more``: its attributes beside those that every pool has."""
    a = n["attrs"]
    window = {"kernel_shape": a["kernel"], "strides": a["stride"], "pads": a["padding"], "ceil_mode": a["ceil_mode"]}
    return b.add(op, [b.get(n["inputs"][0], True)], n["name"], **window, **more)


def _max_pool(b: Builder, n: Node) -> None:
    y = _pooled(b, n, "MaxPool", dilations=n["attrs"]["dilation"])
    moved(b, n, y, True)


def _avg_pool(b: Builder, n: Node) -> None:
    y = _pooled(b, n, "AveragePool", count_include_pad=n["attrs"]["count_include_pad"])
    b.store(n["outputs"][0], y, True, n["name"])


def _adaptive(b: Builder, n: Node) -> None:
    if list(n["attrs"]["output"]) != [1, 1]:
        refuse(n, f"an average to {n['attrs']['output']}")
    b.store(n["outputs"][0], b.add("GlobalAveragePool", [b.get(n["inputs"][0], True)], n["name"]), True, n["name"])


def _mean(b: Builder, n: Node) -> None:
    keep = int(n["attrs"]["keepdim"])
    axes = b.constant(np.array([2, 3], np.int64), f"{n['name']}.axes")
    y = b.add("ReduceMean", [b.get(n["inputs"][0], True), axes], n["name"], keepdims=keep)
    b.store(n["outputs"][0], y, bool(keep), n["name"])


# The engine's functions: ONNX's operator, its domain and attributes.
_UNARY: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{
        name: (name.capitalize(), "", {})
        for name in ("exp", "sigmoid", "tanh", "erf", "sqrt", "abs", "log", "softplus", "sin", "cos", "floor", "ceil", "round")
    },
    "silu": ("QuickGelu", "com.microsoft", {"alpha": 1.0}),
    "gelu": ("Gelu", "", {}),
    "gelu_tanh": ("Gelu", "", {"approximate": "tanh"}),
    "hardsigmoid": ("HardSigmoid", "", {"alpha": 1 / 6, "beta": 0.5}),
    "hardswish": ("HardSwish", "", {}),
    "elu": ("Elu", "", {}),
    "leaky_relu": ("LeakyRelu", "", {}),
}


def _unary(b: Builder, n: Node) -> None:
    function, nchw = n["attrs"]["function"], b.has_nchw(n["inputs"][0])
    x = b.get(n["inputs"][0], nchw)
    if function == "rsqrt":
        y = b.add("Reciprocal", [b.add("Sqrt", [x], f"{n['name']}.sqrt")], n["name"])
    else:
        op, domain, attributes = _UNARY[function]
        more = {"alpha": real(n["attrs"]["alpha"])} if function in ("elu", "leaky_relu") else {}
        y = b.add(op, [x], n["name"], domain, **attributes, **more)
    b.store(n["outputs"][0], y, nchw, n["name"])


def _prelu(b: Builder, n: Node) -> None:
    nchw, rank = b.has_nchw(n["inputs"][0]), len(b.shape(n["inputs"][0]))
    slope = b.constant(_channels(b.constants[n["constants"]["slope"]], rank, nchw), f"{n['name']}.slope")
    b.set(n["outputs"][0], b.add("PRelu", [b.get(n["inputs"][0], nchw), slope], n["name"]), nchw)


_BINARY = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "maximum": "Max", "minimum": "Min", "rsub": "Sub", "rdiv": "Div"}


def _binary(b: Builder, n: Node) -> None:
    function = n["attrs"]["function"]
    rank = len(b.shape(n["inputs"][0]))
    nchw = rank == 4 and any(b.has_nchw(v) for v in n["inputs"])
    operands = [b.get(v, nchw) for v in n["inputs"]]
    if "other" in n["constants"]:
        other = b.constants[n["constants"]["other"]]
        operands.append(b.constant(other.transpose(TO_NCHW) if nchw and other.ndim == 4 else other, f"{n['name']}.other"))
    operands = operands[::-1] if function in ("rsub", "rdiv") else operands
    b.store(n["outputs"][0], b.add(_BINARY[function], operands, n["name"]), nchw, n["name"])


def _reduce(b: Builder, n: Node) -> None:
    a = n["attrs"]
    keep, nchw = int(a["keepdim"]), bool(a["keepdim"]) and along(b, n)
    op = {"mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax"}[a["function"]]
    axes = b.constant(np.array([axis_of(i, nchw) for i in a["axes"]], np.int64), f"{n['name']}.axes")
    y = b.add(op, [b.get(n["inputs"][0], nchw), axes], n["name"], keepdims=keep)
    b.store(n["outputs"][0], y, nchw, n["name"])


def _cumsum(b: Builder, n: Node) -> None:
    axis = b.constant(np.array(n["attrs"]["axis"], np.int64), f"{n['name']}.axis")
    b.set(n["outputs"][0], b.add("CumSum", [b.get(n["inputs"][0], False), axis], n["name"]), False)


def _integers(b: Builder, n: Node) -> None:
    refuse(n, "integers and truth values that are computed in a run")


def _softmax(b: Builder, n: Node) -> None:
    if n["attrs"]["causal"]:
        refuse(n, "a causal softmax")
    y = b.add("LogSoftmax" if n["attrs"]["log"] else "Softmax", [b.get(n["inputs"][0], False)], n["name"], axis=-1)
    b.store(n["outputs"][0], y, False, n["name"])


def _matmul(b: Builder, n: Node) -> None:
    x, y = (b.get(v, False) for v in n["inputs"])
    if n["attrs"]["transpose_b"]:
        rank = len(b.shape(n["inputs"][1]))
        y = b.add("Transpose", [y], f"{n['name']}.transposed", perm=(*range(rank - 2), rank - 1, rank - 2))
    b.store(n["outputs"][0], b.add("MatMul", [x, y], n["name"]), False, n["name"])


def _parameters(b: Builder, n: Node, channels: int) -> list[str]:
    default = {"weight": np.ones(channels, np.float32), "bias": np.zeros(channels, np.float32)}
    arrays = {k: b.constants[n["constants"][k]] if k in n["constants"] else v for k, v in default.items()}
    return [b.constant(arrays[k], f"{n['name']}.{k}") for k in ("weight", "bias")]


def _layer_norm(b: Builder, n: Node) -> None:
    channels = b.shape(n["inputs"][0])[-1]
    if not isinstance(channels, int):
        refuse(n, "a normalization of an open number of channels")
    weight, bias = _parameters(b, n, channels)
    x, eps = b.get(n["inputs"][0], False), real(n["attrs"]["eps"])
    if n["attrs"]["center"]:
        y = b.add("LayerNormalization", [x, weight, *([bias] if "bias" in n["constants"] else [])], n["name"], axis=-1, epsilon=eps)
    else:
        b.opset = 23
        y = b.add("RMSNormalization", [x, weight], n["name"], axis=-1, epsilon=eps)
        y = b.add("Add", [y, bias], f"{n['name']}.bias") if "bias" in n["constants"] else y
    b.store(n["outputs"][0], y, False, n["name"])


def _group_norm(b: Builder, n: Node) -> None:
    weight, bias = _parameters(b, n, b.shape(n["inputs"][0])[-1])
    x, a = b.get(n["inputs"][0], True), n["attrs"]
    y = b.add("GroupNormalization", [x, weight, bias], n["name"], epsilon=real(a["eps"]), num_groups=a["groups"])
    b.store(n["outputs"][0], y, True, n["name"])


def _embedding(b: Builder, n: Node) -> None:
    y = b.add("Gather", [b.weight(n), b.get(n["inputs"][0], False)], n["name"], axis=0)
    b.store(n["outputs"][0], y, False, n["name"])


def _linear_dynamic(b: Builder, n: Node) -> None:
    refuse(n, "a layer whose input is quantized at run time")


ROWS: Mapping[str, Row] = {
    **moves.ROWS,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "conv2d": _conv2d,
    "linear": _linear,
    "linear_dynamic": _linear_dynamic,
    "add": _add,
    "clamp": _clamp,
    "affine": _affine,
    "table": _table,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": _adaptive,
    "mean": _mean,
    "unary": _unary,
    "prelu": _prelu,
    "binary": _binary,
    "reduce": _reduce,
    "cumsum": _cumsum,
    **dict.fromkeys(("cast", "compare", "where", "integer", "arange", "gather", "argmax"), _integers),
    "softmax": _softmax,
    "matmul": _matmul,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "embedding": _embedding,
}
