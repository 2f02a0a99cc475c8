"""ONNX files as torch modules that torch.export traces: shapes are computed while tracing, so that the rest of the package sees aten ops.

``reading`` opens a file within limits, ``graph`` has it as plain data, ``module`` runs it in torch by the rows of ``table``, which the
files of ``ops`` hold by family, and ``tracing`` exports it with the sizes open that the file leaves open.
"""

from __future__ import annotations

import sys
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.frontend.sources.onnx.lookup import read_look_up
from pyqinfer.frontend.sources.source import Source


def is_onnx(model: Any) -> bool:
    """Whether a model is the module of an ONNX file."""
    # Only who has such a module has loaded the files beside this one, and with them the onnx package.
    module = sys.modules.get(f"{__name__}.module")
    return module is not None and isinstance(model, module.OnnxModule)


def _graph_of(model: Any) -> ExportedProgram | None:
    """The exported program of a module that was made of an ONNX file; None for any other model."""
    if not is_onnx(model):
        return None
    from pyqinfer.frontend.sources.onnx.tracing import export_module

    return export_module(model)


def _refine(model: Any, graph: GraphModule) -> None:
    """Give the graph's inputs the names that they have in the file, which need not be names of Python's."""
    if is_onnx(model):
        placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        for node, port in zip(placeholders, model.inputs, strict=True):
            node.target = port.name


SOURCE = Source("onnx", graph_of=_graph_of, refine=_refine, handlers={"pyqinfer::look_up": read_look_up})
