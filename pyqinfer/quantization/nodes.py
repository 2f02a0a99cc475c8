"""The quantizable nodes of a network: what each layer weighs and computes, what it reads, and which layers belong together."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from torch.fx import Node

from pyqinfer.frontend.guards import numbers_of
from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name, traits_of
from pyqinfer.quantization.graph import Layer, TracedModel, operand, shared_source, sole_user


@dataclass(frozen=True)
class QuantNode:
    """One conv or linear layer.

    Attributes:
        name, op: those of its :class:`~pyqinfer.quantization.graph.Layer`.
        weight_shape: shape of the weight, output channels first.
        params: number of weights.
        zeros: share of the weights that are 0.
        bias: number of biases, one per output channel or 0.
        bn_params: number of gammas and betas of the BatchNorm behind it, or 0.
        macs: multiply-accumulates for one sample (for the example's batch, where the model fixes it).
        positions: number of output elements per channel, e.g. height x width.
        input_shape, output_shape: shapes for a batch of 1, or for the batch that the model fixes.
        node: the layer's node in the graph.
        edge: the tensor that is quantized in front of the layer; layers with the same edge share activation bits.
        batch_norm: node of the BatchNorm behind the layer, or None.
        tap: the tensor that stands for the layer's output in a network: behind BatchNorm, residual addition and activation.
        residual: whether the layer adds another tensor to its sums; among layers that end in one addition the last one does.
        tie: number of the group of layers that end in one addition (a block's last conv and its downsample), or None.
        is_first, is_last: whether the layer is the first or the last one in execution order.
    """

    name: str
    op: str
    weight_shape: tuple[int, ...]
    params: int
    zeros: float
    bias: int
    bn_params: int
    macs: int
    positions: int
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    node: Node
    edge: Node
    batch_norm: Node | None
    tap: Node
    residual: bool
    tie: int | None
    is_first: bool
    is_last: bool


def quantizable_nodes(traced: TracedModel) -> list[QuantNode]:
    """The layers of a traced model (BatchNorms not folded), in execution order."""
    layers = traced.layers
    taps, added = zip(*(_tap(layer.node) for layer in layers), strict=True) if layers else ((), ())
    last = {tap: i for i, tap in enumerate(taps)}
    shared = [tap for tap in dict.fromkeys(taps) if taps.count(tap) > 1]
    nodes = []
    for i, (layer, tap) in enumerate(zip(layers, taps, strict=True)):
        tie = shared.index(tap) if tap in shared else None
        residual = added[i] and last[tap] == i
        nodes.append(_describe(traced, layer, tap, residual, tie, is_first=i == 0, is_last=i == len(layers) - 1))
    return nodes


def entries(nodes: Sequence[QuantNode]) -> list[list[QuantNode]]:
    """Tied layers together, in the order of each group's last layer: the lists of published allocations have one entry for each."""
    groups: dict[Any, list[QuantNode]] = {}
    for node in nodes:
        key = node.name if node.tie is None else node.tie
        groups[key] = [*groups.pop(key, []), node]
    return list(groups.values())


def tie_groups(nodes: Sequence[QuantNode]) -> tuple[tuple[int, ...], ...]:
    """Indices of the layers of each tie."""
    return _groups([node.tie for node in nodes])


def edge_groups(nodes: Sequence[QuantNode]) -> tuple[tuple[int, ...], ...]:
    """Indices of the layers that read one quantized tensor, where there are several."""
    return _groups([node.edge for node in nodes])


def _groups(keys: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    found: dict[Any, list[int]] = {}
    for i, key in enumerate(keys):
        if key is not None:
            found.setdefault(key, []).append(i)
    return tuple(tuple(members) for members in found.values() if len(members) > 1)


def _describe(traced: TracedModel, layer: Layer, tap: Node, residual: bool, tie: int | None, *, is_first: bool, is_last: bool) -> QuantNode:
    x, y = _shape(operand(layer.node)), _shape(layer.node)
    per_position = prod(layer.weight.shape[1:])  # how many weights one output element meets
    # An input element of a transposed convolution meets as many weights as its channel has.
    macs = prod(x) * layer.weight.numel() // layer.weight.shape[layer.axis] if "transpose" in layer.op else prod(y) * per_position
    batch_norm = _batch_norm(layer.node)
    has_bias = len(layer.node.args) > 2 and layer.node.args[2] is not None
    channels = layer.weight.shape[0]
    learned = [a for a in batch_norm.args[1:3] if isinstance(a, Node)] if batch_norm is not None else []
    return QuantNode(
        name=layer.name,
        op=layer.op,
        weight_shape=tuple(layer.weight.shape),
        params=layer.weight.numel(),
        zeros=float((layer.weight == 0).float().mean()),
        bias=channels if has_bias else 0,
        bn_params=sum(traced.constant(a).numel() for a in learned),
        macs=macs,
        positions=prod(y) // channels,
        input_shape=x,
        output_shape=y,
        node=layer.node,
        edge=_edge(layer.node),
        batch_norm=batch_norm,
        tap=tap,
        residual=residual,
        tie=tie,
        is_first=is_first,
        is_last=is_last,
    )


def _shape(node: Node) -> tuple[int, ...]:
    """The tensor's shape for a batch of 1; a batch that the model fixes stays."""
    return numbers_of(node.meta["val"].shape, batch=1)


def _batch_norm(layer: Node) -> Node | None:
    reader = sole_user(layer)
    return reader if reader is not None and kind_of(reader) is Kind.BATCH_NORM and reader.args[0] is layer else None


def _edge(layer: Node) -> Node:
    tensor = operand(layer)
    while (source := shared_source(tensor)) is not None:
        tensor = source
    return tensor


def _tap(layer: Node) -> tuple[Node, bool]:
    """Follow the only reader through BatchNorm, then a residual addition, then an activation: where that ends, and whether it adds."""
    tensor = layer
    if (batch_norm := _batch_norm(layer)) is not None:
        results = [user for user in batch_norm.users if user.target is operator.getitem and user.args[1] == 0]
        tensor = results[0] if results else tensor
    add = sole_user(tensor)
    added = add is not None and op_name(add) == "add"
    if add is not None and added:
        tensor = add
    activation = sole_user(tensor)
    if activation is not None and traits_of(activation).is_activation:
        tensor = activation
    return tensor, added
