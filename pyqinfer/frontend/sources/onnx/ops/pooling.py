"""Pools over windows."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.ops.layers import padded, windows
from pyqinfer.frontend.values import NotSupportedHere


def _kernel(c: Call, x: Tensor) -> list[int]:
    kernel = [int(n) for n in c.attribute("kernel_shape") or []]
    if x.ndim - 2 != len(kernel) or len(kernel) not in (1, 2, 3):
        raise NotSupportedHere(f"a window of {kernel} over rank {x.ndim}")
    return kernel


def _fits(kernel: list[int], before: list[int], after: list[int]) -> bool:
    return before == after and all(2 * b <= k for b, k in zip(before, kernel, strict=True))


def _max_pool(c: Call) -> Tensor:
    x = c.tensor(0)
    kernel = _kernel(c, x)
    stride, dilation, before, after = windows(c, x.shape[2:], kernel)
    ceil = bool(c.attribute("ceil_mode", 0))
    if len([name for name in c.operation.outputs if name]) > 1:
        raise NotSupportedHere("the places of the largest elements")
    if not _fits(kernel, before, after):
        if ceil:
            raise NotSupportedHere(f"ceil_mode with padding {before} and {after}")
        # The lowest number takes no part in a maximum.
        x, before = padded(x, before, after, torch.finfo(torch.float32).min), [0] * len(kernel)
    function: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    y: Tensor = function(x, kernel, stride, before, dilation, ceil)
    return y


def average(c: Call) -> Tensor:
    x = c.tensor(0)
    kernel = _kernel(c, x)
    stride, dilation, before, after = windows(c, x.shape[2:], kernel)
    ceil, included = bool(c.attribute("ceil_mode", 0)), bool(c.attribute("count_include_pad", 0))
    if any(d != 1 for d in dilation):
        raise NotSupportedHere(f"an average over positions {dilation} apart")
    function: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    if _fits(kernel, before, after):
        y: Tensor = function(x, kernel, stride, before, ceil, included)
        return y
    if ceil:
        raise NotSupportedHere(f"ceil_mode with padding {before} and {after}")
    y = function(padded(x, before, after), kernel, stride)
    if included:
        return y
    # How much of each window lies inside the image.
    share = function(padded(torch.ones(1, 1, *x.shape[2:]), before, after), kernel, stride)
    shared: Tensor = y / share
    return shared


def global_average(x: Tensor) -> Tensor:
    return x.mean(list(range(2, x.ndim)), keepdim=True)


def _lp_pool(c: Call) -> Tensor:
    """(sum of |x|^p)^(1/p); of the padding nothing is added."""
    x, p = c.tensor(0), int(c.attribute("p", 2))
    kernel = _kernel(c, x)
    stride, dilation, before, after = windows(c, x.shape[2:], kernel)
    if any(d != 1 for d in dilation) or c.attribute("ceil_mode", 0) or p not in (1, 2):
        raise NotSupportedHere(f"dilations {dilation}, ceil_mode or p = {p}")
    count = 1.0
    for k in kernel:
        count *= k
    function: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    powers = torch.abs(x) if p == 1 else x * x
    total = function(padded(powers, before, after), kernel, stride) * count
    return total if p == 1 else torch.sqrt(total)


def _global_lp(c: Call) -> Tensor:
    x, p = c.tensor(0), int(c.attribute("p", 2))
    axes = list(range(2, x.ndim))
    if p == 1:
        return torch.abs(x).sum(axes, keepdim=True)
    if p != 2:
        raise NotSupportedHere(f"p = {p}")
    return torch.sqrt((x * x).sum(axes, keepdim=True))


ROWS: dict[str, Handler] = {
    "AveragePool": average,
    "GlobalAveragePool": lambda c: global_average(c.tensor(0)),
    "GlobalMaxPool": lambda c: torch.amax(c.tensor(0), list(range(2, c.tensor(0).ndim)), keepdim=True),
    "GlobalLpPool": _global_lp,
    "LpPool": _lp_pool,
}
# Pools that choose elements, so that codes stay codes.
MOVING_ROWS: dict[str, Handler] = {"MaxPool": _max_pool}
