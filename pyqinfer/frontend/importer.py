"""Torch models to the IR: a model that is a graph is read as it is, a module is traced."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer import ir
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import aten
from pyqinfer.frontend.aten.build import tensor_of
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.export import INTEGER_TYPES, check_examples
from pyqinfer.frontend.functional import functional_graph
from pyqinfer.frontend.guards import numbers_of
from pyqinfer.frontend.input_sizes import InputSizes
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.sources.registry import SOURCES
from pyqinfer.frontend.tracing import trace
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant

_ATEN: dict[str, Handler] = {f"aten::{op}": handler for op, handler in aten.HANDLERS.items()}
_ATEN |= {f"complex::{op}": handler for op, handler in aten.PAIRS.items()}
_HANDLERS = _ATEN | {op: handler for source in SOURCES for op, handler in source.handlers.items()}


def traced_graph(
    model: Any, example_inputs: Any = None, dynamic_batch: bool = True, dynamic_size: bool = False
) -> tuple[GraphModule, tuple[Tensor, ...] | None]:
    """The torch graph that is read for a model, and its example inputs, checked.

    Args:
        model: ``nn.Module`` (exported here; modules that torch.export cannot read are exchanged for stand-ins meanwhile),
            ``ExportedProgram``, or a ``GraphModule`` of aten and quantized_decomposed ops.
        example_inputs: tuple of float32 CPU tensors; may be left out for an ExportedProgram and for a GraphModule that torch.export made.
        dynamic_batch, dynamic_size: dimension 0, and heights, widths and lengths, are traced as symbols where the model allows it. A model
            that is a graph already has the sizes open that it was traced with.

    Raises:
        TypeError: another kind of object (files are never opened). UnsupportedError: all modules that cannot be traced.
    """
    graphs = (source.graph_of(model) for source in SOURCES)
    graph = next((graph for graph in graphs if graph is not None), None)
    examples = None if example_inputs is None else check_examples(example_inputs)
    if isinstance(graph, ExportedProgram):
        graph = functional_graph(graph)
    if graph is not None:
        if dynamic_size and not _has_open_sizes(graph):
            warnings.warn(
                "dynamic_size: the graph was traced for one size of its inputs, which stays as it is; trace it with open ones"
                " (pq.quantize(..., dynamic_size=True), or dynamic_shapes of torch.export)",
                stacklevel=3,
            )
        if isinstance(model, nn.Module):
            for source in SOURCES:
                source.refine(model, graph)
        return graph, examples
    if isinstance(model, nn.Module):
        if examples is None:
            raise TypeError("example_inputs: needed to trace an nn.Module, e.g. example_inputs=(torch.zeros(1, 3, 224, 224),)")
        return trace(model, examples, dynamic_batch, dynamic_size), examples
    raise TypeError(
        f"model: expected nn.Module, GraphModule or ExportedProgram, got {type(model).__name__}"
        " (model files can run code when they are opened: load them yourself and pass the module)"
    )


def _has_open_sizes(graph: GraphModule) -> bool:
    values = (node.meta.get("val") for node in graph.graph.nodes if node.op == "placeholder")
    shapes: list[list[Any]] = [list(value.shape) for value in values if isinstance(value, Tensor)]
    return any(not all(map(is_concrete_int, shape[1:])) for shape in shapes)


def import_module(model: Any, example_inputs: Any = None, dynamic_batch: bool = True, dynamic_size: bool = False) -> ir.Graph:
    """The IR of a torch model. Arguments and errors as in :func:`traced_graph` and :func:`import_graph`."""
    graph, examples = traced_graph(model, example_inputs, dynamic_batch, dynamic_size)
    return import_graph(graph, examples, dynamic_batch)


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


def import_graph(
    module: GraphModule, examples: tuple[Tensor, ...] | None, open_batch: bool = True, open_sizes: bool = True, shared: bool = False
) -> ir.Graph:
    """The IR of a graph of aten ops and of those that sources have handlers for.

    Args:
        module: the graph.
        examples: example inputs, for a graph whose placeholders do not say their shapes, and for the sizes that are fixed here.
        open_batch: dimension 0 of the inputs stays open where the graph was traced with a symbol; else it is that of the examples.
        open_sizes: the same for all other dimensions.
        shared: open sizes on one axis of several inputs that are equal in the examples are one size.

    Raises:
        UnsupportedError: all ops that cannot be converted. ValueError: examples that do not fit the graph.
    """
    reader = GraphReader(module, _HANDLERS, _call_module, _fold_weights)
    inputs: list[ir.Value] = []
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    sizes = sizes_of_inputs(module, examples, open_batch, open_sizes, shared)
    reader.dim_of, reader.named = sizes.dim_of, sizes.named
    for i, (node, shape) in enumerate(zip(placeholders, sizes.shapes, strict=True)):
        value = ir.Value(reader.namer.unique(str(node.target)), shape)
        value.integer = _is_integer(node, None if examples is None else examples[i])
        inputs.append(value)
        reader.env[node] = reader.truth_of(node, value) if _is_truth(node) else value
    values = reader.read_nodes()
    sizes.require(reader.conditions)
    outputs = [(name, _as_numbers(reader, value)) for name, value in zip(_output_names(module, len(values)), values, strict=True)]
    for name, value in outputs:
        _check_output(name, value)
    return ir.Graph(list(sizes.numbers), inputs, outputs, reader.nodes, sizes.conditions, sizes.computed)


def sizes_of_inputs(
    module: GraphModule, examples: tuple[Tensor, ...] | None, open_batch: bool = True, open_sizes: bool = True, shared: bool = False
) -> InputSizes:
    """The sizes of a graph's inputs. Arguments and errors as in :func:`import_graph`."""
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    if examples is not None and len(examples) != len(placeholders):
        raise ValueError(f"example_inputs: the model has {len(placeholders)} inputs, got {len(examples)}")
    shapes = [_input_shape(node, None if examples is None else examples[i]) for i, node in enumerate(placeholders)]
    return InputSizes(shapes, open_batch, open_sizes, shared)


def _is_truth(node: Node) -> bool:
    traced = node.meta.get("val")
    return isinstance(traced, Tensor) and traced.dtype == torch.bool


def _is_integer(node: Node, example: Tensor | None) -> bool:
    """Whether an input holds integers or truth values. Raises ValueError for a type that the engine does not take."""
    traced = node.meta.get("val")
    kind = traced.dtype if isinstance(traced, Tensor) else example.dtype if example is not None else torch.float32
    if kind not in (torch.float32, *INTEGER_TYPES):
        raise ValueError(f"input {node.name!r}: expected float32, or int64, int32 or bool, got {kind}")
    if example is not None and (example.dtype in INTEGER_TYPES) != (kind in INTEGER_TYPES):
        raise ValueError(f"input {node.name!r}: the graph expects {kind}, example_inputs has {example.dtype}")
    return kind in INTEGER_TYPES


def _as_numbers(reader: GraphReader, value: Any) -> Any:
    """An output, which is integers 0 and 1 where the model gives truth values, and a node of its own where it is a constant."""
    if isinstance(value, Tensor) and not value.is_complex():
        kept = value.to(torch.int64) if value.dtype == torch.bool else value
        return tensor_of(reader, reader.now, kept)
    if not isinstance(value, ir.Value) or value.quant != ir.TRUTH or value.producer is None:
        return value
    name = reader.namer.unique(f"{value.name}.number")
    return reader.emit("cast", reader.now, [value], value.shape, name=name, integer=True)


def _check_output(name: str, value: Any) -> None:
    if not isinstance(value, ir.Value):
        raise UnsupportedError(f"output {name!r} does not depend on the model's inputs")
    if value.producer is None:
        raise UnsupportedError(f"output {name!r} is the input {value.name!r} unchanged")
    if value.quant is not None:
        raise UnsupportedError(f"output {name!r} is integer codes: dequantize it in the model")


def _input_shape(node: Node, example: Tensor | None) -> list[tuple[Any, int]]:
    """Sizes of an input, each as the graph has it, a number or a symbol of torch's, and as the example has it."""
    traced: Any = node.meta.get("val")
    if not isinstance(traced, Tensor):
        if example is None:
            raise ValueError(f"input {node.name!r}: the graph does not say its shape; pass example_inputs")
        return [(size, size) for size in example.shape]
    if example is not None and example.ndim != traced.ndim:
        raise ValueError(f"input {node.name!r}: the graph expects rank {traced.ndim}, example_inputs has {tuple(example.shape)}")
    shape: list[tuple[Any, int]] = []
    sizes: list[Any] = list(traced.shape)
    numbers = numbers_of(traced.shape)
    for axis, size in enumerate(sizes):
        if not is_concrete_int(size):
            shape.append((size, numbers[axis] if example is None else example.shape[axis]))
        elif example is not None and example.shape[axis] != size:
            raise ValueError(f"input {node.name!r}: the graph fixes dimension {axis} to {size}, example_inputs has {example.shape[axis]}")
        else:
            shape.append((int(size), int(size)))
    return shape


def _output_names(module: GraphModule, count: int) -> list[str]:
    """Names of the outputs: the keys where the model returns a dict, else "output" or "output_0", "output_1", ..."""
    spec = getattr(module, "_out_spec", None)
    keys = getattr(spec, "context", None) if spec is not None and getattr(spec, "type", None) is dict else None
    if keys is not None and len(keys) == count:
        return [str(key) for key in keys]
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
