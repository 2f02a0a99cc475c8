"""What each step of post-training quantization is worth on a model: accuracy from rounding alone to the whole method."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn
from torch.fx import GraphModule

from pyqinfer.bits import LayerBits
from pyqinfer.methods.ptq import PTQ
from pyqinfer.quantization import quantize
from pyqinfer.report import Column, Report

# In the guideline's order: the setting, its value without the step, and what the table calls the step.
_STEPS: tuple[tuple[str, Any, str], ...] = (
    ("fold", False, "BatchNorm folded"),
    ("equalize", False, "cross-layer equalization ({})"),
    ("weight_range", "minmax", "weight ranges by {}"),
    ("observer", "minmax", "activation ranges by {}"),
    ("bias_correction", False, "bias correction"),
    ("rounding", "nearest", "{} rounding"),
    ("first_last", None, "first and last layer at {}"),
)


def ablation_steps(method: PTQ) -> list[tuple[str, PTQ]]:
    """Names and methods: first the bits alone, then one step more each time, up to ``method``. Steps it does not take are left out."""
    current = replace(method, **{name: without for name, without, _ in _STEPS})
    steps = [("rounding to nearest, largest ranges", current)]
    for name, without, text in _STEPS:
        value = getattr(method, name)
        if value != without:
            current = replace(current, **{name: value})
            steps.append(("+ " + text.format("on" if value is True else value), current))
    return steps


def ablation(
    model: nn.Module,
    method: PTQ,
    example_inputs: Any,
    calibration: Iterable[Any],
    evaluate: Callable[[nn.Module | GraphModule], float],
    *,
    keep: Mapping[str, LayerBits | str] | None = None,
) -> Report:
    """Quantize a model with one step after the other and evaluate each result.

    Args:
        model, method, example_inputs, calibration, keep: as for :func:`pyqinfer.quantize`.
        evaluate: accuracy in per cent of a model that runs in torch.

    Returns:
        A row for the float model and one for each step: ``step``, ``accuracy`` and ``change`` against the row before in per cent,
        ``drop`` against the float model, ``seconds`` that quantizing took.
    """
    data = list(calibration)
    start = evaluate(model)
    rows: list[dict[str, str | float | None]] = [
        {"step": "float model", "accuracy": start, "change": None, "drop": None, "seconds": None},
    ]
    before: float | None = None
    for name, step in ablation_steps(method):
        clock = time.perf_counter()
        quantized = quantize(model, step, example_inputs=example_inputs, calibration=data, keep=keep)
        seconds = time.perf_counter() - clock
        accuracy = evaluate(quantized)
        change = None if before is None else accuracy - before
        rows.append({"step": name, "accuracy": accuracy, "change": change, "drop": start - accuracy, "seconds": seconds})
        before = accuracy
    columns = [
        Column("step", "step", numeric=False),
        Column("accuracy", "accuracy %", ".2f"),
        Column("change", "change", "+.2f"),
        Column("drop", "below float", ".2f"),
        Column("seconds", "seconds", ".1f"),
    ]
    bits = LayerBits(method.weight_bits, method.act_bits)
    return Report(f"PTQ {bits}, step by step", columns, rows, {"bits": str(bits), "calibration_batches": len(data)})
