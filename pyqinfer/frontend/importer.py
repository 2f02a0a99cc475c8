"""Torch models to the IR: a model that is a graph is read as it is, a module is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer import ir
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import aten
from pyqinfer.frontend.export import INDEX_TYPES, check_examples
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler
from pyqinfer.frontend.sources.registry import SOURCES
from pyqinfer.frontend.tracing import trace
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant
from pyqinfer.names import unique_name

_ATEN: dict[str, Handler] = {f"aten::{op}": handler for op, handler in aten.HANDLERS.items()}
_HANDLERS = _ATEN | {op: handler for source in SOURCES for op, handler in source.handlers.items()}


def import_module(model: Any, example_inputs: Any = None, dynamic_batch: bool = True, dynamic_size: bool = False) -> ir.Graph:
    """The IR of a torch model.

    Args:
        model: ``nn.Module`` (exported here; modules that torch.export cannot read are exchanged for stand-ins meanwhile),
            ``ExportedProgram``, or a ``GraphModule`` of aten and quantized_decomposed ops.
        example_inputs: tuple of float32 CPU tensors; may be left out for an ExportedProgram and for a GraphModule that torch.export made.
        dynamic_batch: dimension 0 becomes a symbol where the model was traced with one.
        dynamic_size: dimensions 2 and 3 of inputs of rank 4 become symbols.

    Raises:
        TypeError: another kind of object (files are never opened). UnsupportedError: all ops that cannot be converted.
    """
    graphs = (source.graph_of(model) for source in SOURCES)
    graph = next((graph for graph in graphs if graph is not None), None)
    if graph is not None:
        examples = None if example_inputs is None else check_examples(example_inputs)
        return import_graph(graph, examples, dynamic_batch, dynamic_size)
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise TypeError("example_inputs: needed to trace an nn.Module, e.g. example_inputs=(torch.zeros(1, 3, 224, 224),)")
        examples = check_examples(example_inputs)
        return import_graph(trace(model, examples, dynamic_batch), examples, dynamic_batch, dynamic_size)
    raise TypeError(
        f"model: expected nn.Module, GraphModule or ExportedProgram, got {type(model).__name__}"
        " (model files can run code when they are opened: load them yourself and pass the module)"
    )


def _call_module(reader: GraphReader, node: Node, module: nn.Module, operands: Sequence[Any]) -> Any:
    for source in SOURCES:
        result = source.call_module(reader, node, module, operands)
        if result is not None:
            return result
    if "Observer" in type(module).__name__:
        raise NotSupportedHere("the model only observes: convert it (convert_pt2e) before it comes here")
    raise NotSupportedHere(f"a call of a {type(module).__name__}; only graphs of torch.export are read")


def _fold_weights(op: str, arguments: Arguments) -> QuantizedConstant | None:
    found = (source.fold_weights(op, arguments) for source in SOURCES)
    return next((weights for weights in found if weights is not None), None)


def import_graph(module: GraphModule, examples: tuple[Tensor, ...] | None, dynamic_batch: bool, dynamic_size: bool) -> ir.Graph:
    """The IR of a graph of aten ops and of those that sources have handlers for. Arguments and errors as in :func:`import_module`."""
    reader = GraphReader(module, _HANDLERS, _call_module, _fold_weights)
    symbols = _Symbols()
    inputs: list[ir.Value] = []
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    if examples is not None and len(examples) != len(placeholders):
        raise ValueError(f"example_inputs: the model has {len(placeholders)} inputs, got {len(examples)}")
    for i, node in enumerate(placeholders):
        shape = _input_shape(node, None if examples is None else examples[i], dynamic_size)
        dims = tuple(symbols.dim(d, axis, len(shape), dynamic_batch, dynamic_size) for axis, d in enumerate(shape))
        value = ir.Value(reader.namer.unique(str(node.target)), dims)
        value.indices = _is_indices(node, None if examples is None else examples[i])
        reader.env[node] = value
        inputs.append(value)
    values = reader.read_nodes()
    outputs = list(zip(_output_names(module, len(values)), values, strict=True))
    for name, value in outputs:
        _check_output(name, value)
    return ir.Graph(symbols.names, inputs, outputs, reader.nodes)


def _is_indices(node: Node, example: Tensor | None) -> bool:
    """Whether an input holds indices. Raises ValueError for a type that the engine does not take."""
    traced = node.meta.get("val")
    kind = traced.dtype if isinstance(traced, Tensor) else example.dtype if example is not None else torch.float32
    if kind not in (torch.float32, *INDEX_TYPES):
        raise ValueError(f"input {node.name!r}: expected float32, or int64 or int32 for indices, got {kind}")
    if example is not None and (example.dtype in INDEX_TYPES) != (kind in INDEX_TYPES):
        raise ValueError(f"input {node.name!r}: the graph expects {kind}, example_inputs has {example.dtype}")
    return kind in INDEX_TYPES


def _check_output(name: str, value: Any) -> None:
    if not isinstance(value, ir.Value):
        raise UnsupportedError(f"output {name!r} does not depend on the model's inputs")
    if value.producer is None:
        raise UnsupportedError(f"output {name!r} is the input {value.name!r} unchanged")
    if value.quant is not None:
        raise UnsupportedError(f"output {name!r} is integer codes: dequantize it in the model")


class _Symbols:
    """Names for the symbolic dimensions of the inputs: N for the batch, H and W for sizes, a number behind where there are several."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._by_key: dict[Any, str] = {}

    def dim(self, size: Any, axis: int, rank: int, dynamic_batch: bool, dynamic_size: bool) -> ir.Dim:
        letter = "N" if axis == 0 else "CHW"[axis - 1] if rank == 4 else "D"
        traced = isinstance(size, tuple)  # a traced size is a pair: the tracer's symbol and the example's size
        symbol, example = size if traced else (None, size)
        free_size = dynamic_size and rank == 4 and axis >= 2
        if not (traced and (axis > 0 or dynamic_batch)) and not free_size:
            return int(example)
        return self._name(symbol if traced else (axis, example), letter)

    def _name(self, key: Any, letter: str) -> str:
        if key not in self._by_key:
            self._by_key[key] = unique_name(letter, self.names.__contains__, separator="")
            self.names.append(self._by_key[key])
        return self._by_key[key]


def _input_shape(node: Node, example: Tensor | None, free_size: bool) -> list[Any]:
    """Sizes of an input: numbers, or (symbol, example size) where the graph was traced with a symbol."""
    traced: Any = node.meta.get("val")
    if not isinstance(traced, Tensor):
        if example is None:
            raise ValueError(f"input {node.name!r}: the graph does not say its shape; pass example_inputs")
        return list(example.shape)
    if example is not None and example.ndim != traced.ndim:
        raise ValueError(f"input {node.name!r}: the graph expects rank {traced.ndim}, example_inputs has {tuple(example.shape)}")
    shape: list[Any] = []
    sizes: list[Any] = list(traced.shape)
    for axis, size in enumerate(sizes):
        hint = example.shape[axis] if example is not None else None
        if not is_concrete_int(size):
            shape.append((str(size), 1 if hint is None else hint))
        elif hint is not None and hint != size and not (free_size and len(sizes) == 4 and axis >= 2):
            raise ValueError(f"input {node.name!r}: the graph fixes dimension {axis} to {size}, example_inputs has {hint}")
        else:
            shape.append(int(size))
    return shape


def _output_names(module: GraphModule, count: int) -> list[str]:
    """Names of the outputs: the keys where the model returns a dict, else "output" or "output_0", "output_1", ..."""
    spec = getattr(module, "_out_spec", None)
    keys = getattr(spec, "context", None) if spec is not None and getattr(spec, "type", None) is dict else None
    if keys is not None and len(keys) == count:
        return [str(key) for key in keys]
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
