"""A view of a traced model for quantization: its layers by name, its ops by kind, and how to put constants into it."""

from __future__ import annotations

import copy
import math
import operator
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from pyqinfer.frontend import sizes_of_inputs
from pyqinfer.frontend.functional import export_functional
from pyqinfer.frontend.naming import Namer, attribute_of
from pyqinfer.names import unique_name
from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name
from pyqinfer.quantization.constants import fold_constants, use_linear_layers
from pyqinfer.quantization.grouped import split_transposed


@dataclass(frozen=True)
class Layer:
    """One conv or linear layer. ``weight``: float32, output channels on axis 0, which is ``axis`` of the weight in the graph."""

    name: str
    op: str
    node: Node
    weight: Tensor
    axis: int


def output_axis(node: Node, weight: Tensor) -> int | None:
    """The axis of a layer's weight in torch's order that has its output channels; None if channels of several groups share places there."""
    if not op_name(node).startswith("conv_transpose"):
        return 0
    groups = node.args[6] if len(node.args) > 6 else 1
    if groups == 1:
        return 1
    return 0 if groups == len(weight) and weight.shape[1] == 1 else None


def shared_source(node: Node) -> Node | None:
    """The tensor whose elements ``node`` moves, copies or picks; None if it does anything else."""
    if kind_of(node) is Kind.SHARE:
        return None if _pads_with_other_than_zero(node) else operand(node)
    if node.target is operator.getitem and kind_of(operand(node)) is Kind.SPLIT:
        return operand(operand(node))
    return None


def _pads_with_other_than_zero(node: Node) -> bool:
    """Whether a pad writes numbers that may have no code in the input's range; zero has one in every range."""
    if op_name(node) not in ("pad", "constant_pad_nd"):
        return False
    if -math.inf in node.args[2:] and all(op_name(user).startswith("max_pool") for user in node.users):
        return False  # the least code there is serves as well: a window has an element beside it that is not less
    return any(value not in (None, 0, 0.0, "constant", "reflect", "replicate", "circular") for value in node.args[2:])


def operand(node: Node, index: int = 0) -> Node:
    """Argument ``index``, which must be a tensor of the graph."""
    value = node.args[index]
    assert isinstance(value, Node)
    return value


def sole_user(node: Node) -> Node | None:
    """The only reader, if there is exactly one and it is an op."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].op == "call_function" else None


def readers_of_values(node: Node) -> list[Node]:
    """Who reads a quantized tensor. Nodes that read sizes or assert something keep the float tensor, which they were traced for."""
    return [user for user in node.users if op_name(user) != "sym_size" and not op_name(user).startswith("_assert")]


class TracedModel:
    """A model in evaluation mode as a functional graph of aten ops. ``layers`` are in execution order."""

    def __init__(self, model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True, dynamic_size: bool = False) -> None:
        self.module = export_functional(model, examples, dynamic_batch, dynamic_size)
        self.sizes = sizes_of_inputs(self.module, examples)
        self.input_count = sum(node.op == "placeholder" for node in self.module.graph.nodes)
        for node in list(self.module.graph.nodes):
            if kind_of(node) is Kind.IDENTITY:
                node.replace_all_uses_with(operand(node))
                self.module.graph.erase_node(node)
            elif op_name(node) in ("view", "_unsafe_view"):
                # A view was traced for its operand's strides, which a quantizer in front of it may change.
                node.target = torch.ops.aten.reshape.default
            elif op_name(node) == "copy_" and operand(node).op == "placeholder":
                # The model changes its input in place; the quantized graph leaves it as it is.
                node.replace_all_uses_with(operand(node, 1))
                self.module.graph.erase_node(node)
        fold_constants(self.module)
        use_linear_layers(self.module)
        split_transposed(self.module)

    def batches(self, calibration: Iterable[tuple[Tensor, ...]]) -> list[tuple[Tensor, ...]]:
        """Calibration batches in the sizes that the graph runs with.

        A batch of another size than those for which the graph is the model's is cut into batches of the examples' size, the last of which
        is filled up with its own samples.

        Raises:
            ValueError: a batch that does not fit or is not finite, by its number.
        """
        result: list[tuple[Tensor, ...]] = []
        for i, inputs in enumerate(calibration):
            if not all(torch.isfinite(x).all() for x in inputs):
                raise ValueError(f"calibration batch {i}: holds NaN or infinity")
            result += [inputs] if self.sizes.problem_of(inputs) is None else self._cut(inputs, f"calibration batch {i}")
        return result

    def _cut(self, inputs: tuple[Tensor, ...], where: str) -> list[tuple[Tensor, ...]]:
        size = self.sizes.examples[0][0] if self.sizes.examples[0] else 0
        rows = {x.shape[0] if x.ndim else 0 for x in inputs}
        pieces: list[tuple[Tensor, ...]] = []
        if size and len(rows) == 1 and 0 not in rows:
            count = rows.pop()
            starts = [torch.arange(start, start + size) % count for start in range(0, count, size)]
            pieces = [tuple(x[chosen] for x in inputs) for chosen in starts]
        if not pieces or self.sizes.problem_of(pieces[0]) is not None:
            raise ValueError(f"{where}: {self.sizes.problem_of(inputs)}")
        return pieces

    @property
    def fixed_batch(self) -> int | None:
        """The only batch the graph runs with; None if any will do."""
        for node in self.module.graph.nodes:
            if node.op == "placeholder" and isinstance(node.meta["val"], Tensor):
                shape = node.meta["val"].shape
                if not shape or isinstance(shape[0], int):
                    return int(shape[0]) if shape else 1
        return None

    @property
    def layers(self) -> list[Layer]:
        namer = Namer()
        layers = []
        for node in self.module.graph.nodes:
            if kind_of(node) is Kind.LAYER and isinstance(node.args[1], Node) and node.args[1].op == "get_attr":
                op = op_name(node)
                name, weight = namer.name(node, op), self.constant(node.args[1])
                axis = output_axis(node, weight)
                assert axis is not None  # grouped transposed convolutions were split
                layers.append(Layer(name, op, node, weight.transpose(0, 1) if axis == 1 else weight, axis))
        return layers

    def constant(self, node: Node) -> Tensor:
        """The tensor of a get_attr node."""
        value = attribute_of(self.module, node)
        assert isinstance(value, Tensor)
        return value.detach()

    def bias(self, layer: Layer) -> Tensor | None:
        """The layer's bias [channels]; None without one."""
        node = layer.node.args[2] if len(layer.node.args) > 2 else None
        return self.constant(node) if isinstance(node, Node) else None

    def replace_weight(self, layer: Layer, weight: Tensor) -> None:
        """Give a layer another float32 weight of the shape of ``layer.weight``, output channels on axis 0."""
        value = weight.transpose(0, 1).contiguous() if layer.axis == 1 else weight
        layer.node.update_arg(1, self.add_constant(f"{layer.name}.weight", value, layer.node))

    def replace_bias(self, layer: Layer, bias: Tensor) -> None:
        """Give a layer the bias [channels], whether it had one or not."""
        arguments = list(layer.node.args) + [None] * (3 - len(layer.node.args))
        arguments[2] = self.add_constant(f"{layer.name}.bias", bias, layer.node)
        layer.node.args = tuple(arguments)

    def copy(self, share_tensors: bool = False) -> TracedModel:
        """A copy of the graph; its nodes have the same names.

        Args:
            share_tensors: parameters and buffers stay the same tensors, which neither of the two may then change in place.
        """
        other = TracedModel.__new__(TracedModel)
        with warnings.catch_warnings():
            # torch 2.13 copies its own deprecated classes here: nothing that a user could mend.
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
            shared = {id(x): x for x in (*self.module.parameters(), *self.module.buffers())} if share_tensors else {}
            other.module, other.input_count, other.sizes = copy.deepcopy(self.module, shared), self.input_count, self.sizes
        return other

    def add_constant(self, name: str, tensor: Tensor, before: Node) -> Node:
        """Register a buffer (``name`` gets a number behind it if taken) and read it in front of ``before``."""
        unique = unique_name(name.replace(".", "_"), lambda taken: hasattr(self.module, taken))
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
