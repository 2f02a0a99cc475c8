"""Models that look at their inputs' sizes: the converted model gives torch's answer at every size that it takes, or refuses the size."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import sympy
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim
from torch.utils._sympy.functions import FloorDiv, Mod

import pyqinfer as pq
from pyqinfer import reference
from pyqinfer.frontend import import_module
from pyqinfer.frontend.guards import simplified

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Head(nn.Module):
    """A convolution and a function of its output and of the input."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3, padding=1), head

    def forward(self, x: Tensor) -> Any:
        return self.head(self.conv(x))


def answer(session: pq.Session, x: Tensor) -> Tensor | None:
    """The engine's answer; None where it refuses the shape."""
    try:
        result: Tensor = session(x)
    except ValueError:
        return None
    return result


def assert_right_or_refused(model: nn.Module, session: pq.Session, x: Tensor) -> bool:
    """Whether the engine takes the input; if so, its answer must be torch's."""
    got = answer(session, x)
    if got is None:
        return False
    with torch.no_grad():
        expected = model(x)
    assert got.shape == expected.shape
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    return True


def quietly(model: nn.Module, x: Tensor, **options: Any) -> pq.Session:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pq.Session(pq.convert(model, example_inputs=(x,), **options), threads=1)


BRANCHES = {
    "more than 4": lambda y: y.mean((2, 3)) if y.shape[0] > 4 else y.amax((2, 3)),
    "exactly 1": lambda y: y.amax((2, 3)) if y.shape[0] == 1 else y.mean((2, 3)),
    "exactly 2": lambda y: y.amax((2, 3)) if y.shape[0] == 2 else y.mean((2, 3)),
    "even": lambda y: y.amax((2, 3)) if y.shape[0] % 2 == 0 else y.mean((2, 3)),
    "squeeze": lambda y: y.mean((2, 3)).squeeze(),
    "none": lambda y: y.mean((2, 3)),
}


@pytest.mark.parametrize("example", [1, 2, 5])
@pytest.mark.parametrize("name", BRANCHES)
def test_a_branch_on_the_batch_holds_for_the_batches_that_take_it(name: str, example: int) -> None:
    model = Head(BRANCHES[name]).eval()
    sessions = {"float": quietly(model, torch.cat([X] * 3)[:example])}
    taken = [n for n in range(1, 8) if assert_right_or_refused(model, sessions["float"], torch.cat([X] * 4)[:n])]
    assert example in taken
    if name == "none":
        assert taken == list(range(1, 8))


def test_a_quantized_graph_knows_the_batches_it_was_traced_for() -> None:
    model = Head(BRANCHES["more than 4"]).eval()
    graph = pq.quantize(model, pq.PTQ(), example_inputs=(X,), calibration=[torch.cat([X] * 4)])  # a batch of 8 is cut to batches of 2
    session = pq.Session(pq.convert(graph, example_inputs=(X,)), threads=1)
    assert session(X).shape == (2, 4)
    with pytest.raises(ValueError, match="N <= 4, and the inputs have N = 8"):
        session(torch.cat([X] * 4))


SIZED = {
    "sum / (H*W)": lambda y: y.sum((2, 3)) / (y.shape[2] * y.shape[3]),
    "global average pool": lambda y: F.avg_pool2d(y, y.shape[2:]),
    "interpolate to the input's size": lambda y: F.interpolate(F.max_pool2d(y, 2), size=y.shape[2:]),
    "centre crop": lambda y: y[:, :, y.shape[2] // 4 : y.shape[2] - y.shape[2] // 4].mean((2, 3)),
    "branch": lambda y: (F.max_pool2d(y, 2) if y.shape[2] > 10 else y).mean((2, 3)),
    "padding to a multiple": lambda y: F.pad(y, (0, -y.shape[3] % 4)).mean((2, 3)),
    "skip of a U-Net": lambda y: torch.cat([y, F.interpolate(F.max_pool2d(y, 2), scale_factor=2.0)], 1),
    "adaptive pool": lambda y: F.adaptive_avg_pool2d(y, 2),
    "flatten": lambda y: y.flatten(1),
    "none": lambda y: y.relu(),
}


@pytest.mark.parametrize("name", SIZED)
def test_sizes_that_a_model_reads_are_right_or_refused(name: str) -> None:
    model = Head(SIZED[name]).eval()
    session = quietly(model, X, dynamic_size=True)
    sizes = [(8, 8), (16, 12), (9, 8), (8, 6), (12, 16), (5, 7)]
    taken = [size for size in sizes if assert_right_or_refused(model, session, torch.randn(2, 3, *size))]
    assert (8, 8) in taken
    if name in ("none", "adaptive pool", "flatten"):
        assert taken == sizes
    if name == "skip of a U-Net":
        assert taken == [size for size in sizes if size[0] % 2 == size[1] % 2 == 0]


@st.composite
def sized_models(draw: st.DrawFn) -> nn.Module:
    """A model that reads sizes and branches, pools, crops or divides by what it computes from them."""
    axis = draw(st.sampled_from([0, 2, 3]))
    divisor, limit = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    combine = draw(st.sampled_from(["size", "size // d", "size % d", "size * size", "size + other"]))
    use = draw(st.sampled_from(["branch", "branch on equality", "divide", "crop", "pool"]))

    def head(y: Tensor) -> Tensor:
        size = y.shape[axis]
        number = {
            "size": size,
            "size // d": size // divisor,
            "size % d": size % divisor,
            "size * size": size * size,
            "size + other": size + y.shape[2],
        }[combine]
        if use == "branch":
            return y.mean((2, 3)) if number > limit else y.amax((2, 3))
        if use == "branch on equality":
            return y.mean((2, 3)) if number == limit else y.amax((2, 3))
        if use == "divide":
            return y.sum((2, 3)) / (number + 1)
        if use == "crop":
            return y[:, :, : min(max(number, 1), 3)].mean((2, 3))
        return F.max_pool2d(y, 2 if number > limit else 1).mean((2, 3))

    return Head(head).eval()


@settings(max_examples=25, deadline=None)
@given(model=sized_models(), example=st.tuples(st.integers(1, 4), st.integers(4, 9), st.integers(4, 9)), data=st.data())
def test_random_models_that_read_sizes_are_right_or_refused(model: nn.Module, example: tuple[int, int, int], data: st.DataObject) -> None:
    batch, height, width = example
    x = torch.randn(batch, 3, height, width)
    session = quietly(model, x, dynamic_size=True)
    assert assert_right_or_refused(model, session, x)
    for _ in range(6):
        other = data.draw(st.tuples(st.integers(1, 6), st.integers(4, 12), st.integers(4, 12)))
        assert_right_or_refused(model, session, torch.randn(other[0], 3, *other[1:]))


def windows_of_four(x: Tensor) -> Tensor:
    """Attention's windows as Swin takes them: padded to whole ones, and cut again."""
    n, c, height, width = x.shape
    down, right = (4 - height % 4) % 4, (4 - width % 4) % 4
    rows, columns = (height + down) // 4, (width + right) // 4
    y = F.pad(x, (0, right, 0, down)).view(n, c, rows, 4, columns, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    y = y * y.mean(1, keepdim=True)
    return y.view(n, rows, columns, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, rows * 4, columns * 4)[:, :, :height, :width]


COMPUTED = {
    "to a multiple": lambda x: F.pad(x, (0, -x.shape[3] % 4, -x.shape[2] % 3, 0)),
    "windows": windows_of_four,
    "windows of windows": lambda x: windows_of_four(windows_of_four(x)[:, :, ::2, ::2] + F.avg_pool2d(x, 2, ceil_mode=True)),
    "centred": lambda x: F.pad(x, ((12 - x.shape[3] % 12) // 2, 3, x.shape[2] // 2, 1)),
    "edges repeated": lambda x: F.pad(x, (0, x.shape[3] % 3, x.shape[2] % 5, 0), mode="replicate"),
    "half, rounded up": lambda x: F.interpolate(x, size=(math.ceil(x.shape[2] / 2), x.shape[3] * 3 // 2), mode="bilinear"),
    "places between pixels": lambda x: x * torch.arange(0.5, x.shape[3]) / x.shape[3],
    "variance": lambda x: x.var((2, 3), keepdim=True) + x.std(2, unbiased=False, keepdim=True),
    "windows of a line": lambda x: x.mean(2).unfold(-1, 4, 3).amax(-1),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_amounts_that_are_computed_from_sizes_stay_open(name: str) -> None:
    model = Head(COMPUTED[name])
    session = quietly(model, X, dynamic_size=True)
    taken = [assert_right_or_refused(model, session, torch.randn(2, 3, *size)) for size in ((8, 8), (7, 9), (13, 10), (16, 5))]
    assert taken == [True] * 4, session.model.inputs


@given(st.integers(1, 300), st.sampled_from([2, 3, 4, 7]), st.sampled_from([2, 4, 8]))
@settings(max_examples=40)
def test_sizes_are_simplified_without_a_change(size: int, width: int, stride: int) -> None:
    x = sympy.Symbol("x", integer=True, positive=True)
    y = FloorDiv(x + 3, stride)
    padded = y + Mod(width - Mod(y, width), width)
    for expression in (
        padded,
        FloorDiv(padded, width),
        FloorDiv(FloorDiv(padded, width) + 1, 2),
        FloorDiv(y - 1, 2),
        FloorDiv(20 - Mod(x, 12), 3),
    ):
        assert simplified(expression).subs({x: size}) == expression.subs({x: size})


def test_ranges_of_an_exported_program_are_the_files() -> None:
    model = Head(BRANCHES["none"]).eval()
    program = torch.export.export(model, (X,), dynamic_shapes=({0: Dim("batch", min=1, max=16)},))
    session = pq.Session(pq.convert(program, example_inputs=(X,)), threads=1)
    assert session(torch.cat([X] * 8)).shape == (16, 4)
    assert session(X[:1]).shape == (1, 4)
    with pytest.raises(ValueError, match="N <= 16, and the inputs have N = 18"):
        session(torch.cat([X] * 9))


class Pair(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3, padding=1), function

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.function(self.conv(x), y)


def test_a_batch_that_is_computed_from_another_one_is_checked() -> None:
    model = Pair(lambda a, b: torch.cat([a, a]) + b).eval()
    y = torch.randn(4, 4, 8, 8)
    session = pq.Session(pq.convert(model, example_inputs=(X, y)), threads=1)
    with torch.no_grad():
        torch.testing.assert_close(session(X[:1], y[:2]), model(X[:1], y[:2]))
    with pytest.raises(ValueError, match=r"N1 == 2 \* N"):
        session(X, y[:3])


def test_equal_batches_of_two_inputs_share_a_symbol() -> None:
    graph = import_module(Pair(lambda a, b: a + b).eval(), (X, torch.randn(2, 4, 8, 8)))
    assert graph.symbols == ["N"]
    assert graph.conditions == []


def test_what_stands_in_the_way_of_open_sizes_is_named() -> None:
    with pytest.warns(UserWarning, match=r"heights and widths are those of the examples only.*padding that depends on the input's size"):
        pq.convert(Head(lambda y: F.pad(y, (0, -y.shape[3] % 3, 0, 1), mode="reflect")).eval(), example_inputs=(X,), dynamic_size=True)
    with pytest.warns(UserWarning, match="fixes its heights or widths: it is traced for 8x8 only"):
        pq.convert(Head(SIZED["global average pool"]).eval(), example_inputs=(X,), dynamic_size=True)
    with pytest.warns(UserWarning, match="the batch among them.*splits dimension 0, which is not known"):
        pq.convert(Head(lambda y: y.flip(0)).eval(), example_inputs=(X,))


def test_a_graph_that_was_traced_for_one_size_keeps_it() -> None:
    graph = pq.quantize(Head(SIZED["none"]).eval(), pq.PTQ(), example_inputs=(X,), calibration=[X])
    with pytest.warns(UserWarning, match=r"quantize\(\.\.\., dynamic_size=True\)"):
        model = pq.convert(graph, example_inputs=(X,), dynamic_size=True)
    assert model.inputs["x"] == ("N", 3, 8, 8)
    graph = pq.quantize(Head(SIZED["none"]).eval(), pq.PTQ(), example_inputs=(X,), calibration=[X], dynamic_size=True)
    assert pq.convert(graph, example_inputs=(X,)).inputs["x"] == ("N", 3, "H", "W")


def test_the_twin_checks_conditions() -> None:
    model = quietly(Head(BRANCHES["more than 4"]).eval(), X).model
    assert model.graph["conditions"] == [["<=", "N", 4]]
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    with pytest.raises(ValueError, match="N <= 4"):
        reference.run(model.graph, constants, {"x": np.zeros((5, 3, 8, 8), np.float32)})


@pytest.mark.parametrize("example", [1, 2])
def test_an_example_of_one_row_leaves_the_batch_of_attention_open(example: int) -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0, batch_first=True).eval()
    x = torch.randn(3, 5, 8)
    converted = pq.convert(model, example_inputs=(x[:example],))
    assert next(iter(converted.inputs.values())) == ("N", 5, 8)
    session = pq.Session(converted, threads=1)
    for batch in (1, 2, 3):
        assert assert_right_or_refused(model, session, x[:batch])
