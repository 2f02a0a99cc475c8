"""``pq.quantize``: one function for every method."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.fx import GraphModule

from pyqinfer.bits import LayerBits
from pyqinfer.budget import Budget
from pyqinfer.frontend.export import check_examples
from pyqinfer.frontend.files import load_model_file, with_examples
from pyqinfer.quantization.graph import TracedModel


@dataclass(frozen=True)
class Task:
    """What a method is given: the arguments of :func:`quantize`, checked. None: the user gave none."""

    model: nn.Module
    example_inputs: tuple[Tensor, ...]
    calibration: Iterable[Any] | None = None
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
    model: nn.Module | str | os.PathLike[str],
    method: Method,
    *,
    example_inputs: Any = None,
    calibration: Iterable[Any] | None = None,
    budget: Budget | None = None,
    keep: Mapping[str, LayerBits | str] | None = None,
    train: Iterable[Any] | None = None,
    val: Iterable[Any] | None = None,
    dynamic_batch: bool = True,
    dynamic_size: bool = False,
) -> GraphModule:
    """Make a model low-precision.

    Args:
        model: float model on the CPU. It is not changed.
        method: such as ``pq.PTQ(weight_bits=8, act_bits=8)``.
        example_inputs: tuple of float32 tensors; dimension 0 is the batch.
        calibration: batches of inputs, each a tensor or a tuple; what a tuple holds beyond the model's inputs (labels) is ignored.
        budget: a :class:`pyqinfer.Budget`, for methods that choose bits themselves.
        keep: layer names or glob patterns -> bits, e.g. ``{"fc": "8/8", "stem.*": "float"}``.
        train, val: labelled batches, for methods that train.
        dynamic_batch, dynamic_size: whether the graph is traced for any batch, and for any height and width of inputs of rank 4, where the
            model does not fix them. Calibration batches of other sizes than the graph's are cut to the batch of ``example_inputs``.

    Returns:
        A ``GraphModule`` in PT2E form (quantized_decomposed ops around aten ops) that runs in torch, with a free batch where the model
        does not fix it.

    Raises:
        TypeError, ValueError: arguments that do not fit the model, or that the method makes no use of. Errors of torch.export pass through.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_model_file(model)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    if not callable(getattr(method, "quantize", None)) or not hasattr(method, "reads"):
        raise TypeError(f"method: expected a configuration such as pq.PTQ(), got {type(method).__name__}")
    examples = check_examples(with_examples(model, example_inputs))
    calibration = None if calibration is None else list(calibration)
    dynamic_size = dynamic_size or _has_other_sizes(examples, calibration or [])
    task = Task(model, examples, calibration, budget, dict(keep or {}), train, val, dynamic_batch, dynamic_size)
    for name, reason in _UNREAD.items():
        if getattr(task, name) is not None and name not in method.reads:
            raise ValueError(f"{name}: {type(method).__name__} {reason}")
    return method.quantize(task)


def _has_other_sizes(examples: tuple[Tensor, ...], calibration: Iterable[Any]) -> bool:
    """Whether some calibration input has another height, width or length than the example."""
    for batch in calibration:
        items = (batch,) if isinstance(batch, Tensor) else batch
        pairs = zip(examples, items, strict=False) if isinstance(items, (tuple, list)) else ()
        for example, x in pairs:
            first = 2 if example.ndim == 4 else 1
            if isinstance(x, Tensor) and x.ndim == example.ndim and x.shape[first:] != example.shape[first:]:
                return True
    return False


# Why a method has no use for a part of its task.
_UNREAD = {
    "calibration": "looks at no calibration data",
    "budget": "has fixed bits and takes no budget: allocate bits first and pass them as PTQ(bits=...)",
    "train": "trains nothing and takes no train batches: batches of typical inputs go to calibration=",
    "val": "trains nothing and takes no val batches",
}
