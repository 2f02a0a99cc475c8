"""Calibration data in all the forms that users have it in, as tuples of tensors that fit the example inputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, ...]
Calibration = Tensor | np.ndarray[Any, Any] | Iterable[Any] | Callable[[], Iterable[Any]]

_FORMS = "batches of inputs: a tensor or an array, a list, a generator or a DataLoader of tensors, of tuples (inputs, labels) or of dicts"


def read_batches(calibration: Calibration, examples: Batch, names: Sequence[str]) -> list[Batch]:
    """Read all batches, and hold each against the example inputs before it reaches torch.

    Args:
        calibration: one batch as a tensor or an array, or as a dict; any iterable of batches; or a function without arguments that gives
            one. A batch is a tensor, an array, a tuple or list whose first items are the inputs (labels may follow), or a dict that has
            the inputs under ``names`` (other entries are left aside).
        examples: the example inputs.
        names: what the model's ``forward`` calls its inputs.

    Raises:
        TypeError, ValueError: with the batch's number, what was expected and what was found.
    """
    if callable(calibration) and not isinstance(calibration, Iterable):
        calibration = calibration()
    if isinstance(calibration, (str, os.PathLike)):
        raise TypeError(f"calibration: expected {_FORMS}; got a path: load it, such as np.load({os.fspath(calibration)!r})")
    if isinstance(calibration, (Tensor, np.ndarray, Mapping)):
        calibration = [calibration]
    if not isinstance(calibration, Iterable):
        raise TypeError(f"calibration: expected {_FORMS}; got {type(calibration).__name__}")
    batches = [_batch(batch, examples, names, f"calibration batch {i}") for i, batch in enumerate(calibration)]
    if not batches:
        raise ValueError("calibration: no batches; a generator that has been read once is empty")
    return batches


def other_sizes(batches: Iterable[Batch], examples: Batch) -> list[str]:
    """Heights and widths of calibration images, and lengths of other inputs, that the example of their input does not have."""
    pairs = [(x, example, 2 if example.ndim == 4 else 1) for batch in batches for x, example in zip(batch, examples, strict=True)]
    found = {tuple(x.shape[first:]) for x, example, first in pairs if x.shape[first:] != example.shape[first:]}
    return ["x".join(map(str, sizes)) for sizes in sorted(found)]


def _batch(batch: Any, examples: Batch, names: Sequence[str], where: str) -> Batch:
    if isinstance(batch, Mapping):
        missing = [name for name in names[: len(examples)] if name not in batch]
        if missing:
            raise ValueError(f"{where}: the model's inputs are {', '.join(names)}; missing {', '.join(missing)} among {', '.join(batch)}")
        items: Sequence[Any] = [batch[name] for name in names[: len(examples)]]
    elif isinstance(batch, (Tensor, np.ndarray)):
        items = (batch,)
    elif isinstance(batch, (tuple, list)):
        items = batch
    else:
        raise TypeError(f"{where}: expected a tensor, an array, a tuple of them or a dict, got {type(batch).__name__}")
    if len(items) < len(examples):
        raise ValueError(f"{where}: the model has {len(examples)} inputs, got {len(items)}")
    return tuple(
        _input(item, example, f"{where}: input {i}" if len(examples) > 1 else where)
        for i, (item, example) in enumerate(zip(items, examples, strict=False))
    )


def _input(item: Any, example: Tensor, where: str) -> Tensor:
    if isinstance(item, np.ndarray) and item.dtype != object:
        item = torch.from_numpy(np.ascontiguousarray(item))
    if not isinstance(item, Tensor):
        raise TypeError(f"{where}: expected a tensor or an array, got {type(item).__name__}")
    if item.device.type != "cpu":
        raise ValueError(f"{where}: expected a CPU tensor, got one on {item.device}; call .cpu() first")
    if item.dtype != example.dtype:
        raise ValueError(f"{where}: is {_name(item)}, and the example is {_name(example)}; {_remedy(item, example)}")
    got, wanted = list(item.shape), list(example.shape)
    if len(got) == len(wanted) - 1:
        raise ValueError(f"{where}: has shape {got}, and the example {wanted}; a batch has one more: x[None] is a batch of one")
    if len(got) != len(wanted):
        raise ValueError(f"{where}: has shape {got}, and the example {wanted}: expected {len(wanted)} dimensions, got {len(got)}")
    if len(wanted) == 4 and got[1] != wanted[1]:
        turned = "; the channels lie last there: x.permute(0, 3, 1, 2) turns them" if got[3] == wanted[1] else ""
        raise ValueError(f"{where}: has shape {got}, and the example {wanted}: expected {wanted[1]} channels, got {got[1]}{turned}")
    return item


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _remedy(item: Tensor, example: Tensor) -> str:
    if example.is_floating_point() and item.dtype == torch.uint8:
        return "bring bytes to the range that the model was trained with, such as x.float() / 255"
    return f"call .to(torch.{_name(example)}) on it" if item.is_floating_point() == example.is_floating_point() else "is it another input?"
