"""BatchNorm folded into the conv or linear layer in front of it, in float64, on a traced model."""

from __future__ import annotations

import operator

import torch
from torch.fx import Node

from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name
from pyqinfer.quantization.graph import Layer, TracedModel


def fold_batch_norm(traced: TracedModel) -> int:
    """Fold every BatchNorm that is the only reader of a layer; returns how many. Outputs change by float32 rounding only."""
    layers = {layer.node: layer for layer in traced.layers}
    folded = 0
    for node in list(traced.module.graph.nodes):
        if kind_of(node) is not Kind.BATCH_NORM:
            continue
        layer = node.args[0]
        results = list(node.users)
        if not isinstance(layer, Node) or kind_of(layer) is not Kind.LAYER or len(layer.users) != 1 or layer not in layers:
            continue
        if op_name(layer) == "conv_transpose2d":
            continue  # A BatchNorm behind one is left to the converter, which folds it into the scales of the weight codes.
        if op_name(layer) == "linear" and layer.meta["val"].ndim != 2:
            continue  # The linear layer's channels lie on the last axis, the BatchNorm's on axis 1.
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in results):
            continue
        _fold(traced, layers[layer], node)
        for user in results:
            user.replace_all_uses_with(layer)
            traced.module.graph.erase_node(user)
        traced.module.graph.erase_node(node)
        folded += 1
    return folded


def _fold(traced: TracedModel, layer: Layer, batch_norm: Node) -> None:
    gamma, beta, mean, variance = (traced.constant(a).double() if isinstance(a, Node) else None for a in batch_norm.args[1:5])
    assert mean is not None
    assert variance is not None
    eps = batch_norm.args[6]
    assert isinstance(eps, float)
    gain = torch.rsqrt(variance + eps) * (gamma if gamma is not None else 1)
    weight = layer.weight.double()
    old_bias = traced.bias(layer)
    bias = old_bias.double() if old_bias is not None else torch.zeros_like(mean)
    traced.replace_weight(layer, (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).float())
    traced.replace_bias(layer, ((bias - mean) * gain + (beta if beta is not None else 0)).float())
