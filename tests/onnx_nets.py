"""ONNX networks that tests write by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pyqinfer.frontend.sources.onnx.module import OnnxModule
from pyqinfer.frontend.sources.onnx.reading import read_bytes

F = np.float32


def node(op: str, inputs: str, outputs: str, domain: str = "", **attributes: Any) -> Any:
    """A node whose inputs and outputs are words of a text; "-" is one that is left out."""
    names = [["" if name == "-" else name for name in text.split()] for text in (inputs, outputs)]
    return helper.make_node(op, *names, domain=domain, name=f"{op.lower()}_{names[1][0]}", **attributes)


def model(nodes: Sequence[Any], constants: dict[str, Any], shape: Sequence[Any], opset: int = 21, kind: int = TensorProto.FLOAT) -> Any:
    """A model with input x and output y."""
    tensors = [a if isinstance(a, TensorProto) else numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    for tensor, name in zip(tensors, constants, strict=True):
        tensor.name = name
    x, y = helper.make_tensor_value_info("x", kind, shape), helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M"])
    graph = helper.make_graph(list(nodes), "test", [x], [y], tensors)
    domains = sorted({n.domain for n in nodes} - {""})
    imports = [helper.make_opsetid("", opset), *[helper.make_opsetid(domain, 1) for domain in domains]]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def module(proto: Any) -> OnnxModule:
    return OnnxModule(read_bytes(proto.SerializeToString()))


def reference(proto: Any, x: Any) -> Any:
    return ReferenceEvaluator(proto).run(None, {"x": x})[0]


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(F)
