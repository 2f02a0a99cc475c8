"""A view of a traced model for quantization: its layers by name, its ops by kind, and how to put constants into it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from pyqinfer.frontend.export import export_functional
from pyqinfer.frontend.naming import Namer

LAYER_OPS = frozenset({"conv2d", "linear"})
CLAMP_OPS = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min"})
POOL_OPS = frozenset({"avg_pool2d", "adaptive_avg_pool2d", "mean"})
# Their output holds elements of the input, so it shares the input's quantization parameters.
SHARING_OPS = frozenset({"max_pool2d", "view", "_unsafe_view", "reshape", "flatten", "squeeze"})
_IDENTITIES = frozenset({"clone", "alias", "detach", "contiguous", "dropout"})


@dataclass(frozen=True)
class Layer:
    """One conv or linear layer. ``weight``: float32, output channels on axis 0."""

    name: str
    op: str
    node: Node
    weight: Tensor


def op_name(node: Node) -> str:
    """ "conv2d" for aten.conv2d.default; "" for everything that is no aten op."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not schema.name.startswith("aten::"):
        return ""
    return str(schema.name).removeprefix("aten::")


def operand(node: Node, index: int = 0) -> Node:
    """Argument ``index``, which must be a tensor of the graph."""
    value = node.args[index]
    assert isinstance(value, Node)
    return value


def sole_user(node: Node) -> Node | None:
    """The only reader, if there is exactly one and it is an op."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_function" else None


class TracedModel:
    """A model in evaluation mode as a functional graph of aten ops. ``layers`` are in execution order."""

    def __init__(self, model: nn.Module, examples: tuple[Tensor, ...]) -> None:
        self.module = export_functional(model, examples)
        self.input_count = sum(node.op == "placeholder" for node in self.module.graph.nodes)
        for node in list(self.module.graph.nodes):
            if op_name(node) in _IDENTITIES:
                node.replace_all_uses_with(operand(node))
                self.module.graph.erase_node(node)

    @property
    def layers(self) -> list[Layer]:
        namer = Namer()
        layers = []
        for node in self.module.graph.nodes:
            op = op_name(node)
            if op in LAYER_OPS and isinstance(node.args[1], Node) and node.args[1].op == "get_attr":
                layers.append(Layer(namer.name(node, op), op, node, self.constant(node.args[1])))
        return layers

    def constant(self, node: Node) -> Tensor:
        """The tensor of a get_attr node."""
        value: Any = self.module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        assert isinstance(value, Tensor)
        return value.detach()

    def add_constant(self, name: str, tensor: Tensor, before: Node) -> Node:
        """Register a buffer (``name`` gets a number behind it if taken) and read it in front of ``before``."""
        base = name.replace(".", "_")
        unique, count = base, 1
        while hasattr(self.module, unique):
            unique, count = f"{base}_{count}", count + 1
        self.module.register_buffer(unique, tensor)
        with self.module.graph.inserting_before(before):
            return self.module.graph.get_attr(unique)

    def finish(self) -> GraphModule:
        """Drop what nothing reads any more, parameters included; the result's state_dict holds only what the graph uses."""
        graph = self.module.graph
        graph.eliminate_dead_code()
        used = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
        for name, _ in [*self.module.named_parameters(remove_duplicate=False), *self.module.named_buffers(remove_duplicate=False)]:
            if name not in used:
                owner_name, _, attribute = name.rpartition(".")
                delattr(self.module.get_submodule(owner_name), attribute)
        self.module.delete_all_unused_submodules()
        graph.lint()
        self.module.recompile()
        return self.module


def batches(calibration: Any, count: int) -> list[tuple[Tensor, ...]]:
    """Calibration batches as tuples of ``count`` model inputs. Raises TypeError or ValueError naming the batch at fault."""
    result = []
    for i, batch in enumerate(calibration):
        items = (batch,) if isinstance(batch, Tensor) else batch
        if not isinstance(items, (tuple, list)) or not all(isinstance(x, Tensor) for x in items[:count]):
            raise TypeError(f"calibration batch {i}: expected a tensor or a tuple of tensors, got {type(batch).__name__}")
        if len(items) < count:
            raise ValueError(f"calibration batch {i}: the model has {count} inputs, got {len(items)}")
        for x in items[:count]:
            if not torch.isfinite(x).all():
                raise ValueError(f"calibration batch {i}: holds NaN or infinity")
        result.append(tuple(items[:count]))
    if not result:
        raise ValueError("calibration: no batches")
    return result
