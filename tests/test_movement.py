"""Ops that move elements or resize images, from torch to the engine: agreement, every ISA, the twin, and codes where they stay codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin
from torch import Tensor, nn

from pyqinfer import _core
from pyqinfer.conversion import convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.model import Model
from pyqinfer.session import Session

D = torch.ops.quantized_decomposed
FINE, COARSE = (0.03, 120, 0, 255, torch.uint8), (0.1, 100, 0, 255, torch.uint8)
X = torch.linspace(-4, 5, 2 * 6 * 5 * 7).reshape(2, 6, 5, 7)


class Function(nn.Module):
    """A function as a module; a convolution in front and behind brings NHWC values."""

    def __init__(self, f: Callable[[Tensor], Any], spatial: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.f = f
        self.first = nn.Conv2d(6, 6, 1) if spatial else nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return self.f(self.first(x))


def q(x: Tensor, p: tuple[Any, ...] = FINE) -> Tensor:
    return D.dequantize_per_tensor(D.quantize_per_tensor(x, *p), *p)


def ops(model: Model) -> list[str]:
    return [node["op"] for node in model.graph["nodes"]]


def run(net: nn.Module, x: Tensor) -> tuple[Model, Any]:
    """Convert; every ISA and the twin give the same bits, also for another batch."""
    model = convert(net.eval(), example_inputs=(x,), fallback="error" if "quantize" in str(net) else "float")
    for batch in (x, x[:1]):
        assert_engine_equals_twin(model, batch)
        results = {isa: Session(model, threads=2, isa=isa)(batch) for isa in _core.cpu_info()["isas"]}
        for result in results.values():
            for a, b in zip(as_tuple(result), as_tuple(results["reference"]), strict=True):
                assert torch.equal(a, b)
    return model, Session(model, threads=1)(x)


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


MOVES: dict[str, Callable[[Tensor], Any]] = {
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 3) + 0.5,
    "unsqueeze": lambda x: x.unsqueeze(2),
    "select": lambda x: x[:, 2],
    "select from the end": lambda x: x[..., -1],
    "slice": lambda x: x[:, 1:4],
    "slice with a step": lambda x: x[:, :, ::2, 1:-1],
    "slice behind the end": lambda x: x[:, :, 2:100],
    "narrow": lambda x: x.narrow(1, 2, 3),
    "chunk": lambda x: torch.chunk(x, 4, 1),
    "split": lambda x: torch.split(x, [1, 5], 1),
    "unbind": lambda x: torch.unbind(x, 2),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "cat of channels": lambda x: torch.cat([x, F.relu(x), x * 3], 1),
    "cat of rows": lambda x: torch.cat([x, x[:, :, :2]], 2),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "flip": lambda x: x.flip(3),
    "tile": lambda x: x.tile(2, 1, 1),
    "roll": lambda x: x.roll((2, -1), (1, 3)),
    "rows": lambda x: F.interpolate(F.interpolate(x.flatten(2), scale_factor=2), size=50, mode="linear"),
    "flatten(2).transpose": lambda x: x.flatten(2).transpose(1, 2),
    "pad": lambda x: F.pad(x, (1, 2, 0, 3), value=0.25),
    "pad of channels": lambda x: F.pad(x, (0, 0, 0, 0, 2, 1)),
    "pad that cuts off": lambda x: F.pad(x, (-1, 2, 1, -2)),
    "reflect": lambda x: F.pad(x, (3, 2, 1, 4), mode="reflect"),
    "replicate": lambda x: F.pad(x, (3, 2, 1, 4), mode="replicate"),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x: F.interpolate(x, size=(9, 3)),
    "nearest by a fraction": lambda x: F.interpolate(x, scale_factor=1.7),
    "roundabout": lambda x: F.conv2d(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), torch.ones(1, 6, 1, 1)),
}


@pytest.mark.parametrize("spatial", [False, True], ids=["input", "behind a convolution"])
@pytest.mark.parametrize("name", MOVES)
def test_moving_floats_gives_torchs_elements(name: str, spatial: bool) -> None:
    net = Function(MOVES[name], spatial)
    _, result = run(net, X)
    with torch.no_grad():
        expected = as_tuple(net(X))
    for a, b in zip(as_tuple(result), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5 if spatial else 1e-6, atol=1e-5 if spatial else 0)


@pytest.mark.parametrize("mode", ["size", "factor", "fraction", "corners", "smaller"])
def test_bilinear_agrees_with_torch(mode: str) -> None:
    arguments: dict[str, Any] = {
        "size": {"size": (11, 8)},
        "factor": {"scale_factor": (2, 3)},
        "fraction": {"scale_factor": 1.3},
        "corners": {"scale_factor": 2, "align_corners": True},
        "smaller": {"size": (2, 4), "align_corners": False},
    }[mode]
    net = Function(lambda x: F.interpolate(x, mode="bilinear", **arguments))
    _, result = run(net, X)
    torch.testing.assert_close(result, net(X), rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.77, 1.0, 1.1, 1.5, 2.0, 2.6, 3.0])
def test_nearest_picks_torchs_pixels_for_every_scale(scale: float) -> None:
    x = torch.arange(41 * 37, dtype=torch.float32).reshape(1, 1, 41, 37)
    for arguments in ({"scale_factor": scale}, {"size": (int(41 * scale), int(37 * scale) + 2)}):
        net = Function(lambda x, a=arguments: F.interpolate(x, **a))
        assert torch.equal(run(net, x)[1], net(x))


QUANTIZED_MOVES = ["permute", "select", "slice", "slice with a step", "unsqueeze", "reflect", "replicate", "nearest", "flip", "chunk"]


@pytest.mark.parametrize("name", QUANTIZED_MOVES)
def test_codes_are_moved_as_codes(name: str) -> None:
    net = Function(lambda x: tuple(q(y) for y in as_tuple(MOVES[name](q(x)))))
    model, result = run(net, X)
    for a, b in zip(as_tuple(result), as_tuple(net(X)), strict=True):
        assert torch.equal(a, b)
    inside = [node for node in model.graph["nodes"] if node["op"] not in ("quantize", "dequantize")]
    assert all(model.graph["values"][node["outputs"][0]]["dtype"] == "u8" for node in inside)
    assert ops(model).count("quantize") == 1


def test_concat_of_codes_brings_other_parameters_along_in_one_pass() -> None:
    net = Function(lambda x: q(torch.cat([q(x), q(x * 2, COARSE)], 1)))
    model, result = run(net, X)
    assert torch.equal(result, net(X))
    assert ops(model).count("concat") == 1
    assert "table" not in ops(model)
    (concat,) = (node for node in model.graph["nodes"] if node["op"] == "concat")
    assert all(model.graph["values"][v]["dtype"] == "u8" for v in concat["inputs"] + concat["outputs"])


def test_layers_in_front_of_a_concat_write_codes() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 3, 1)
            for layer in (self.a, self.b):
                layer.weight.data = D.dequantize_per_tensor(
                    D.quantize_per_tensor(layer.weight.data, 0.01, 0, -127, 127, torch.int8), 0.01, 0, -127, 127, torch.int8
                )

        def forward(self, x: Tensor) -> Tensor:
            x = q(x)
            return q(torch.cat([F.relu(self.a(x)), self.b(x)], 1), COARSE)

    net = Fork()
    model, result = run(net, X)
    assert ops(model)[-2:] in (["concat", "dequantize"], ["concat", "transpose"])
    with torch.no_grad():
        assert (result - net(X)).abs().max() <= 0.1001


def test_a_pad_whose_value_has_a_code_stays_in_codes_and_another_does_not() -> None:
    for value, dtype in ((0.0, "u8"), (0.0123, "f32")):
        net = Function(lambda x, v=value: q(F.pad(q(x), (1, 1, 2, 0), value=v)))
        model, result = run(net, X)
        assert torch.equal(result, net(X))
        (pad,) = (node for node in model.graph["nodes"] if node["op"] == "pad")
        assert model.graph["values"][pad["outputs"][0]]["dtype"] == dtype


@pytest.mark.parametrize("quantized", [False, True])
def test_zero_padding_in_front_of_a_convolution_is_the_convolutions_own(quantized: bool) -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 6, 3, 3)

    def f(x: Tensor) -> Tensor:
        if not quantized:
            return F.conv2d(F.pad(x, (2, 1, 0, 3)), weight, stride=2, padding=1)
        p = (0.02, 0, -127, 127, torch.int8)
        w = D.dequantize_per_tensor(D.quantize_per_tensor(weight, *p), *p)
        return q(F.conv2d(q(F.pad(q(x), (2, 1, 0, 3))), w, stride=2, padding=1), COARSE)

    net = Function(f)
    model, result = run(net, X)
    assert "pad" not in ops(model)
    (conv,) = (node for node in model.graph["nodes"] if node["op"] == "conv2d")
    assert conv["attrs"]["padding"] == [1, 3, 4, 2]
    torch.testing.assert_close(result, net(X), rtol=1e-5, atol=0.1001 if quantized else 1e-5)


def test_bilinear_on_codes_agrees_with_torch() -> None:
    net = Function(lambda x: q(F.interpolate(q(x), scale_factor=2, mode="bilinear")))
    model, result = run(net, X)
    assert ops(model) == ["quantize", "upsample", "dequantize"]
    difference = (result - net(X)).abs()
    assert difference.max() <= 0.03001
    exact = F.interpolate(q(X), scale_factor=2, mode="bilinear").double() / FINE[0]
    ties = (exact - exact.floor() - 0.5).abs() < 1e-4  # a fifth: the weights are sixteenths
    assert difference[~ties].max() <= 1e-6


def test_pixels_become_rows_without_a_transpose() -> None:
    net = Function(lambda x: F.linear(x.flatten(2).transpose(1, 2), torch.eye(6)), spatial=True)
    model, result = run(net, X)
    assert ops(model).count("transpose") <= 1  # of the input
    with torch.no_grad():
        torch.testing.assert_close(result, net(X), rtol=1e-5, atol=1e-5)


def test_height_and_width_may_be_symbols() -> None:
    net = Function(lambda x: F.interpolate(F.pad(torch.cat([x, x], 1), (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[:, 1:, :, 1:])
    model = convert(net, example_inputs=(X,), dynamic_size=True)
    for x in (X, torch.randn(2, 6, 9, 4)):
        torch.testing.assert_close(Session(model, threads=1)(x), net(x), rtol=1e-6, atol=2e-6)


class Tokens(nn.Module):
    """A vision transformer's beginning: patches, a class token in front, positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(6, 8, 2, 2)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 7, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1) + self.position
        return y[:, 0], y + self.token.repeat(y.shape[0], 7, 1)


def test_a_class_token_is_expanded_to_any_batch() -> None:
    net = Tokens()
    model, _ = run(net, X)
    for batch in (X, X[:1], torch.cat([X, X, X])):
        for a, b in zip(Session(model, threads=1)(batch), net(batch), strict=True):
            torch.testing.assert_close(a, b.detach(), rtol=1e-5, atol=1e-5)


def test_activations_expand_to_each_other() -> None:
    net = Function(lambda x: F.adaptive_avg_pool2d(x, 1).expand_as(x) * x + x[:, :1].expand(-1, 6, -1, -1))
    _, result = run(net, X)
    torch.testing.assert_close(result, net(X), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_converted_is_named() -> None:
    with pytest.raises(UnsupportedError, match=r"aten\.lgamma: no such operation"):
        convert(Function(lambda x: x.lgamma()), example_inputs=(X,))


def test_numpy_arrays_of_a_slice_are_contiguous() -> None:
    model = convert(Function(lambda x: x[:, ::2]), example_inputs=(X,))
    y = Session(model, threads=1)(X.numpy())
    np.testing.assert_array_equal(y, X.numpy()[:, ::2])
