"""Torch functions that are traced as others, because torch's own graph of them could not be read, or only slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, float32
from torch.nn.modules import transformer
from torch.overrides import TorchFunctionMode

from pyqinfer.frontend import recurrent


class TracedAs(TorchFunctionMode):
    """A context in which functions are exchanged for others, where these do not answer NotImplemented."""

    def __init__(self, exchanged: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self.exchanged = exchanged

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        other = self.exchanged.get(func)
        result = NotImplemented if other is None else other(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if result is NotImplemented else result


def _bags(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """``F.embedding_bag`` of bags of one length, which are rows of the indices: torch flattens them and counts where each begins."""
    if input.ndim != 2 or max_norm is not None or (mode == "max" and padding_idx is not None):
        return NotImplemented
    rows = F.embedding(input, weight)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(-1)
    if mode == "max":
        return rows.amax(1)
    if padding_idx is None:
        return rows.sum(1) if mode == "sum" else rows.mean(1)
    counted = (input != padding_idx % len(weight)).to(float32).unsqueeze(-1)
    total = (rows * counted).sum(1)
    return total if mode == "sum" else total / counted.sum(1).clamp(min=1)


@contextmanager
def masks_as_given() -> Iterator[None]:
    """A context in which torch's transformers do not look into a mask for a causal one.

    What a mask holds is not known while tracing, and nothing but the choice of a kernel hangs on it: the mask is applied all the same.
    """
    look = transformer._detect_is_causal_mask
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = look


FUNCTIONS: Mapping[Any, Callable[..., Any]] = {F.embedding_bag: _bags, **recurrent.FUNCTIONS}
