"""Handlers of aten ops that multiply matrices, and of attention, which is made of them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import expanded, inner, known_size, of_rank, reshaped, scaled, summed, tensor_of
from pyqinfer.frontend.aten.infinities import hides_scores
from pyqinfer.frontend.aten.masks import additive_mask, mask_of_scores, rows_that_see
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import weight_constant
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant


def _matmul(reader: GraphReader, node: Node, left: Any, right: Any) -> ir.Value:
    if isinstance(left, Tensor) and isinstance(right, ir.Value):
        left = tensor_of(reader, node, left)
    x = reader.activation(left, "left operand")
    if not isinstance(right, ir.Value):
        return _linear(reader, node, x, right, None)
    y = reader.activation(right, "right operand")
    if min(len(x.shape), len(y.shape)) < 2:
        raise NotSupportedHere(f"a product of ranks {len(x.shape)} and {len(y.shape)}")
    y, transposed = _untransposed(y)
    return _product(reader, node, x, y, transposed)


def _untransposed(y: ir.Value) -> tuple[ir.Value, bool]:
    """A right operand, and whether the engine is to read it transposed, in place of a transpose of its last two axes."""
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
    if isinstance(matrix, Tensor) and matrix.ndim != 2:
        return _product(reader, node, x, tensor_of(reader, node, matrix), False)
    weight = weight_constant(reader, matrix)
    shape = weight.codes.shape if isinstance(weight, ir.Weight) else weight.shape
    if len(shape) != 2:
        raise NotSupportedHere(f"a product with a quantized constant of rank {len(shape)}")
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
        return summed(reader, node, inner(y), addend if beta == 1 else inner(scaled(reader, node, addend, beta)))
    if beta == 1 and hides_scores(node, addend):
        return summed(reader, node, inner(y), additive_mask(addend))
    return summed(reader, node, inner(y), reader.constant(addend, "addend") * np.float32(beta))


def _attention(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """softmax(query @ key^T * scale + mask) @ value.

    A constant mask that hides a whole row is refused: torch's answer depends on which of its kernels runs. A mask of floats that the graph
    computes is added as it is, so that a row of minus infinities gives NaN.
    """
    if a["dropout_p"]:
        raise NotSupportedHere("attention with dropout")
    query, key, value = (reader.activation(a[name], name) for name in ("query", "key", "value"))
    if a["enable_gqa"]:
        key, value = (_for_heads(reader, node, x, known_size(query, len(query.shape) - 3)) for x in (key, value))
    width = query.shape[-1]
    if not isinstance(width, int):
        raise NotSupportedHere("attention over heads of a size that is not known while converting")
    scale = a["scale"] if a["scale"] is not None else 1 / math.sqrt(width)
    if scale != 1:
        query = inner(scaled(reader, node, query, float(scale)))
    scores = inner(_product(reader, node, query, key, True))
    if a["attn_mask"] is not None:
        scores = inner(summed(reader, node, scores, mask_of_scores(reader, node, a["attn_mask"])))
    causal = bool(a["is_causal"])
    attrs: dict[str, ir.Attr] = {"axis": len(scores.shape) - 1, "causal": int(causal), "log": 0}
    weights = inner(reader.emit("softmax", node, [scores], scores.shape, attrs, name=reader.namer.name(node, "softmax")))
    y = _product(reader, node, weights, value, False)
    mask = a["attn_mask"]
    if not isinstance(mask, ir.Value) or mask.quant != ir.TRUTH:
        return y
    # A row that sees nothing is 0 in torch.
    seen = of_rank(reader, node, rows_that_see(reader, node, mask), len(y.shape))
    name = reader.namer.unique(f"{node.name}.seen")
    return reader.emit("binary", node, [inner(y), seen], y.shape, {"function": "mul"}, name=name)


def _for_heads(reader: GraphReader, node: Node, x: ir.Value, heads: int) -> ir.Value:
    """Keys or values [..., own heads, tokens, width] of which each head serves neighbouring ones of the queries'."""
    axis = len(x.shape) - 3
    own = known_size(x, axis)
    if own == heads:
        return x
    one = inner(reshaped(reader, node, x, (*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]), "unsqueeze"))
    many = inner(expanded(reader, node, one, [None] * (axis + 1) + [heads // own, None, None]))
    return inner(reshaped(reader, node, many, (*x.shape[:axis], heads, *x.shape[axis + 1 :]), "flatten"))


def _bilinear(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """sum over i and j of x_i * weight[o, i, j] * y_j: a linear layer of x that gives a matrix, which multiplies y."""
    x, y = reader.activation(a["input1"], "input"), reader.activation(a["input2"], "second input")
    outputs, first, second = a["weight"].shape
    matrix = a["weight"].permute(0, 2, 1).reshape(outputs * second, first)
    weight: dict[str, ir.Constant] = {"weight": reader.constant(matrix, "weight")}
    rows = inner(reader.emit("linear", node, [x], (*x.shape[:-1], outputs * second), {}, weight))
    rows = inner(reshaped(reader, node, rows, (*x.shape[:-1], outputs, second), "unflatten"))
    column = inner(reshaped(reader, node, y, (*y.shape, 1), "unsqueeze"))
    z = reshaped(reader, node, inner(_product(reader, node, rows, column, False)), (*x.shape[:-1], outputs), "squeeze")
    return z if a["bias"] is None else summed(reader, node, inner(z), reader.constant(a["bias"], "bias"))


HANDLERS: dict[str, Handler] = {
    "bilinear": _bilinear,
    "matmul": lambda r, n, a: _matmul(r, n, a["self"], a["other"]),
    "mm": lambda r, n, a: _matmul(r, n, a["self"], a["mat2"]),
    "bmm": lambda r, n, a: _matmul(r, n, a["self"], a["mat2"]),
    "addmm": _addmm,
    "baddbmm": _addmm,
    "scaled_dot_product_attention": _attention,
}
