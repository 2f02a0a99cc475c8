"""Layers with weights, and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler
from pyqinfer.frontend.sources.onnx.values import ChannelValues, Coded, Const
from pyqinfer.frontend.sources.onnx.weights import dequantized, transposed
from pyqinfer.frontend.values import NotSupportedHere


def windows(c: Call, sizes: Sequence[Any], kernel: Sequence[int]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, and padding in front and behind, of a window over the dimensions of these sizes."""
    rank = len(kernel)
    if list(c.attribute("kernel_shape") or kernel) != list(kernel):
        raise ValueError(f"kernel_shape {c.attribute('kernel_shape')} and weights of {list(kernel)}")
    stride = [int(n) for n in c.attribute("strides") or [1] * rank]
    dilation = [int(n) for n in c.attribute("dilations") or [1] * rank]
    mode = c.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = []
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            if not isinstance(size, int) and s != 1:
                raise NotSupportedHere(f"auto_pad {mode} with a stride over a dimension that is open")
            reach = d * (k - 1) + 1
            total.append(reach - 1 if s == 1 else max((-(-size // s) - 1) * s + reach - size, 0))
        small, large = [n // 2 for n in total], [n - n // 2 for n in total]
        return stride, dilation, *((small, large) if mode == "SAME_UPPER" else (large, small))
    pads = [int(n) for n in c.attribute("pads") or [0] * 2 * rank] if mode != "VALID" else [0] * 2 * rank
    if not len(stride) == len(dilation) == len(pads) // 2 == rank:
        raise ValueError(f"strides {stride}, dilations {dilation} and pads {pads} for a window of {list(kernel)}")
    return stride, dilation, pads[:rank], pads[rank:]


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    """``x`` with elements in front of and behind its last dimensions."""
    amounts = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    return F.pad(x, amounts, value=value) if any(amounts) else x


def _symmetric(x: Tensor, before: list[int], after: list[int]) -> tuple[Tensor, list[int]]:
    """The input, padded where the two sides differ, and the padding that is left to the layer."""
    if before == after:
        return x, before
    return padded(x, before, after), [0] * len(before)


def _bias(c: Call, i: int) -> Tensor | None:
    return c.tensor(i) if c.has(i) else None


def _by_channel(c: Call) -> tuple[Tensor, Tensor]:
    """The input and weights of a convolution. In a depthwise one, ratios of an input's channels go into the weights' scales."""
    x, weight = c.value(0), c.value(1)
    if not isinstance(x, ChannelValues) or not isinstance(weight, Coded) or weight.codes.shape[1] != 1:
        return c.tensor(0), c.tensor(1)
    if int(c.attribute("group", 1)) != len(x.ratio) or weight.scales.axis not in (None, 0):
        return c.tensor(0), c.tensor(1)
    outputs = weight.codes.shape[0]
    ratio = np.repeat(x.ratio, outputs // len(x.ratio))
    scale = (np.broadcast_to(weight.scales.scale, (outputs,)) * ratio).astype(np.float32)
    zero = np.broadcast_to(weight.scales.zero_point, (outputs,))
    return x.values, dequantized(replace(weight, scales=replace(weight.scales, scale=scale, zero_point=zero, axis=0)))


def conv(c: Call) -> Tensor:
    x, weight = _by_channel(c)
    rank = weight.ndim - 2
    if x.ndim != weight.ndim or rank not in (1, 2, 3):
        raise NotSupportedHere(f"a convolution of rank {x.ndim} with weights of rank {weight.ndim}")
    stride, dilation, before, after = windows(c, x.shape[2:], weight.shape[2:])
    x, padding = _symmetric(x, before, after)
    function: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    y: Tensor = function(x, weight, _bias(c, 2), stride, padding, dilation, int(c.attribute("group", 1)))
    return y


def _conv_transpose(c: Call) -> Tensor:
    x, weight = c.tensor(0), c.tensor(1)
    rank = weight.ndim - 2
    if x.ndim != weight.ndim or rank not in (1, 2, 3):
        raise NotSupportedHere(f"a transposed convolution of rank {x.ndim}")
    stride = [int(n) for n in c.attribute("strides") or [1] * rank]
    dilation = [int(n) for n in c.attribute("dilations") or [1] * rank]
    more = [int(n) for n in c.attribute("output_padding") or [0] * rank]
    if list(c.attribute("kernel_shape") or weight.shape[2:]) != list(weight.shape[2:]):
        raise ValueError(f"kernel_shape {c.attribute('kernel_shape')} and weights of {list(weight.shape[2:])}")
    full = [(x.shape[2 + i] - 1) * stride[i] + dilation[i] * (weight.shape[2 + i] - 1) + 1 + more[i] for i in range(rank)]
    before, after = _cut(c, full, x.shape[2:], stride, rank)
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    group, bias = int(c.attribute("group", 1)), _bias(c, 2)
    if before == after and all(m < max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        y: Tensor = function(x, weight, bias, stride, before, more, group, dilation)
        return y
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise NotSupportedHere(f"output_padding {more} with strides {stride}")
    y = function(x, weight, bias, stride, 0, more, group, dilation)
    for i in range(rank):
        y = y.narrow(2 + i, before[i], full[i] - before[i] - after[i])
    return y


def _cut(c: Call, full: Sequence[Any], sizes: Sequence[Any], stride: Sequence[int], rank: int) -> tuple[list[Any], list[Any]]:
    """What a transposed convolution leaves out in front and behind."""
    wanted, mode = c.attribute("output_shape"), c.attribute("auto_pad", "NOTSET")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = [int(n) for n in c.attribute("pads") or [0] * 2 * rank]
        return pads[:rank], pads[rank:]
    if wanted is None:
        wanted = [n * s for n, s in zip(sizes, stride, strict=True)]
    total = [f - w for f, w in zip(full, wanted[-rank:], strict=True)]
    if any(not isinstance(n, int) or n < 0 for n in total):
        raise NotSupportedHere(f"output_shape {wanted}, which is larger than the result, or open")
    small, large = [n // 2 for n in total], [n - n // 2 for n in total]
    return (small, large) if mode != "SAME_LOWER" else (large, small)


def matmul(c: Call) -> Tensor:
    left, right = c.value(0), c.value(1)
    if isinstance(right, Coded) and right.codes.ndim == 2:
        return F.linear(c.tensor(0), dequantized(transposed(right)))
    x, y = c.tensor(0), c.tensor(1)
    if isinstance(left, (Const, Coded)) and x.ndim == 2 and y.ndim >= 2:
        # (L @ y) = (y^T @ L^T)^T: the constant is the weights of a layer.
        weight = dequantized(left) if isinstance(left, Coded) else x
        return F.linear(y.transpose(-1, -2), weight).transpose(-1, -2)
    if y.ndim == 1 and x.ndim >= 2:
        return torch.matmul(x, y.unsqueeze(1)).squeeze(-1)
    if x.ndim == 1 and y.ndim >= 2:
        return torch.matmul(x.unsqueeze(0), y).squeeze(-2)
    if x.ndim == 1 and y.ndim == 1:
        return torch.matmul(x.unsqueeze(0), y.unsqueeze(1)).reshape(())
    return torch.matmul(x, y)


def gemm(c: Call) -> Tensor:
    """alpha * A @ B + beta * C."""
    alpha, beta = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0))
    x = c.tensor(0).t() if c.attribute("transA", 0) else c.tensor(0)
    right = c.value(1)
    if isinstance(right, Coded):
        weight = dequantized(right if c.attribute("transB", 0) else transposed(right))
    else:
        weight = c.tensor(1) if c.attribute("transB", 0) else c.tensor(1).t()
    constant = isinstance(right, (Const, Coded))
    bias = c.tensor(2) if c.has(2) and beta else None
    if bias is not None and beta != 1:
        bias = bias * beta
    one_row = bias is not None and (bias.ndim <= 1 or bias.shape[0] == 1) and bias.numel() in (1, weight.shape[0])
    if constant and alpha == 1 and bias is not None and one_row and isinstance(c.value(2), (Const, Coded)):
        return F.linear(x, weight, bias.reshape(-1).expand(weight.shape[0]))
    product = F.linear(x, weight) if constant else torch.matmul(x, weight.t())
    product = product if alpha == 1 else product * alpha
    return product if bias is None else product + bias


def _fused_matmul(c: Call) -> Tensor:
    """com.microsoft.FusedMatMul: alpha * A' @ B'."""
    if c.attribute("transBatchA", 0) or c.attribute("transBatchB", 0):
        raise NotSupportedHere("transposed batches")
    x = c.tensor(0).mT if c.attribute("transA", 0) else c.tensor(0)
    y = c.tensor(1).mT if c.attribute("transB", 0) else c.tensor(1)
    alpha = float(c.attribute("alpha", 1.0))
    return torch.matmul(x, y) if alpha == 1 else torch.matmul(x, y) * alpha


def _fused_conv(c: Call) -> Tensor:
    """com.microsoft.FusedConv: a convolution, an addend, and an activation."""
    y = conv(Call(c.operation, c.operands[:3], c.looked_at))
    if c.has(3):
        y = y + c.tensor(3)
    activation, parameters = c.attribute("activation", ""), c.attribute("activation_params") or []
    if activation == "":
        return y
    if activation == "Relu":
        return F.relu(y)
    if activation == "Clip" and len(parameters) == 2:
        return torch.clamp(y, *parameters)
    if activation == "LeakyRelu" and parameters:
        return F.leaky_relu(y, parameters[0])
    if activation in ("Sigmoid", "Tanh"):
        return torch.sigmoid(y) if activation == "Sigmoid" else torch.tanh(y)
    raise NotSupportedHere(f"activation {activation!r}")


ROWS: dict[str, Handler] = {"Conv": conv, "ConvTranspose": _conv_transpose, "MatMul": matmul, "Gemm": gemm}
MICROSOFT_ROWS: dict[str, Handler] = {"FusedMatMul": _fused_matmul, "FusedConv": _fused_conv}
