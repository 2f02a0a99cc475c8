"""Parts of a graph that are reconstructed as a whole: residual blocks (Li et al. 2021, arXiv 2102.05426), else single layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor
from torch.fx import Graph, Node

from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name
from pyqinfer.quantization.graph import TracedModel, operand, sole_user

# A skip over more layers than this (a bottleneck has 4, with squeeze-and-excitation 6) joins stages, not the ends of a block.
_MOST_LAYERS = 6


@dataclass(frozen=True)
class Block:
    """What lies between ``entry`` and ``exit`` (names of nodes) and holds ``layers`` (names, at least one)."""

    entry: str
    exit: str
    layers: tuple[str, ...]


def find_blocks(traced: TracedModel, wanted: Iterable[str]) -> list[Block]:
    """Disjoint blocks that hold each wanted layer of a float model once, in execution order of their exits.

    A residual block reaches from the last tensor that both operands of an addition depend on to that addition and its activation. It is
    taken if no inner tensor is read outside and it has at most 6 layers.
    """
    graph = traced.module.graph
    layers = {layer.node: layer for layer in traced.layers}
    chosen = set(wanted)
    position = {node: i for i, node in enumerate(graph.nodes)}
    taken: set[Node] = set()
    found: dict[Node, Block] = {}

    def take(entry: Node, end: Node, most: int) -> None:
        nodes = region(graph, entry, end)
        inner = [layers[node] for node in nodes if node in layers]
        names = tuple(layer.name for layer in inner if layer.name in chosen)
        if names and len(inner) <= most and taken.isdisjoint(nodes):
            taken.update(nodes)
            found[end] = Block(entry.name, end.name, names)

    for add, entry in _residual_adds(graph, position):
        take(entry, _with_activation(add), _MOST_LAYERS)
    for node, layer in layers.items():
        if layer.name in chosen and node not in taken:
            take(operand(node), _with_activation(node), 1)
    return [found[end] for end in sorted(found, key=lambda node: position[node])]


def region(graph: Graph, entry: Node, end: Node) -> list[Node]:
    """Nodes on the ways from ``entry``, exclusive, to ``end``, in order, less those that others read and what leads to these only."""
    ahead = {entry}
    for node in graph.nodes:
        if not ahead.isdisjoint(node.all_input_nodes):
            ahead.add(node)
    behind = {end}
    for node in reversed(graph.nodes):
        if not behind.isdisjoint(node.users):
            behind.add(node)
    inside = (ahead & behind) - {entry}
    for node in reversed(graph.nodes):
        if node in inside and node is not end and not inside.issuperset(node.users):
            inside.remove(node)
    return [node for node in graph.nodes if node in inside]


def _with_activation(node: Node) -> Node:
    reader = sole_user(node)
    return reader if reader is not None and kind_of(reader) is Kind.CLAMP else node


def _residual_adds(graph: Graph, position: dict[Node, int]) -> list[tuple[Node, Node]]:
    """Additions of two tensors of the network, each with the last tensor that both depend on, whichever way."""
    dominators: dict[Node, frozenset[Node]] = {}
    found = []
    for node in graph.nodes:
        sources = [dominators[source] for source in node.all_input_nodes if source in dominators]
        if node.op != "placeholder" and not sources:
            continue  # a constant
        if not isinstance(node.meta.get("val"), (Tensor, list, tuple)):
            continue  # a size
        dominators[node] = frozenset.intersection(*sources) | {node} if sources else frozenset({node})
        operands = [a for a in node.args[:2] if isinstance(a, Node) and a in dominators] if op_name(node) == "add" else []
        if len(set(operands)) == 2:
            common = dominators[operands[0]] & dominators[operands[1]]
            if common:
                found.append((node, max(common, key=lambda n: position[n])))
    return found
