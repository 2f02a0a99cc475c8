"""Functions of torch as modules, for the expressions of random networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Call(nn.Module):
    """``call(inputs, *args, **kwargs)`` with arguments that do not change."""

    def __init__(self, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.call, self.args, self.kwargs = call, args, kwargs

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.call(*inputs, *self.args, **self.kwargs)


class Method(nn.Module):
    """``x.name(x.shape[0], *dims)``: a reshape that keeps the batch."""

    def __init__(self, name: str, *dims: int) -> None:
        super().__init__()
        self.name, self.dims = name, dims

    def forward(self, x: Tensor) -> Tensor:
        return getattr(x, self.name)(x.shape[0], *self.dims)  # type: ignore[no-any-return]


class Reversed(nn.Module):
    """``call(constant, x)``: a number as the first operand."""

    def __init__(self, call: Callable[..., Tensor], constant: float) -> None:
        super().__init__()
        self.call, self.constant = call, constant

    def forward(self, x: Tensor) -> Tensor:
        return self.call(torch.full((), self.constant), x)


class PerChannel(nn.Module):
    """``call(x, p)`` for a parameter of one element per channel (axis 1)."""

    def __init__(self, call: Callable[..., Tensor], channels: int, rank: int) -> None:
        super().__init__()
        self.call = call
        self.p = nn.Parameter(torch.rand((channels, *(1,) * (rank - 2))) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(x, self.p)


class FakeQuantize(nn.Module):
    """A value rounded to codes by the model itself: quantized again by whatever comes behind."""

    def __init__(self, scale: float, zero_point: int, low: int, high: int) -> None:
        super().__init__()
        self.parameters_of_op = (scale, zero_point, low, high)

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, *self.parameters_of_op)


class Slice(nn.Module):
    """``x[begin:end:step]`` on one axis, which stays."""

    def __init__(self, axis: int, begin: int, end: int, step: int) -> None:
        super().__init__()
        self.axis, self.part = axis, slice(begin, end, step)

    def forward(self, x: Tensor) -> Tensor:
        return x[(slice(None),) * self.axis + (self.part,)]


class Select(nn.Module):
    """``x[index]`` on one axis, which goes."""

    def __init__(self, axis: int, index: int) -> None:
        super().__init__()
        self.axis, self.index = axis, index

    def forward(self, x: Tensor) -> Tensor:
        return x.select(self.axis, self.index)


class Chunk(nn.Module):
    """One of the pieces of axis 1, or their concatenation in the opposite order where ``index`` is -1."""

    def __init__(self, pieces: int, index: int) -> None:
        super().__init__()
        self.pieces, self.index = pieces, index

    def forward(self, x: Tensor) -> Tensor:
        pieces = x.chunk(self.pieces, 1)
        return torch.cat(pieces[::-1], 1) if self.index < 0 else pieces[self.index]


class Step(nn.Module):
    """Elements above a bound as they are, the bound's opposite in place of the others."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = bound

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.bound, x, -self.bound)


class Bits(nn.Module):
    """Bits of integers, which the engine does not combine."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x > 0).to(torch.int64) & 5).to(torch.float32)


class ClassToken(nn.Module):
    """A learned row in front of the others of [N, L, D], as vision transformers have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 1, width) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)


def cat(a: Tensor, b: Tensor, dim: int) -> Tensor:
    return torch.cat([a, b], dim)


def attention(q: Tensor, kv: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, kv, kv)


def times_transposed(a: Tensor, b: Tensor) -> Tensor:
    return a @ b.mT


def tokens(x: Tensor) -> Tensor:
    """[N, C, H, W] to [N, H*W, C], as vision transformers have it."""
    return x.flatten(2).transpose(1, 2)
