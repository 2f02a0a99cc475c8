"""Inputs on the command line: shapes, random arrays, and arrays from files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.cli.common import run_limits
from pyqinfer.model import Model
from pyqinfer.session import RunOptions

if TYPE_CHECKING:
    from torch import Tensor


def parse_shape(text: str) -> tuple[int, ...]:
    """``1x3x224x224`` to a tuple. Raises ValueError."""
    parts = text.lower().split("x")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"shape {text!r}: expected numbers above 0 joined by x, e.g. 1x3x224x224")
    return tuple(int(part) for part in parts)


def model_input_shapes(model: Any, texts: list[str] | None) -> list[tuple[int, ...]]:
    """Shapes from ``--input``, else the model's own with batch 1."""
    given = [parse_shape(text) for text in texts or []]
    if isinstance(model, Model):
        named = dict(zip(model.inputs, given, strict=False))
        return list(model.input_shapes(named).values())
    if not given:
        raise ValueError("a torch model needs --input SHAPE, e.g. --input 1x3x224x224")
    return given


def random_inputs(shapes: Sequence[tuple[int, ...]], seed: int, limits: RunOptions | None = None) -> list[NDArray[np.float32]]:
    """Normally distributed float32 inputs. Raises MemoryError if they alone take more than the runs may that they are for."""
    _check_memory(4 * sum(math.prod(shape) for shape in shapes), shapes, limits)
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def _check_memory(total: int, shapes: Sequence[tuple[int, ...]], limits: RunOptions | None) -> None:
    most = (limits or run_limits(None)).max_memory
    if most is not None and total > most:
        raise MemoryError(f"inputs of the shapes {', '.join(map(str, shapes))} take {total} bytes, more than --max-memory ({most} bytes)")


def example_inputs(
    model: Any, texts: list[str] | None, seed: int, limits: RunOptions | None = None, batch: int | None = None
) -> list[NDArray[Any]]:
    """Inputs of the shapes of ``--input`` for a model of any kind; those of an ONNX file or a Model may be left out.

    A Model says what its inputs hold: floats are normally distributed, bytes of images are drawn from 0 to 255, and indices are 1.
    With ``batch`` the first row is repeated so many times.
    """
    made = _typed_inputs(model, texts, seed, limits)
    return made if batch is None else [np.repeat(x[:1], batch, axis=0) if x.ndim else x for x in made]


def _typed_inputs(model: Any, texts: list[str] | None, seed: int, limits: RunOptions | None) -> list[NDArray[Any]]:
    if not isinstance(model, Model):
        return [x.numpy() for x in example_tensors(model, texts, seed)]
    shapes = model_input_shapes(model, texts)
    made: list[NDArray[Any]] = list(random_inputs(shapes, seed, limits))
    rng = np.random.default_rng(seed)
    for i, port in enumerate(model.graph["inputs"]):
        dtype = model.graph["values"][port["value"]]["dtype"]
        if dtype == "u8":
            made[i] = rng.integers(0, 256, shapes[i], dtype=np.uint8)
        elif dtype == "i32":
            made[i] = np.ones(shapes[i], np.int32)
    return made


def example_tensors(module: Any, texts: list[str] | None, seed: int) -> tuple[Tensor, ...]:
    """Random inputs of the shapes of ``--input``; those of an ONNX file or a Model may be left out."""
    from pyqinfer.frontend.sources.onnx import is_onnx

    if is_onnx(module):
        made: tuple[Tensor, ...] = module.example_inputs(seed, [parse_shape(text) for text in texts or []])
        return made
    return as_tensors(random_inputs(model_input_shapes(module, texts), seed))


def as_tensors(arrays: Sequence[NDArray[Any]]) -> tuple[Tensor, ...]:
    """The arrays as torch tensors that share their memory."""
    import torch

    return tuple(torch.from_numpy(array) for array in arrays)


def load_arrays(path: Path, names: Sequence[str] = ()) -> list[NDArray[Any]]:
    """Arrays of a ``.npy`` or ``.npz`` file, one for each input; pickled objects are refused.

    Args:
        path: the file. Arrays of an ``.npz`` that are called like the inputs are taken by name, others in the order in which the file has
            them, numbered ones (``arr_0``, ``arr_1``, as ``np.savez`` calls them) by their numbers.
        names: what the inputs are called, as far as that is known.

    Raises:
        ValueError: some arrays are called like inputs, and others are missing.
    """
    try:
        data = np.load(path, allow_pickle=False)
    except ValueError:
        raise ValueError(f"{path}: expected a .npy or .npz file of numbers, as np.save and np.savez write them") from None
    if isinstance(data, np.ndarray):
        return [data]
    if set(names) & set(data.files):
        missing = [name for name in names if name not in data.files]
        if missing:
            raise ValueError(f"{path}: has no array {', '.join(missing)} among {', '.join(data.files)}")
        return [data[name] for name in names]
    numbers = {name: int(match[1]) for name in data.files if (match := re.fullmatch(r"\D*(\d+)", name))}
    one_stem = len({name.rstrip("0123456789") for name in data.files}) == 1
    numbered = one_stem and len(numbers) == len(data.files)
    return [data[name] for name in (sorted(numbers, key=numbers.__getitem__) if numbered else data.files)]
