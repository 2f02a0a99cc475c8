"""Learned rounding and bias correction on the quantized graph, in execution order: each layer sees what the engine will give it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.bits import LayerBits
from pyqinfer.quantization.bias_correction import add_to_channels, channel_means, corrected_at, correction
from pyqinfer.quantization.blocks import Block, find_blocks, region
from pyqinfer.quantization.calibrate import with_progress
from pyqinfer.quantization.graph import Layer, TracedModel, operand
from pyqinfer.quantization.lockstep import Lockstep, fitting
from pyqinfer.quantization.reconstruct import BlockRunner, learn
from pyqinfer.quantization.rounding import SoftRounding

_LEARNED_BITS = 4  # weights of more bits lose nothing by rounding to nearest


def is_low_bit(bits: LayerBits) -> bool:
    """Whether weights are so coarse that their rounding is worth learning."""
    return bits.weight == "ternary" or bits.weight <= _LEARNED_BITS


@dataclass(frozen=True)
class QuantizedLayer:
    """A layer with its float weight, and the node of the quantized graph that dequantizes its codes."""

    layer: Layer
    bits: LayerBits
    weight_node: Node


@dataclass(frozen=True)
class BlockError:
    """Mean squared error of a block's output against the float network's, with weights rounded to nearest and as learned."""

    layers: tuple[str, ...]
    nearest: float
    learned: float


@dataclass(frozen=True)
class Refinement:
    """Which steps are taken: learned rounding with this many iterations for each block (0: not at all), bias correction.

    ``seed`` decides the mini-batches of learned rounding.
    """

    iterations: int
    seed: int
    bias_correction: bool


def refine(
    reference: TracedModel, traced: TracedModel, layers: Sequence[QuantizedLayer], data: Sequence[tuple[Tensor, ...]], steps: Refinement
) -> list[BlockError]:
    """Change codes and biases of a quantized graph in place.

    Args:
        reference: the float model, whose nodes have the names of those of ``traced``.
        traced: the same model with quantize and dequantize nodes.
        layers: the quantized layers of ``traced``.
        data: calibration batches; as many as fit two GiB of activations are used.

    Returns:
        What learned rounding did, block by block. Codes that do not lower a block's error are not taken.
    """
    if steps.iterations:
        # Samples are drawn from all batches together, which takes images of one size.
        data = [batch for batch in data if [x.shape[1:] for x in batch] == [x.shape[1:] for x in data[0]]]
    return _Refiner(reference, traced, layers, fitting(reference.module, data), steps).run()


class _Refiner:
    def __init__(
        self,
        reference: TracedModel,
        traced: TracedModel,
        layers: Sequence[QuantizedLayer],
        data: Sequence[tuple[Tensor, ...]],
        steps: Refinement,
    ) -> None:
        self.traced, self.steps = traced, steps
        self.layers = {quantized.layer.name: quantized for quantized in layers}
        self.corrected: dict[Node, Layer] = {}
        self.means: dict[str, Tensor] = {}
        if steps.bias_correction:
            names = {quantized.layer.name for quantized in layers}
            places = corrected_at(layer for layer in reference.layers if layer.name in names)
            self.means = channel_means(reference.module, places, data)
            nodes = {node.name: node for node in traced.module.graph.nodes}
            self.corrected = {nodes[node.name]: self.layers[layer.name].layer for node, layer in places.items()}
            for layer in self.corrected.values():
                bias = traced.bias(layer)
                traced.replace_bias(layer, torch.zeros(len(layer.weight)) if bias is None else bias.clone())
        low_bit = [name for name, quantized in self.layers.items() if steps.iterations and is_low_bit(quantized.bits)]
        self.blocks = find_blocks(reference, low_bit)
        self.order = [node for node in traced.module.graph.nodes if node.op != "output"]
        self.values = Lockstep(traced.module, data)
        self.targets = _Targets(reference, data)
        self.done: set[Node] = set()

    def run(self) -> list[BlockError]:
        nodes = {node.name: node for node in self.order}
        errors = []
        for i, block in enumerate(self.blocks):
            inside = region(self.traced.module.graph, nodes[block.entry], nodes[block.exit])
            outside = self.order[: self.order.index(inside[-1])]
            self._run([node for node in outside if node not in set(inside)])
            error = self._learn(block, inside, f"learning to round, block {i + 1} of {len(self.blocks)}")
            errors += [error] if error is not None else []
            self._run(inside)
        if self.corrected:
            self._run(self.order)
        return errors

    def _run(self, nodes: Sequence[Node]) -> None:
        """Run those of the nodes that have not run, correcting biases on the way."""
        for node in with_progress([node for node in nodes if node not in self.done], "correcting biases"):
            outputs = self.values.run(node)
            self.done.add(node)
            if (layer := self.corrected.get(node)) is not None:
                delta = correction(layer, outputs, self.means[node.name])
                bias = self.traced.bias(layer)
                assert bias is not None
                bias.add_(delta)
                add_to_channels(layer, outputs, delta)

    def _learn(self, block: Block, inside: Sequence[Node], text: str) -> BlockError | None:
        """Learn a block's rounding; None where samples cannot be drawn from what the block reads."""
        read = dict.fromkeys(source for node in inside for source in node.all_input_nodes if source not in set(inside))
        constants = frozenset(node for node in read if self.values.is_constant(node))
        inputs = {node: values[0] if node in constants else _joined(values) for node in read if (values := self.values.values(node))}
        runner = BlockRunner(inside, inputs, _joined(self.targets.of(block.exit)), constants, self.traced.fixed_batch)
        if not runner.is_by_sample():
            return None
        roundings = {}
        for quantized in (self.layers[name] for name in block.layers):
            scale = self.traced.constant(operand(quantized.weight_node, 1))
            roundings[quantized.weight_node] = SoftRounding(quantized.layer.weight, scale, quantized.bits, quantized.layer.axis)
        nearest, learned = learn(runner, roundings, self.steps.iterations, self.steps.seed, text)
        if learned < nearest:
            for node, rounding in roundings.items():
                self.traced.constant(operand(node)).copy_(rounding.codes())
                self.values.replace(node, rounding.hard_weight())
        return BlockError(block.layers, nearest, min(learned, nearest))


class _Targets:
    """Outputs of the float network's nodes, asked for in execution order."""

    def __init__(self, reference: TracedModel, data: Sequence[tuple[Tensor, ...]]) -> None:
        self._values = Lockstep(reference.module, data)
        self._nodes = iter(reference.module.graph.nodes)

    def of(self, name: str) -> list[Tensor]:
        for node in self._nodes:
            values = self._values.run(node)
            if node.name == name:
                return values
        raise AssertionError(f"no node {name!r} behind the last one")


def _joined(values: Sequence[Any]) -> Any:
    """Samples of all batches along dimension 0; a value that is no tensor is a size, and the first batch's is taken."""
    return torch.cat(list(values)) if isinstance(values[0], Tensor) and values[0].ndim else values[0]
