"""Models and inputs as users pass them, brought into one form, and refused in a sentence where torch would end in a traceback."""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from pyqinfer.errors import ConversionError, ModelFormatError, UnsupportedError
from pyqinfer.frontend.export import check_examples, evaluation_mode
from pyqinfer.frontend.files import load_model_file
from pyqinfer.frontend.sources.onnx import is_onnx
from pyqinfer.model import Model
from pyqinfer.session import Session

# What is raised on purpose, after the model has been traced: running the model once more would explain nothing.
_EXPLAINED = (UnsupportedError, ConversionError, ModelFormatError)


def torch_module(model: Any) -> nn.Module:
    """The float module that is meant: a module, one behind ``torch.compile``, an ExportedProgram, or the path of an ONNX file.

    Raises:
        TypeError: something else, with what to pass in its place. Errors of reading an ONNX file pass through.
    """
    if isinstance(model, (str, os.PathLike)):
        model = load_model_file(model)
    if isinstance(model, ExportedProgram):
        model = model.module()
    model = uncompiled(model)
    if isinstance(model, nn.Module):
        return model
    if isinstance(model, (Model, Session)):
        raise TypeError(f"model: expected a torch.nn.Module, got a converted {type(model).__name__}: pass the model that it was made of")
    if isinstance(model, type) and issubclass(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got the class {model.__name__}: make an instance, {model.__name__}(...)")
    if isinstance(model, dict):
        raise TypeError("model: expected a torch.nn.Module, got a dict: load its weights into a module (load_state_dict) and pass that")
    call = f": pass what it returns, {model.__name__}()" if inspect.isfunction(model) else ""
    raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}{call}")


def uncompiled(model: Any) -> Any:
    """The module that ``torch.compile`` was given; anything else as it is. Compiling would only hide the layers' names."""
    return getattr(model, "_orig_mod", model) if isinstance(model, nn.Module) else model


def as_examples(example_inputs: Any) -> tuple[Tensor, ...]:
    """Example inputs as a tuple of CPU tensors; arrays are taken as tensors.

    Raises:
        TypeError, ValueError: names the input at fault and what to do.
    """
    given = (example_inputs,) if isinstance(example_inputs, (Tensor, np.ndarray)) else example_inputs
    if isinstance(given, (tuple, list)):
        given = tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) and x.dtype != object else x for x in given)
        for i, x in enumerate(given):
            if isinstance(x, Tensor) and (remedy := _remedy(x)):
                raise ValueError(f"example_inputs[{i}]: expected float32, got {str(x.dtype).removeprefix('torch.')}; {remedy}")
    return check_examples(given)


def _remedy(x: Tensor) -> str:
    if x.is_floating_point() and x.dtype != torch.float32:
        return "call .float() on it, and on the model if that is of this type too"
    return "bring bytes to the range that the model was trained with, such as x.float() / 255" if x.dtype == torch.uint8 else ""


def input_names(module: Any, count: int) -> list[str]:
    """What a torch module, or the ONNX file that it was made of, calls its first ``count`` inputs."""
    if is_onnx(module):
        return [port.name for port in module.inputs]
    return list(inspect.signature(module.forward).parameters)[:count]


@contextmanager
def explained(model: Any, inputs: Any, what: str = "example_inputs") -> Iterator[None]:
    """A context whose errors are told in a sentence if their cause is that the model does not run on its inputs.

    Args:
        model: a torch module; with anything else every error passes through.
        inputs: positional tensors.
        what: their name in the message.

    Raises:
        ValueError: the model itself fails on the inputs; the message has their shapes, torch's reason, and the place in the user's code.
    """
    try:
        yield
    except _EXPLAINED:
        raise
    except Exception:
        problem = _problem_of(model, inputs, what)
        if problem is None:
            raise
        raise ValueError(problem) from None


def _problem_of(model: Any, inputs: Any, what: str) -> str | None:
    if not isinstance(model, nn.Module) or not isinstance(inputs, (tuple, list)):
        return None
    try:
        with evaluation_mode(model), torch.no_grad():
            model(*inputs)
    except Exception as error:
        shapes = ", ".join(f"{list(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in inputs if isinstance(x, Tensor))
        return f"the model does not run on {what} {shapes}: {_first_line(error)}{_place(error)}{_hint(model, inputs)}"
    return None


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _place(error: BaseException) -> str:
    """Where it happened in code that is not torch's: the user's."""
    home = str(Path(torch.__file__).parent)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(home) and f.filename != __file__]
    return f" ({frames[-1].filename}, line {frames[-1].lineno}, in {frames[-1].name})" if frames else ""


def _hint(model: nn.Module, inputs: Sequence[Any]) -> str:
    types = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    if types:
        names = ", ".join(sorted(str(t).removeprefix("torch.") for t in types))
        return f"; its parameters are {names}: call model.float() first"
    wide = [x for x in inputs if isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float32]
    return "; call .float() on the inputs first" if wide else ""
