"""Constant codes in the ops that the graph reader takes for quantized weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
from torch import Tensor

from pyqinfer.frontend.sources.onnx.values import INTEGERS, Array, Coded, Scales
from pyqinfer.frontend.values import NotSupportedHere


def dequantized(value: Coded) -> Tensor:
    """The floats that constant codes stand for, in an op from which the reader takes the codes again."""
    ops, s = torch.ops.quantized_decomposed, value.scales
    codes, low, high = value.codes, s.low, s.high
    result: Tensor
    if s.axis is None:
        scale, zero = float(s.scale.reshape(-1)[0]), int(s.zero_point.reshape(-1)[0])
        result = ops.dequantize_per_tensor(codes, scale, zero, low, high, codes.dtype)
    elif not s.block:
        parameters = (_constant(s.scale.astype(np.float32).reshape(-1)), _constant(s.zero_point.astype(np.int64).reshape(-1)))
        result = ops.dequantize_per_channel(codes, *parameters, s.axis, low, high, codes.dtype)
    elif codes.ndim == 2 and s.axis == 1 and codes.shape[1] == s.block * s.scale.shape[1]:
        parameters = (_constant(s.scale.astype(np.float32)), _constant(s.zero_point.astype(np.int64)))
        result = ops.dequantize_per_channel_group(codes, *parameters, low, high, codes.dtype, s.block, torch.float32)
    else:
        size = codes.shape[s.axis]
        spread = [np.repeat(a, s.block, s.axis).take(range(size), s.axis) for a in (s.scale.astype(np.float32), s.zero_point)]
        result = (codes.to(torch.float32) - _constant(spread[1].astype(np.float32))) * _constant(spread[0])
    return result


def _constant(array: Array) -> Tensor:
    # A list of numbers is how torch.export takes a constant that no module holds.
    return torch.tensor(array.tolist(), dtype=torch.float32 if array.dtype.kind == "f" else torch.int64).reshape(array.shape)


def transposed(value: Coded) -> Coded:
    """Codes of a matrix with its axes exchanged."""
    s = value.scales
    if value.codes.ndim != 2:
        raise NotSupportedHere(f"quantized weights of rank {value.codes.ndim}")
    axis = None if s.axis is None else 1 - s.axis
    scale, zero_point = (s.scale.T, s.zero_point.T) if s.block else (s.scale, s.zero_point)
    changed: Scales = replace(s, axis=axis, scale=scale, zero_point=zero_point)
    return Coded(value.codes.T.contiguous(), changed)


def code_range(kind: str) -> tuple[int, int]:
    """Least and largest code of an integer type of ONNX, by name."""
    if kind not in INTEGERS:
        raise NotSupportedHere(f"codes of type {kind}")
    return INTEGERS[kind]


def quantized_numbers(x: Array, s: Scales) -> Array:
    """Codes of constant floats, as QuantizeLinear computes them: x / scale rounded to even, in float32."""
    scale, zero = (_along(a, x, s) for a in (s.scale.astype(np.float32), s.zero_point))
    codes: Any = np.clip(np.rint(x.astype(np.float32) / scale) + zero, s.low, s.high)
    return np.asarray(codes.astype(np.int64))


def _along(parameter: Array, x: Array, s: Scales) -> Array:
    if s.axis is None:
        return parameter.reshape(-1)[0]  # type: ignore[no-any-return]
    if s.block:
        return np.repeat(parameter, s.block, s.axis).take(range(x.shape[s.axis]), s.axis)
    shape = [1] * x.ndim
    shape[s.axis] = -1
    return parameter.reshape(shape)


def tight(codes: Array, low: int, high: int) -> tuple[int, int]:
    """The range of as few bits as constant codes need, within the one that their type states."""
    least, most = (int(codes.min()), int(codes.max())) if codes.size else (0, 1)
    if low == 0:
        return 0, (1 << max(1, most.bit_length())) - 1
    if least >= -1 and most <= 1:
        return -1, 1
    reach = 1 << max(-least - 1, most, 1).bit_length()
    return -reach, reach - 1
