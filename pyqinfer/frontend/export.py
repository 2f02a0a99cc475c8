"""torch.export of a module in evaluation mode, functional (no in-place ops), with a dynamic batch where the model allows one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import GraphModule
from torch.fx.experimental.symbolic_shapes import is_concrete_int

# What torch takes as indices of an embedding; the engine's are int32.
INDEX_TYPES = (torch.int64, torch.int32)


def check_examples(example_inputs: Any) -> tuple[Tensor, ...]:
    """Example inputs as a tuple of CPU tensors. Raises TypeError or ValueError that names the one at fault."""
    examples = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(examples, (tuple, list)) or not examples:
        raise TypeError(f"example_inputs: expected a tuple of tensors such as (x,), got {type(example_inputs).__name__}")
    for i, x in enumerate(examples):
        if not isinstance(x, Tensor):
            raise TypeError(f"example_inputs[{i}]: expected a torch tensor, got {type(x).__name__}")
        if x.device.type != "cpu":
            raise ValueError(f"example_inputs[{i}]: expected a CPU tensor, got one on {x.device}; call .cpu() first")
        if x.dtype not in (torch.float32, *INDEX_TYPES):
            raise ValueError(f"example_inputs[{i}]: expected float32, or int64 or int32 for indices, got {x.dtype}")
    return tuple(examples)


def export_functional(model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True) -> GraphModule:
    """The module's graph in evaluation mode: functional aten ops, parameters as get_attr, module names in ``nn_module_stack``.

    Dimension 0 of every input is symbolic if ``dynamic_batch`` and the model does not fix it. The module's modes are restored.

    Raises:
        ValueError: parameters not on the CPU. Errors of torch.export pass through.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type != "cpu":
            raise ValueError(f"parameter {name!r} is on {tensor.device}: move the model to the CPU first (model.cpu())")
    with evaluation_mode(model), torch.no_grad():
        program = _export_dynamic(model, examples) if dynamic_batch else None
        if program is None:
            program = torch.export.export(model, examples)
            if dynamic_batch:
                fixed = ", ".join(str(x.shape[0]) for x in examples if x.ndim)
                warnings.warn(f"the model fixes its batch: it is traced for a batch of {fixed} only", stacklevel=2)
    return functional_graph(program)


def functional_graph(program: ExportedProgram) -> GraphModule:
    """An exported program as a functional GraphModule without shape guards."""
    with warnings.catch_warnings():
        # torch 2.13 copies its own deprecated classes here: nothing that a user could mend.
        warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
        module = program.run_decompositions({}).module()
    for node in list(module.graph.nodes):
        if node.op == "call_module" and node.target == "_guards_fn":
            module.graph.erase_node(node)
    module.recompile()
    assert isinstance(module, GraphModule)
    return module


def _export_dynamic(model: nn.Module, examples: tuple[Tensor, ...]) -> ExportedProgram | None:
    """The program with a symbolic batch; None if the model cannot be traced with one, or fixes it while it is traced."""
    # torch specializes sizes 0 and 1, so that a batch of one would never become a symbol.
    batched = tuple(torch.cat([x, x]) if x.ndim and x.shape[0] == 1 else x for x in examples)
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    for x in batched:
        if x.ndim:
            shapes[x] = {0: Dim.AUTO}
    try:
        program = torch.export.export(model, batched, dynamic_shapes=shapes)
    except Exception:  # torch raises many types here; the static export that follows reports what is truly wrong
        return None
    users = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in program.graph_signature.user_inputs]
    symbolic = all(not is_concrete_int(node.meta["val"].shape[0]) for node in users if node.meta["val"].ndim)
    return program if symbolic else None


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    # A GraphModule made by torch.export refuses eval() and holds no mode-dependent module.
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
