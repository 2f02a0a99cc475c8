"""softmax, layer_norm and group_norm (docs/numerics.md, "Softmax and normalization")."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyqinfer.reference.functions import exp, log
from pyqinfer.reference.node import NodeArgs, Op
from pyqinfer.reference.pool import sum16
from pyqinfer.reference.quantize import Tensor, float_attribute, store
from pyqinfer.reference.rounding import F32, f32

_MINUS_INFINITY = np.float32(-np.inf)


def softmax(node: NodeArgs) -> Tensor:
    x = f32(node.inputs[0].data)
    hidden = np.zeros(x.shape, np.bool_)
    if node.attrs["causal"]:
        hidden |= ~np.tri(x.shape[-2], x.shape[-1], dtype=np.bool_)
    largest = np.max(np.where(np.isnan(x) | hidden, _MINUS_INFINITY, x), -1, keepdims=True, initial=_MINUS_INFINITY)
    with np.errstate(invalid="ignore"):
        shifted = x - largest
        e = np.where(hidden, np.float32(0), exp(shifted))
        total = _row_sums(e)
        return store(shifted - log(total) if node.attrs["log"] else np.where(hidden, np.float32(0), e / total), node.output)


def layer_norm(node: NodeArgs) -> Tensor:
    x = f32(node.inputs[0].data)
    return store(_affine(node, _normalize(x, node, bool(node.attrs["center"]))), node.output)


def group_norm(node: NodeArgs) -> Tensor:
    x = f32(node.inputs[0].data)
    n, h, w, c = x.shape
    groups = node.attrs["groups"]
    members = x.reshape(n, h * w, groups, c // groups).transpose(0, 2, 1, 3)
    y = _normalize(members.reshape(n, groups, h * w * (c // groups)), node, True)
    y = y.reshape(n, groups, h * w, c // groups).transpose(0, 2, 1, 3).reshape(x.shape)
    return store(_affine(node, y), node.output)


def _row_sums(x: F32) -> F32:
    """Take sum16 over the last axis, which stays with length 1."""
    rows = x.reshape(-1, x.shape[-1], 1)
    return sum16(rows).reshape(*x.shape[:-1], 1)


def _normalize(x: F32, node: NodeArgs, center: bool) -> F32:
    """Divide by the standard deviation over the last axis (the root mean square without ``center``)."""
    n = np.float32(x.shape[-1])
    d = x - _row_sums(x) / n if center else x
    variance = _row_sums(d * d) / n
    y: F32 = d * (np.float32(1) / np.sqrt(variance + np.float32(float_attribute(node.attrs["eps"]))))
    return y


def _affine(node: NodeArgs, y: F32) -> F32:
    if "weight" in node.constants:
        y = y * f32(node.constants["weight"])
    return y + f32(node.constants["bias"]) if "bias" in node.constants else y


OPS: Mapping[str, Op] = {
    "softmax": softmax,
    "layer_norm": layer_norm,
    "group_norm": group_norm,
}
