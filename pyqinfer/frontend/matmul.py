"""Handlers of aten ops that multiply matrices, and of attention, which is made of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.movement import inner, of_rank
from pyqinfer.frontend.quantized import weight_constant
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, QuantizedConstant

# Stands for minus infinity, which a file cannot hold: added to a score it leaves nothing of it behind the softmax.
_LOWEST = np.finfo(np.float32).min
_SOFTMAX = frozenset({"aten::softmax", "aten::_softmax"})


def _matmul(reader: GraphReader, node: Node, left: Any, right: Any) -> ir.Value:
    x = reader.activation(left, "left operand")
    if not isinstance(right, ir.Value):
        return _linear(reader, node, x, right, None)
    y = reader.activation(right, "right operand")
    if min(len(x.shape), len(y.shape)) < 2:
        raise NotSupportedHere(f"a product of ranks {len(x.shape)} and {len(y.shape)}")
    y, transposed = _untransposed(y)
    return _product(reader, node, x, y, transposed)


def _untransposed(y: ir.Value) -> tuple[ir.Value, bool]:
    """A right operand as it is before its last two axes are exchanged, where they are: the engine reads either."""
    rank, source = len(y.shape), y.producer
    if source is not None and source.op == "transpose" and source.attrs["perm"] == (*range(rank - 2), rank - 1, rank - 2):
        return source.inputs[0], True
    return y, False


def _product(reader: GraphReader, node: Node, x: ir.Value, y: ir.Value, transposed: bool) -> ir.Value:
    rank = max(len(x.shape), len(y.shape))
    x, y = (of_rank(reader, node, v, rank) for v in (x, y))
    leading = shapes.broadcast(x.shape[:-2], y.shape[:-2])
    if leading is None:
        raise NotSupportedHere(f"a product of shapes {x.shape} and {y.shape}")
    shape = (*leading, x.shape[-2], y.shape[-2 if transposed else -1])
    return reader.emit("matmul", node, [x, y], shape, {"transpose_b": int(transposed)})


def _linear(reader: GraphReader, node: Node, x: ir.Value, matrix: Any, bias: Any) -> ir.Value:
    """``x @ matrix`` with a constant matrix is a linear layer."""
    if isinstance(matrix, QuantizedConstant):
        axis = None if matrix.axis is None else 1 - matrix.axis
        matrix = replace(matrix, codes=matrix.codes.mT, value=matrix.value.mT, axis=axis) if matrix.codes.ndim == 2 else matrix.value
    elif isinstance(matrix, Tensor):
        matrix = matrix.mT if matrix.ndim == 2 else matrix
    weight = weight_constant(reader, matrix)
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    if len(shape) != 2:
        raise NotSupportedHere(f"a product with a constant of rank {len(shape)}")
    constants: dict[str, ir.Constant] = {"weight": weight}
    if bias is not None:
        constants["bias"] = reader.constant(bias, "bias")
    return reader.emit("linear", node, [x], (*x.shape[:-1], shape[0]), {}, constants)


def _addmm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """beta * self + alpha * (left @ right), of matrices or of batches of them."""
    left, right = (a["mat1"], a["mat2"]) if "mat1" in a else (a["batch1"], a["batch2"])
    addend, beta, alpha = a["self"], float(a["beta"]), float(a["alpha"])
    if isinstance(addend, Tensor) and addend.ndim == 1 and not isinstance(right, ir.Value) and alpha == 1 and beta == 1:
        return _linear(reader, node, reader.activation(left, "left operand"), right, addend)
    product = _matmul(reader, node, left, right)
    y = product if alpha == 1 else scaled(reader, node, inner(product), alpha)
    if beta == 0:
        return y
    if isinstance(addend, ir.Value):
        addend = reader.activation(addend, "addend")
        return _sum(reader, node, inner(y), addend if beta == 1 else inner(scaled(reader, node, addend, beta)))
    if beta == 1 and hides_scores(node, addend):
        return _sum(reader, node, inner(y), _additive_mask(addend))
    return _sum(reader, node, inner(y), reader.constant(addend, "addend") * np.float32(beta))


def scaled(reader: GraphReader, node: Node, x: ir.Value, factor: float) -> ir.Value:
    """``x * factor``, a step of one of torch's operations."""
    if factor == 1:
        return x
    other = np.full((1,) * len(x.shape), factor, np.float32)
    return reader.emit("binary", node, [x], x.shape, {"function": "mul"}, {"other": other}, name=reader.namer.name(node, "scale"))


def _sum(reader: GraphReader, node: Node, x: ir.Value, other: ir.Value | np.ndarray[Any, Any]) -> ir.Value:
    """``x + other``, which broadcasts to the shape of ``x``."""
    rank, name = len(x.shape), reader.namer.name(node, "add")
    padded = (1,) * (rank - len(other.shape)) + tuple(other.shape)
    shape = shapes.broadcast(x.shape, padded)
    if shape is None:
        raise NotSupportedHere(f"adds shapes {x.shape} and {padded}")
    if isinstance(other, ir.Value):
        return reader.emit("binary", node, [x, of_rank(reader, node, other, rank)], shape, {"function": "add"}, name=name)
    return reader.emit("binary", node, [x], shape, {"function": "add"}, {"other": other.reshape(padded)}, name=name)


def _attention(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """softmax(query @ key^T * scale + mask) @ value.

    A constant mask that hides a whole row is refused: torch's answer depends on which of its kernels runs. A mask that the graph computes
    is added as it is, so that a row of minus infinities gives NaN.
    """
    if a["dropout_p"]:
        raise NotSupportedHere("attention with dropout")
    query, key, value = (reader.activation(a[name], name) for name in ("query", "key", "value"))
    if a["enable_gqa"] and query.shape[-3] != key.shape[-3]:
        raise NotSupportedHere("grouped-query attention")
    width = query.shape[-1]
    if not isinstance(width, int):
        raise NotSupportedHere("attention over heads of a size that is not known while converting")
    scale = a["scale"] if a["scale"] is not None else 1 / math.sqrt(width)
    if scale != 1:
        query = inner(scaled(reader, node, query, float(scale)))
    scores = inner(_product(reader, node, query, key, True))
    if a["attn_mask"] is not None:
        mask = a["attn_mask"]
        scores = inner(_sum(reader, node, scores, mask if isinstance(mask, ir.Value) else _additive_mask(mask)))
    causal = bool(a["is_causal"])
    attrs: dict[str, ir.Attr] = {"axis": len(scores.shape) - 1, "causal": int(causal), "log": 0}
    weights = inner(reader.emit("softmax", node, [scores], scores.shape, attrs, name=reader.namer.name(node, "softmax")))
    return _product(reader, node, weights, value, False)


def hides_scores(node: Node, addend: Any) -> bool:
    """Whether a constant that is added here hides positions from the softmax that reads the sum."""
    if not isinstance(addend, Tensor) or not (addend == -math.inf).any():
        return False
    return all(getattr(getattr(user.target, "_schema", None), "name", "") in _SOFTMAX for user in node.users)


def masked_sum(reader: GraphReader, node: Node, scores: ir.Value, mask: Any) -> ir.Value:
    """Scores, with a mask of booleans or minus infinities in front of a softmax."""
    return _sum(reader, node, scores, _additive_mask(mask))


def _masked_fill(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, mask, value = reader.activation(a["self"], "input"), a["mask"], a["value"]
    if not isinstance(mask, Tensor) or isinstance(value, ir.Value):
        raise NotSupportedHere("a mask or value that is computed from the input")
    filled = torch.zeros(mask.shape).masked_fill(mask, float(value))
    if hides_scores(node, filled):
        return masked_sum(reader, node, x, filled)
    if not math.isfinite(float(value)):
        raise NotSupportedHere(f"fills in {float(value)} where no softmax alone reads the result")
    kept, rank = (~mask).to(torch.float32).numpy(), len(x.shape)
    kept = kept.reshape((1,) * (rank - kept.ndim) + kept.shape)
    shape = shapes.broadcast(x.shape, kept.shape)
    if shape is None:
        raise NotSupportedHere(f"a mask of shape {kept.shape} for {x.shape}")
    y = reader.emit("binary", node, [x], shape, {"function": "mul"}, {"other": kept}, name=reader.namer.name(node, "mask"))
    return _sum(reader, node, inner(y), filled.numpy())


def _additive_mask(mask: Any) -> np.ndarray[Any, Any]:
    """0 where a position is seen; what hides one is the lowest float32."""
    if not isinstance(mask, Tensor):
        raise NotSupportedHere("an attention mask that is quantized")
    added = torch.zeros(mask.shape).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask.to(torch.float32)
    if added.isnan().any() or (added == math.inf).any():
        raise ValueError("the attention mask holds NaN or infinity")
    if (added <= float(_LOWEST)).all(-1).any():
        raise NotSupportedHere("an attention mask that hides every position from a row")
    array: np.ndarray[Any, Any] = added.clamp(min=float(_LOWEST)).numpy()
    return array


HANDLERS: dict[str, Handler] = {
    "matmul": lambda r, n, a: _matmul(r, n, a["self"], a["other"]),
    "mm": lambda r, n, a: _matmul(r, n, a["self"], a["mat2"]),
    "bmm": lambda r, n, a: _matmul(r, n, a["self"], a["mat2"]),
    "addmm": _addmm,
    "baddbmm": _addmm,
    "scaled_dot_product_attention": _attention,
    "masked_fill": _masked_fill,
}
