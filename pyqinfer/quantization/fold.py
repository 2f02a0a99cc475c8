"""BatchNorm folded into the conv or linear layer in front of it, in float64, on a traced model."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name
from pyqinfer.quantization.graph import Layer, TracedModel


@dataclass(frozen=True)
class FoldedNorm:
    """A BatchNorm that was folded, ``gamma * (y - mean) / sqrt(variance + eps) + beta``: float32 tensors [channels].

    ``mean`` is that of the layer's sums without its bias; ``momentum``: share of a batch's statistics in the running ones, in training.
    """

    gamma: Tensor
    beta: Tensor
    mean: Tensor
    variance: Tensor
    eps: float
    momentum: float = 0.1


def fold_batch_norm(traced: TracedModel) -> dict[str, FoldedNorm]:
    """Fold every BatchNorm that is the only reader of a layer; outputs change by float32 rounding only.

    Returns:
        What was folded, by the layer's name.
    """
    layers = {layer.node: layer for layer in traced.layers}
    folded: dict[str, FoldedNorm] = {}
    for node in list(traced.module.graph.nodes):
        if kind_of(node) is not Kind.BATCH_NORM:
            continue
        layer = node.args[0]
        results = list(node.users)
        if not isinstance(layer, Node) or kind_of(layer) is not Kind.LAYER or len(layer.users) != 1 or layer not in layers:
            continue
        if op_name(layer).startswith("conv_transpose"):
            continue  # A BatchNorm behind one is left to the converter, which folds it into the scales of the weight codes.
        if op_name(layer) == "linear" and layer.meta["val"].ndim != 2:
            continue  # The linear layer's channels lie on the last axis, the BatchNorm's on axis 1.
        if any(user.target is not operator.getitem or user.args[1] != 0 for user in results):
            continue
        folded[layers[layer].name] = _fold(traced, layers[layer], node)
        for user in results:
            user.replace_all_uses_with(layer)
            traced.module.graph.erase_node(user)
        traced.module.graph.erase_node(node)
    return folded


def _fold(traced: TracedModel, layer: Layer, batch_norm: Node) -> FoldedNorm:
    gamma, beta, mean, variance = (traced.constant(a).double() if isinstance(a, Node) else None for a in batch_norm.args[1:5])
    assert mean is not None
    assert variance is not None
    eps = batch_norm.args[6]
    assert isinstance(eps, float)
    gamma = torch.ones_like(mean) if gamma is None else gamma
    beta = torch.zeros_like(mean) if beta is None else beta
    gain = torch.rsqrt(variance + eps) * gamma
    weight = layer.weight.double()
    old_bias = traced.bias(layer)
    bias = old_bias.double() if old_bias is not None else torch.zeros_like(mean)
    traced.replace_weight(layer, (weight * gain.reshape(-1, *[1] * (weight.ndim - 1))).float())
    traced.replace_bias(layer, ((bias - mean) * gain + beta).float())
    return FoldedNorm(gamma.float(), beta.float(), (mean - bias).float(), variance.float(), eps, momentum_of(batch_norm))


def momentum_of(batch_norm: Node) -> float:
    """A BatchNorm's momentum; torch's default for one that averages over all batches, which a graph does not say."""
    momentum = batch_norm.args[5]
    return momentum if isinstance(momentum, float) and 0 < momentum <= 1 else FoldedNorm.momentum
