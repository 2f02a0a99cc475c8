"""A whole graph as the bytes of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pyqinfer.onnx_export.builder import Builder
from pyqinfer.onnx_export.rows import ROWS


def to_onnx(graph: Mapping[str, Any], constants: Sequence[NDArray[Any]]) -> bytes:
    """An engine graph as an ONNX model.

    Args:
        graph: docs/format.md, "Graph". constants: logical arrays, one for each entry of its ``constants``.

    Raises:
        UnsupportedError: an op in a form that ONNX has no nodes for. ImportError: the onnx package is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("writing ONNX files needs the onnx package: pip install 'pyqinfer[onnx]'") from error
    b = Builder(graph, constants, onnx)
    kinds = {"f32": onnx.TensorProto.FLOAT, "u8": onnx.TensorProto.UINT8, "i32": onnx.TensorProto.INT32}
    inputs, outputs = [], []
    for port in graph["inputs"]:
        value, name = graph["values"][port["value"]], b.unique(port["name"])
        inputs.append(onnx.helper.make_tensor_value_info(name, kinds[value["dtype"]], _shape(value)))
        if value["dtype"] == "u8":
            b.store_codes(port["value"], name, False, name)
        else:
            b.set(port["value"], name, False)
    for port in graph["outputs"]:
        b.unique(port["name"])
    for node in graph["nodes"]:
        ROWS[node["op"]](b, node)
    for port in graph["outputs"]:
        value = graph["values"][port["value"]]
        source = b.codes(port["value"], False) if value["dtype"] == "u8" else b.get(port["value"], False)
        b.nodes.append(onnx.helper.make_node("Identity", [source], [port["name"]], name=f"{port['name']}.output"))
        outputs.append(onnx.helper.make_tensor_value_info(port["name"], kinds[value["dtype"]], _shape(value)))
    proto = onnx.helper.make_graph(b.nodes, "pyqinfer", inputs, outputs, b.initializers)
    imports = [onnx.helper.make_opsetid("", b.opset), *[onnx.helper.make_opsetid(domain, 1) for domain in sorted(b.domains)]]
    model = onnx.helper.make_model(proto, opset_imports=imports, ir_version=10, producer_name="pyqinfer")
    return bytes(model.SerializeToString())


def _shape(value: Mapping[str, Any]) -> list[Any]:
    return [d if d != "?" else None for d in value["shape"]]
