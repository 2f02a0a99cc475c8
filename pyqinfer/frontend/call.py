"""One call of an op in torch's graph: its name, and its arguments by the names of the schema."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pyqinfer import ir
from pyqinfer.frontend.values import Complex, NotSupportedHere, Places, QuantizedConstant, RuntimeQuantized, SymbolicSize

Arguments = dict[str, Any]
# Ops whose result shares memory with their operand under another shape.
VIEWS = frozenset(
    {"view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "mT", "numpy_T", "expand", "expand_as"}
    | {"slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind"}
)
# Ops whose result is their operand.
SAME_TENSOR = frozenset({"alias", "detach", "contiguous", "dropout"})

# Where the functions come from that torch.export computes sizes with.
_SIZE_MODULES = frozenset({"_operator", "math", "torch"})


def unnamed(size: Any, more: int = 0) -> int | str:
    if isinstance(size, int):
        return size + more
    raise NotSupportedHere("a size that is computed from the input's")


def computes_sizes(target: Any) -> bool:
    """Whether a function of the graph is Python's arithmetic on sizes, or torch's for those that are symbols."""
    return not hasattr(target, "_schema") and getattr(target, "__module__", "") in _SIZE_MODULES


def parse_target(target: Any) -> tuple[str, str, bool]:
    """Namespace, op name without overload and without the in-place underscore, and whether it is in place."""
    name = getattr(target, "_schema", None)
    if name is None:
        return "python", getattr(target, "__name__", str(target)), False
    namespace, _, op = name.name.partition("::")
    in_place = op.endswith("_") and not op.endswith("__")
    return namespace, op[:-1] if in_place else op, in_place


def all_constant(arguments: Arguments) -> bool:
    """Whether there is no activation and no symbolic size among the arguments."""

    def plain(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return all(plain(v) for v in value)
        return not isinstance(value, (ir.Value, SymbolicSize, Places, Complex, RuntimeQuantized))

    return all(plain(value) for value in arguments.values())


def has_no_tensor(arguments: Arguments) -> bool:
    return not any(isinstance(leaf, (Tensor, QuantizedConstant)) for leaf in tree_leaves(arguments))


def keeps_value(op: str, arguments: Arguments) -> bool:
    """Whether an op copies a constant onto an equal one, which is what remains of an observer that does not observe."""
    if op != "copy":
        return False
    target, source = arguments["self"], arguments["src"]
    return isinstance(target, Tensor) and isinstance(source, Tensor) and torch.equal(target, source)


def schema_call(target: Any, arguments: Arguments) -> Arguments:
    """Keyword arguments for calling an operator: its first argument may be called "self" or "input"; None defaults are left out."""
    required = {a.name for a in target._schema.arguments if not a.has_default_value()}
    return {name: value for name, value in arguments.items() if name in required or value is not None}
