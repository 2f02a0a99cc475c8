"""Functions that map every element of one tensor by itself, whatever operations they are written in.

SiLU stands in graphs as ``silu(x)``, as ``x * sigmoid(x)``, as ``x / (1 + exp(-x))``. All of these are one function of ``x``, and between
two tensors of codes one table of 256 entries. So a function is found by following its operations back to the single tensor that all of
them depend on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from operator import getitem

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pyqinfer.frontend.naming import attribute_of
from pyqinfer.quantization.aten_traits import Kind, kind_of, traits_of
from pyqinfer.quantization.graph import operand, readers_of_values, sole_user


@dataclass(frozen=True)
class Pointwise:
    """``nodes``: the operations between ``source`` and the function's result, in order of execution; the last one writes the result."""

    source: Node
    nodes: tuple[Node, ...]

    @property
    def is_by_channel(self) -> bool:
        """Whether channels have functions of their own, so that the argument has to be images."""
        return any(kind_of(node) is Kind.BATCH_NORM for node in self.nodes)

    def __call__(self, x: Tensor) -> Tensor:
        """The function of a float32 tensor of any shape."""
        values: dict[Node, Tensor] = {self.source: x}
        with torch.no_grad():
            for node in self.nodes:
                args, kwargs = torch.fx.map_arg((node.args, node.kwargs), lambda n: values[n] if n in values else _constant(n))
                assert callable(node.target)
                values[node] = node.target(*args, **kwargs)
        return values[self.nodes[-1]]


def pointwise_of(result: Node, ends: Collection[Node]) -> Pointwise | None:
    """The function that ``result`` is of an earlier tensor; None if it depends on several, or is that tensor with bounds.

    Of several such tensors it is the first one, because the operations between them then cost nothing of their own. Whoever reads an
    operation's result from outside has to be given it, so such an operation is not part of the function.

    Args:
        result: node of a traced graph.
        ends: nodes that are not followed back: activations that a layer's epilogue carries out anyway.
    """
    if not _is_pointwise(result):
        return None
    inside, front = {result}, _tensors(result)
    found: Pointwise | None = None
    while front:
        last = max(front)  # nodes of a graph compare by their place in it
        if len(front) == 1:
            found = Pointwise(last, tuple(sorted(inside)))
        if last in ends or not _is_pointwise(last) or not inside.issuperset(readers_of_values(last)) or _shape(last) != _shape(result):
            break
        inside.add(last)
        front = (front - {last}) | _tensors(last)
    if found is None or _shape(found.source) != _shape(result) or all(kind_of(node) is Kind.CLAMP for node in found.nodes):
        return None
    return found


def norm_of(result: Node) -> Pointwise | None:
    """The BatchNorm, with an activation behind it or without, that ``result`` is of an earlier tensor; None if it is none."""
    bound = result if kind_of(result) is Kind.CLAMP else None
    part = operand(result) if bound is not None else result
    if part.target is not getitem or kind_of(operand(part)) is not Kind.BATCH_NORM or (bound is not None and sole_user(part) is not bound):
        return None
    norm = operand(part)
    return Pointwise(operand(norm), (norm, part) if bound is None else (norm, part, bound))


def _is_pointwise(node: Node) -> bool:
    """Whether a node's result depends, element by element, on tensors of its shape and on single numbers."""
    if not traits_of(node).is_pointwise or any(isinstance(value, Node) for value in node.kwargs.values()):
        return False
    shape = _shape(node)
    return all(_constant(n).numel() == 1 if n.op == "get_attr" else _shape(n) == shape for n in node.all_input_nodes)


def _tensors(node: Node) -> set[Node]:
    return {n for n in node.all_input_nodes if n.op != "get_attr"}


def _shape(node: Node) -> tuple[str, ...]:
    """A tensor's sizes as text, so that comparing open ones asks nothing of them; a value that is no tensor has a shape of its own."""
    value = node.meta.get("val")
    return tuple(map(str, value.shape)) if isinstance(value, Tensor) and value.is_floating_point() else (node.name, "is no float tensor")


def _constant(node: Node) -> Tensor:
    owner = node.graph.owning_module
    assert isinstance(owner, GraphModule)
    value = attribute_of(owner, node)
    assert isinstance(value, Tensor)
    return value.detach()
