"""Runs a graph on many batches at once, node by node: what a node computes may still be changed once everything before it is final.

A method that goes through a network in execution order, with all earlier layers quantized, runs each layer once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from pyqinfer.frontend.guards import numbers_of

_MEMORY = 2**31  # the most bytes of activations of one graph that may be alive at once


class Lockstep:
    """Values of one graph's nodes for every batch, kept until the last reader has run."""

    def __init__(self, module: GraphModule, data: Sequence[tuple[Tensor, ...]]) -> None:
        self._runs = [Interpreter(module) for _ in data]
        for run, batch in zip(self._runs, data, strict=True):
            run.env, run.args_iter = {}, iter(batch)
        self._readers = {node: len(node.users) for node in module.graph.nodes}
        self._constants: set[Node] = set()

    def run(self, node: Node) -> list[Any]:
        """The node's value for every batch; what it reads must have run."""
        with torch.no_grad():
            if node.op == "get_attr" or (node.all_input_nodes and self._constants.issuperset(node.all_input_nodes)):
                # A constant has one value for all batches.
                self._constants.add(node)
                value = self._runs[0].run_node(node)
                for run in self._runs:
                    run.env[node] = value
            else:
                for run in self._runs:
                    run.env[node] = run.run_node(node)
        values = self.values(node)
        for source in node.all_input_nodes:
            self._readers[source] -= 1
            if self._readers[source] == 0:
                for run in self._runs:
                    del run.env[source]
        return values

    def values(self, node: Node) -> list[Any]:
        """What :meth:`run` gave for a node; it is kept until the last of the node's readers has run."""
        return [run.env[node] for run in self._runs]

    def replace(self, node: Node, value: Any) -> None:
        """Give a node that has run another value, the same for every batch."""
        for run in self._runs:
            run.env[node] = value

    def is_constant(self, node: Node) -> bool:
        """Whether a node has run and does not depend on the inputs."""
        return node in self._constants


def fitting(module: GraphModule, data: Sequence[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
    """The first batches, as many as keep their activations within two GiB in a :class:`Lockstep`, and at least one."""
    per_sample = _live_bytes(module)
    chosen: list[tuple[Tensor, ...]] = []
    total = 0
    for batch in data:
        total += per_sample * (batch[0].shape[0] if batch[0].ndim else 1)
        if chosen and total > _MEMORY:
            break
        chosen.append(batch)
    return chosen


def _live_bytes(module: GraphModule) -> int:
    """The most bytes of one sample's activations that are alive at once."""
    readers = {node: len(node.users) for node in module.graph.nodes}
    alive = largest = 0
    for node in module.graph.nodes:
        alive += _bytes(node)
        largest = max(largest, alive)
        for source in node.all_input_nodes:
            readers[source] -= 1
            if readers[source] == 0:
                alive -= _bytes(source)
    return largest


def _bytes(node: Node) -> int:
    value = node.meta.get("val")
    if node.op == "get_attr" or not isinstance(value, Tensor) or value.ndim == 0:
        return 0
    return value.element_size() * math.prod(numbers_of(value.shape, batch=1))
