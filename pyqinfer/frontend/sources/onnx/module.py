"""An ONNX graph as a torch module: each operation is a submodule under its name, and runs by its row of the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.sources.onnx.call import Call, Handler, check_count, to_tensor
from pyqinfer.frontend.sources.onnx.graph import Initializer, OnnxGraph, Operation, Port
from pyqinfer.frontend.sources.onnx.ops.movement import MOVING_ROWS
from pyqinfer.frontend.sources.onnx.ops.sizes import objects
from pyqinfer.frontend.sources.onnx.table import REFUSED, TABLE
from pyqinfer.frontend.sources.onnx.values import Codes, Const, Sizes, Value, as_tensor
from pyqinfer.frontend.values import NotSupportedHere

# Integers of 8 and 16 bits are inputs of int32.
_INPUT_TYPES = {
    **dict.fromkeys(("float", "float16", "bfloat16"), torch.float32),
    **dict.fromkeys(("uint8", "int8", "uint16", "int16", "int32"), torch.int32),
    "int64": torch.int64,
    "bool": torch.bool,
}
_KINDS = {torch.float32: "float", torch.int64: "int64", torch.int32: "int32", torch.int8: "int8", torch.uint8: "uint8", torch.bool: "bool"}
_NARROW = frozenset({"uint8", "int8", "uint16", "int16"})
# Operators that read such numbers as they are, and those that give some of them again.
_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_READ_NARROW = _COMPARISONS | {"Cast", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "Shape", "Size", "ArgMax", "ArgMin"}
_KEEP_NARROW = frozenset({*MOVING_ROWS, "Identity", "Where", "Min", "Max", "Clip", "ReduceMax", "ReduceMin"})
# What an open dimension is in inputs that nobody gave, by its place in an input of rank 4, and in others.
_BATCH, _IMAGE, _LENGTH = 2, 64, 16
_MOST_INPUT = 1 << 26
_MOST_SIZES = 1 << 12


class OnnxModule(nn.Module):
    """Runs a graph; returns a dictionary of its outputs by name.

    Args:
        graph: what was read. Operations of constants are computed here, once.

    Raises:
        UnsupportedError: every operation that no row knows, and inputs of types that the engine does not take.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__()
        unknown = [f"{op.describe()}: {problem}" for op in graph.operations if (problem := _problem_of(op))]
        kinds = [f"input {port.name}: of type {port.kind}" for port in graph.inputs if port.kind not in _INPUT_TYPES]
        _refuse(unknown + kinds + _wrapping(graph))
        if not graph.inputs:
            raise UnsupportedError("the graph has no inputs")
        self.inputs, self.outputs = tuple(graph.inputs), tuple(graph.outputs)
        self.examples: tuple[Tensor, ...] | None = None
        self._plan: list[tuple[Operation, str]] = []
        self._constants: dict[str, tuple[Initializer, str]] = {}
        for name, initializer in graph.constants.items():
            self._keep(name, initializer)
        folded = FakeTensorMode()
        for operation in graph.operations:
            if not self._fold(operation, folded):
                self._plan.append((operation, self._add_node(operation)))

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        """Outputs by name, of inputs in the graph's order."""
        env: dict[str, Value] = {port.name: x for port, x in zip(self.inputs, inputs, strict=True)}
        env |= {name: self._constant(name) for name in self._constants}
        env[""] = None
        for operation, path in self._plan:
            results = self.get_submodule(path)(*[env[name] for name in operation.inputs])
            results = results if isinstance(results, tuple) else (results,)
            if len(results) < len([name for name in operation.outputs if name]):
                raise UnsupportedError(f"{operation.describe()}: its output {len(results)} ({operation.outputs[len(results)]})")
            env.update(zip(operation.outputs, results, strict=False))
        outputs = {}
        for port in self.outputs:
            try:
                value = env[port.name]
                y = value.numbers() if isinstance(value, Codes) else to_tensor(value)
                # The engine writes every output itself, one that is an input unchanged too.
                outputs[port.name] = y * 1.0 if any(y is x for x in inputs) and y.is_floating_point() else y
            except NotSupportedHere as reason:
                raise UnsupportedError(f"output {port.name!r}: {reason}") from None
        return outputs

    def example_inputs(self, seed: int = 0, shapes: Sequence[Sequence[int]] = ()) -> tuple[Tensor, ...]:
        """Random inputs of the shapes given, or those that the file states, with small sizes where it leaves them open.

        Raises:
            UnsupportedError: an input without a shape, or one too large to be made.
        """
        generator = torch.Generator().manual_seed(seed)
        named: dict[str, int] = {}
        given = [*shapes, *[None] * len(self.inputs)]
        ports = [port if shape is None else replace(port, shape=tuple(shape)) for port, shape in zip(self.inputs, given, strict=False)]
        return tuple(self._example(port, named, generator) for port in ports)

    def _example(self, port: Port, named: dict[str, int], generator: torch.Generator) -> Tensor:
        if port.shape is None:
            raise UnsupportedError(f"input {port.name!r} has no shape in the file: pass example_inputs")
        sizes = []
        for axis, dim in enumerate(port.shape):
            size = _BATCH if axis == 0 else _IMAGE if len(port.shape) == 4 and axis > 1 else _LENGTH
            sizes.append(dim if isinstance(dim, int) else size if dim is None else named.setdefault(dim, size))
        if np.prod([float(n) for n in sizes]) > _MOST_INPUT:
            raise UnsupportedError(f"input {port.name!r} of shape {sizes} has more than {_MOST_INPUT} elements")
        kind = _INPUT_TYPES[port.kind]
        # Small numbers are in the range of any table that they index.
        return (
            torch.randn(sizes, generator=generator)
            if kind == torch.float32
            else torch.randint(0, 2, sizes, generator=generator, dtype=kind)
        )

    def _keep(self, name: str, initializer: Initializer) -> None:
        buffer = f"constant_{len(self._constants)}"
        self.register_buffer(buffer, as_tensor(initializer.array))
        self._constants[name] = (initializer, buffer)

    def _constant(self, name: str) -> Const:
        initializer, buffer = self._constants[name]
        return Const(initializer.array, initializer.kind, self.get_buffer(buffer))

    def _fold(self, operation: Operation, mode: FakeTensorMode) -> bool:
        """Whether the operation has constants only and its results became constants."""
        if not all(name in self._constants or not name for name in operation.inputs):
            return False
        constants = [self._constant(name) if name else None for name in operation.inputs]
        with mode, torch.no_grad():
            fakes = [c and Const(c.array, c.kind, mode.from_tensor(c.tensor)) for c in constants]
            for result in _results(operation, fakes):
                if isinstance(result, Tensor):
                    check_count(result.shape)
                elif not isinstance(result, Initializer):
                    return False
        with torch.no_grad():
            for name, result in zip(operation.outputs, _results(operation, constants), strict=False):
                if isinstance(result, Tensor):
                    result = Initializer(result.detach().contiguous().numpy().copy(), _KINDS.get(result.dtype, "int64"))
                if name:
                    self._keep(name, result)
        return True

    def _add_node(self, operation: Operation) -> str:
        """Put the operation's module under a path made of its name; returns the path."""
        parts = [re.sub(r"\W", "_", part) for part in re.split(r"[./:]+", operation.name) if part] or [operation.op]
        parent: nn.Module = self
        path = ""
        for part in parts[:-1]:
            name = _free(parent, part)
            if name not in parent._modules:
                parent.add_module(name, nn.Module())
            parent = parent.get_submodule(name)
            path += f"{name}."
        last = _free(parent, parts[-1])
        while last in parent._modules:
            last += "_"
        parent.add_module(last, OnnxNode(operation))
        return path + last


class OnnxNode(nn.Module):
    """One operation."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *operands: Value) -> Any:
        """What the operation's outputs stand for. Sizes that are numbers are computed with at once, whatever the operation."""
        if any(isinstance(value, Sizes) for value in operands):
            known = [_known(value) for value in operands]
            if all(found is not None or value is None for found, value in zip(known, operands, strict=True)):
                return _of_numbers(self.operation, known)
        result = _run(self.operation, operands)
        return _as_value(result) if isinstance(result, Initializer) else result


def _known(value: Value) -> Initializer | None:
    """A constant, or sizes that are all numbers; None for anything else."""
    if isinstance(value, Const):
        return Initializer(value.array, value.kind)
    if isinstance(value, Sizes) and all(isinstance(number, (int, float)) for number in value.array.reshape(-1)):
        truths = value.array.size and all(isinstance(number, bool) for number in value.array.reshape(-1))
        return Initializer(np.array(value.array.tolist()).astype(bool if truths else np.int64), "bool" if truths else "int64")
    return None


def _of_numbers(operation: Operation, operands: Sequence[Initializer | None]) -> Any:
    """The results of an operation of numbers alone, computed beside the trace."""
    with unset_fake_temporarily(), disable_proxy_modes_tracing(), torch.no_grad():
        constants = [known and Const(known.array, known.kind, as_tensor(known.array)) for known in operands]
        results = [_plain(result) for result in _results(operation, constants)]
    values = [_as_value(result) for result in results]
    return tuple(values) if len(values) > 1 else values[0]


def _plain(result: Any) -> Any:
    if not isinstance(result, Tensor):
        return result
    check_count(result.shape)
    return Initializer(result.numpy(), _KINDS.get(result.dtype, "int64"))


def _as_value(result: Any) -> Value:
    """Integers and truth values stay sizes, so that what follows computes with them at once too; codes and floats are constants."""
    if not isinstance(result, Initializer):
        return result
    array, kind = result.array, result.kind
    if kind in ("int64", "bool") and array.size <= _MOST_SIZES:
        return Sizes(objects(array.reshape(-1).tolist(), array.shape))
    return Const(array, kind, torch.tensor(array.tolist(), dtype=as_tensor(array.reshape(-1)[:0]).dtype).reshape(array.shape))


def _run(operation: Operation, operands: Any) -> Any:
    """What the operation's row gives. Raises UnsupportedError that names the operation."""
    call = Call(operation, operands)
    try:
        result = _handler(operation)(call)
        unread = call.unread()
        if not unread:
            return result
        problem = f"attribute {unread[0]} = {operation.attributes[unread[0]]}"
    except NotSupportedHere as reason:
        problem = str(reason)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError, AttributeError) as error:
        problem = f"its operands or attributes do not fit one another ({_first_line(error)})"
    _refuse([f"{operation.describe()}: {problem}"])
    return None


def _results(operation: Operation, operands: Any) -> tuple[Any, ...]:
    """What an operation of constants gives."""
    try:
        results = _run(operation, operands)
        return results if isinstance(results, tuple) else (results,)
    except UnsupportedError:
        raise
    except RuntimeError as error:  # what torch raises for shapes that do not fit
        problem = _first_line(error)
    _refuse([f"{operation.describe()}: its operands do not fit one another ({problem})"])
    return ()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)


def _handler(operation: Operation) -> Handler:
    return TABLE[(operation.domain, operation.op)]


def _problem_of(operation: Operation) -> str:
    key = (operation.domain, operation.op)
    return "" if key in TABLE else REFUSED.get(key, "no such operation in the engine")


def _wrapping(graph: OnnxGraph) -> list[str]:
    """Operations whose results may leave the 8 or 16 bits of the inputs that they read, where ONNX's numbers begin again."""
    narrow = {port.name: port.kind for port in graph.inputs if port.kind in _NARROW}
    problems = []
    for operation in graph.operations:
        found = next((narrow[name] for name in operation.inputs if name in narrow), None)
        if found is None or operation.op in _READ_NARROW:
            continue
        if operation.op not in _KEEP_NARROW:
            problems.append(f"{operation.describe()}: arithmetic in {found}; put a Cast in front")
        narrow |= dict.fromkeys(operation.outputs, found)
    return problems


def _refuse(problems: list[str]) -> None:
    if problems:
        lines = "".join(f"\n  - {problem}" for problem in problems)
        raise UnsupportedError(f"{len(problems)} operation(s) cannot be converted:{lines}")


def _free(parent: nn.Module, name: str) -> str:
    """``name``, changed where torch's modules have something else under it."""
    while hasattr(parent, name) and name not in parent._modules:
        name += "_"
    return name
