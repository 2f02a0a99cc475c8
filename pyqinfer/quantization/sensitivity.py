"""How much a network's output moves when one layer is quantized: the score that ZeroQ allocates bits by."""

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
from pyqinfer.quantization.graph import Layer, TracedModel, operand
from pyqinfer.quantization.observers import MSEObserver
from pyqinfer.quantization.weights import quantize_weight

Sensitivities = dict[str, dict[LayerBits, float]]


def kl_sensitivities(
    traced: TracedModel,
    options: Mapping[str, Iterable[LayerBits]],
    data: Sequence[tuple[Tensor, ...]],
    *,
    activations: bool = False,
    symmetric: bool = False,
    search: bool = True,
) -> Sensitivities:
    """Kullback-Leibler divergence of the network's class probabilities with a single layer quantized and all else in float.

    ``Omega_i(k) = mean over images of KL(float network || layer i at k bits)``, natural logarithm (ZeroQ, arXiv 2001.00281). The float
    network runs once: at each layer only what follows it is run again, so that the cost is about half a forward pass for each layer
    and option, and no copy of the model is made.

    Args:
        traced: the network, BatchNorm folded, as it will be quantized. It is not changed.
        options: for each layer's name the bits to score; other layers are left out.
        data: batches of inputs. Outputs are logits ``[N, classes, ...]``; a single channel is the logit of two classes, and the
            divergences of several outputs add up.
        activations: quantize the layer's input as well, in the range of least squared error on the batch; else weights alone (the paper).
        symmetric: take the mean of the divergences in both directions.
        search: find weight ranges by least squared error, else take the largest magnitude.

    Raises:
        ValueError: a layer that holds NaN or infinity, or a network without an output of floats.
    """
    layers = [layer for layer in traced.layers if layer.name in options]
    result: Sensitivities = {layer.name: dict.fromkeys(options[layer.name], 0.0) for layer in layers}
    weights = _Weights(search)
    sweep = _Sweep(traced.module)
    with torch.inference_mode():
        for i, (batch, layer) in enumerate(with_progress(list(product(data, layers)), "sensitivity of layers")):
            if i % len(layers) == 0:
                sweep.start(batch)
                reference = _log_probabilities(sweep.finish())
            sweep.run_up_to(layer.node)
            inputs = _Inputs(sweep.input_of(layer.node)) if activations else None
            seen: dict[tuple[WeightBits, int], float] = {}
            for bits in result[layer.name]:
                key = (bits.weight, bits.act if activations else FLOAT)
                if key not in seen:
                    changed = sweep.finish(layer.node, weights.at(layer, bits.weight), inputs.at(bits.act) if inputs is not None else None)
                    seen[key] = _divergence(reference, _log_probabilities(changed), symmetric)
                result[layer.name][bits] += seen[key] / len(data)
    return result


class _Weights:
    """Quantized weights of layers. Codes are kept between batches, a quarter of the bytes of float weights."""

    def __init__(self, search: bool) -> None:
        self._search = search
        self._codes: dict[tuple[str, WeightBits], tuple[Tensor, Tensor]] = {}

    def at(self, layer: Layer, width: WeightBits) -> Tensor | None:
        """A layer's quantized weight in the order of the graph; None if ``width`` leaves it float."""
        if width == FLOAT:
            return None
        key = (layer.name, width)
        if key not in self._codes:
            try:
                self._codes[key] = quantize_weight(layer.weight, LayerBits(width, FLOAT), search=self._search)
            except ValueError as error:
                raise ValueError(f"layer {layer.name!r}: {error}") from None
        codes, scale = self._codes[key]
        weight = codes * scale.reshape(-1, *[1] * (codes.ndim - 1))
        return weight.transpose(0, 1) if layer.axis == 1 else weight


class _Inputs:
    """A layer's input, quantized to any number of bits."""

    def __init__(self, x: Tensor) -> None:
        self._x = x
        self._observer = MSEObserver()
        self._observer.observe(x)

    def at(self, bits: int) -> Tensor | None:
        """The quantized input; None if ``bits`` leaves it float."""
        if bits == FLOAT:
            return None
        p = self._observer.params(bits)
        return torch.fake_quantize_per_tensor_affine(self._x, p.scale, p.zero_point, p.quant_min, p.quant_max)


def _log_probabilities(outputs: list[Tensor]) -> list[Tensor]:
    """Float64 log-probabilities of each output, classes on axis 1."""
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
        position = {node: i for i, node in enumerate(self._nodes)}
        for node in self._nodes:
            last = max([node, *node.users], key=position.__getitem__)
            self._dies_at.setdefault(last, []).append(node)
        self._next = 0

    def start(self, inputs: tuple[Tensor, ...]) -> None:
        """Begin at the first node with a new batch."""
        self.env = dict(zip((node for node in self._nodes if node.op == "placeholder"), inputs, strict=True))
        self._next = 0

    def run_up_to(self, node: Node) -> None:
        """Run everything in front of ``node``."""
        while self._nodes[self._next] is not node:
            self._step()

    def input_of(self, node: Node) -> Tensor:
        """The first operand of the next node."""
        value = self.env[operand(node)]
        assert isinstance(value, Tensor)
        return value

    def finish(self, layer: Node | None = None, weight: Tensor | None = None, x: Tensor | None = None) -> list[Tensor]:
        """The outputs, with another weight or input in ``layer``, which is the next node; the sweep stays where it is."""
        kept, position = self.env, self._next
        self.env = dict(kept)
        if layer is not None:
            args, kwargs = self.fetch_args_kwargs_from_env(layer)
            changed = (args[0] if x is None else x, args[1] if weight is None else weight, *args[2:])
            self.env[layer] = self.call_function(layer.target, changed, kwargs)
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
        result = self.env[node] if node in self.env else self.run_node(node)
        self.env[node] = result
        for dead in self._dies_at.get(node, ()):
            del self.env[dead]
        self._next += 1
        return result
