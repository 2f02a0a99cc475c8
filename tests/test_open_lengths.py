"""Lengths that are known only in a run: sizes that are computed from them, positions, tables, masks, and elements at computed places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.reference import run

_LENGTHS = (3, 4, 7, 12)


class Of(nn.Module):
    """A function of one input, with a linear layer behind it where it gives floats of eight columns."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def _tiles(x: Tensor) -> Tensor:
    return x.repeat(1, 2, 1)[:, : x.shape[1] + 1] * 1.0


def _relative(x: Tensor) -> Tensor:
    """Distances between positions, in logarithmic buckets as encoders have them."""
    at = torch.arange(x.shape[1])
    distance = (at[None, :] - at[:, None]).abs()
    far = torch.ceil(torch.log(distance.clamp(min=1).float()) * 2).to(torch.int64)
    buckets = torch.where(distance < 3, distance, torch.minimum(far + 3, torch.full_like(far, 9)))
    table = torch.linspace(-1, 1, 40).reshape(10, 4)
    return nn.functional.embedding(buckets, table).sum(-1)[None] + x.mean(-1, keepdim=True)


def _rotary(x: Tensor) -> Tensor:
    angles = torch.arange(x.shape[1])[:, None].float() * torch.tensor([1.0, 0.1, 0.01, 0.001])
    angles = torch.cat([angles, angles], -1)
    turned = torch.cat([-x[..., 4:], x[..., :4]], -1)
    return x * angles.cos() + turned * angles.sin()


# Each function takes one input [N, T, 8].
_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "heads": lambda x: x.reshape(x.shape[0], x.shape[1], 2, 4).transpose(1, 2).reshape(x.shape[0] * 2, x.shape[1], 4) * 2,
    "all but the last": lambda x: x[:, :-1] - x[:, 1:],
    "the last": lambda x: x[:, -1] * 2,
    "the last but one": lambda x: x[:, -2] * 2,
    "halves": lambda x: x[:, : x.shape[1] // 2] * 2,
    "two pieces": lambda x: torch.cat(list(reversed(x.chunk(2, 1))), 1) * 2,
    "rolled": lambda x: x.roll(2, 1) * 2,
    "repeated": _tiles,
    "counted": lambda x: x + torch.arange(1, x.shape[1] + 1)[:, None],
    "counted backwards": lambda x: x * torch.arange(x.shape[1], 0, -1)[:, None],
    "filled": lambda x: torch.cat([torch.zeros(x.shape[0], x.shape[1] + 2, 8), x], 1) * 2,
    "divided by the length": lambda x: x.sum(1) / x.shape[1],
    "part of a table": lambda x: x + torch.linspace(0, 1, 160).reshape(20, 8)[: x.shape[1]],
    "relative positions": _relative,
    "rotary positions": _rotary,
    "the largest's place": lambda x: x[torch.arange(x.shape[0]), x.sum(-1).argmax(-1)] * 2,
    "both extremes": lambda x: x.max(1).values - x.gather(1, x.min(1, keepdim=True).indices).squeeze(1),
    "rows at places": lambda x: x.flatten(0, 1)[(x[..., 0] > 0).long().sum(1)] * 2,
}


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_a_function_of_any_length_is_torchs(name: str) -> None:
    net, generator = Of(_FUNCTIONS[name]).eval(), torch.Generator().manual_seed(3)
    x = torch.randn(2, 6, 8, generator=generator)
    model = pq.convert(net, example_inputs=(x,), dynamic_size=True)
    assert model.inputs["inputs_0"][:2] == ("N", "D")
    session, constants = pq.Session(model), [model.constant(i) for i in range(len(model.graph["constants"]))]
    for n in (1, 3):
        for length in _LENGTHS:
            x = torch.randn(n, length, 8, generator=generator)
            torch.testing.assert_close(session(x), net(x), rtol=1e-5, atol=1e-5)
            twin = run(model.graph, constants, {"inputs_0": x.numpy()})
            assert np.array_equal(next(iter(twin.values())), session(x).numpy())


def test_sizes_of_images_are_computed_for_an_enlargement() -> None:
    def enlarged(x: Tensor) -> Tensor:
        small = nn.functional.max_pool2d(x, 3, 2)
        return nn.functional.interpolate(small, size=x.shape[2:], mode="bilinear") + x

    net = Of(enlarged).eval()
    model = pq.convert(net, example_inputs=(torch.randn(1, 3, 9, 12),), dynamic_size=True)
    for h, w in ((5, 7), (16, 9)):
        x = torch.randn(2, 3, h, w)
        torch.testing.assert_close(pq.Session(model)(x), net(x), rtol=1e-5, atol=1e-5)


def test_a_size_that_comes_out_negative_is_refused_with_the_inputs() -> None:
    net = Of(lambda x: torch.cat([x, torch.zeros(x.shape[0], x.shape[1] - 3)], 1) * 2)
    model = pq.convert(net, example_inputs=(torch.randn(2, 6),), dynamic_size=True)
    with pytest.raises(ValueError, match=r"D - 3, which is -1 here: the inputs have D = 2|the model holds only where"):
        pq.Session(model)(torch.randn(2, 2))


def test_a_place_outside_of_what_is_looked_up_names_the_layer() -> None:
    net = Of(lambda x, at: x.gather(1, at) * 2)
    model = pq.convert(net, example_inputs=(torch.randn(2, 5), torch.tensor([[0, 4], [1, 2]])))
    for wrong in (5, -1):
        with pytest.raises(ValueError, match=rf"index {wrong} at position 1 is outside \[0, 5\)"):
            pq.Session(model)(torch.randn(2, 5), torch.tensor([[0, wrong], [1, 2]]))


@given(st.sampled_from([(0, 5), (1, 5), (2, 3)]), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_negative_places_count_from_the_end(axis_and_size: tuple[int, int], seed: int) -> None:
    axis, size = axis_and_size
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(-size, size, (4,), generator=generator)
    net = Of(lambda x, at: x[(slice(None),) * axis + (at,)] * 2)
    x = torch.randn(5, 5, 3, generator=generator)
    model = pq.convert(net, example_inputs=(x, at), dynamic_batch=False)
    assert torch.equal(pq.Session(model)(x, at), net(x, at))
