"""Modules and exported programs to the IR: torch.export, then the graph reader."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import legacy
from pyqinfer.frontend.export import check_examples, export_functional, functional_graph
from pyqinfer.frontend.fake_quant import fake_quant_of, is_fake_quant
from pyqinfer.frontend.fake_quant_calls import DecomposeFakeQuant
from pyqinfer.frontend.pt2e import import_graph
from pyqinfer.frontend.reader import NotSupportedHere
from pyqinfer.frontend.surrogates import QuantizeDequantize, swapped
from pyqinfer.frontend.torchao_tensors import linear_stand_in
from pyqinfer.ir import Graph


def import_module(model: Any, example_inputs: Any = None, dynamic_batch: bool = True, dynamic_size: bool = False) -> Graph:
    """The IR of a torch model.

    Args:
        model: ``nn.Module`` (exported here; modules that torch.export cannot read are exchanged for stand-ins meanwhile),
            ``ExportedProgram``, or a ``GraphModule`` of aten and quantized_decomposed ops.
        example_inputs: tuple of float32 CPU tensors; may be left out for an ExportedProgram and for a GraphModule that torch.export made.
        dynamic_batch: dimension 0 becomes a symbol where the model was traced with one.
        dynamic_size: dimensions 2 and 3 of inputs of rank 4 become symbols.

    Raises:
        TypeError: another kind of object (files are never opened). UnsupportedError: all ops that cannot be converted.
    """
    if isinstance(model, ExportedProgram):
        return import_graph(functional_graph(model), _examples_or_none(example_inputs), dynamic_batch, dynamic_size)
    if isinstance(model, GraphModule) and _is_exported(model):
        return import_graph(model, _examples_or_none(example_inputs), dynamic_batch, dynamic_size)
    if isinstance(model, nn.Module):
        if example_inputs is None:
            raise TypeError("example_inputs: needed to trace an nn.Module, e.g. example_inputs=(torch.zeros(1, 3, 224, 224),)")
        examples = check_examples(example_inputs)
        return import_graph(trace(model, examples, dynamic_batch), examples, dynamic_batch, dynamic_size)
    raise TypeError(
        f"model: expected nn.Module, GraphModule or ExportedProgram, got {type(model).__name__}"
        " (model files can run code when they are opened: load them yourself and pass the module)"
    )


def trace(model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True) -> GraphModule:
    """The graph that is imported for a module.

    Raises:
        UnsupportedError: all quantized modules that no stand-in takes the place of.
    """
    stand_ins = _StandIns()
    with swapped(stand_ins.plain(model), stand_ins) as plain, DecomposeFakeQuant():
        stand_ins.raise_problems()
        exported = export_functional(plain, examples, dynamic_batch)
    if legacy.is_legacy(model):
        legacy.round_like_codes(exported)
    return exported


def _is_exported(module: GraphModule) -> bool:
    """A graph of operators, as torch.export makes them; submodules only where a PT2E quantizer put them or torch guards shapes."""
    if any(node.op == "call_method" for node in module.graph.nodes):
        return False
    called = [
        module.get_submodule(str(node.target)) for node in module.graph.nodes if node.op == "call_module" and node.target != "_guards_fn"
    ]
    if not all(is_fake_quant(m) or type(m).__name__.endswith("Observer") for m in called):
        return False
    functions = [node.target for node in module.graph.nodes if node.op == "call_function"]
    return not functions or any(isinstance(target, OpOverload) for target in functions)


class _StandIns:
    """Chooses what takes a module's place while a model is exported; keeps what cannot be read."""

    def __init__(self) -> None:
        self._problems: list[str] = []

    def __call__(self, name: str, module: nn.Module) -> nn.Module | None:
        try:
            if is_fake_quant(module):
                params = fake_quant_of(module)
                return nn.Identity() if params is None else QuantizeDequantize(params)
            return linear_stand_in(module) or legacy.stand_in(module)
        except NotSupportedHere as reason:
            self._problems.append(f"{name}: {reason}")
            return None
        except ValueError as error:
            raise ValueError(f"{name} ({type(module).__name__}): {error}") from None

    def plain(self, model: nn.Module) -> nn.Module:
        """The model itself, or one that computes the same without functions of quantized tensors."""
        try:
            return legacy.traceable(model)
        except NotSupportedHere as reason:
            self._problems.append(str(reason))
            return model

    def raise_problems(self) -> None:
        """One UnsupportedError that lists every module that cannot be read."""
        if self._problems:
            lines = "".join(f"\n  - {problem}" for problem in self._problems)
            raise UnsupportedError(f"{len(self._problems)} module(s) cannot be converted:{lines}")


def _examples_or_none(example_inputs: Any) -> tuple[Tensor, ...] | None:
    return None if example_inputs is None else check_examples(example_inputs)
