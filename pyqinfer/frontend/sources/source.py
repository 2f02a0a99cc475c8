"""What a source of models contributes to reading one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.frontend.reader import Handler, ModuleHandler, WeightFolder


def _nothing(*_: object) -> None:
    return None


@dataclass(frozen=True)
class Source:
    """One row of :data:`pyqinfer.frontend.sources.registry.SOURCES`.

    What a quantizer leaves in a model shows in one or two of these places. Every part has a default that leaves the model as it is, and a
    part that is given a model, module or op of another source returns None. A part raises NotSupportedHere for what it knows and cannot
    read, ValueError for parameters that mean nothing.

    Before a module is traced:
        plain: a model to trace in place of this one.
        stand_in: a module that computes the same in traceable ops, to be traced in place of this one.
        functions: torch functions, and what is traced in place of their calls.
    After it is traced:
        refine: changes the traced graph in place; it is given the model as well.
    In a graph:
        graph_of: the graph, or exported program, of a whole model in the source's form, which is read without being traced.
        handlers: what builds the IR of the source's ops, by names such as "quantized_decomposed::quantize_per_tensor".
        call_module: what builds the IR of a call of one of its submodules, in a graph that some ``graph_of`` takes.
        fold_weights: recognizes its weights in aten ops of constants.
    """

    name: str
    plain: Callable[[nn.Module], nn.Module | None] = _nothing
    stand_in: Callable[[nn.Module], nn.Module | None] = _nothing
    functions: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)
    refine: Callable[[nn.Module, GraphModule], None] = _nothing
    graph_of: Callable[[object], GraphModule | ExportedProgram | None] = _nothing
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    call_module: ModuleHandler = _nothing
    fold_weights: WeightFolder = _nothing
