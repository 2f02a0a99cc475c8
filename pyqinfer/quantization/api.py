"""``pq.quantize``: one function for every method."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pyqinfer.arguments import as_examples, explained, input_names, torch_module
from pyqinfer.bits import LayerBits
from pyqinfer.budget import Budget
from pyqinfer.frontend.files import with_examples
from pyqinfer.frontend.sources.legacy import is_quantized_eagerly
from pyqinfer.quantization.batches import Batch, Calibration, other_sizes, read_batches
from pyqinfer.quantization.graph import TracedModel


@dataclass(frozen=True)
class Task:
    """What a method is given: the arguments of :func:`quantize`, checked (:func:`make_task`). None: the user gave none."""

    model: nn.Module
    example_inputs: tuple[Tensor, ...]
    calibration: Sequence[Batch] | None = None
    budget: Budget | None = None
    keep: Mapping[str, LayerBits | str] = field(default_factory=dict)
    train: Iterable[Any] | None = None
    val: Iterable[Any] | None = None
    dynamic_batch: bool = True
    dynamic_size: bool = False

    def traced(self) -> TracedModel:
        """A fresh graph of the model."""
        return TracedModel(self.model, self.example_inputs, self.dynamic_batch, self.dynamic_size)


class Method(Protocol):
    """A quantization method: a configuration that can carry itself out.

    Attributes:
        reads: which of a task's ``calibration``, ``budget``, ``train`` and ``val`` the method makes use of; :func:`quantize` refuses the
            others, so that nothing that a user gives is ignored.
        needs: those of them that it cannot do without. (PTQ can do without calibration where nothing but weights is quantized.)
    """

    reads: ClassVar[frozenset[str]]
    needs: ClassVar[frozenset[str]]

    def quantize(self, task: Task) -> GraphModule:
        """The task's model as a PT2E graph."""
        ...


def quantize(
    model: nn.Module | ExportedProgram | str | os.PathLike[str],
    method: Method,
    *,
    example_inputs: Any = None,
    calibration: Calibration | None = None,
    budget: Budget | None = None,
    keep: Mapping[str, LayerBits | str] | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> GraphModule:
    """Make a model low-precision.

    Args:
        model: float model on the CPU, an ExportedProgram of one, or the path of an ONNX file. It is not changed.
        method: such as ``pq.PTQ(weight_bits=8, act_bits=8)``.
        example_inputs: tuple of float32 tensors; dimension 0 is the batch.
        calibration: batches of typical inputs: a tensor, an array, or a list, generator or DataLoader of tensors, tuples (what one holds
            beyond the model's inputs is ignored) or dicts by the names of the model's inputs, see
            :func:`~pyqinfer.quantization.batches.read_batches`.
        budget: a :class:`pyqinfer.Budget`, for methods that choose bits themselves.
        keep: layer names or glob patterns -> bits, e.g. ``{"fc": "8/8", "stem.*": "float"}``.
        train, val: labelled batches, for methods that train.
        dynamic_batch, dynamic_size: whether the graph is traced for any batch, and for any height, width and length, where the
            model does not fix them. Calibration batches of other sizes than the graph's are cut to the batch of ``example_inputs``.

    Returns:
        A ``GraphModule`` in PT2E form (quantized_decomposed ops around aten ops) that runs in torch, with a free batch where the model
        does not fix it.

    Raises:
        TypeError, ValueError: arguments that do not fit the model, or that the method makes no use of. Errors of torch.export pass through.
    """
    if not callable(getattr(method, "quantize", None)) or not hasattr(method, "reads"):
        raise TypeError(f"method: expected a configuration such as pq.PTQ(), got {type(method).__name__}")
    if isinstance(method, type):
        raise TypeError(f"method: expected an instance, pq.{method.__name__}(), got the class")
    task = make_task(model, example_inputs, calibration, budget, keep, train, val, dynamic_batch, dynamic_size)
    for name, reason in _UNREAD.items():
        if getattr(task, name) is not None and name not in method.reads:
            raise ValueError(f"{name}: {type(method).__name__} {reason}")
    with explained(task.model, task.example_inputs):
        return method.quantize(task)


def make_task(
    model: Any,
    example_inputs: Any,
    calibration: Calibration | None = None,
    budget: Budget | None = None,
    keep: Mapping[str, LayerBits | str] | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> Task:
    """Check the arguments of :func:`quantize`, and bring them into the form in which methods take them. Errors are as there.

    Warns where calibration images have another size than the examples: the model is then traced for any size.
    """
    module = torch_module(model)
    in_graph = isinstance(module, GraphModule) and any("quantized_decomposed" in str(node.target) for node in module.graph.nodes)
    if in_graph or is_quantized_eagerly(module):
        raise ValueError(
            "model: is quantized already; pq.convert(model, example_inputs=...) makes the engine's model of it, and pq.quantize reads the"
            " float model that it was made from"
        )
    if keep is not None and not isinstance(keep, Mapping):
        raise TypeError(f'keep: expected a mapping of layers to bits such as {{"fc": "8/8"}}, got {type(keep).__name__}')
    examples = as_examples(with_examples(module, None if example_inputs is None else as_examples(example_inputs)))
    batches = None if calibration is None else read_batches(calibration, examples, input_names(module, len(examples)))
    others = [] if batches is None else other_sizes(batches, examples)
    if others and not dynamic_size:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        what = "images" if all(x.ndim == 4 for x in examples) else "inputs"
        warnings.warn(f"calibration holds {what} of {shown}, which example_inputs do not: the model is traced for any size", stacklevel=3)
    return Task(module, examples, batches, budget, dict(keep or {}), train, val, dynamic_batch, dynamic_size or bool(others))


# Why a method has no use for a part of its task.
_UNREAD = {
    "calibration": "looks at no calibration data",
    "budget": "has fixed bits and takes no budget: allocate bits first and pass them as PTQ(bits=...)",
    "train": "trains nothing and takes no train batches: batches of typical inputs go to calibration=",
    "val": "trains nothing and takes no val batches",
}
