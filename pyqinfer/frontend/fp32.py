"""Modules and exported programs to the IR: torch.export, then the graph reader."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.frontend.export import check_examples, export_functional, functional_graph
from pyqinfer.frontend.pt2e import import_graph
from pyqinfer.ir import Graph


def import_module(model: Any, example_inputs: Any = None, dynamic_batch: bool = True, dynamic_size: bool = False) -> Graph:
    """The IR of a torch model.

    Args:
        model: ``nn.Module`` (exported here), ``ExportedProgram``, or a ``GraphModule`` of aten and quantized_decomposed ops.
        example_inputs: tuple of float32 CPU tensors; may be left out for an ExportedProgram and for a GraphModule that torch.export made.
        dynamic_batch: dimension 0 becomes a symbol where the model was traced with one.
        dynamic_size: dimensions 2 and 3 of inputs of rank 4 become symbols.

    Raises:
        TypeError: another kind of object (files are never opened). UnsupportedError: all ops that cannot be converted.
    """
    if isinstance(model, ExportedProgram):
        return import_graph(functional_graph(model), _examples_or_none(example_inputs), dynamic_batch, dynamic_size)
    if isinstance(model, GraphModule):
        return import_graph(model, _examples_or_none(example_inputs), dynamic_batch, dynamic_size)
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise TypeError("example_inputs: needed to trace an nn.Module, e.g. example_inputs=(torch.zeros(1, 3, 224, 224),)")
        examples = check_examples(example_inputs)
        return import_graph(export_functional(model, examples, dynamic_batch), examples, dynamic_batch, dynamic_size)
    raise TypeError(
        f"model: expected nn.Module, GraphModule or ExportedProgram, got {type(model).__name__}"
        " (model files can run code when they are opened: load them yourself and pass the module)"
    )


def _examples_or_none(example_inputs: Any) -> tuple[Tensor, ...] | None:
    return None if example_inputs is None else check_examples(example_inputs)
