"""Operations that are made of others (pyqinfer/frontend/composed.py): each agrees with torch at every batch, and PTQ converts it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_more_ops import Op, assert_runs
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.errors import UnsupportedError


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = seeded(2, 4, 7, 9)
ROWS, POSITIVE = seeded(2, 6, 5), seeded(2, 6, 5).abs() + 0.1
EDGES = torch.tensor([[0, 5, 2, 2, 4, 1, 3], [1, 1, 0, 5, 3, 3, 2]])
MASK = seeded(6, 5, seed=3) > 0
CODEBOOK = seeded(40, 5, seed=4)
TURNS = torch.polar(torch.ones(6, 2), seeded(6, 2, seed=5))
SIGNAL = seeded(2, 48)
BOUNDS = torch.arange(-2.0, 3)


def changed(x: Tensor, change: Any) -> Tensor:
    """A copy that ``change`` has written into."""
    y = x * 1.0
    change(y)
    return y


FUNCTIONS: dict[str, Any] = {
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "tan": lambda x: torch.tan(x * 0.4),
    "sinh": torch.sinh,
    "cosh": torch.cosh,
    "asinh": torch.asinh,
    "atan": lambda x: torch.atan(x * 3),
    "atan2": lambda x: torch.atan2(x, x.flip(1).round()),
    "asin, acos": lambda x: torch.asin(x.tanh()) + torch.acos(x.tanh()),
    "sinc": lambda x: torch.sinc(x.round() / 2),
    "hypot": lambda x: torch.hypot(x, x + 1),
    "trunc, frac": lambda x: x.trunc() * 2 + (x * 3).frac(),
    "fmod, remainder": lambda x: torch.fmod(x * 3, 0.7) + torch.remainder(x * 3, 0.7),
    "division, rounded": lambda x: torch.div(x * 3, 0.7, rounding_mode="floor") + torch.div(x * 3, 0.7, rounding_mode="trunc"),
    "isnan, isinf": lambda x: torch.where((x.isnan() | x.isinf()) & x.isfinite(), 0.0, x),
    "nan_to_num": torch.nan_to_num,
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(1)),
    "rrelu": F.rrelu,
    "power of a parameter": lambda x: (x.abs() + 0.1) ** torch.tensor(2.5),
    "power of a number": lambda x: torch.pow(2.0, x),
    "clamp by tensors": lambda x: torch.clamp(x, -ROWS[0, 0].abs(), ROWS[0, 1].abs()),
    "larger of two": lambda x: torch.max(x, x.flip(1)) - torch.min(x, x.flip(1)),
    "any, all": lambda x: torch.where((x > 1).any(-1, keepdim=True) & (x > -2).all(1, keepdim=True), x, -x),
    "var_mean": lambda x: torch.stack(torch.var_mean(x, -1)),
    "aminmax": lambda x: torch.stack(torch.aminmax(x, dim=-1)),
    "cumprod": lambda x: torch.cumprod(x, 1),
    "sort": lambda x: torch.sort(x, 1, descending=True).values + torch.sort(x, 1).values,
    "sort, places": lambda x: torch.sort(x.round(), stable=True, dim=-1).indices.float(),
    "argsort": lambda x: torch.argsort(x, 1).float(),
    "topk": lambda x: torch.cat([*(part.float() for part in torch.topk(x, 3, -1))], 1),
    "median, kthvalue": lambda x: x.median(1).values + x.kthvalue(2, 1).values,
    "cummax": lambda x: torch.cummax(x, 1).values - torch.cummin(x, -1).values,
    "logcumsumexp": lambda x: torch.logcumsumexp(x, 1),
    "buckets": lambda x: (
        torch.bucketize(x.round(), torch.arange(-2.0, 3)).float() + torch.searchsorted(torch.arange(-2.0, 3), x, right=True)
    ),
    "norm of order 3": lambda x: x.norm(p=3, dim=1),
    "xlogy": lambda x: torch.xlogy(x.relu(), x.abs() + 1) + torch.special.entr(x.relu()),
    "flip of a long dimension": lambda x: x.repeat(1, 1, 20).flip(2),
    "distances": lambda x: torch.cdist(x, x + 1) + torch.cdist(x, x, 1.0),
    "distances from many": lambda x: torch.cdist(x, CODEBOOK),
    "rows added": lambda x: torch.zeros(x.shape[0], 6, 5).index_add(1, EDGES[1], x[:, EDGES[0]]),
    "rows added by scatter": lambda x: torch.zeros(x.shape[0], 6, 5).scatter_add(
        1, EDGES[1][None, :, None].expand(x.shape[0], 7, 5), x[:, EDGES[0]]
    ),
    "largest by scatter": lambda x: torch.zeros(x.shape[0], 6, 5).scatter_reduce(1, x.argsort(1), x, "amax"),
    "elements added": lambda x: x.scatter_add(1, x.argsort(1)[:, :4], x[:, :4]),
    "elements written": lambda x: x.scatter(2, x.argsort(2)[..., :2], 7.0) + x.scatter(1, x.argsort(1), x),
    "one of many": lambda x: torch.zeros_like(x).scatter(1, x.argmax(1, keepdim=True), 1.0),
    "one_hot": lambda x: F.one_hot(x.argmax(1), 6).float(),
    "written by a mask": lambda x: changed(x, lambda y: y.__setitem__(x > 0.5, 3.0)),
    "written by a constant mask": lambda x: changed(x, lambda y: y.__setitem__((slice(None), MASK), 0.5)),
    "rows written": lambda x: changed(x, lambda y: y.__setitem__((slice(None), torch.tensor([4, 1])), x[:, :2] * 2)),
    "every other row written": lambda x: changed(x, lambda y: y[:, ::2].mul_(-2)),
    "places in no order": lambda x: x.flatten(1)[:, torch.randperm(30, generator=torch.Generator().manual_seed(0)).repeat(20)],
    "turned as complex numbers": lambda x: torch.view_as_real(
        torch.view_as_complex(x[..., :4].unflatten(-1, (2, 2)).clone()) * TURNS
    ).flatten(2),
    "complex arithmetic": lambda x: (lambda z: ((z + 1j) / (z.conj() * 2 + 3)).exp().abs() + (z @ z.mT).angle().sum(-1, keepdim=True))(
        torch.complex(x, x.flip(1)) * 0.3
    ),
    "fft2": lambda x: torch.fft.fft2(x).real,
    "rfft, irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1)[:, :3], n=6, dim=1),
    "ifft, scaled": lambda x: torch.view_as_real(torch.fft.ifft(x, norm="ortho").resolve_conj()),
    "irfftn": lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=(6, 5)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_agree_with_torch_at_every_batch(name: str) -> None:
    converted = assert_runs(Op(FUNCTIONS[name]), ROWS, batches=(2, 3) if name == "rows written" else (1, 3))
    assert next(iter(converted.inputs.values()))[0] == "N"


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_images_are_sampled_at_computed_places(padding: str, corners: bool, mode: str) -> None:
    places = seeded(2, 5, 3, 2, seed=1) * 1.3
    assert_runs(Op(lambda x, grid: F.grid_sample(x, grid, mode, padding, corners)), X, places)


def test_images_of_open_sizes_are_sampled() -> None:
    model = Op(lambda x, grid: F.grid_sample(x, grid, padding_mode="border", align_corners=True))
    session = pq.Session(pq.convert(model, example_inputs=(X, seeded(2, 5, 3, 2)), dynamic_size=True))
    x, grid = seeded(3, 4, 11, 6, seed=2), seeded(3, 5, 8, 2, seed=3)
    torch.testing.assert_close(session(x, grid), model(x, grid), rtol=1e-4, atol=1e-5)


def test_edges_that_are_inputs_add_to_nodes() -> None:
    class Messages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.linear = nn.Linear(5, 5)

        def forward(self, x: Tensor, edges: Tensor) -> Tensor:
            y = torch.zeros(x.shape[0], 5).index_add(0, edges[1], self.linear(x)[edges[0]])
            return y + torch.zeros_like(y).scatter_add(0, edges[0][:, None].expand(-1, 5), x[edges[1]])

    model, x = Messages(), seeded(6, 5)
    session = pq.Session(pq.convert(model, example_inputs=(x, EDGES)))
    nodes, edges = seeded(9, 5, seed=1), EDGES + 3
    torch.testing.assert_close(session(nodes, edges), model(nodes, edges), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 9), (6, 12)])
def test_elements_return_to_the_places_of_the_largest(size: tuple[int, int]) -> None:
    class SegNet(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y, places = F.max_pool2d(x, (2, 3), return_indices=True)
            return F.max_unpool2d(y * 2, places, (2, 3), output_size=x.shape[2:]) + places.float().amax((2, 3), keepdim=True)

    assert_runs(SegNet(), seeded(2, 4, *size))


def test_a_constant_output_is_given_as_it_is() -> None:
    model = Op(lambda x: (x * 2, torch.arange(5), torch.ones(2, 3) * 0.5))
    got = pq.Session(pq.convert(model, example_inputs=(ROWS,))).run({"inputs_0": ROWS.numpy()})
    for a, b in zip(got.values(), model(ROWS), strict=True):
        torch.testing.assert_close(torch.as_tensor(a), b, check_dtype=False)


def test_convolutions_with_computed_weights() -> None:
    def mixed(x: Tensor, w: Tensor) -> Tensor:
        kernels = w.mean(0, keepdim=True).reshape(6, 2, 3, 3)
        return F.conv2d(x, kernels, w.flatten()[:6], (2, 1), (1, 2), (1, 2), groups=2)

    inputs = (X, seeded(2, 6, 2, 9))
    session = pq.Session(pq.convert(Op(mixed), example_inputs=inputs))
    torch.testing.assert_close(session(*inputs), mixed(*inputs), rtol=1e-4, atol=1e-5)
    assert_runs(Op(lambda x: F.linear(x, x[0] * 0.5, x[0, :, 0])), ROWS, batches=(1, 3))


def test_each_image_is_filtered_by_its_own_weights_at_the_batch_of_the_examples() -> None:
    def correlated(x: Tensor) -> Tensor:
        n = x.shape[0]
        return F.conv2d(x.reshape(1, -1, 7, 9), x[:, :, 2:5, 3:6].reshape(-1, 1, 3, 3), groups=n * 4).reshape(n, 4, 5, 7)

    with pytest.warns(UserWarning, match="the batch among them, are those of the examples only"):
        converted = pq.convert(Op(correlated), example_inputs=(X,))
    torch.testing.assert_close(pq.Session(converted)(X), correlated(X), rtol=1e-4, atol=1e-5)


def test_heads_that_share_keys() -> None:
    model = Op(lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, 2:], enable_gqa=True))
    assert_runs(model, seeded(2, 4, 7, 8))


def test_more_elements_than_can_be_ordered_are_refused_in_a_sentence() -> None:
    with pytest.raises(UnsupportedError, match="orders 600 elements, and the engine at most 512"):
        pq.convert(Op(lambda x: x.sort(1).values), example_inputs=(torch.zeros(2, 600),))


def test_what_complex_numbers_lack_is_named() -> None:
    with pytest.raises(UnsupportedError, match="of complex numbers: no such operation"):
        pq.convert(Op(lambda x: torch.fft.fft(x).log().real), example_inputs=(ROWS,))


class Spectrogram(nn.Module):
    """A short-time Fourier transform in front of a layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.register_buffer("window", torch.hann_window(16))
        self.linear = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(x, 16, 4, window=self.window, return_complex=True)
        y: Tensor = self.linear(torch.log1p(spectrum.abs()).transpose(1, 2))
        return y


def test_a_spectrogram_of_any_length() -> None:
    model = Spectrogram().eval()
    session = pq.Session(pq.convert(model, example_inputs=(SIGNAL,), dynamic_size=True))
    for x in (SIGNAL, seeded(3, 73)):
        torch.testing.assert_close(session(x), model(x), rtol=1e-4, atol=1e-4)


QUANTIZED: dict[str, tuple[Any, tuple[Tensor, ...]]] = {
    "sampled": (lambda c, x: F.grid_sample(c(x), c(x)[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False), (X,)),
    "ordered": (lambda c, x: c(x).flatten(2).topk(3, -1).values, (X,)),
    "turned": (lambda c, x: torch.view_as_real(torch.fft.rfft2(c(x))), (X,)),
    "distances": (lambda c, x: torch.cdist(c(x).flatten(2), c(x).flatten(2)), (X,)),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_layers_in_front_run_in_integers(name: str) -> None:
    function, inputs = QUANTIZED[name]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Any:
            return function(self.conv, x)

    quantized = pq.quantize(Net().eval(), pq.PTQ(), example_inputs=inputs, calibration=[inputs])
    converted = pq.convert(quantized, example_inputs=inputs)  # which checks itself
    assert [node for node in converted.graph["nodes"] if node["op"] == "conv2d"]
