"""How much a network's output moves when the weights of one layer are quantized: the score that ZeroQ allocates bits by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree

from pyqinfer.bits import FLOAT, LayerBits, WeightBits
from pyqinfer.quantization.calibrate import with_progress
from pyqinfer.quantization.graph import Layer, TracedModel
from pyqinfer.quantization.weights import quantize_weight

Sensitivities = dict[str, dict[WeightBits, float]]
_Codes = tuple[Tensor, Tensor]


def kl_sensitivities(
    traced: TracedModel,
    widths: Mapping[str, Iterable[WeightBits]],
    data: Sequence[tuple[Tensor, ...]],
    *,
    symmetric: bool = False,
    search: bool = True,
) -> Sensitivities:
    """Kullback-Leibler divergence of the network's class probabilities, with one layer's weights quantized and all else in float.

    ``Omega_i(k) = mean over images of KL(float network || layer i at k bits)``, natural logarithm (ZeroQ, arXiv 2001.00281). The float
    network runs once: at each layer only what follows it is run again, so that the cost is about half a forward pass for each layer
    and width, and no copy of the model is made.

    Args:
        traced: the network, BatchNorm folded, as it will be quantized. It is not changed.
        widths: layer name -> weight bits to try; other layers are left out. 32 (float) scores 0.
        data: batches of inputs. Outputs are logits ``[N, classes, ...]``; of one channel the logit of two classes. Several outputs add up.
        symmetric: mean of the divergences in both directions.
        search: weight ranges by least squared error rather than the largest magnitude, see
            :func:`~pyqinfer.quantization.weights.quantize_weight`.

    Raises:
        ValueError: a layer that holds NaN or infinity, or a network without an output of floats.
    """
    layers = [layer for layer in traced.layers if layer.name in widths]
    result: Sensitivities = {layer.name: dict.fromkeys(widths[layer.name], 0.0) for layer in layers}
    codes: dict[tuple[str, WeightBits], _Codes] = {}
    sweep = _Sweep(traced.module)
    steps = list(product(data, layers))
    with torch.inference_mode():
        for i, (batch, layer) in enumerate(with_progress(steps, "sensitivity of layers")):
            if i % len(layers) == 0:
                sweep.start(batch)
                reference = _log_probabilities(sweep.finish())
            sweep.run_up_to(layer.node)
            for width in result[layer.name]:
                if width == FLOAT:
                    continue
                key = (layer.name, width)
                if key not in codes:
                    codes[key] = _quantize(layer, width, search)
                changed = _log_probabilities(sweep.finish(layer.node, _dequantize(layer, codes[key])))
                result[layer.name][width] += _divergence(reference, changed, symmetric) / len(data)
    return result


def _quantize(layer: Layer, width: WeightBits, search: bool) -> _Codes:
    try:
        return quantize_weight(layer.weight, LayerBits(width, FLOAT), search=search)
    except ValueError as error:
        raise ValueError(f"layer {layer.name!r}: {error}") from None


def _dequantize(layer: Layer, codes: _Codes) -> Tensor:
    """As the layer's operator takes it."""
    values, scale = codes
    weight = values * scale.reshape(-1, *[1] * (values.ndim - 1))
    return weight.transpose(0, 1) if layer.axis == 1 else weight


def _log_probabilities(outputs: list[Tensor]) -> list[Tensor]:
    """Float64, classes on axis 1."""
    result = []
    for logits in outputs:
        if logits.ndim == 1:
            logits = logits[:, None]
        if logits.shape[1] == 1:
            logits = torch.cat([logits, torch.zeros_like(logits)], 1)
        result.append(torch.log_softmax(logits.double(), 1))
    return result


def _divergence(reference: list[Tensor], changed: list[Tensor], symmetric: bool) -> float:
    total = 0.0
    for p, q in zip(reference, changed, strict=True):
        weights = (p.exp() - q.exp()) / 2 if symmetric else p.exp()
        total += float((weights * (p - q)).sum(1).mean())
    return total


class _Sweep(Interpreter):
    """Runs a graph once, node by node, and from any node on again with another weight there."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__(module)
        self._nodes: list[Node] = list(module.graph.nodes)
        self._dies_at: dict[Node, list[Node]] = {}
        for node in self._nodes:
            last = max([node, *node.users], key=self._nodes.index)
            self._dies_at.setdefault(last, []).append(node)
        self._next = 0

    def start(self, inputs: tuple[Tensor, ...]) -> None:
        """A new batch, from the first node."""
        self.env = {}
        self.args_iter = iter(inputs)
        self._next = 0
        while self._nodes[self._next].op == "placeholder":
            self._step()

    def run_up_to(self, node: Node) -> None:
        """Everything in front of ``node``."""
        while self._nodes[self._next] is not node:
            self._step()

    def finish(self, layer: Node | None = None, weight: Tensor | None = None) -> list[Tensor]:
        """The outputs, with another weight in ``layer``, which is the next node; the sweep stays where it is."""
        kept, position = self.env, self._next
        self.env = dict(kept)
        if layer is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(layer)
            self.env[layer] = self.call_function(layer.target, (args[0], weight, *args[2:]), kwargs)
            self._next += 1
        try:
            while self._next < len(self._nodes):
                result = self._step()
        finally:
            self.env, self._next = kept, position
        outputs = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor) and x.is_floating_point() and x.ndim]
        if not outputs:
            raise ValueError("the network has no output of floats to compare")
        return outputs

    def _step(self) -> Any:
        node = self._nodes[self._next]
        self.env[node] = result = self.run_node(node)
        for dead in self._dies_at.get(node, ()):
            del self.env[dead]
        self._next += 1
        return result
