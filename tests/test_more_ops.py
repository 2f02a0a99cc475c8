"""Ops that are taken apart: by torch's decompositions where no handler knows them, or by handlers into several of the engine's ops."""

from __future__ import annotations

import unittest.mock
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


GRID = torch.rand(1, 5, 7, 2, generator=torch.Generator().manual_seed(2)) * 2.4 - 1.2
BILINEAR = torch.randn(3, 10, 10, generator=torch.Generator().manual_seed(3))


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
    "adaptive_max_pool2d with windows that differ": lambda x: F.adaptive_max_pool2d(x, (4, 7)),
    "adaptive_max_pool2d along one axis": lambda x: F.adaptive_max_pool2d(x, (9, 3)),
    "unfold": lambda x: F.unfold(x, (3, 2), dilation=(1, 2), padding=1, stride=(2, 1)),
    "unfold into patches": lambda x: F.unfold(x, (3, 5), stride=(3, 5)),
    "fold": lambda x: F.fold(F.unfold(x, 3, padding=1, stride=2), (9, 10), 3, padding=1, stride=2),
    "windows along two dimensions": lambda x: x.unfold(2, 5, 2).unfold(3, 4, 3),
    "bicubic": lambda x: F.interpolate(x, scale_factor=1.7, mode="bicubic"),
    "bicubic, aligned": lambda x: F.interpolate(x, (5, 21), mode="bicubic", align_corners=True),
    "bilinear, smoothed": lambda x: F.interpolate(x, (4, 7), mode="bilinear", antialias=True),
    "bicubic, smoothed": lambda x: F.interpolate(x, (4, 7), mode="bicubic", antialias=True),
    "nearest-exact by 1.5": lambda x: F.interpolate(x, scale_factor=1.5, mode="nearest-exact"),
    "grid_sample at constant places": lambda x: F.grid_sample(x, GRID.expand(x.shape[0], -1, -1, -1), align_corners=False),
    "grid_sample of nearest elements": lambda x: F.grid_sample(x, GRID.expand(x.shape[0], -1, -1, -1), mode="nearest", align_corners=True),
    "places of two dimensions": lambda x: x[:, :, torch.tensor([0, 8, 3]), torch.tensor([9, 0, -1])],
    "a table of places": lambda x: x[..., torch.tensor([[0, 3, 3], [9, 2, 1]])],
    "slices of no elements": lambda x: torch.cat([x[:, :, :0], x + 1, x[:, :, 9:]], 2),
    "a sum in a slice": lambda x: (lambda y: (y[:, :, 2:, 1:].add_(x[:, :, :-2, :1]), y)[1])(x * 1),
    "local_response_norm": lambda x: F.local_response_norm(x, 3),
    "lp_pool2d": lambda x: F.lp_pool2d(x, 2, 2),
    "softshrink": F.softshrink,
    "sign": torch.sign,
    "logsumexp": lambda x: torch.logsumexp(x, (1, 3)),
    "logsumexp, kept": lambda x: x.logsumexp(2, keepdim=True),
    "product along an axis": lambda x: x.prod(1) + x.prod(2).mean(1, keepdim=True)[..., :9].transpose(1, 2) * 0,
    "diagonal": lambda x: x.diagonal(-2, 2, 3),
    "diagonal of channels": lambda x: x.diagonal(1, 3, 1),
    "bilinear": lambda x: F.bilinear(x, x + 1, BILINEAR, torch.arange(3.0)),
    "in place, then read": lambda x: (lambda y: F.relu_(y) + y)(x * 2),
    "in place behind a view": lambda x: (lambda y: y.flatten(1).mul_(2.0))(x + 1),
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


VOLUME_POOLS = {
    "max": nn.MaxPool3d((2, 3, 2), (2, 1, 2), (1, 1, 0)),
    "max, dilated": nn.MaxPool3d(2, 1, dilation=2),
    "mean": nn.AvgPool3d(3, 2, 1),
    "mean of what is there": nn.AvgPool3d(2, 2, 1, count_include_pad=False),
    "mean to a size": nn.AdaptiveAvgPool3d((2, 3, 4)),
    "max to a size": nn.AdaptiveMaxPool3d((2, 3, 1)),
    "batch norm": nn.BatchNorm3d(4),
    "trilinear": nn.Upsample(scale_factor=(2.0, 1.5, 1.0), mode="trilinear"),
    "nearest": nn.Upsample(scale_factor=(1.5, 2.0, 2.0)),
}


@pytest.mark.parametrize("name", VOLUME_POOLS)
def test_volumes(name: str) -> None:
    torch.manual_seed(0)
    assert_runs(nn.Sequential(nn.Conv3d(4, 4, 1), VOLUME_POOLS[name]), torch.randn(2, 4, 7, 8, 9))


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.tuples(*[st.integers(1, 4)] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    groups=st.sampled_from([1, 2]),
)
def test_transposed_convolutions_over_volumes(
    kernel: tuple[int, ...], stride: tuple[int, ...], padding: tuple[int, ...], groups: int
) -> None:
    torch.manual_seed(0)
    stride = tuple(min(s, k) for s, k in zip(stride, kernel, strict=True))
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True))
    layer = nn.ConvTranspose3d(4, 6, kernel, stride, padding, groups=groups)  # type: ignore[arg-type]
    assert_runs(layer, torch.randn(2, 4, 5, 5, 6), batches=(1, 2))


def quantized(model: nn.Module, x: Tensor) -> pq.Model:
    """A model in 8 bits, whose engine gives the quantized graph's answer near the float one."""
    graph = pq.quantize(model.eval(), pq.PTQ(first_last=None), example_inputs=(x,), calibration=[x])
    converted = pq.convert(graph, example_inputs=(x,))
    with torch.no_grad():
        expected = model(x)
    assert float((pq.Session(converted, threads=1)(x) - expected).norm() / expected.norm()) < 0.1
    return converted


QUANTIZED = {
    "volumes": (nn.Sequential(nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(6, 3, 2)), (4, 8, 8, 8)),
    "volumes, transposed": (nn.Sequential(nn.ConvTranspose3d(4, 6, 3, 2, 1), nn.ReLU(), nn.Conv3d(6, 3, 1)), (4, 4, 5, 5)),
    "transposed, one dimension": (nn.Sequential(nn.ConvTranspose1d(4, 6, 4, 2, 1), nn.ReLU(), nn.Conv1d(6, 3, 3)), (4, 12)),
    "transposed, depthwise": (nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=4), nn.Conv2d(4, 3, 3)), (4, 7, 7)),
    "transposed, in groups": (nn.Sequential(nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2), nn.Conv2d(4, 3, 3)), (6, 7, 7)),
    "transposed, one dimension, in groups": (nn.Sequential(nn.ConvTranspose1d(6, 9, 4, 2, groups=3), nn.Conv1d(9, 3, 3)), (6, 12)),
    "infinities in front of a max-pool": (
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.ConstantPad2d((0, 1, 0, 1), float("-inf")), nn.MaxPool2d(3, 2), nn.Conv2d(6, 3, 3)),
        (3, 14, 14),
    ),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_layers_run_in_integers_behind_quantize(name: str) -> None:
    torch.manual_seed(0)
    model, shape = QUANTIZED[name]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(4, *shape)
    assert quantized(model, x).integer_share({"input": tuple(x.shape)}) == 1


class Bags(nn.Module):
    def __init__(self, mode: str, padding: int | None) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(20, 6, mode=mode, padding_idx=padding)

    def forward(self, x: Tensor) -> Any:
        return self.table(x)


@pytest.mark.parametrize(("mode", "padding"), [("sum", None), ("mean", None), ("max", None), ("sum", 3), ("mean", -1)])
def test_bags_of_one_length(mode: str, padding: int | None) -> None:
    torch.manual_seed(0)
    assert_runs(Bags(mode, padding), torch.tensor([[3, 19, 0, 3], [19, 19, 19, 19], [1, 2, 3, 4]]))


def test_bags_of_other_lengths_are_refused() -> None:
    class Ragged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(20, 6)

        def forward(self, x: Tensor, starts: Tensor) -> Any:
            return self.table(x, starts)

    with pytest.raises(pq.UnsupportedError, match="embedding_bag"):
        pq.convert(Ragged(), example_inputs=(torch.arange(6), torch.tensor([0, 2])))


def test_results_that_are_not_computed_are_named_where_they_are_read() -> None:
    places = Op(lambda x: F.max_pool3d(x, 2, return_indices=True)[1].float())
    with pytest.raises(pq.UnsupportedError, match="the places of largest elements"):
        pq.convert(places, example_inputs=(torch.randn(2, 3, 4, 8, 8),))


@settings(max_examples=25, deadline=None)
@given(
    inputs=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    outputs=st.tuples(st.integers(1, 15), st.integers(1, 15)),
    mode=st.sampled_from(["bicubic", "bicubic, aligned", "bicubic, smoothed", "bilinear, smoothed", "nearest-exact"]),
)
def test_any_size_to_any_other(inputs: tuple[int, int], outputs: tuple[int, int], mode: str) -> None:
    name, _, how = mode.partition(", ")
    options = {"align_corners": True} if how == "aligned" else {"antialias": True} if how else {}
    x = torch.randn(2, 2, *inputs, generator=torch.Generator().manual_seed(0))
    # torch itself smooths images of one row or column wrongly, and differently in each of its layouts. An image becomes one on the way
    # where the output is: of two rows that are made three, while two columns are made one, it writes the first row three times.
    if how != "smoothed" or min(*inputs, *outputs) > 1:
        assert_runs(Op(lambda x: F.interpolate(x * 1, outputs, mode=name, **options)), x, batches=(1, 2))


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


def test_a_long_sequence_is_traced_as_one_op() -> None:
    torch.manual_seed(0)
    with unittest.mock.patch("torch._decomp.decompositions.lstm_impl", side_effect=AssertionError("unrolled while it is traced")):
        assert_runs(Recurrent(nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True, proj_size=5), False), torch.randn(2, 70, 6))


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


def test_places_in_no_order_are_looked_up() -> None:
    x = torch.randn(2, 2000, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    converted = assert_runs(Op(lambda x: x[:, order] * 2), x)
    assert [node["op"] for node in converted.graph["nodes"] if node["op"] in ("gather", "concat")] == ["gather"]


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


STEPS: dict[str, Any] = {
    "new": lambda x: x * 1.5,
    "relu_": lambda x: x.relu_(),
    "add_": lambda x: x.add_(0.25),
    "mul_": lambda x: x.mul_(0.5),
    "view": lambda x: x.view(x.shape),
    "flat": lambda x: x.flatten(1).reshape(x.shape),
    "half": lambda x: torch.cat([x[:, :2], x[:, 2:]], 1),
    "to": lambda x: x.to(torch.float32),
    "piece": lambda x: (x.chunk(2, 1)[0].add_(1.0), x)[1],
    "slice": lambda x: (x[:, 1:3].relu_(), x)[1],
}


class InPlace(nn.Module):
    """Steps on a growing list of tensors, some of which share memory; the result has all of them."""

    def __init__(self, program: list[tuple[str, int]]) -> None:
        super().__init__()
        self.program = program

    def forward(self, x: Tensor) -> Tensor:
        values = [x * 2, x - 1]
        for step, place in self.program:
            values.append(STEPS[step](values[place % len(values)]))
        return torch.cat(values, 1)


@settings(max_examples=60, deadline=None)
@given(program=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 5)), min_size=1, max_size=6))
def test_what_is_changed_in_place_is_read_as_in_torch(program: list[tuple[str, int]]) -> None:
    x = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    model = InPlace(program)
    try:
        session = pq.Session(pq.convert(model, example_inputs=(x,), check=False), threads=1)
    except pq.UnsupportedError:
        return  # refused is right too
    torch.testing.assert_close(session(x), model(x))


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(3, 2, 1, 1), (2, 2, 0, 1), (5, 1, 2, 1), (3, 3, 1, 2), (1, 2, 0, 1)]
)
@pytest.mark.parametrize("channels", [1, 5, 64])
def test_the_largest_floats_of_windows_are_those_of_the_reference(
    kernel: int, stride: int, padding: int, dilation: int, channels: int
) -> None:
    net = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=kernel == 3).eval()
    x = torch.randn(2, channels, 9, 11)
    model = pq.convert(net, example_inputs=(x,))
    x.view(-1)[::7], x.view(-1)[::11], x.view(-1)[::13], x.view(-1)[::17] = torch.nan, -torch.inf, torch.inf, -0.0
    expected = np.asarray(pq.Session(model, isa="reference")(x)).view(np.int32)
    for isa in pq.cpu_info()["isas"]:
        for threads in (1, 2):
            np.testing.assert_array_equal(np.asarray(pq.Session(model, isa=isa, threads=threads)(x)).view(np.int32), expected)


def test_a_norm_in_front_of_its_layer_writes_codes_in_one_step() -> None:
    """Networks such as DenseNet normalize, rectify and then convolve: what rectifies is the bound of the codes."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    net[2].running_mean.uniform_(-1, 1)
    net[2].weight.data.uniform_(0.5, 2)
    x = torch.randn(2, 3, 12, 12)
    graph = pq.quantize(net, pq.PTQ(equalize=False, bias_correction=False), example_inputs=(x,), calibration=[x])
    model = pq.convert(graph, example_inputs=(x,))
    ops = [node["op"] for node in model.graph["nodes"]]
    assert ops.count("affine") == 1
    assert "clamp" not in ops
    assert ops.count("quantize") == 1  # the network's input
    torch.testing.assert_close(torch.as_tensor(pq.Session(model)(x)), graph(x), rtol=0, atol=0.05)
    expected = np.asarray(pq.Session(model, isa="reference")(x))
    for isa in pq.cpu_info()["isas"]:
        np.testing.assert_array_equal(np.asarray(pq.Session(model, isa=isa)(x)), expected)
