"""Walks an FX graph of torch operators and builds the IR. What an operator means is said by its handler, in ``aten`` or ``sources``."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.utils._pytree import tree_leaves, tree_map

from pyqinfer import ir
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.call import (
    SAME_TENSOR,
    VIEWS,
    Arguments,
    all_constant,
    computes_sizes,
    has_no_tensor,
    keeps_value,
    parse_target,
    schema_call,
    unnamed,
)
from pyqinfer.frontend.naming import Namer, attribute_of, source_line
from pyqinfer.frontend.values import Absent, Complex, NotSupportedHere, Places, QuantizedConstant, RuntimeQuantized, SymbolicSize
from pyqinfer.ops import OPS
from pyqinfer.terms import Condition

# Given a node and its arguments by schema name: appends IR nodes, returns what the node stands for.
Handler = Callable[["GraphReader", Node, Arguments], Any]
# Given an op of constants by name and arguments: the quantized weights that it makes, or None.
WeightFolder = Callable[[str, Arguments], QuantizedConstant | None]
# Given a node that calls a submodule, that module and its operands: what the node stands for, or None for a module it does not know.
ModuleHandler = Callable[["GraphReader", Node, torch.nn.Module, Sequence[Any]], Any]

IGNORED = frozenset({"_assert_tensor_metadata", "_assert_scalar", "_assert_async", "sym_constrain_range", "sym_constrain_range_for_size"})
# Ops that leave tensors without elements out.
_JOINS = frozenset({"cat", "concat", "concatenate"})
# Ops that make quantized weights of constants. Evaluating them would leave a float tensor and lose the codes.
_MAKES_CODES = ("dequantize", "fake_quantize", "_fake_quantize", "fused_moving_avg_obs", "_fused_moving_avg_obs")


class GraphReader:
    """Reads one graph.

    Args:
        module: the graph.
        handlers: what builds the IR of an op, by its name with namespace and without overload ("aten::conv2d").
        call_module: what builds the IR of a call of a submodule.
        fold_weights: recognizes quantized weights in aten ops of constants; None: the op is evaluated as it stands.
    """

    def __init__(
        self,
        module: GraphModule,
        handlers: Mapping[str, Handler],
        call_module: ModuleHandler,
        fold_weights: WeightFolder,
    ) -> None:
        self.module = module
        self.fold_weights = fold_weights
        self.call_module = call_module
        self.handlers = handlers
        self.nodes: list[ir.Node] = []
        self.conditions: list[Condition] = []  # what must hold of open sizes for the handlers' nodes to be right
        self.dim_of: Callable[[Any], ir.Dim] = lambda size: size if isinstance(size, int) else None
        self.named: Callable[..., int | str] = unnamed
        self.namer = Namer()
        self.env: dict[Node, Any] = {}
        self.now = next(iter(module.graph.nodes))  # the node that is being read
        self.masks: dict[ir.Value, ir.Value] = {}  # truth values -> what attention adds for them, which all layers share
        self.rows: dict[ir.Value, ir.Value] = {}  # truth values -> whether each row holds any
        self._problems: list[str] = []
        self.composing = False  # whether nodes of an operation's own graph are read
        self._position = {node: i for i, node in enumerate(module.graph.nodes)}
        self._same: dict[Node, list[Node]] = defaultdict(list)  # root -> nodes that are that very tensor
        self._views: dict[Node, list[Node]] = defaultdict(list)  # root -> nodes that share its memory under another shape
        self._root: dict[Node, Node] = {}

    # -- what handlers call -------------------------------------------------------------------------------------------

    def emit(
        self,
        op: str,
        node: Node,
        inputs: Sequence[ir.Value],
        shape: ir.Shape,
        attrs: dict[str, ir.Attr] | None = None,
        constants: dict[str, ir.Constant] | None = None,
        quant: ir.Quant | None = None,
        name: str | None = None,
        integer: bool = False,
    ) -> ir.Value:
        """Append an IR node; returns its output. What moves elements gives the type that its first operand has."""
        assert OPS[op].from_frontend, op
        label = name or self.namer.name(node, op)
        if OPS[op].picks_elements and inputs:
            quant, integer = quant or inputs[0].quant, inputs[0].integer
        is_inner = self.composing or integer or quant == ir.TRUTH
        value = ir.Value(label, shape, quant, origin="" if is_inner else node.name, integer=integer)
        self.nodes.append(ir.Node(op, label, list(inputs), value, attrs or {}, constants or {}, source_line(node)))
        return value

    def tensor(self, operand: Any, what: str = "operand") -> ir.Value:
        """``operand``, which has to be a value of the graph: floats, integers or truth values."""
        if isinstance(operand, Places):
            return self._counted(operand)
        is_other = isinstance(operand, ir.Value) and (operand.integer or operand.quant == ir.TRUTH)
        return operand if is_other else self.activation(operand, what)

    def truth_of(self, node: Node, integers: ir.Value) -> ir.Value:
        """An input of truth values, which a file has as integers: those that are not 0 are true."""
        zero = np.zeros((1,) * len(integers.shape), np.int32)
        name = self.namer.unique(f"{integers.name}.truth")
        return self.emit("compare", node, [integers], integers.shape, {"function": "ne"}, {"other": zero}, ir.TRUTH, name)

    def _counted(self, places: Places) -> ir.Value:
        """The numbers themselves, as many as the inputs' dimension is long."""
        x = self.counted(places.dim, places.start, places.step)
        shape: ir.Shape = (*(1,) * places.axis, places.dim, *(1,) * (places.rank - places.axis - 1))
        return (
            x if places.rank == 1 else self.emit("reshape", self.now, [x], shape, {"shape": shape}, name=self.namer.unique("arange.shape"))
        )

    def counted(self, length: int | str, start: int | str, step: int) -> ir.Value:
        """The integers start, start + step, ..., as many as ``length`` says; both may be names of sizes."""
        inputs = [v for n, v in self.env.items() if n.op == "placeholder" and isinstance(v, ir.Value) and length in v.shape]
        if inputs and isinstance(length, str):
            like, axis = inputs[0], inputs[0].shape.index(length)
        else:
            one: dict[str, ir.Constant] = {"value": np.ones(1, np.int32)}
            like, axis = self.emit("constant", self.now, [], (1,), {}, one, name=self.namer.unique("arange.one"), integer=True), 0
            if length != 1:
                name = self.namer.unique("arange.length")
                like = self.emit("expand", self.now, [like], (length,), {"shape": (length,)}, name=name)
        attrs: dict[str, ir.Attr] = {"axis": axis, "start": start, "step": step}
        return self.emit("arange", self.now, [like], (length,), attrs, name=self.namer.unique("arange"), integer=True)

    def activation(self, operand: Any, what: str = "operand") -> ir.Value:
        """``operand``, which has to be a float32 value of the graph; ``what`` names it where it is refused."""
        if isinstance(operand, RuntimeQuantized):
            raise NotSupportedHere(f"its {what} is quantized with parameters computed from it at run time; only linear layers read that")
        if not isinstance(operand, ir.Value):
            raise NotSupportedHere(f"its {what} is a constant, not an activation")
        if operand.integer or operand.quant == ir.TRUTH:
            raise NotSupportedHere(f"its {what} is {'integers' if operand.integer else 'truth values'}, which this operation does not take")
        if operand.quant is not None:
            raise NotSupportedHere(f"its {what} is integer codes without a dequantize op in front")
        return operand

    def constant(self, operand: Any, what: str) -> np.ndarray[Any, Any]:
        """``operand``, which has to be a constant, as a float32 array; ``what`` names it where it is refused."""
        if isinstance(operand, QuantizedConstant):
            operand = operand.value
        if not isinstance(operand, Tensor):
            raise NotSupportedHere(f"its {what} is computed from the input, not a constant")
        array: np.ndarray[Any, Any] = operand.detach().to(torch.float32).contiguous().numpy().copy()
        if not np.isfinite(array).all():
            raise ValueError(f"{what}: holds NaN or infinity")
        return array

    def named_shape(self, node: Any) -> list[int | str] | None:
        """The shape of a node's tensor in numbers and names; None where torch's graph does not say it."""
        traced = node.meta.get("val") if isinstance(node, Node) else None
        return [self.named(size) for size in traced.shape] if isinstance(traced, Tensor) else None

    # -- the walk -----------------------------------------------------------------------------------------------------

    def read_nodes(self) -> list[Any]:
        """All nodes but the placeholders, which are in ``env`` already; returns the flat outputs.

        Raises UnsupportedError naming every op that cannot be converted.
        """
        outputs: list[Any] = []
        for node in self.module.graph.nodes:
            if node.op == "get_attr":
                self.env[node] = self._attribute(node)
            elif node.op == "call_function":
                self.env[node] = self.call(node)
            elif node.op == "output":
                outputs = self._outputs(node)
            elif node.op == "call_module" and node.target != "_guards_fn":
                self.env[node] = self._call_module(node)
            elif node.op == "call_method":
                self._problem(node, f"call_method {node.target}", "only graphs of torch.export are read")
                self.env[node] = self._unknown(node)
        if self._problems:
            lines = "".join(f"\n  - {problem}" for problem in self._problems)
            raise UnsupportedError(f"{len(self._problems)} operation(s) cannot be converted:{lines}")
        return outputs

    def call(self, node: Node) -> Any:
        """What a call of a function stands for; where it cannot be read, a stand-in, and a problem is noted."""
        self.now = node
        if node.target is operator.getitem:
            operand, index = node.args
            assert isinstance(operand, Node)
            assert isinstance(index, int)
            source = self.env[operand]
            if operand in self._root:  # a piece shares the memory of the tensor that was split
                self._root[node] = self._root[operand]
                self._views[self._root[node]].append(node)
            return source[index] if isinstance(source, (tuple, list)) else source
        if computes_sizes(node.target):
            return self._size_expression(node)
        namespace, op, in_place = parse_target(node.target)
        if op in IGNORED:
            return None
        if op == "copy" and in_place and self._writes_back_to_input(node):
            return map_arg(node.args[1], lambda n: self.env[n])
        self._track_alias(node, op, in_place)
        handler = self.handlers.get(f"{namespace}::{op}")
        arguments: Arguments = {}
        try:
            arguments = self._bind(node)
            if self._is_complex(node, arguments) and (handler := self.handlers.get(f"complex::{op}")) is None:
                raise NotSupportedHere("of complex numbers: no such operation in the engine")
            if op not in _JOINS and (absent := next((leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Absent)), None)):
                raise NotSupportedHere(f"reads {absent.what}")
            if in_place and all_constant(arguments):
                if not keeps_value(op, arguments) and self._is_read(node):
                    raise NotSupportedHere("changes a constant in place")
                return None
            if handler is None or all_constant(arguments):
                result = self._fold(node, arguments, namespace, op, handler)
            else:
                result = handler(self, node, arguments)
            if in_place:
                self._rebind(node, result)
            self._complete(node, result)
            return result
        except NotSupportedHere as reason:
            self._problem(node, f"{namespace}.{op}", str(reason))
        except ValueError as error:
            raise ValueError(f"layer {self.namer.name(node, op)!r} ({source_line(node) or 'unknown source'}): {error}") from None
        except TypeError:
            if not any(isinstance(leaf, SymbolicSize) for leaf in tree_leaves(arguments)):
                raise
            self._problem(node, f"{namespace}.{op}", "an argument that is computed from the inputs' sizes")
        except (ArithmeticError, LookupError):
            # Behind an unsupported op shapes may not be known: the list of what is unsupported says more.
            if not self._problems:
                raise
        return self._unknown(node)

    def _is_complex(self, node: Node, arguments: Arguments) -> bool:
        """Whether an op that is computed in a run reads or gives complex numbers."""
        given, reads = node.meta.get("val"), any(isinstance(leaf, Complex) for leaf in tree_leaves(arguments))
        return reads or (isinstance(given, Tensor) and given.is_complex() and not all_constant(arguments))

    def _call_module(self, node: Node) -> Any:
        module = self.module.get_submodule(str(node.target))
        try:
            return self.call_module(self, node, module, [map_arg(a, lambda n: self.env[n]) for a in node.args])
        except NotSupportedHere as reason:
            self._problem(node, f"call_module {node.target}", str(reason))
        except ValueError as error:
            raise ValueError(f"{node.target} ({type(module).__name__}): {error}") from None
        return self._unknown(node)

    def _is_read(self, node: Node) -> bool:
        """Whether anything but ``node`` itself reads the constant that it changes (BatchNorm counts its batches and never looks)."""
        target = node.args[0]
        if node.users or not isinstance(target, Node) or target.op != "get_attr":
            return True
        same = (n for n in self.module.graph.nodes if n.op == "get_attr" and n.target == target.target)
        return any(user is not node for constant in same for user in constant.users)

    def _writes_back_to_input(self, node: Node) -> bool:
        """Whether ``node`` copies a result back to an input that nothing reads afterwards, as torch.export writes for a model that changes
        its input in place. The engine leaves inputs as they are."""
        target = node.args[0]
        if not isinstance(target, Node) or target.op != "placeholder":
            return False
        return all(self._position[user] <= self._position[node] for user in target.users)

    def _bind(self, node: Node) -> Arguments:
        """Arguments by schema name, defaults filled in, nodes replaced by what they stand for."""
        return {name: map_arg(value, lambda n: self.env[n]) for name, value in self.named_arguments(node).items()}

    def named_arguments(self, node: Node) -> Arguments:
        """Arguments by schema name, defaults filled in, as torch's graph has them."""
        schema = getattr(node.target, "_schema", None)
        if schema is None:
            raise NotSupportedHere("not an aten operator")
        values = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        values.update(zip((a.name for a in schema.arguments), node.args, strict=False))
        values.update(node.kwargs)
        return values

    def _fold(self, node: Node, arguments: Arguments, namespace: str, op: str, handler: Handler | None) -> Any:
        """Evaluate an op of constants, or refuse it."""
        if not all_constant(arguments):
            raise NotSupportedHere("no such operation in the engine")
        if handler is not None and op.startswith(_MAKES_CODES):
            return handler(self, node, arguments)
        weights = self.fold_weights(op, arguments) if namespace == "aten" else None
        if weights is not None:
            return weights
        if namespace == "quantized_decomposed" or "dtype" in arguments or not has_no_tensor(arguments):
            plain = tree_map(lambda leaf: leaf.value if isinstance(leaf, QuantizedConstant) else leaf, arguments)
            with torch.no_grad():
                return node.target(**schema_call(node.target, plain))  # type: ignore[operator]
        raise NotSupportedHere("no such operation in the engine")

    def _size_expression(self, node: Node) -> Any:
        operands = map_arg(node.args, lambda n: self.env[n])
        kinds = {type(leaf) for leaf in tree_leaves(operands)}
        if kinds <= {int, float, bool}:
            return node.target(*operands)  # type: ignore[operator]
        if not kinds <= {int, float, bool, SymbolicSize}:
            self._problem(node, f"python.{getattr(node.target, '__name__', node.target)}", "only graphs of torch.export are read")
            return self._unknown(node)
        dim = self.dim_of(node.meta["val"]) if isinstance(node.meta.get("val"), torch.SymInt) else None
        return dim if isinstance(dim, int) else SymbolicSize(dim, node.meta.get("val"))

    def size(self, value: Any, more: int = 0) -> int | str:
        """A size ``value + more`` as a number, or as the name of a symbol or of what is computed from symbols."""
        if not isinstance(value, SymbolicSize):
            return int(value) + more
        if value.dim is not None and more == 0:
            return value.dim
        if not isinstance(value.traced, torch.SymInt):
            raise NotSupportedHere("a size that is computed from the input's in a way that is not known")
        return self.named(value.traced, more)

    def _complete(self, node: Node, result: Any) -> None:
        """Give dimensions that a handler could not tell the names that torch's graph says."""
        traced = node.meta.get("val")
        pairs = zip(result, traced, strict=False) if isinstance(result, list) and isinstance(traced, (list, tuple)) else [(result, traced)]
        for value, tensor in pairs:
            if (
                not isinstance(value, ir.Value)
                or not isinstance(tensor, Tensor)
                or None not in value.shape
                or tensor.ndim != len(value.shape)
            ):
                continue
            value.shape = tuple(self._name_or_none(size) if d is None else d for d, size in zip(value.shape, tensor.shape, strict=True))

    def _name_or_none(self, size: Any) -> ir.Dim:
        try:
            return self.named(size)
        except NotSupportedHere:
            return None

    def shape_of(self, node: Node) -> ir.Shape | None:
        """The shape of a node's tensor as torch's graph has it, None for a dimension that is computed from symbols."""
        traced = node.meta.get("val")
        return tuple(self.dim_of(size) for size in traced.shape) if isinstance(traced, Tensor) else None

    def _attribute(self, node: Node) -> Any:
        found = attribute_of(self.module, node)
        return found.detach() if isinstance(found, Tensor) else found

    def _outputs(self, node: Node) -> list[Any]:
        flat: list[Any] = []
        map_arg(node.args[0], lambda n: flat.append(self.env[n]))
        return flat

    def _unknown(self, node: Node) -> ir.Value | Complex:
        """A stand-in for the output of an unsupported op, so that the walk can list the others."""
        meta = node.meta.get("val")
        shape = tuple(d if isinstance(d, int) else None for d in meta.shape) if isinstance(meta, Tensor) else ()
        if isinstance(meta, Tensor) and meta.is_complex():
            return Complex(ir.Value(f"{node.name}.real", shape), ir.Value(f"{node.name}.imag", shape))
        return ir.Value(node.name, shape)

    def _problem(self, node: Node, op: str, reason: str) -> None:
        name, line = self.namer.name(node, op.rpartition(".")[2]), source_line(node)
        self._problems.append(f"{name}: {op}: {reason}" + (f" ({line})" if line else ""))

    # -- in-place ops: later readers of the same tensor see the new value ----------------------------------------------

    def _track_alias(self, node: Node, op: str, in_place: bool) -> None:
        base = node.args[0] if node.args and isinstance(node.args[0], Node) else None
        if base is None or not (in_place or op in VIEWS or op in SAME_TENSOR):
            return
        root = self._root.get(base, base)
        self._root[node] = root
        if not self._same[root]:
            self._same[root].append(root)
        (self._views if op in VIEWS else self._same)[root].append(node)

    def _rebind(self, node: Node, result: Any) -> None:
        root = self._root[node]
        now = self._position[node]
        for view in self._views[root]:
            if any(self._position[user] > now for user in view.users) or view is node.args[0]:
                raise NotSupportedHere("changes a tensor in place that is also read through a view; use the out-of-place op")
        for alias in self._same[root]:
            self.env[alias] = result
