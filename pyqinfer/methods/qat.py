"""Quantization-aware training with learned steps (LSQ)."""

from __future__ import annotations

from dataclasses import dataclass

from pyqinfer.train.method import TrainingMethod


@dataclass(frozen=True)
class QAT(TrainingMethod):
    """Quantization-aware training with learned steps (LSQ, Esser et al. 2020, arXiv 1902.08153): the forward pass rounds, the backward pass
    goes straight through.

    It starts from post-training quantization at the same bits, and trains weights of 8 bits down to 2 or
    ternary ones. ``bits`` takes what ``pq.allocate`` gave, so that mixed precision found by ZeroQ or OMPQ can be trained.

    Args:
        weight_bits, act_bits, first_last, bits: see :class:`~pyqinfer.quantization.chosen_bits.ChosenBits`.
        epochs, lr and the others: see :class:`~pyqinfer.train.recipe.Recipe`.

    Raises:
        ValueError: widths that do not exist, or settings out of range.
    """
