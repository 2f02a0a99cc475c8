"""PT2E graphs to the IR: a GraphModule of aten ops with quantized_decomposed ops around them, from whatever quantizer."""

from __future__ import annotations

from typing import Any

import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer import ir
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import aten, dynamic, fake_quant, nncf, per_channel, quantized, torchao_ops
from pyqinfer.frontend.export import INDEX_TYPES
from pyqinfer.frontend.reader import GraphReader

_HANDLERS = {**per_channel.over(aten.HANDLERS), **quantized.HANDLERS, **fake_quant.HANDLERS, **dynamic.HANDLERS, **torchao_ops.HANDLERS}
_NAMESPACES = frozenset({"aten", "quantized_decomposed", "pyqinfer", "torchao"})


def import_graph(module: GraphModule, examples: tuple[Tensor, ...] | None, dynamic_batch: bool, dynamic_size: bool) -> ir.Graph:
    """The IR of a graph; see :func:`pyqinfer.frontend.import_module`."""
    reader = GraphReader(module, _HANDLERS, _NAMESPACES, fake_quant.call_module, nncf.fold)
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
        traced = isinstance(size, tuple)  # (the tracer's symbol, example size)
        symbol, example = size if traced else (None, size)
        free_size = dynamic_size and rank == 4 and axis >= 2
        if not (traced and (axis > 0 or dynamic_batch)) and not free_size:
            return int(example)
        return self._name(symbol if traced else (axis, example), letter)

    def _name(self, key: Any, letter: str) -> str:
        if key not in self._by_key:
            name, count = letter, 1
            while name in self.names:
                name, count = f"{letter}{count}", count + 1
            self.names.append(name)
            self._by_key[key] = name
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
    """Keys where the model returns a dict, else "output" or "output_0", "output_1", ..."""
    spec = getattr(module, "_out_spec", None)
    keys = getattr(spec, "context", None) if spec is not None and getattr(spec, "type", None) is dict else None
    if keys is not None and len(keys) == count:
        return [str(key) for key in keys]
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
