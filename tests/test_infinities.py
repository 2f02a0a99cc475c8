"""Infinities in constants: masks of attention in every spelling, and results that are infinite."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyqinfer as pq

X = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
INF = float("inf")


class Attention(nn.Module):
    """``function(module, scores, x)``; the module has a mask of minus infinities above the diagonal."""

    mask: Tensor

    def __init__(self, function: Callable[[Attention, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.query, self.function = nn.Linear(8, 8), function
        self.register_buffer("mask", torch.triu(torch.full((6, 6), -INF), 1))
        self.bias = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, self.query(x) @ x.transpose(1, 2), x)


def by_hand(scores: Tensor) -> Tensor:
    e = torch.exp(scores - scores.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


SPELLINGS: dict[str, Callable[[Attention, Tensor, Tensor], Tensor]] = {
    "added": lambda m, s, x: F.softmax(s + m.mask, -1) @ x,
    "reshaped behind": lambda m, s, x: F.softmax((s + m.mask).view(-1, 6), -1).view(s.shape) @ x,
    "in front of a bias": lambda m, s, x: F.softmax(s + m.mask + m.bias, -1) @ x,
    "scaled behind": lambda m, s, x: F.softmax((s + m.mask) / 2.5, -1) @ x,
    "of heads": lambda m, s, x: F.softmax((s.unsqueeze(1) + m.mask)[:, 0].to(torch.float32), -1) @ x,
    "in front of a soft cap": lambda m, s, x: F.softmax(torch.tanh((s + m.mask) / 5) * 5, -1) @ x,
    "in front of log_softmax": lambda m, s, x: F.log_softmax(s + m.mask, -1).exp() @ x,
    "bounded behind": lambda m, s, x: F.softmax((s + m.mask).clamp(min=-1e4), -1) @ x,
    "in front of a softmax by hand": lambda m, s, x: by_hand(s + m.mask) @ x,
    "chosen": lambda m, s, x: F.softmax(torch.where(m.mask < 0, torch.tensor(-INF), s).view(-1, 6, 6), -1) @ x,
    "filled in, scaled behind": lambda m, s, x: F.softmax(s.masked_fill(m.mask < 0, -INF) / 2, -1) @ x,
    "filled in by the input": lambda m, s, x: F.softmax(s.masked_fill((x[:, :, :6] < -0.8) & (m.bias < 10), -INF), -1) @ x,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_masks_of_minus_infinity_convert_however_they_are_written(spelling: str) -> None:
    model = Attention(SPELLINGS[spelling]).eval()
    with torch.no_grad():
        expected = model(X)
    session = pq.Session(pq.convert(model, example_inputs=(X,)), threads=1)
    torch.testing.assert_close(session(X), expected, rtol=1e-5, atol=2e-6)
    graph = pq.quantize(model, pq.PTQ(), example_inputs=(X,), calibration=[X])
    quantized = pq.Session(pq.convert(graph, example_inputs=(X,)), threads=1)
    assert float((torch.as_tensor(quantized(X)) - expected).norm()) <= 0.05 * float(expected.norm())


class Infinite(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        largest = torch.where(x > 0.5, x, -INF).amax(-1)
        least = x.masked_fill(x < 0, INF).amin(1)
        bound = torch.tensor([INF, 0.5, -INF, -0.25, INF, 0.0])
        return largest, least, torch.isinf(largest), x + bound, torch.maximum(x, bound), (x > 0).float().masked_fill(bound < 0, -INF)


def test_results_are_infinite_where_torchs_are() -> None:
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(1))
    x[0] = -1
    expected = Infinite()(x)
    assert all(bool(y.isinf().any()) for y in (*expected[:2], *expected[3:]))
    session = pq.Session(pq.convert(Infinite(), example_inputs=(x,), samples=0), threads=1)
    for got, wanted in zip(session(x), expected, strict=True):
        assert torch.equal(torch.as_tensor(got), wanted.float())


def test_constants_of_nan_and_of_numbers_whose_half_is_another_are_refused_in_words() -> None:
    class Added(nn.Module):
        def __init__(self, *numbers: float) -> None:
            super().__init__()
            self.register_buffer("numbers", torch.tensor(numbers))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.numbers

    for numbers in ((math.nan, 1.0), (INF, 1e-45)):
        with pytest.raises((pq.UnsupportedError, ValueError), match=r"'?add'?.*(NaN|infinit)"):
            pq.convert(Added(*numbers), example_inputs=(torch.randn(3, 2),), samples=0)
