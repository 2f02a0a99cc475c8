"""What may be measured: sessions, models, files and torch modules alike, on inputs in any form that a session takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.model import Model, load
from pyqinfer.session import Session, is_array

KINDS = "a pyqinfer Session or Model, the path of a .pqi or .onnx file, or a torch module"


def positional(inputs: Any) -> tuple[Any, ...]:
    """Inputs in the model's order: an array or tensor, or a tuple or list of them, as a tuple. Raises TypeError for anything else."""
    items = (inputs,) if is_array(inputs) else inputs
    if not isinstance(items, (tuple, list)) or not items or not all(is_array(x) for x in items):
        raise TypeError(f"inputs: expected an array or tensor, or a tuple of them such as (x,), got {type(inputs).__name__}")
    return tuple(items)


def positional_arrays(inputs: Any) -> list[NDArray[Any]]:
    """Inputs as :func:`positional` takes them, as arrays."""
    return [np.asarray(x) for x in positional(inputs)]


def is_torch(model: Any) -> bool:
    """Whether a model is a torch module. torch is looked up, never imported."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def opened(model: Any) -> Any:
    """The model of a ``.pqi`` file or the torch module of an ONNX file, where ``model`` is a path; anything else as it is."""
    if not isinstance(model, (str, os.PathLike)):
        return model
    if Path(model).suffix.lower() == ".pqi":
        return load(model)
    from pyqinfer.frontend.files import load_model_file

    return load_model_file(model)


def as_session(model: Any, inputs: list[NDArray[Any]], threads: int | None = None, isa: str = "auto") -> Session:
    """A session of a model.

    Args:
        model: what :data:`KINDS` says. A session is taken as it is; a torch module is converted for these inputs.
        inputs: positional arrays.
        threads, isa: see :class:`pyqinfer.Session`.

    Raises:
        TypeError: something else. Errors of reading and converting pass through.
    """
    model = opened(model)
    if isinstance(model, Session):
        return model
    if is_torch(model):
        import torch

        from pyqinfer.conversion import convert

        model = convert(model, example_inputs=tuple(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs), samples=0, check=False)
    if not isinstance(model, Model):
        raise TypeError(f"model: expected {KINDS}, got {type(model).__name__}")
    return Session(model, threads, isa)


def named_candidates(candidates: Any) -> dict[str, Any]:
    """Candidates of a race by name: a mapping as it is; those of a list, or a single one, are called by their file or class.

    Raises:
        ValueError: no candidate.
    """
    if isinstance(candidates, Mapping):
        found = dict(candidates)
    else:
        found = {}
        for candidate in candidates if isinstance(candidates, (tuple, list)) else [candidates]:
            name = Path(candidate).name if isinstance(candidate, (str, os.PathLike)) else type(candidate).__name__
            count = sum(taken == name or taken.startswith(f"{name} ") for taken in found)
            found[f"{name} {count + 1}" if count else name] = candidate
    if not found:
        raise ValueError("candidates: expected at least one model")
    return found
