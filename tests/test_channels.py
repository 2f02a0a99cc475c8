"""Chains of reshape, transpose, slice and concat between convolutions convert to the same bits, with fewer nodes that move channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer import lower

CHANNELS = 12
X = torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(0))


@contextmanager
def without_renumbering() -> Iterator[None]:
    original = lower.renumber_channels
    lower.renumber_channels = lambda graph: None
    try:
        yield
    finally:
        lower.renumber_channels = original


def shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def converted(net: nn.Module, quantized: bool = True, x: Tensor = X) -> tuple[pq.Model, pq.Model]:
    """The engine's model with the pass and without it."""
    graph: Any = net.eval()
    if quantized:
        graph = pq.quantize(graph, pq.PTQ(equalize=False, smooth=True), example_inputs=(x[:1],), calibration=[x])
    model = pq.convert(graph, example_inputs=(x[:1],))
    with without_renumbering():
        return model, pq.convert(graph, example_inputs=(x[:1],))


def outputs(model: pq.Model) -> list[Tensor]:
    """What an engine's model makes of the images."""
    found = pq.Session(model)(X)
    return [found] if isinstance(found, Tensor) else list(found)


def counted(model: pq.Model) -> Counter[str]:
    return Counter(node["op"] for node in model.graph["nodes"])


# ---- random chains

Tensors = list[Tensor]
# What a chain is made of: each takes tensors of any channels, and gives such.
STEPS: dict[str, Callable[[Tensors, int, Net], Tensors]] = {
    "shuffle": lambda xs, i, net: [shuffle(x, 2 if x.shape[1] % 2 == 0 else 1) for x in xs],
    "shuffle by 3": lambda xs, i, net: [shuffle(x, 3 if x.shape[1] % 3 == 0 else 1) for x in xs],
    "flip halves": lambda xs, i, net: [
        torch.cat([x[:, x.shape[1] // 2 :], x[:, : x.shape[1] // 2]], 1) if x.shape[1] > 1 else x for x in xs
    ],
    "split": lambda xs, i, net: [*xs[0].chunk(2, 1), *xs[1:]] if xs[0].shape[1] > 1 else xs,
    "join": lambda xs, i, net: [torch.cat(xs, 1)],
    "join in reverse": lambda xs, i, net: [torch.cat(xs[::-1], 1)],
    "every second": lambda xs, i, net: [x[:, ::2] for x in xs],
    "there and back": lambda xs, i, net: [x.permute(0, 2, 3, 1).permute(0, 3, 1, 2) for x in xs],
    "convolution": lambda xs, i, net: [F.relu(net.dense(xs[0], i)), *xs[1:]],
    "depthwise": lambda xs, i, net: [net.depthwise(xs[0], i), *xs[1:]],
    "grouped": lambda xs, i, net: [net.grouped(xs[0], i), *xs[1:]],
    "pool": lambda xs, i, net: [F.max_pool2d(x, 3, 1, 1) for x in xs],
    "function": lambda xs, i, net: [F.silu(x) for x in xs],
    "rotate": lambda xs, i, net: [*xs[1:], xs[0]],
    "sum": lambda xs, i, net: [net.dense(xs[0], i) + xs[0], *xs[1:]],
}


class Net(nn.Module):
    """Convolutions around a chain, whose own layers are made when it first runs."""

    def __init__(self, steps: list[str], seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.steps, self.made = steps, nn.ModuleDict()
        self.stem = nn.Conv2d(3, CHANNELS, 1)
        with torch.no_grad():
            self(X)

    def _layer(self, kind: str, i: int, make: Callable[[], nn.Module]) -> nn.Module:
        key = f"{kind}{i}"
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def dense(self, x: Tensor, i: int) -> Tensor:
        return self._layer("dense", i, lambda: nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1))(x)

    def depthwise(self, x: Tensor, i: int) -> Tensor:
        return self._layer("depthwise", i, lambda: nn.Conv2d(x.shape[1], x.shape[1], 3, padding=1, groups=x.shape[1]))(x)

    def grouped(self, x: Tensor, i: int) -> Tensor:
        return self._layer("grouped", i, lambda: nn.Conv2d(x.shape[1], x.shape[1], 1, groups=2 if x.shape[1] % 2 == 0 else 1))(x)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        xs = [self.stem(x)]
        for i, step in enumerate(self.steps):
            xs = STEPS[step](xs, i, self)
        return tuple(self._layer("last", i, lambda x=x: nn.Conv2d(x.shape[1], 2, 1))(x) for i, x in enumerate(xs))


@settings(max_examples=12, deadline=None)
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=9), seed=st.integers(0, 99))
def test_random_chains_convert_to_the_same_bits(steps: list[str], seed: int) -> None:
    net = Net(steps, seed)
    renumbered, plain = converted(net)
    for result, expected in zip(outputs(renumbered), outputs(plain), strict=True):
        assert torch.equal(result, expected)
    moved = [counted(model)["reshape"] + counted(model)["transpose"] for model in (renumbered, plain)]
    assert moved[0] <= moved[1]


@settings(max_examples=6, deadline=None)
@given(steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=7), seed=st.integers(0, 99))
def test_random_chains_of_floats_agree(steps: list[str], seed: int) -> None:
    net = Net(steps, seed)
    renumbered, _ = converted(net, quantized=False)
    with torch.no_grad():
        for result, expected in zip(outputs(renumbered), net(X), strict=True):
            torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)


# ---- blocks as networks have them


class Shuffled(nn.Module):
    """Units of ShuffleNetV2: half of the channels pass, the others go through a branch, and both are shuffled."""

    def __init__(self, units: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        half = CHANNELS // 2
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(half, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, padding=1, groups=half), nn.Conv2d(half, half, 1), nn.ReLU()
            )
            for _ in range(units)
        )
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, 2, 1, groups=CHANNELS)
        self.last = nn.Conv2d(CHANNELS, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for branch in self.branches:
            passed, read = x.chunk(2, 1)
            x = shuffle(torch.cat([passed, branch(read)], 1), 2)
        return self.last(self.depthwise(x))


def test_shuffled_units_have_no_shuffle_left() -> None:
    renumbered, plain = converted(Shuffled(4))
    assert counted(plain)["reshape"] == 8
    # What is left transposes the output.
    assert [counted(renumbered)[op] for op in ("reshape", "transpose")] == [0, 1]
    assert torch.equal(pq.Session(renumbered)(X), pq.Session(plain)(X))


def test_images_of_any_size_have_no_shuffle_left_either() -> None:
    graph = pq.quantize(Shuffled(2).eval(), pq.PTQ(), example_inputs=(X,), calibration=[X], dynamic_size=True)
    model = pq.convert(graph, example_inputs=(X,), dynamic_size=True)
    assert counted(model)["reshape"] == 0
    with without_renumbering():
        plain = pq.convert(graph, example_inputs=(X,), dynamic_size=True)
    larger = torch.randn(3, 3, 12, 9)
    assert torch.equal(pq.Session(model)(larger), pq.Session(plain)(larger))


class Split(nn.Module):
    """A block of cross-stage partial networks: half of a convolution's channels are refined, all are joined."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.m, self.b = nn.Conv2d(3, 16, 1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(24, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = F.silu(self.a(x)).chunk(2, 1)
        return self.b(torch.cat([first, second, F.silu(self.m(second))], 1))


def test_joined_halves_are_read_as_the_whole_they_were() -> None:
    renumbered, plain = converted(Split())
    assert torch.equal(pq.Session(renumbered)(X), pq.Session(plain)(X))
    assert counted(renumbered)["slice"] <= 1 < counted(plain)["slice"]


def test_an_output_keeps_its_channels_where_they_are() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = shuffle(self.b(shuffle(F.relu(self.a(x)), 3)), 2)
            return x, self.b(x)

    renumbered, plain = converted(Net())
    for result, expected in zip(pq.Session(renumbered)(X), pq.Session(plain)(X), strict=True):
        assert torch.equal(result, expected)


@pytest.mark.parametrize("move", [lambda x: x.transpose(2, 3), lambda x: x.reshape(2, 12, 6, 7), lambda x: x[:, :, ::2]])
def test_what_moves_more_than_channels_stays(move: Callable[[Tensor], Tensor]) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(move(shuffle(F.relu(self.a(x)), 3)))

    graph = pq.quantize(Net().eval(), pq.PTQ(), example_inputs=(X,), calibration=[X], dynamic_batch=False)
    model = pq.convert(graph, example_inputs=(X,))
    with without_renumbering():
        plain = pq.convert(graph, example_inputs=(X,))
    assert torch.equal(pq.Session(model)(X), pq.Session(plain)(X))
