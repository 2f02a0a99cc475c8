"""Ops that are taken apart: by torch's decompositions where no handler knows them, or by handlers into several of the engine's ops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pyqinfer as pq

X = torch.randn(2, 6, 9, 10, generator=torch.Generator().manual_seed(0))
SLOPE = torch.rand(6, generator=torch.Generator().manual_seed(1))


class Op(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def assert_runs(model: nn.Module, *inputs: Tensor, batches: tuple[int, ...] = (1, 2, 3)) -> pq.Model:
    """The engine gives torch's answer for every batch."""
    converted = pq.convert(model.eval(), example_inputs=inputs)
    session = pq.Session(converted, threads=1)
    for batch in batches:
        rows = [torch.cat([x, x.flip(0)])[:batch] for x in inputs]
        with torch.no_grad():
            expected = model(*rows)
        got = session(*rows)
        assert got.shape == expected.shape
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * max(1.0, float(expected.abs().max())))
    return converted


OPS = {
    "einsum": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "glu": lambda x: F.glu(x, 1),
    "square": torch.square,
    "mish": F.mish,
    "amin": lambda x: x.amin((2, 3)),
    "min of all but the batch": lambda x: x.flatten(1).min(1).values,
    "max along an axis": lambda x: x.max(1).values,
    "adaptive_max_pool2d to 1": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive_max_pool2d to 3x5": lambda x: F.adaptive_max_pool2d(x, (3, 5)),
    "nearest-exact": lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
    "pad circular": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "hstack": lambda x: torch.hstack([x, x]),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.3),
    "log1p": lambda x: torch.log1p(x.abs()),
    "power of 4": lambda x: x**4,
    "power of 7": lambda x: x**7,
    "power of -2": lambda x: (x.abs() + 1) ** -2,
    "GeM pooling": lambda x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
    "cosine_similarity": lambda x: F.cosine_similarity(x, x * 2 + 1, dim=1),
    "logsigmoid": F.logsigmoid,
    "channels in another order": lambda x: x[:, [2, 0, 1]],
    "rows by a mask": lambda x: x[:, :, torch.arange(9) % 4 != 1],
    "index_select": lambda x: x.index_select(3, torch.tensor([9, 7, 5, 3, 0, 0])),
    "a channel set to zero": lambda x: (lambda y: (y[:, 0].zero_(), y)[1])(x * 1),
    "a block set to a number": lambda x: (lambda y: (y[:, :, 2:4, 3:].fill_(2.5), y)[1])(x * 1),
    "ones like": lambda x: x + torch.ones_like(x) * 0.5,
    "zeros of the batch": lambda x: torch.cat([x.flatten(1), torch.zeros(x.shape[0], 3)], 1),
    "prelu of rank 3": lambda x: F.prelu(x.flatten(2), SLOPE),
    "rms": lambda x: F.rms_norm(x, (10,)),
    "dist": lambda x: (x - 1).abs().pow(2).sum((1, 2, 3)).sqrt(),
}


@pytest.mark.parametrize("name", OPS)
def test_ops_agree_with_torch_at_every_batch(name: str) -> None:
    converted = assert_runs(Op(OPS[name]), X)
    assert next(iter(converted.inputs.values()))[0] == "N"


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1, 1)}, {"groups": 2, "padding": (1, 0, 2)}], ids=str
)
def test_convolutions_over_volumes(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    converted = assert_runs(nn.Sequential(nn.Conv3d(4, 6, 3, **options), nn.ReLU()), torch.randn(2, 4, 7, 8, 9))
    weights = [c for c in converted.graph["constants"] if c["name"].endswith(".weight")]
    assert len(weights) == 1  # one for all depths


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module, last: bool) -> None:
        super().__init__()
        self.layer, self.last = layer, last

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.layer(x)
        return (state[0] if isinstance(state, tuple) else state).permute(1, 0, 2) * 1 if self.last else outputs


@pytest.mark.parametrize("last", [False, True], ids=["outputs", "state"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_unrolled(kind: Any, options: dict[str, Any], last: bool) -> None:
    torch.manual_seed(0)
    assert_runs(Recurrent(kind(6, 8, batch_first=True, **options), last), torch.randn(2, 4, 6))


def test_a_recurrent_cell() -> None:
    class Unrolled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.cell = nn.GRUCell(6, 8)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            for i in range(3):
                h = self.cell(x[:, i], h)
            return h

    assert_runs(Unrolled(), torch.randn(2, 3, 6), torch.randn(2, 8))


def test_recurrent_layers_are_quantized() -> None:
    torch.manual_seed(0)
    model = Recurrent(nn.LSTM(6, 16, batch_first=True), False).eval()
    x = torch.randn(8, 5, 6)
    graph = pq.quantize(model, pq.PTQ(first_last=None), example_inputs=(x,), calibration=[x])
    converted = pq.convert(graph, example_inputs=(x,))
    assert converted.integer_share({"x": (8, 5, 6)}) > 0.95
    with torch.no_grad():
        expected = model(x)
    assert float((pq.Session(converted, threads=1)(x) - expected).norm() / expected.norm()) < 0.1


@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.integers(-10, 9), min_size=1, max_size=12))
def test_any_constant_places(places: list[int]) -> None:
    assert_runs(Op(lambda x: x[..., torch.tensor(places)] * 1), X, batches=(2,))


def test_places_in_no_order_are_refused() -> None:
    x = torch.zeros(2, 2000)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    with pytest.raises(pq.UnsupportedError, match="an index of 2000 places in no order"):
        pq.convert(Op(lambda x: x[:, order] * 2), example_inputs=(x,))


def test_weights_that_several_layers_use_are_stored_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.inner = nn.Embedding(50, 16), nn.Linear(16, 16)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.inner(torch.relu(self.inner(self.embed(ids))))
            return F.linear(x, self.embed.weight)

    ids = torch.randint(0, 50, (2, 5))
    model = Tied().eval()
    converted = pq.convert(model, example_inputs=(ids,))
    names = [c["name"] for c in converted.graph["constants"] if c["name"].endswith(".weight")]
    assert len(names) == 2
    got = pq.Session(converted, threads=1)(ids.numpy())
    np.testing.assert_allclose(got, model(ids).detach().numpy(), rtol=1e-4, atol=1e-5)
