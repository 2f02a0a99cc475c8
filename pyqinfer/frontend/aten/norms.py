"""Handlers of aten ops that normalize: batch, layer, group and instance norm, and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import inner, operand, reshaped
from pyqinfer.frontend.aten.one_row import in_one_or_two_dimensions
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _batch_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a.get("training"):
        raise NotSupportedHere("batch norm in training mode; call model.eval() before exporting")
    x = reader.activation(a["input"], "input")
    if len(x.shape) == 5:  # the channels of a volume are those of an image whose rows are all its rows
        rows = None if None in (x.shape[2], x.shape[3]) else shapes.count(x.shape[2:4])
        image = inner(reshaped(reader, node, x, (*x.shape[:2], rows, x.shape[4]), "reshape"))
        return reshaped(reader, node, inner(_batch_norm(reader, node, {**a, "input": image})), x.shape, "reshape")
    if len(x.shape) not in (2, 4):
        raise NotSupportedHere(f"batch norm over rank {len(x.shape)}")
    mean, variance = (reader.constant(a[key], key).astype(np.float64) for key in ("running_mean", "running_var"))
    gamma = reader.constant(a["weight"], "weight").astype(np.float64) if a["weight"] is not None else np.ones_like(mean)
    beta = reader.constant(a["bias"], "bias").astype(np.float64) if a["bias"] is not None else np.zeros_like(mean)
    scale = gamma / np.sqrt(variance + float(a["eps"]))
    return reader.emit("batch_norm", node, [x], x.shape, {}, {"scale": scale, "shift": beta - mean * scale})


def _batch_norm_tuple(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    return (in_one_or_two_dimensions(_batch_norm)(reader, node, a), None, None)


def _softmax(reader: GraphReader, node: Node, a: Arguments, log: int) -> ir.Value:
    x = operand(reader, a)
    if a.get("dtype") not in (None, torch.float32):
        raise NotSupportedHere(f"computes in {a['dtype']}")
    if not x.shape:
        raise NotSupportedHere("a softmax of one number")
    attrs: dict[str, ir.Attr] = {"axis": int(a["dim"]) % len(x.shape), "causal": 0, "log": log}
    return reader.emit("softmax", node, [x], x.shape, attrs, name=reader.namer.name(node, "log_softmax" if log else "softmax"))


def _parameters(reader: GraphReader, a: Arguments) -> dict[str, ir.Constant]:
    return {key: reader.constant(a[key], key).ravel() for key in ("weight", "bias") if a.get(key) is not None}


def _layer_norm(reader: GraphReader, node: Node, a: Arguments, center: int) -> ir.Value:
    """The engine normalizes one dimension: several are flattened into one, and unflattened behind it."""
    x, rank = operand(reader, a), len(a["normalized_shape"])
    size = shapes.count(x.shape[len(x.shape) - rank :])
    if size is None:
        raise NotSupportedHere("normalizes a dimension that is not known while converting")
    eps = a["eps"] if a["eps"] is not None else float(np.finfo(np.float32).eps)
    attrs: dict[str, ir.Attr] = {"eps": float(np.float32(eps)), "center": center}
    flat = x if rank == 1 else reshaped(reader, node, x, (*x.shape[:-rank], size), "flatten")
    y = reader.emit("layer_norm", node, [flat], flat.shape, attrs, _parameters(reader, a))
    return y if rank == 1 else reshaped(reader, node, y, x.shape, "unflatten")


def _layer_norm_tuple(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    return (_layer_norm(reader, node, a, 1), None, None)


def _group_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _groups(reader, node, a, int(a["num_groups"]))


def _instance_norm(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if not a["use_input_stats"]:
        raise NotSupportedHere("instance norm with running statistics")
    return _groups(reader, node, a, None)


def _groups(reader: GraphReader, node: Node, a: Arguments, groups: int | None) -> ir.Value:
    """Group norm in the engine's form, which has rank 4: the positions of an input of another rank become one axis.

    ``groups`` None: every channel is a group by itself.
    """
    x = operand(reader, a)
    channels = x.shape[1]
    if not isinstance(channels, int):
        raise NotSupportedHere("a normalization of a number of channels that is not known while converting")
    attrs: dict[str, ir.Attr] = {"eps": float(np.float32(a["eps"])), "groups": channels if groups is None else groups}
    image = x
    if len(x.shape) != 4:
        positions = x.shape[2] if len(x.shape) == 3 else shapes.count(x.shape[2:])
        image = inner(reshaped(reader, node, x, (*x.shape[:2], positions, 1), "unsqueeze"))
    y = reader.emit("group_norm", node, [image], image.shape, attrs, _parameters(reader, a))
    return y if image is x else reshaped(reader, node, y, x.shape, "squeeze")


HANDLERS: dict[str, Handler] = {
    "batch_norm": in_one_or_two_dimensions(_batch_norm),
    "_native_batch_norm_legit_no_training": _batch_norm_tuple,
    "layer_norm": lambda r, n, a: _layer_norm(r, n, a, 1),
    "native_layer_norm": _layer_norm_tuple,
    "rms_norm": lambda r, n, a: _layer_norm(r, n, a, 0),
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "softmax": lambda r, n, a: _softmax(r, n, a, 0),
    "_softmax": lambda r, n, a: _softmax(r, n, a, 0),
    "log_softmax": lambda r, n, a: _softmax(r, n, a, 1),
    "_log_softmax": lambda r, n, a: _softmax(r, n, a, 1),
}
