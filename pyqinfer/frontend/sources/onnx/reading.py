"""Opens an ONNX file: sizes and counts are held against limits before anything is allocated, and nothing in the file is run or followed.

Data in other files is read only where the caller asks for it, and only from regular files below the model's own folder.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pyqinfer.errors import ModelFormatError, UnsupportedError
from pyqinfer.frontend.sources.onnx.graph import Dim, Initializer, OnnxGraph, Operation, Port
from pyqinfer.frontend.sources.onnx.values import INTEGERS, Array

try:
    import onnx
except ImportError as error:
    raise ImportError("ONNX files need the onnx package: pip install 'pyqinfer[onnx]'") from error

_MOST_BYTES = 1 << 31  # what protobuf takes
_MOST_NODES, _MOST_TENSORS, _MOST_NAMES = 1 << 16, 1 << 16, 1 << 20
_MOST_RANK, _MOST_ELEMENTS = 8, 1 << 31
_OLDEST = 7  # operator set of 2018
_FLOATS = frozenset({"float", "float16", "bfloat16", "double"})


def read_file(path: str | os.PathLike[str], external_data: bool = False) -> OnnxGraph:
    """The graph of a file.

    Args:
        path: a regular file.
        external_data: whether constants that lie in other files, below the model's folder, are read.

    Raises:
        OSError: the file cannot be read. ModelFormatError: it is no valid ONNX model. UnsupportedError: it is beyond a limit, or holds what
        is not read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise UnsupportedError(f"{path}: {path.stat().st_size} bytes; an ONNX file has at most {_MOST_BYTES} (constants may lie beside it)")
    return read_bytes(path.read_bytes(), path.parent if external_data else None)


def read_bytes(data: bytes, folder: Path | None = None) -> OnnxGraph:
    """The graph of a file's contents. ``folder``: where constants of other files are read from; None: nowhere. Errors as in read_file."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception as error:  # protobuf's own classes differ between its implementations
        raise ModelFormatError(f"not an ONNX model: {error}") from None
    if not model.HasField("graph") or not model.opset_import:
        raise ModelFormatError("not an ONNX model: it has no graph, or does not say its operator set")
    _check_counts(model)
    _check_names(model)
    model = _inlined(model)
    for tensor in _tensors(model):
        _check_tensor(tensor)
    try:
        onnx.checker.check_model(_without_data(model))
    except onnx.checker.ValidationError as error:
        raise ModelFormatError(f"not a valid ONNX model: {str(error).splitlines()[0]}") from None
    except (UnicodeDecodeError, ValueError, RuntimeError) as error:
        raise ModelFormatError(f"not a valid ONNX model: {error}") from None
    return _Reader(model, folder).graph()


def _check_counts(model: Any) -> None:
    graph = model.graph
    functions = sum(len(function.node) for function in model.functions)
    for what, count, most in (
        ("nodes", len(graph.node) + functions, _MOST_NODES),
        ("constants", len(graph.initializer) + len(graph.sparse_initializer), _MOST_TENSORS),
        ("names", sum(len(node.input) + len(node.output) + len(node.attribute) for node in graph.node), _MOST_NAMES),
    ):
        if count > most:
            raise UnsupportedError(f"the model has {count} {what}; at most {most} are read")
    if graph.sparse_initializer:
        raise UnsupportedError(f"sparse constants ({graph.sparse_initializer[0].values.name}): store them dense")
    versions = {opset.domain or "ai.onnx": opset.version for opset in model.opset_import}
    newest = onnx.defs.onnx_opset_version()
    if not _OLDEST <= versions.get("ai.onnx", _OLDEST) <= newest:
        raise UnsupportedError(
            f"operator set {versions['ai.onnx']}; {_OLDEST} to {newest} are read (onnx.version_converter changes a file's)"
        )


def _check_names(model: Any) -> None:
    """Refuse names that are no text, which protobuf gives as bytes."""
    graph = model.graph
    names = [name for node in graph.node for name in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    names += [attribute.name for node in graph.node for attribute in node.attribute]
    names += [tensor.name for tensor in graph.initializer]
    for port in (*graph.input, *graph.output):
        names += [port.name, *(dim.dim_param for dim in port.type.tensor_type.shape.dim)]
    if not all(isinstance(name, str) for name in names):
        raise ModelFormatError("not a valid ONNX model: a name in it is no UTF-8 text")


def _inlined(model: Any) -> Any:
    """The model with the functions that it defines written out, as far as that does not make it larger than the limits."""
    if not model.functions:
        return model
    functions = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(nodes: Any, depth: int) -> int:
        if depth > 64:
            raise UnsupportedError("functions that call one another more than 64 deep")
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type)
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, depth + 1)
            total += sizes.get(key, 1)
        return min(total, _MOST_NODES + 1)

    if size(model.graph.node, 0) > _MOST_NODES:
        raise UnsupportedError(f"the model has more than {_MOST_NODES} nodes once its functions are written out")
    from onnx import inliner

    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # a C++ error of the inliner has no class of its own
        raise ModelFormatError(f"not a valid ONNX model: its functions cannot be written out: {error}") from None


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) or attribute.graphs or attribute.HasField("g"):
                raise UnsupportedError(f"{node.name or node.op_type}: a subgraph ({node.op_type}), which the engine does not run")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _kind(data_type: int) -> str:
    try:
        return str(onnx.TensorProto.DataType.Name(data_type)).lower()
    except ValueError:
        raise ModelFormatError(f"not a valid ONNX model: element type {data_type}") from None


def _check_tensor(tensor: Any) -> None:
    """Hold a constant's sizes against the limits and against the data that is there."""
    name, dims, kind = tensor.name or "a constant", list(tensor.dims), _kind(tensor.data_type)
    if len(dims) > _MOST_RANK or any(dim < 0 for dim in dims) or prod(dims) > _MOST_ELEMENTS:
        raise UnsupportedError(f"{name}: shape {dims}; at most {_MOST_RANK} dimensions and {_MOST_ELEMENTS} elements are read")
    if kind not in _FLOATS | set(INTEGERS) | {"bool"}:
        raise UnsupportedError(f"{name}: constants of type {kind}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return
    size, count = _stored_bytes(kind, prod(dims)), prod(dims)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise ModelFormatError(f"{name}: {len(tensor.raw_data)} bytes of data; shape {dims} of {kind} has {size}")
        return
    stored = _typed_field(tensor, kind)
    wanted = -(-count * _bits(kind) // 8) if _bits(kind) < 8 else count
    if len(stored) != wanted:
        raise ModelFormatError(f"{name}: {len(stored)} numbers; shape {dims} of {kind} has {wanted}")


def _bits(kind: str) -> int:
    return 8 if kind == "bool" else {"float": 32, "double": 64, "float16": 16, "bfloat16": 16}.get(kind) or int(kind.lstrip("uint"))


def _stored_bytes(kind: str, count: int) -> int:
    return -(-count * _bits(kind) // 8)


def _typed_field(tensor: Any, kind: str) -> Any:
    if kind in ("float", "double", "int64"):
        return {"float": tensor.float_data, "double": tensor.double_data, "int64": tensor.int64_data}[kind]
    return tensor.uint64_data if kind in ("uint32", "uint64") else tensor.int32_data


def _without_data(model: Any) -> Any:
    """The model for onnx's checker, which knows neither all types nor our limits: constants lose their data, which is checked already."""
    light = onnx.ModelProto()
    light.CopyFrom(model) if model.ByteSize() < 1 << 20 else _copy_light(model, light)
    for tensor in light.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(_empty_like(tensor))
    for node in light.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and attribute.t.data_location == onnx.TensorProto.EXTERNAL:
                attribute.t.CopyFrom(_empty_like(attribute.t))
    return light


def _copy_light(model: Any, light: Any) -> None:
    for field in ("ir_version", "producer_name"):
        setattr(light, field, getattr(model, field))
    light.opset_import.extend(model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.node.extend(model.graph.node)
    graph.initializer.extend(_empty_like(tensor) for tensor in model.graph.initializer)


def _empty_like(tensor: Any) -> Any:
    return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0], raw_data=b"")


class _Reader:
    """Turns a checked model into plain data."""

    def __init__(self, model: Any, folder: Path | None) -> None:
        self._model, self._folder = model, folder
        self._versions = {opset.domain if opset.domain != "ai.onnx" else "": opset.version for opset in model.opset_import}
        self._names: Counter[str] = Counter()

    def graph(self) -> OnnxGraph:
        graph = self._model.graph
        constants = {tensor.name: self._initializer(tensor) for tensor in graph.initializer}
        inputs = [self._port(value) for value in graph.input if value.name not in constants]
        known = set(constants) | {port.name for port in inputs} | {""}
        operations = []
        for node in graph.node:
            missing = next((name for name in node.input if name not in known), None)
            if missing is not None:
                raise ModelFormatError(f"{node.name or node.op_type}: reads {missing!r}, which nothing before it writes")
            known.update(node.output)
            operations.append(self._operation(node))
        outputs = [self._port(value) for value in graph.output]
        lost = next((port.name for port in outputs if port.name not in known), None)
        if lost is not None or not outputs:
            raise ModelFormatError(f"output {lost!r} is written by nothing" if lost is not None else "the graph has no outputs")
        return OnnxGraph(operations, constants, inputs, outputs)

    def _operation(self, node: Any) -> Operation:
        domain = "" if node.domain == "ai.onnx" else node.domain
        base = node.name or (node.output[0] if node.output else "") or node.op_type
        self._names[base] += 1
        name = base if self._names[base] == 1 else f"{base}_{self._names[base]}"
        attributes = {attribute.name: self._attribute(attribute) for attribute in node.attribute}
        return Operation(name, domain, node.op_type, self._versions.get(domain, 1), list(node.input), list(node.output), attributes)

    def _attribute(self, attribute: Any) -> Any:
        kinds = onnx.AttributeProto
        if attribute.type == kinds.TENSOR:
            return self._initializer(attribute.t)
        if attribute.type == kinds.STRING:
            return _text(attribute.s)
        if attribute.type == kinds.STRINGS:
            return [_text(item) for item in attribute.strings]
        if attribute.type in (kinds.FLOAT, kinds.INT):
            return attribute.f if attribute.type == kinds.FLOAT else attribute.i
        if attribute.type in (kinds.FLOATS, kinds.INTS):
            return list(attribute.floats if attribute.type == kinds.FLOATS else attribute.ints)
        raise UnsupportedError(f"attribute {attribute.name!r} of type {kinds.AttributeType.Name(attribute.type)}")

    def _port(self, value: Any) -> Port:
        if not value.type.HasField("tensor_type"):
            raise UnsupportedError(f"{value.name}: only tensors are read, not {value.type.WhichOneof('value')}")
        tensor = value.type.tensor_type
        shape: tuple[Dim, ...] | None = None
        if tensor.HasField("shape"):
            shape = tuple(_dim(value.name, dim) for dim in tensor.shape.dim)
            if len(shape) > _MOST_RANK:
                raise UnsupportedError(f"{value.name}: rank {len(shape)}; at most {_MOST_RANK} dimensions are read")
        return Port(value.name, _kind(tensor.elem_type), shape)

    def _initializer(self, tensor: Any) -> Initializer:
        kind = _kind(tensor.data_type)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor = self._from_other_file(tensor, kind)
        try:
            array: Array = onnx.numpy_helper.to_array(tensor)
        except Exception as error:  # whatever a tensor that is no tensor makes of it
            raise ModelFormatError(f"{tensor.name or 'a constant'}: {error}") from None
        return Initializer(_plain(array, kind), kind)

    def _from_other_file(self, tensor: Any, kind: str) -> Any:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if self._folder is None:
            raise UnsupportedError(f"{tensor.name}: its data lies in another file; external_data=True reads it")
        location = Path(entries.get("location", ""))
        folder = self._folder.resolve()
        target = (folder / location).resolve()
        if location.is_absolute() or not target.is_relative_to(folder) or not target.is_file():
            raise ModelFormatError(f"{tensor.name}: its data lies in {str(location)!r}, which is no file below the model's folder")
        size = _stored_bytes(kind, prod(tensor.dims))
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", size))
        except ValueError:
            raise ModelFormatError(f"{tensor.name}: offset or length of its data is no number") from None
        if length != size or offset < 0 or offset + size > target.stat().st_size:
            raise ModelFormatError(f"{tensor.name}: {length} bytes at {offset} of {str(location)!r}; its shape has {size} bytes")
        with target.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
        return onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=data)


def _plain(array: Array, kind: str) -> Array:
    """Numbers in a type of NumPy's: floats as float32 or float64, integers below 8 bits as int8 or uint8."""
    if kind in INTEGERS and array.dtype.kind not in "iu":
        return array.astype(np.uint8 if kind.startswith("u") else np.int8)
    if kind in ("float16", "bfloat16"):
        return array.astype(np.float32)
    return array


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ModelFormatError("not a valid ONNX model: an attribute is no text") from None


def _dim(name: str, dim: Any) -> Dim:
    if dim.HasField("dim_value"):
        if not 0 <= dim.dim_value < 1 << 31:
            raise ModelFormatError(f"{name}: a dimension of {dim.dim_value}")
        return int(dim.dim_value)
    return str(dim.dim_param) or None
