"""What depends on parameters alone is computed at conversion, and before quantizers are placed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import pyqinfer as pq
from pyqinfer.quantization.graph import TracedModel

X = torch.randn(4, 8, 10, 10, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(0))


def conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(8, 8, 3, padding=1)


def pruned() -> nn.Module:
    layer = conv()
    prune.l1_unstructured(layer, "weight", 0.5)
    return layer


class Standardized(nn.Conv2d):
    """Weight standardization: the weights are normalized each time."""

    def forward(self, input: Tensor) -> Tensor:
        mean, deviation = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return F.conv2d(input, (self.weight - mean) / deviation, self.bias, padding=1)


class LoRA(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base, self.a, self.b = nn.Linear(16, 16), nn.Parameter(torch.randn(4, 16)), nn.Parameter(torch.randn(16, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.base.weight + 0.1 * self.b @ self.a, self.base.bias)


class Product(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weight, self.bias, self.function = nn.Parameter(torch.randn(16, 12)), nn.Parameter(torch.randn(12)), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


COMPUTED = {
    "weight_norm": (lambda: parametrizations.weight_norm(conv()), X),
    "spectral_norm": (lambda: parametrizations.spectral_norm(conv()), X),
    "pruned": (pruned, X),
    "standardized": (lambda: Standardized(8, 8, 3), X),
    "LoRA": (LoRA, ROWS),
    "matmul": (lambda: Product(lambda x, w, b: x @ w), ROWS),
    "matmul and bias": (lambda: Product(lambda x, w, b: x @ w + b), ROWS),
    "addmm": (lambda: Product(lambda x, w, b: torch.addmm(b, x.view(-1, 16), w)), ROWS),
    "mm": (lambda: Product(lambda x, w, b: torch.mm(x.reshape(-1, 16), w)), ROWS),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_layers_with_computed_weights_run_in_integers(name: str) -> None:
    make, x = COMPUTED[name]
    layer = make()
    assert isinstance(layer, nn.Module)
    model = nn.Sequential(layer).eval()
    graph = pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[x])
    with torch.no_grad():
        expected, got = model(x), graph(x)
    assert float((expected - got).norm() / expected.norm()) < 0.03
    converted = pq.convert(graph, example_inputs=(x,))
    assert converted.integer_share({"input": tuple(x.shape)}) == 1.0


@st.composite
def computed_vectors(draw: st.DrawFn) -> Any:
    """A function of two vectors of 6 that gives one of 6, by ops of constants, among them ones with tensors in lists."""
    steps = draw(
        st.lists(st.sampled_from(["sin", "add", "cat", "stack", "roll", "outer", "index", "meshgrid", "arange"]), min_size=1, max_size=5)
    )

    def compute(a: Tensor, b: Tensor) -> Tensor:
        for step in steps:
            a = {
                "sin": lambda v: v.sin(),
                "add": lambda v: v + 2 * b,
                "cat": lambda v: torch.cat((v[:2], b[2:5], torch.zeros(1))),
                "stack": lambda v: torch.stack((v, b), 1).flatten()[3:9],
                "roll": lambda v: v.roll(2, 0),
                "outer": lambda v: (v[:, None] * b[None]).sum(0),
                "index": lambda v: v[torch.tensor([5, 0, 3, 3, 1, 2])],
                "meshgrid": lambda v: torch.meshgrid(v, b, indexing="ij")[0].mean(1),
                "arange": lambda v: v * torch.arange(6) / 6,
            }[step](a)
        return a

    return compute


class WithVector(nn.Module):
    def __init__(self, compute: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.compute = nn.Linear(6, 6), compute
        self.a, self.b = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.linear.weight * self.compute(self.b, self.a), self.compute(self.a, self.b))


@settings(max_examples=20, deadline=None)
@given(compute=computed_vectors())
def test_random_constant_subgraphs_are_evaluated(compute: Any) -> None:
    model, x = WithVector(compute).eval(), torch.randn(4, 6)
    graph = pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[x])
    for source in (model, graph):
        converted = pq.convert(source, example_inputs=(x,))
        with torch.no_grad():
            expected = source(x)
        torch.testing.assert_close(pq.Session(converted, threads=1)(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert converted.integer_share({"x": (4, 6)}) == 1.0


def test_constants_that_would_be_blown_up_stay_operations() -> None:
    class Mask(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("row", torch.randn(1, 3000))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.row.expand(3000, 3000) * 2

    traced = TracedModel(Mask().eval(), (torch.zeros(1, 3000, 3000),))
    assert max(buffer.numel() for buffer in traced.module.buffers()) == 3000


class Squared(nn.Module):
    """A layer, and a product of its output with itself, which is left in float."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y @ y.transpose(2, 3)


@pytest.mark.parametrize("method", [pq.PTQ(), pq.QAT(epochs=0)], ids=["post-training", "training"])
def test_arithmetic_that_stays_in_float_is_named(method: Any) -> None:
    model = Squared(nn.Conv2d(8, 8, 3)).eval()
    train = [(X, torch.zeros(len(X)))] if isinstance(method, pq.QAT) else None
    with pytest.warns(UserWarning, match=r"10\.0 % of the multiply-adds stay in float: matmul \(matmul, 10\.0 %\)"):
        pq.quantize(model, method, example_inputs=(X,), calibration=[X], train=train)


def test_layers_that_the_user_keeps_in_float_are_no_surprise(recwarn: pytest.WarningsRecorder) -> None:
    model = nn.Sequential(conv(), nn.ReLU(), conv()).eval()
    pq.quantize(model, pq.PTQ(), example_inputs=(X,), calibration=[X], keep={"2": "float"})
    pq.quantize(model, pq.PTQ(act_bits=32), example_inputs=(X,))
    pq.PrunedTernary(act_bits=32).finish(pq.PrunedTernary(act_bits=32).prepare(model, (X,)))
    assert not [w for w in recwarn if "multiply-adds" in str(w.message)]


@pytest.mark.parametrize("scale", [1e-13, 1e-21])
@pytest.mark.parametrize("observer", ["mse", "percentile99.9", "average"])
def test_activations_in_physical_units_are_quantized_like_any_others(scale: float, observer: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 8, 3, bias=False), nn.ReLU(), nn.Conv1d(8, 4, 3, bias=False)).eval()
    x = torch.randn(16, 4, 32)
    graphs = {s: pq.quantize(model, pq.PTQ(observer=observer), example_inputs=(x * s,), calibration=[x * s]) for s in (1.0, scale)}
    got = {s: pq.Session(pq.convert(graph, example_inputs=(x * s,)), threads=1)(x * s) / s for s, graph in graphs.items()}
    error = {s: float((value - model(x)).detach().norm() / model(x).detach().norm()) for s, value in got.items()}
    assert error[scale] < 1.2 * error[1.0] + 1e-3


def test_activations_that_no_scale_can_hold_are_named() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3, bias=False), nn.ReLU(), nn.Conv1d(8, 4, 3, bias=False)).eval()
    x = torch.randn(4, 4, 16) * 1e-33
    with pytest.warns(UserWarning, match="counts as zero: 'x'|counts as zero: 'input"):
        pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[x])


def test_sums_that_could_leave_int32_take_fewer_bits() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(), nn.Linear(300_000, 2)).eval()
    nn.init.uniform_(model[1].weight, 0.5, 1.0)
    x = torch.rand(2, 300_000)
    with pytest.warns(UserWarning, match="layer '1': 6/8 bits in place of 8/8, because sums of 300000 products"):
        graph = pq.quantize(model, pq.PTQ(), example_inputs=(x,), calibration=[x])
    session = pq.Session(pq.convert(graph, example_inputs=(x,)), threads=1)
    torch.testing.assert_close(session(x), graph(x), rtol=1e-4, atol=0.0)


def test_images_of_several_sizes_calibrate() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()
    images = [torch.randn(1, 3, 16, 16), torch.randn(1, 3, 24, 20), torch.randn(2, 3, 18, 32)]
    for options in ({}, {"rounding": "learned", "weight_bits": 4, "iterations": 2}, {"bias_correction": True}):
        graph = pq.quantize(model, pq.PTQ(**options), example_inputs=(images[0],), calibration=images)
        session = pq.Session(pq.convert(graph, example_inputs=(images[0],)), threads=1)
        torch.testing.assert_close(session(images[1]), graph(images[1]), rtol=0.0, atol=0.1)
