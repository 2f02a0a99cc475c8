"""torch.export of a module in evaluation mode, with open sizes where the model allows them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx.experimental import _config as config
from torch.fx.experimental.symbolic_shapes import is_concrete_int

from pyqinfer.frontend.guards import hold_for, pinned_symbols
from pyqinfer.frontend.traced_as import FUNCTIONS, TracedAs, masks_as_given

# Types of inputs that are int32 in the engine: indices, positions, masks.
INTEGER_TYPES = (torch.int64, torch.int32, torch.bool)

# The axes behind the batch.
_SIZES = frozenset(range(1, 8))


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
        if x.dtype not in (torch.float32, *INTEGER_TYPES):
            raise ValueError(f"example_inputs[{i}]: expected float32, or int64, int32 or bool, got {x.dtype}")
    return tuple(examples)


def export_program(
    model: nn.Module, examples: tuple[Tensor, ...], dynamic_batch: bool = True, dynamic_size: bool = False
) -> ExportedProgram:
    """torch.export of the module in evaluation mode, as open as it allows.

    Dimension 0 of every input is symbolic if ``dynamic_batch``, and if ``dynamic_size`` so are heights and widths (dimensions 2 and 3 of
    inputs of rank 4) and lengths (all others but the batch of inputs of another rank), where the model does not fix them; a warning says
    which it fixes. The module's modes are restored.

    Raises:
        ValueError: parameters not on the CPU. Errors of torch.export pass through.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type != "cpu":
            raise ValueError(f"parameter {name!r} is on {tensor.device}: move the model to the CPU first (model.cpu())")
    batch, sizes = ({0} if dynamic_batch else set()), (set(_SIZES) if dynamic_size else set())
    with evaluation_mode(model), torch.no_grad(), TracedAs(FUNCTIONS), masks_as_given(), warnings.catch_warnings():
        # torch's recurrent layers set a list of their parameters again when they run: nothing that a user could mend.
        warnings.filterwarnings("ignore", message=r"The tensor attributes? .*_flat_weights", category=UserWarning)
        attempts = (_export_open(model, examples, axes) for axes in (batch | sizes, sizes, batch) if axes)
        program = next((program for program in attempts if program is not None), None) or torch.export.export(model, examples)
    _warn_of_fixed(program, batch, sizes)
    return program


def sizes_are_sizes() -> Any:
    """A context in which torch traces 0 and 1 like any other size; else it takes them for constants, and others for neither of them."""
    return config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


def _export_open(model: nn.Module, examples: tuple[Tensor, ...], axes: set[int]) -> ExportedProgram | None:
    """The program with these axes of the inputs open; None if the model cannot be traced so, or if it fixes its batch.

    The batch is axis 0.
    """
    # Torch's kernels ask whether a size is 1 to know a tensor's layout. The answer no leaves the size open, the answer yes would fix it.
    batched = tuple(torch.cat([x, x]) if 0 in axes and x.ndim and x.shape[0] == 1 else x for x in examples)
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    for x in batched:
        # A size of 1 behind the batch is one token or one channel, which models treat in another way than several.
        shapes[x] = {axis: Dim.AUTO for axis in axes if axis < x.ndim and _may_be_open(axis, x.ndim) and (axis == 0 or x.shape[axis] != 1)}
    try:
        with sizes_are_sizes(), _quiet_attempt():
            program = torch.export.export(model, batched, dynamic_shapes=shapes)
    except Exception:  # torch raises many types here; the static export that follows reports what is truly wrong
        return None
    pairs = [pair for shape, x in zip(_input_shapes(program), examples, strict=True) for pair in zip(shape, x.shape, strict=True)]
    fits = hold_for([(size, number) for size, number in pairs if not is_concrete_int(size)])
    return program if fits and 0 not in axes & _fixed_axes(program) else None


@contextmanager
def _quiet_attempt() -> Iterator[None]:
    """Keeps torch from writing errors to its log that only say that these sizes cannot be open."""
    loggers = [logging.getLogger(name) for name in ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _may_be_open(axis: int, rank: int) -> bool:
    """Whether an axis is a batch, a height or width, or a length; the channels of images are not."""
    return axis == 0 or rank != 4 or axis in (2, 3)


def _input_shapes(program: ExportedProgram) -> list[list[Any]]:
    names = program.graph_signature.user_inputs
    return [list(node.meta["val"].shape) for node in program.graph.nodes if node.op == "placeholder" and node.name in names]


def _fixed_axes(program: ExportedProgram) -> set[int]:
    """The axes (the batch: 0, others: sizes) that are a number in some input."""
    shapes = _input_shapes(program)
    pinned = pinned_symbols(size for shape in shapes for size in shape if not is_concrete_int(size))
    return {
        axis
        for shape in shapes
        for axis, size in enumerate(shape)
        if _may_be_open(axis, len(shape)) and (is_concrete_int(size) or size.node.expr in pinned)
    }


def _warn_of_fixed(program: ExportedProgram, batch: set[int], sizes: set[int]) -> None:
    """Tell which of the wanted axes the model fixes."""
    fixed, shapes = _fixed_axes(program), _input_shapes(program)
    pinned = pinned_symbols(size for shape in shapes for size in shape if not is_concrete_int(size))
    if batch & fixed:
        numbers = ", ".join(str(shape[0]) for shape in shapes if shape)
        warnings.warn(f"the model fixes its batch: it is traced for a batch of {numbers} only", stacklevel=4)

    def is_open(shape: list[Any]) -> bool:
        return any(not is_concrete_int(size) and size.node.expr not in pinned for size in shape[1:])

    images = [shape for shape in shapes if len(shape) == 4]
    if sizes and not all(map(is_open, images)):
        numbers = ", ".join(f"{shape[2]}x{shape[3]}" for shape in images)
        warnings.warn(f"the model fixes its heights or widths: it is traced for {numbers} only", stacklevel=4)
    elif sizes and not any(map(is_open, shapes)):
        numbers = ", ".join("x".join(str(size) if is_concrete_int(size) else "N" for size in shape) for shape in shapes)
        warnings.warn(f"the model fixes the sizes of its inputs: it is traced for {numbers} only", stacklevel=4)


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
