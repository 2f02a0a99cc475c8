"""From a float model to a :class:`~pyqinfer.train.prepared.Prepared` module, starting where post-training quantization ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from pyqinfer.bits import BitConfig, LayerBits
from pyqinfer.names import unique_name
from pyqinfer.quantization.api import Task
from pyqinfer.quantization.aten_traits import Kind, kind_of
from pyqinfer.quantization.fold import FoldedNorm, momentum_of
from pyqinfer.quantization.graph import Layer, operand, readers_of_values
from pyqinfer.quantization.observers import ActivationParams
from pyqinfer.quantization.pipeline import Settings, Start, activation_params, begin
from pyqinfer.quantization.placement import place
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.layers import TrainedLayer, TrainedNorm
from pyqinfer.train.prepared import Blueprint, Prepared
from pyqinfer.train.weights import FloatWeight, SteppedWeight, TrainedWeight, first_steps

# A BatchNorm's gain below this makes a channel that is as good as zero: its weights cannot be had back from the folded ones.
_SMALLEST_GAIN = 2.0**-40


class Parts:
    """What a method puts into a prepared module. Derive from it to train with another parametrization.

    Args:
        settings: how post-training quantization finds the first steps.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def weight(self, layer: Layer, latent: Tensor, gain: Tensor | None, bits: LayerBits) -> TrainedWeight:
        """The parametrization of a layer's weight.

        Args:
            layer: of the folded model; ``layer.weight`` is what post-training quantization would round.
            latent: the weight in front of BatchNorm, output channels on axis 0.
            gain: ``layer.weight`` is ``gain[c] * latent``; None: there is no BatchNorm behind the layer, and they are the same.
            bits: of the layer.
        """
        if bits.is_float:
            return FloatWeight(latent, bits)
        step = first_steps(layer.weight, bits, self.settings.weight_range == "mse")
        if gain is not None:
            direct = first_steps(latent, bits, self.settings.weight_range == "mse")
            step = torch.where(gain.abs() < _SMALLEST_GAIN, direct, step / gain.abs().clamp_min(_SMALLEST_GAIN))
        return SteppedWeight(latent, bits, step)

    def activation(self, params: ActivationParams, readers: tuple[str, ...]) -> TrainedActivation:
        """The quantizer of an edge: what calibration found, and the names of the layers that read the edge's values directly."""
        return TrainedActivation(params)

    def norm(self, norm: FoldedNorm, layer: str | None) -> nn.Module:
        """A BatchNorm, and the layer in front of it, if it is folded into one in the end."""
        return TrainedNorm(norm)


def prepare(task: Task, bits: Callable[[list[str]], BitConfig], parts: Parts) -> Prepared:
    """A task's model, ready to train, in training mode.

    Args:
        task: model, example inputs and calibration batches.
        bits: gives the bits of every layer for the layers' names in execution order.
        parts: what the method makes of layers and edges.

    Raises:
        ValueError: no calibration batches where activations are quantized; a layer or batch that holds NaN or infinity.
    """
    start = begin(task, bits, parts.settings)
    return _Builder(start, parts).build()


class _Builder:
    def __init__(self, start: Start, parts: Parts) -> None:
        self.start, self.parts = start, parts
        self.placement = place(start.traced, start.config, parts.settings.relu_only, start.smooth)
        params = activation_params(start.traced, self.placement, start.data, parts.settings.observer)
        self.params = {node.name: value for node, value in params.items()}
        self.traced = start.traced.copy()
        self.nodes: dict[str, Node] = {node.name: node for node in self.traced.module.graph.nodes}
        self.weights: list[tuple[Tensor, TrainedWeight]] = []

    def build(self) -> Prepared:
        edges = {node.name: self._quantize_behind(self.nodes[node.name]) for node in self.placement.bits}
        layers = {layer.name: self._replace_layer(layer) for layer in self.traced.layers}
        norms = {node.name: self._replace_norm(node) for node in self.nodes.values() if kind_of(node) is Kind.BATCH_NORM}
        graph = self.traced.module.graph
        graph.eliminate_dead_code()
        graph.lint()
        # A GraphModule of torch.export refuses train() and eval(); a plain one takes over what its graph reads.
        module = GraphModule(self.traced.module, graph, "Graph")
        blueprint = Blueprint(self.start.traced, self.start.config, self.placement, layers, edges, norms)
        return Prepared(module, blueprint).train()

    def _add(self, folder: str, name: str, module: nn.Module) -> str:
        root = self.traced.module
        if not hasattr(root, folder):
            root.add_submodule(folder, nn.Module())
        home = root.get_submodule(folder)
        path = f"{folder}.{unique_name(name.replace('.', '_'), lambda taken: hasattr(home, taken))}"
        root.add_submodule(path, module)
        return path

    def _quantize_behind(self, node: Node) -> str:
        readers = readers_of_values(node)
        named = {layer.node: layer.name for layer in self.traced.layers}
        activation = self.parts.activation(self.params[node.name], tuple(named[r] for r in readers if r in named))
        path = self._add("edges", node.name, activation)
        with self.traced.module.graph.inserting_after(node):
            value = self.traced.module.graph.call_module(path, (node,))
        for reader in readers:
            reader.replace_input_with(node, value)
        return path

    def _replace_layer(self, layer: Layer) -> str:
        start = self.start
        norm = start.norms.get(layer.name)
        if norm is not None:
            divisor = start.divisors.get(layer.name, torch.ones(1, dtype=torch.float64))
            gamma, beta = ((t.double() / divisor).float() for t in (norm.gamma, norm.beta))
            norm = replace(norm, gamma=gamma, beta=beta)
        weight = self._weight(layer, norm)
        bias = self.traced.bias(layer) if norm is None else None
        trained = None if norm is None else self.parts.norm(_of_smaller_sums(norm, weight.divisor), layer.name)
        replaced = layer.node
        module = TrainedLayer(replaced.target, tuple(replaced.args[3:]), weight, layer.axis, bias, trained)
        return self._replace(replaced, "layers", layer.name, module)

    def _weight(self, layer: Layer, norm: FoldedNorm | None) -> TrainedWeight:
        """The layer's parametrization; layers that read one weight, at the same bits, share it."""
        latent, gain = layer.weight, None
        if norm is not None:
            gain = norm.gamma * torch.rsqrt(norm.variance + norm.eps)
            dead = gain.abs() < _SMALLEST_GAIN
            shape = (-1, *[1] * (latent.ndim - 1))
            recovered = latent / torch.where(dead, torch.ones_like(gain), gain).reshape(shape)
            latent = torch.where(dead.reshape(shape), self.start.original[layer.name], recovered)
        original, bits = self.start.original[layer.name], self.start.config[layer.name]
        for read, weight in self.weights:
            same = read.data_ptr() == original.data_ptr() and weight.latent.shape == latent.shape and weight.bits == bits
            if same and torch.allclose(weight.latent, latent, rtol=1e-5, atol=0):
                return weight
        made = self.parts.weight(layer, latent, gain, bits)
        if made.keeps_zeros:
            made.set_mask(_alive(latent))
        self.weights.append((original, made))
        return made

    def _replace_norm(self, node: Node) -> str:
        """A BatchNorm that was not folded."""
        gamma, beta, mean, variance = (self.traced.constant(a) if isinstance(a, Node) else None for a in node.args[1:5])
        assert mean is not None
        assert variance is not None
        gamma = torch.ones_like(mean) if gamma is None else gamma
        beta = torch.zeros_like(mean) if beta is None else beta
        eps: Any = node.args[6]
        module = self.parts.norm(FoldedNorm(gamma, beta, mean, variance, float(eps), momentum_of(node)), None)
        path = self._add("norms", node.name, module)
        with self.traced.module.graph.inserting_before(node):
            value = self.traced.module.graph.call_module(path, (operand(node),))
        for user in list(node.users):  # getitem of (output, two empty statistics)
            user.replace_all_uses_with(value)
        return path

    def _replace(self, node: Node, folder: str, name: str, module: nn.Module) -> str:
        path = self._add(folder, name, module)
        with self.traced.module.graph.inserting_before(node):
            value = self.traced.module.graph.call_module(path, (operand(node),))
        node.replace_all_uses_with(value)
        self.traced.module.graph.erase_node(node)
        return path


def _of_smaller_sums(norm: FoldedNorm, divisor: float) -> FoldedNorm:
    """The BatchNorm that makes of sums divided by a number what ``norm`` makes of the sums themselves."""
    square = divisor * divisor
    return replace(norm, mean=norm.mean / divisor, variance=norm.variance / square, eps=norm.eps / square)


def _alive(weight: Tensor) -> Tensor | None:
    """Which weights may live: all but those that are exactly 0, which were pruned. None: no weight was, or the layer is all zeros, as one
    that was made to start there."""
    alive = weight != 0
    return None if bool(alive.all()) or not bool(alive.any()) else alive
