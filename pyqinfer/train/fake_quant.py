"""Rounding to a grid whose step is learned (LSQ, Esser et al. 2020, arXiv 1902.08153), as one autograd function.

``y = clip(round(x / step), low, high) * step``. Rounding passes gradients through, the clip passes them inside its range. The step gets
``sum(dy * (round(x/step) - x/step))`` from inside and ``sum(dy * low or high)`` from outside, times a factor that makes its relative
change in a step of the optimizer about that of the weights: ``1 / sqrt(count * high)``, count being how many elements share the step.

Torch's own learnable fake quantizer does the same arithmetic and is several times slower on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function


class _Rounded(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, factor: float) -> Tensor:
        ratio = x * (1.0 / step)
        codes = ratio.round().clamp_(low, high)
        ctx.save_for_backward(ratio, codes, step)
        ctx.low, ctx.high, ctx.factor = low, high, factor
        return codes * step

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        ratio, codes, step = ctx.saved_tensors
        dx = torch.ops.aten.hardtanh_backward(dy, ratio, ctx.low, ctx.high)
        if not ctx.needs_input_grad[1]:
            return dx, None, None, None, None
        if step.numel() == 1:
            moved = _dot(dy, codes) - _dot(dx, ratio)
        else:
            shared = [axis for axis, size in enumerate(step.shape) if size == 1]
            moved = (dy * codes - dx * ratio).sum(shared, keepdim=True)
        return dx, (moved * ctx.factor).reshape(step.shape), None, None, None


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products; images in channels-last order are not copied for it."""
    if a.ndim == 4 and a.is_contiguous(memory_format=torch.channels_last) and b.is_contiguous(memory_format=torch.channels_last):
        a, b = a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)
    return torch.dot(a.reshape(-1), b.reshape(-1))


def round_to_grid(x: Tensor, step: Tensor, low: int, high: int, factor: float) -> Tensor:
    """``x`` rounded to multiples ``low..high`` of a step, in float32.

    Args:
        x: any float type.
        step: float32, above 0; one element, or a shape that broadcasts over ``x`` with the step's channels on one axis.
        low, high: codes relative to the zero point.
        factor: of the step's gradient, see the module's text.
    """
    return _Rounded.apply(x.float(), step, low, high, factor)  # type: ignore[no-any-return,no-untyped-call]


def above(step: Tensor, floor: Tensor) -> Tensor:
    """The step, or ``floor`` where an optimizer has taken it below; gradients pass either way, so that it can come back."""
    return step + (torch.maximum(step, floor) - step).detach()
