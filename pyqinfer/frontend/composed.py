"""Operations that are made of others: torch functions that are traced where a graph has the operation, and read in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx

from pyqinfer.frontend.export import sizes_are_sizes
from pyqinfer.frontend.values import NotSupportedHere

# Metadata by which a node is named in messages.
_ORIGIN = ("nn_module_stack", "stack_trace")


def traced_function(function: Callable[..., Any], likes: Sequence[Tensor], mode: Any, node: Node) -> GraphModule:
    """The graph of a function over tensors without elements of ``mode``, whose nodes are named like ``node``.

    Raises:
        NotSupportedHere: the function is another one for other sizes than those of the examples.
    """
    sizes = mode.shape_env
    known = 0 if sizes is None else len(sizes.guards)
    with mode, sizes_are_sizes():
        graph: GraphModule = make_fx(function, pre_dispatch=True)(*likes)
    if sizes is not None and len(sizes.guards) > known:
        raise NotSupportedHere(f"holds only for sizes of which {sizes.guards[known].expr}")
    for inside in graph.graph.nodes:
        inside.meta.update({key: node.meta[key] for key in _ORIGIN if key in node.meta})
    return graph


def shape_only(operand: Any, mode: Any) -> Tensor:
    """What torch.export saw for an operand of its graph, or a constant as ``mode`` (a FakeTensorMode) has it.

    Complex numbers are read as their parts. What quantizers put into a graph has no such tensor; it has the shape of its own operand.
    """
    if isinstance(operand, Tensor):
        made: Tensor = mode.from_tensor(operand)
        return made
    node = operand
    while isinstance(node, Node) and not isinstance(node.meta.get("val"), Tensor) and node.all_input_nodes:
        node = node.all_input_nodes[0]
    found = node.meta.get("val") if isinstance(node, Node) else None
    if not isinstance(found, Tensor):
        raise NotSupportedHere("an operand whose shape is not known")
    return found.new_empty(found.shape, dtype=torch.float32) if found.is_complex() else found
