"""Exported programs that can be read as they are, but for what they change in place.

torch's decompositions trace a program a second and a third time, which takes most of a conversion's time; most networks need them for
nothing but ``relu_`` and ``+=``.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

from pyqinfer.frontend.call import SAME_TENSOR, VIEWS

aten = torch.ops.aten
# Ops whose results may share memory with their first operand.
_SHARE_MEMORY = VIEWS | SAME_TENSOR | {"feature_dropout"}
# Ops that make a tensor of numbers alone.
_NUMBERS = frozenset({"arange", "linspace", "full", "ones", "zeros", "eye", "tril_indices", "triu_indices"})
_CASTS = frozenset({"to", "type_as"})
# Ops that torch's decompositions write in another way, on which the readers of graphs rely.
_NOT_AS_THEY_ARE = _CASTS | {"_to_copy", "instance_norm", "lift_fresh_copy"}


def direct_graph(program: ExportedProgram, known: Collection[str]) -> GraphModule | None:
    """The program as a functional graph of ``known`` aten ops, or None where only torch's decompositions make it one."""
    constants: set[Node] = set()  # what depends on no input is evaluated, whatever the op
    lifted = {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers}
    lifted |= set(program.graph_signature.inputs_to_lifted_tensor_constants)
    for node in program.graph.nodes:
        if node.name in lifted or (_is_pure(node) and constants.issuperset(node.all_input_nodes)):
            constants.add(node)
        elif node.op not in ("placeholder", "output") and not _is_known(node, known):
            return None
    module = module_of(program)
    roots: dict[Node, Node] = {}
    for node in list(module.graph.nodes):
        op = _op(node)
        if op in _CASTS and _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
            continue
        if node.op == "call_function" and (node.target is operator.getitem or op in _SHARE_MEMORY or _is_in_place(node)):
            roots[node] = roots.get(node.args[0], node.args[0])
        if _is_in_place(node) and not _made_functional(module, node, roots):
            return None
        if op == "batch_norm" and node.args[5] is False:
            _made_inference(module, node)
    return module


def module_of(program: ExportedProgram) -> GraphModule:
    """The program as a module without its guards on shapes."""
    module = program.module()
    assert isinstance(module, GraphModule)
    for node in list(module.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            module.graph.erase_node(node)
    return module


def _op(node: Node) -> str:
    return node.target._schema.name.removeprefix("aten::") if isinstance(node.target, OpOverload) else ""


def _is_pure(node: Node) -> bool:
    """Whether an op of constants may be evaluated while converting."""
    target = node.target
    if node.op != "call_function" or not isinstance(target, OpOverload):
        return target is operator.getitem
    if target._schema.is_mutable or torch.Tag.nondeterministic_seeded in target.tags:
        return False
    return bool(node.all_input_nodes) or _op(node) in _NUMBERS


def _changes_nothing(node: Node) -> bool:
    """Whether a cast gives the tensor that it is given."""
    source: Any = node.args[0]
    given, value = source.meta.get("val"), node.meta.get("val")
    same = isinstance(given, Tensor) and isinstance(value, Tensor) and given.dtype == value.dtype
    return same and True not in node.args[2:] and not node.kwargs


def _is_in_place(node: Node) -> bool:
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def _is_known(node: Node, known: Collection[str]) -> bool:
    if node.op != "call_function":
        return node.op == "get_attr"
    if not isinstance(node.target, OpOverload):
        return not isinstance(node.target, torch._ops.HigherOrderOperator)  # arithmetic on sizes, or an item of a tuple
    op = _op(node)
    if op == "batch_norm":
        return node.args[5] is False
    if op in _CASTS:
        return _changes_nothing(node)
    if _is_in_place(node):
        op = op.removesuffix("_")
        return op in known and op not in _NOT_AS_THEY_ARE | {"copy"} and _functional(node) is not None
    return node.target.namespace == "pyqinfer" or (op in known and op not in _NOT_AS_THEY_ARE)


def _functional(node: Node) -> OpOverload | None:
    """The op that gives what an op in place writes, with the same arguments."""
    target = node.target
    assert isinstance(target, OpOverload)
    packet = getattr(aten, _op(node).removesuffix("_"), None)
    found = getattr(packet, target._overloadname, None) if packet is not None else None
    names = [[a.name for a in op._schema.arguments[1:]] for op in (found, target) if op is not None]
    if found is None or names[0] != names[1]:
        return None
    result: OpOverload = found
    return result


def _made_functional(module: GraphModule, node: Node, roots: dict[Node, Node]) -> bool:
    """Exchange an op in place where nothing reads what it overwrites under another name; returns whether it was."""
    target = node.args[0]
    assert isinstance(target, Node)
    root = roots.get(target, target)
    family = {root} | {view for view, source in roots.items() if source is root}
    if root.op in ("placeholder", "get_attr") or any(user > node for alias in family - {target, node} for user in alias.users):
        return False
    found = _functional(node)
    assert found is not None
    with module.graph.inserting_before(node):
        name = _op(node).removesuffix("_")
        result = module.graph.create_node("call_function", found, node.args, dict(node.kwargs), name=name)
    result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    target.replace_all_uses_with(result, delete_user_cb=lambda user: user > result and user is not node)
    module.graph.erase_node(node)
    del roots[node]
    return True


def _made_inference(module: GraphModule, node: Node) -> None:
    """Write a BatchNorm with its running statistics as the op that torch's decompositions make of it."""
    x, weight, bias, mean, variance, _, momentum, eps, *_ = node.args
    value: Any = node.meta["val"]
    assert isinstance(value, Tensor)
    with module.graph.inserting_before(node):
        norm = module.graph.call_function(
            aten._native_batch_norm_legit_no_training.default, (x, weight, bias, mean, variance, momentum, eps)
        )
        result = module.graph.call_function(operator.getitem, (norm, 0))
    norm.meta = {**node.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
    result.meta = dict(node.meta)
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)
