"""Names in a graph: those of layers and source lines, from the metadata that torch.export leaves, and of attributes."""

from __future__ import annotations

import re
from typing import Any

from torch.fx import GraphModule, Node

from pyqinfer.ops import OPS

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


def attribute_of(module: GraphModule, node: Node) -> Any:
    """What a get_attr node of the module's graph stands for."""
    found: Any = module
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found


class Namer:
    """Gives every node a unique name: the module's qualified name, or that of the enclosing module plus the op."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._next: dict[str, int] = {}  # for each name that was given, the number to try next

    def name(self, node: Node, op: str) -> str:
        path, module_class = module_of(node)
        traits = OPS.get(op)  # `op` may be torch's name for it, or a function's
        # A layer is named like the module that holds it, even when that is not one of torch's.
        is_leaf = module_class.startswith("torch.nn.") or (traits is not None and traits.is_layer)
        if traits is not None and traits.is_quantizer:
            is_leaf = False  # quantizers were put into the graph, with the metadata of a neighbour
        base = path if path and is_leaf else f"{path}.{op}" if path else op
        return self.unique(base)

    def unique(self, base: str) -> str:
        """``base``, with a number behind it where the name is taken."""
        name, count = base, self._next.get(base, 1)
        while name in self._taken:
            name, count = f"{base}_{count}", count + 1
        self._next[base] = count
        self._taken.add(name)
        return name


def module_of(node: Node) -> tuple[str, str]:
    """Qualified name and class of the innermost module that ran the node; ("", "") where torch left none."""
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "", ""
    path, module_class = list(stack.values())[-1]
    if path.startswith("_empty_nn_module_stack"):
        return "", ""
    class_name = module_class if isinstance(module_class, str) else f"{module_class.__module__}.{module_class.__qualname__}"
    # A module called again is marked "name@1".
    return re.sub(r"@\d+", "", path), class_name


def source_line(node: Node) -> str:
    """``file:line`` of the innermost frame outside torch, or ""."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/" not in frame[0] and not frame[0].startswith("torch/")]
    return f"{own[-1][0]}:{own[-1][1]}" if own else ""
