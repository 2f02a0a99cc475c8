"""Operations that are made of others: torch functions that are traced where a graph has the operation, and read in its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import is_concrete_int
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves

from pyqinfer import ir
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.export import sizes_are_sizes
from pyqinfer.frontend.naming import attribute_of
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere, Places, SymbolicSize

# Metadata by which a node is named in messages.
_ORIGIN = ("nn_module_stack", "stack_trace")


def composed(
    reader: GraphReader, node: Node, function: Callable[..., Any], arguments: Arguments, nodes: Mapping[str, Any] | None = None
) -> Any:
    """What a torch function gives for a node's arguments, which it gets by their names: its operations are read in the node's place.

    Args:
        arguments: what ``function`` reads of the node's; those that are no tensors, it gets as they are.
        nodes: for arguments that are called otherwise in the op's schema, the node of torch's graph or its name there.
    """
    given = reader.named_arguments(node)
    for name, source in (nodes or {}).items():
        given[name] = given.get(source) if isinstance(source, str) else source
    tensors = {name: value for name, value in arguments.items() if isinstance(value, (ir.Value, Places, Tensor))}
    rest = {name: value for name, value in arguments.items() if name not in tensors}
    if any(isinstance(value, SymbolicSize) for value in tree_leaves(rest)):
        raise NotSupportedHere("an argument that is computed from the inputs' sizes")
    mode = _fake_mode(reader.module)
    likes = [_shape_only(value if isinstance(value, Tensor) else given[name], mode) for name, value in tensors.items()]
    graph = _traced(lambda *values: function(**dict(zip(tensors, values, strict=True)), **rest), likes, mode, node, _fixed_sizes(reader))
    result = _read(reader, graph, list(tensors.values()))
    for value in tree_leaves(result):
        if isinstance(value, ir.Value) and not (reader.composing or value.integer or value.quant == ir.TRUTH):
            value.origin = value.origin or node.name
    return result


def _read(reader: GraphReader, graph: GraphModule, operands: list[Any]) -> Any:
    outer, reader.composing, result = reader.composing, True, None
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            reader.env[node] = operands.pop(0)
        elif node.op == "get_attr":
            reader.env[node] = attribute_of(graph, node)
        elif node.op == "call_function":
            reader.env[node] = reader.call(node)
        else:
            result = map_arg(node.args[0], lambda n: reader.env[n])
    reader.composing = outer
    return result


def _traced(function: Callable[..., Any], likes: Sequence[Tensor], mode: Any, node: Node, fixed: Mapping[Any, int]) -> GraphModule:
    """The graph of a function over tensors without elements of ``mode``, whose nodes are named like ``node``.

    Raises:
        NotSupportedHere: the function is another one for other sizes than those of the examples.
    """
    sizes = mode.shape_env
    known = 0 if sizes is None else len(sizes.guards)
    with mode, sizes_are_sizes():
        graph: GraphModule = make_fx(function, pre_dispatch=True)(*likes)
    for guard in () if sizes is None else sizes.guards[known:]:
        if guard.expr.subs(fixed) != sympy.true:
            raise NotSupportedHere(f"holds only for sizes of which {guard.expr}")
    for inside in graph.graph.nodes:
        inside.meta.update({key: node.meta[key] for key in _ORIGIN if key in node.meta})
    return graph


def _fixed_sizes(reader: GraphReader) -> dict[Any, int]:
    """The symbols of torch's graph that are numbers in this conversion."""
    inputs = (node.meta.get("val") for node in reader.module.graph.nodes if node.op == "placeholder")
    sizes: list[Any] = [size for x in inputs if isinstance(x, Tensor) for size in x.shape if not is_concrete_int(size)]
    numbers = {size.node.expr: reader.dim_of(size) for size in sizes if size.node.expr.is_Symbol}
    return {symbol: number for symbol, number in numbers.items() if isinstance(number, int)}


def _shape_only(operand: Any, mode: Any) -> Tensor:
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


def _fake_mode(module: GraphModule) -> Any:
    """What holds the tensors without elements that torch.export saw."""
    seen = (node.meta.get("val") for node in module.graph.nodes)
    found = next((value for value in seen if isinstance(value, FakeTensor)), None)
    if found is None:
        raise NotSupportedHere("a graph that does not say the shapes of its tensors")
    return found.fake_mode
