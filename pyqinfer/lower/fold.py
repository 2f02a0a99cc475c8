"""Folds a BatchNorm into the conv or linear layer in front of it, or makes it an ``affine``, and zero padding into convolutions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ir import Graph, Node, Value, Weight, numbers, real
from pyqinfer.ops import Layout

# Below this the engine's scales are not defined; such a channel is constant as far as float32 can tell.
_SMALLEST_SCALE = 2.0**-100
_LARGEST_PADDING = 65535  # the limit of docs/format.md


def fold_batch_norm(graph: Graph) -> None:
    """Where y = x*scale + shift is a layer's only reader, put it into float weights, or into the scales and bias of quantized ones."""
    users = graph.users()
    outputs = graph.output_values()
    folded: set[Node] = set()
    for node in graph.nodes:
        if node.op != "batch_norm":
            continue
        x = node.inputs[0]
        layer = x.producer
        if layer is None or not _can_fold(layer, node) or users[x] != [node] or x in outputs:
            _to_affine(node)
            continue
        _scale_layer(layer, _array(node, "scale"), _array(node, "shift"))
        _take_over(graph, node.output, layer)
        users[node.output] = users.get(node.output, [])
        folded.add(node)
    graph.nodes = [node for node in graph.nodes if node not in folded]


def fold_pads(graph: Graph) -> None:
    """Make a pad of H and W with zeros (for codes the zero point) in front of a conv2d the conv2d's own: the same bits without a copy."""
    for node in graph.nodes:
        pad = node.inputs[0].producer if node.op == "conv2d" else None
        if pad is None or pad.op != "pad" or pad.attrs["mode"] != "constant" or real(pad, "value") != 0:
            continue
        (n, c, top, left), (n_after, c_after, bottom, right) = numbers(pad, "before"), numbers(pad, "after")
        padding = tuple(a + b for a, b in zip(numbers(node, "padding"), (top, left, bottom, right), strict=True))
        if any((n, c, n_after, c_after)) or max(padding) > _LARGEST_PADDING:
            continue
        node.attrs["padding"] = padding
        node.inputs[0] = pad.inputs[0]


def _can_fold(layer: Node, batch_norm: Node) -> bool:
    if not layer.traits.is_layer:
        return False
    # A linear layer's channels lie on the last axis, a BatchNorm's on axis 1.
    return layer.traits.layout is not Layout.COLUMNS or len(batch_norm.output.shape) == 2


def _take_over(graph: Graph, output: Value, layer: Node) -> None:
    """Let ``layer`` write ``output`` itself."""
    layer.output = output
    output.producer = layer


def _array(node: Node, key: str) -> NDArray[np.float64]:
    constant = node.constants[key]
    assert isinstance(constant, np.ndarray)
    return constant.astype(np.float64)


def _to_affine(node: Node) -> None:
    node.op = "affine"
    node.constants = {key: _array(node, key).astype(np.float32) for key in ("scale", "shift")}


def _scale_layer(layer: Node, gain: NDArray[np.float64], shift: NDArray[np.float64]) -> None:
    bias = _array(layer, "bias") if "bias" in layer.constants else np.zeros_like(gain)
    layer.constants["bias"] = (bias * gain + shift).astype(np.float32)
    weight = layer.constants["weight"]
    if isinstance(weight, Weight):
        layer.constants["weight"] = _scale_weight(weight, gain)
    else:
        per_channel = (-1,) + (1,) * (weight.ndim - 1)
        layer.constants["weight"] = (weight.astype(np.float64) * gain.reshape(per_channel)).astype(np.float32)


def _scale_weight(weight: Weight, gain: NDArray[np.float64]) -> Weight:
    scale = weight.scale.astype(np.float64) * (gain[:, None] if weight.grouped else gain)
    off = np.abs(scale) < _SMALLEST_SCALE
    codes, base = weight.codes.copy(), None if weight.base is None else weight.base.copy()
    codes.reshape(scale.size, -1)[off.ravel()] = 0
    scale[off] = 1
    if base is not None:
        base[off] = 0
    return Weight(codes, scale.astype(np.float32), base, weight.step, weight.bits, weight.ternary)
