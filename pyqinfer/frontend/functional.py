"""Exported programs as functional graphs of ops that can be read: what no handler knows is taken apart by torch's own decompositions."""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.frontend import aten
from pyqinfer.frontend.direct import direct_graph, module_of
from pyqinfer.frontend.export import export_program, sizes_are_sizes
from pyqinfer.frontend.reader import IGNORED
from pyqinfer.frontend.recurrent import unroll
from pyqinfer.frontend.sources.registry import SOURCES

# Recurrent layers: their decompositions unroll them over the steps of the sequence, so torch has them in no default table.
_UNROLLED = ("lstm", "gru", "rnn_tanh", "rnn_relu")


def export_functional(
    model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True, dynamic_size: bool = False
) -> GraphModule:
    """The module's graph in evaluation mode: functional aten ops, parameters as get_attr, module names in ``nn_module_stack``.

    Arguments, errors and warnings as in :func:`~pyqinfer.frontend.export.export_program`.
    """
    return functional_graph(export_program(model, examples, dynamic_batch, dynamic_size))


def functional_graph(program: ExportedProgram) -> GraphModule:
    """An exported program as a functional GraphModule without shape guards."""
    with warnings.catch_warnings():
        # torch 2.13 copies its own deprecated classes here: nothing that a user could mend.
        warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
        module = direct_graph(program, _known()) or _decomposed(program)
    unroll(module)
    return module


def _decomposed(program: ExportedProgram) -> GraphModule:
    with sizes_are_sizes():
        program = program.run_decompositions({})
        if any(node.target in _decompositions() for node in program.graph.nodes if isinstance(node.target, OpOverload)):
            program = program.run_decompositions(dict(_decompositions()))
    return module_of(program)


@cache
def _known() -> frozenset[str]:
    """Names of ops that a handler knows; those of other libraries are what their quantizers left."""
    return frozenset({op.removeprefix("aten::") for source in SOURCES for op in source.handlers} | set(aten.HANDLERS) | IGNORED)


@cache
def _decompositions() -> dict[Any, Any]:
    """torch's decompositions of all its ops that no handler knows."""
    defaults: dict[Any, Any] = dict(torch.export.default_decompositions().items())  # type: ignore[no-untyped-call]
    table = {op: function for op, function in defaults.items() if op.namespace == "aten" and _name(op) not in _known()}
    packets = [getattr(torch.ops.aten, name) for name in _UNROLLED]
    return table | dict(torch._decomp.get_decompositions(packets))


def _name(op: OpOverload) -> str:
    name = op._schema.name.rpartition("::")[2]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name
