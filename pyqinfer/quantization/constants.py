"""What a graph computes from its parameters alone, computed: weights that a model makes while it runs become plain weights."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Interpreter, Node
from torch.utils._pytree import tree_leaves

from pyqinfer.frontend.naming import attribute_of
from pyqinfer.names import unique_name
from pyqinfer.quantization.aten_traits import op_name

# A constant that is blown up further than this, to more than so many elements, stays an operation: expanding a mask is not a weight.
_GROWTH, _LARGE = 4, 2**22


def fold_constants(module: GraphModule) -> int:
    """Replace what depends on nothing but parameters and buffers by buffers; returns how many values were."""
    constant: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" or (_is_pure(node) and constant.issuperset(node.all_input_nodes)):
            constant.add(node)
    folded = [node for node in constant if node.op != "get_attr" and any(user not in constant for user in node.users)]
    if not folded:
        return 0
    values = _values(module, constant)
    done = 0
    for node in module.graph.nodes:
        value = values.get(node)
        if node not in folded or not isinstance(value, Tensor) or _blows_up(node, value, values):
            continue
        name = unique_name(f"{node.name}_folded", lambda taken: hasattr(module, taken))
        module.register_buffer(name, value.detach().contiguous())
        with module.graph.inserting_before(node):
            buffer = module.graph.get_attr(name)
        buffer.meta.update({key: node.meta[key] for key in ("val", "nn_module_stack", "stack_trace") if key in node.meta})
        node.replace_all_uses_with(buffer, delete_user_cb=lambda user: user not in constant)
        done += 1
    module.graph.eliminate_dead_code()
    module.recompile()
    return done


def use_linear_layers(module: GraphModule) -> int:
    """Write products with a constant matrix (``addmm``, ``mm``, ``matmul``) as linear layers; returns how many there were."""
    done = 0
    for node in list(module.graph.nodes):
        op = op_name(node)
        if op == "addmm" and not node.kwargs:
            bias, x, weight = node.args
        elif op in ("mm", "matmul"):
            (x, weight), bias = node.args, None
        else:
            continue
        if not _is_matrix(weight) or not isinstance(x, Node) or x.op == "get_attr" or x.meta["val"].ndim < 2:
            continue
        if bias is not None and not (isinstance(bias, Node) and bias.op == "get_attr" and bias.meta["val"].ndim == 1):
            continue
        transposed = attribute_of(module, weight).detach().t().contiguous()
        name = unique_name(f"{node.name}_weight", lambda taken: hasattr(module, taken))
        module.register_buffer(name, transposed)
        with module.graph.inserting_before(node):
            operand = module.graph.get_attr(name)
            layer = module.graph.call_function(torch.ops.aten.linear.default, (x, operand, bias))
        layer.meta.update(node.meta)
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
        done += 1
    module.recompile()
    return done


def _is_pure(node: Node) -> bool:
    """Whether a node gives the same tensor for the same operands, changes none, and keeps no codes that evaluating it would lose."""
    target = node.target
    if target is operator.getitem:
        return True
    if node.op != "call_function" or not isinstance(target, OpOverload) or target.namespace != "aten" or target._schema.is_mutable:
        return False
    if torch.Tag.nondeterministic_seeded in target.tags or "fake_quant" in op_name(node) or op_name(node).startswith("_assert"):
        return False
    return any(isinstance(leaf, Tensor) for leaf in tree_leaves(node.meta.get("val")))


def _values(module: GraphModule, constant: set[Node]) -> dict[Node, Any]:
    run = Interpreter(module)
    run.env = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node in constant:
                run.env[node] = run.run_node(node)
    return run.env


def _blows_up(node: Node, value: Tensor, values: dict[Node, Any]) -> bool:
    sources: set[Node] = set()
    todo = list(node.all_input_nodes)
    while todo:
        source = todo.pop()
        if source not in sources:
            sources.add(source)
            todo += source.all_input_nodes
    stored = sum(math.prod(values[source].shape) for source in sources if source.op == "get_attr")
    return bool(value.numel() > max(_LARGE, _GROWTH * stored))


def _is_matrix(value: Any) -> bool:
    if not isinstance(value, Node) or value.op != "get_attr":
        return False
    tensor = value.meta["val"]
    return isinstance(tensor, Tensor) and tensor.ndim == 2
