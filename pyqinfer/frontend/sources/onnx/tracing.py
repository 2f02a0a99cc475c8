"""Exports the module of an ONNX graph with the sizes open that its file leaves open."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram, ShapesCollection

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend.export import evaluation_mode, sizes_are_sizes
from pyqinfer.frontend.sources.onnx.module import OnnxModule


def export_module(model: OnnxModule) -> ExportedProgram:
    """The module's program: with all open sizes of the file open if it can be traced so, else the batch, else none.

    Raises:
        UnsupportedError: what cannot be traced.
    """
    examples = model.examples if model.examples is not None else model.example_inputs()
    everything = [{axis for axis, dim in enumerate(port.shape or ()) if not isinstance(dim, int)} for port in model.inputs]
    attempts: list[list[set[int]]] = [everything, [axes & {0} for axes in everything], [set() for _ in everything]]
    problem: Exception | None = None
    with evaluation_mode(model), torch.no_grad():
        for number, axes in enumerate(attempts):
            if number and axes == attempts[number - 1]:
                continue
            try:
                return _without_lines(_exported(model, examples, axes))
            except Exception as error:  # torch raises many types here
                problem = error
    if isinstance(problem, (UnsupportedError, ValueError)):
        raise problem
    raise UnsupportedError(f"the graph cannot be run in torch: {str(problem).splitlines()[0] if str(problem) else problem!r}") from problem


def _exported(model: OnnxModule, examples: tuple[Tensor, ...], axes: list[set[int]]) -> ExportedProgram:
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    # torch takes a size of 1 for one that is always 1.
    larger = tuple(_doubled(x, open_axes) for x, open_axes in zip(examples, axes, strict=True))
    for x, open_axes in zip(larger, axes, strict=True):
        shapes[x] = dict.fromkeys(open_axes, Dim.AUTO)
    if not any(axes):
        return torch.export.export(model, examples)
    with sizes_are_sizes():
        return torch.export.export(model, larger, dynamic_shapes=shapes)


def _doubled(x: Tensor, axes: set[int]) -> Tensor:
    for axis in axes:
        if axis < x.ndim and x.shape[axis] == 1:
            x = torch.cat([x, x], axis)
    return x


def _without_lines(program: ExportedProgram) -> ExportedProgram:
    """The program without source lines, which would be those of this package."""
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program
