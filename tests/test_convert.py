"""Whole networks against torch's PT2E graph, layer by layer on identical inputs, and the native engine against the NumPy twin.

The bounds are those of docs/numerics.md, "What follows".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from agreement import assert_engine_equals_twin, assert_within_bounds, differences
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx import GraphModule
from traces import traced_once

from pyqinfer import zoo
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.methods.ptq import PTQ
from pyqinfer.ops import OPS, Agreement
from pyqinfer.quantization import quantize
from pyqinfer.session import Session


class Net(nn.Module):
    """Modules by keyword and a forward function of (self, x)."""

    def __init__(self, forward: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self._forward = forward
        for name, module in modules.items():
            self.add_module(name, module)
        generator = torch.Generator().manual_seed(0)
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
                for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -1, 1), (module.running_var, 0.5, 2)):
                    nn.init.uniform_(tensor, low, high, generator=generator)
        self.eval()

    def forward(self, *x: Tensor) -> Any:
        return self._forward(self, *x)


def conv(*args: Any, **kwargs: Any) -> nn.Conv2d:
    torch.manual_seed(sum(a for a in args if isinstance(a, int)))
    return nn.Conv2d(*args, **kwargs)


def pool_chain(s: Any, x: Tensor) -> Tensor:
    y = F.avg_pool2d(s.c(x), 3, 2, 1, ceil_mode=True, count_include_pad=False)
    y = F.max_pool2d(y, 2, 2, 1, ceil_mode=True)
    return s.e(F.adaptive_avg_pool2d(y, (2, 3))).mean((2, 3))


NETS: dict[str, tuple[Net, tuple[int, ...]]] = {
    "plain": (Net(lambda s, x: s.d(F.relu(s.c(x))), c=conv(3, 6, 3), d=conv(6, 5, 3)), (3, 9, 9)),
    "batch norm": (Net(lambda s, x: s.d(F.relu(s.b(s.c(x)))), c=conv(3, 6, 3), b=nn.BatchNorm2d(6), d=conv(6, 5, 3)), (3, 9, 9)),
    "pre-activation": (
        Net(lambda s, x: s.d(F.relu(s.b(s.c(x) + s.c(x)))), c=conv(3, 4, 3), b=nn.BatchNorm2d(4), d=conv(4, 4, 3)),
        (3, 8, 8),
    ),
    "batch norm first": (Net(lambda s, x: s.d(s.b(x)), b=nn.BatchNorm2d(3), d=conv(3, 4, 3)), (3, 8, 8)),
    "shared layer": (Net(lambda s, x: s.c(F.relu(s.c(x))), c=conv(4, 4, 3, padding=1)), (4, 8, 8)),
    "relu before add": (
        Net(lambda s, x: s.e(F.relu(s.c(x)) + F.relu(s.d(x))), c=conv(3, 4, 3), d=conv(3, 4, 3), e=conv(4, 2, 1)),
        (3, 8, 8),
    ),
    "add at the end": (Net(lambda s, x: s.d(F.relu(s.c(x))) + s.c(x), c=conv(3, 6, 3, padding=1), d=conv(6, 6, 3, padding=1)), (3, 9, 9)),
    "twice the same": (Net(lambda s, x: (lambda y: s.e(y + y))(s.c(x)), c=conv(3, 4, 3), e=conv(4, 2, 1)), (3, 8, 8)),
    "pools": (Net(pool_chain, c=conv(3, 6, 3), e=conv(6, 2, 1)), (3, 17, 15)),
    "pool, relu": (Net(lambda s, x: s.e(F.relu(F.avg_pool2d(s.c(x), 2))), c=conv(3, 6, 3), e=conv(6, 2, 1)), (3, 9, 9)),
    "max-pool, relu": (Net(lambda s, x: s.e(F.relu(F.max_pool2d(s.c(x), 2))), c=conv(3, 6, 3), e=conv(6, 2, 1)), (3, 9, 9)),
    "mean, keepdim": (Net(lambda s, x: s.e(s.c(x).mean((-1, -2), keepdim=True)).flatten(1), c=conv(3, 6, 3), e=conv(6, 2, 1)), (3, 9, 9)),
    "padding same": (Net(lambda s, x: s.d(s.c(x)), c=conv(3, 6, 4, padding="same"), d=conv(6, 6, 3, stride=2, groups=3)), (3, 9, 9)),
    "dilated, depthwise": (Net(lambda s, x: s.d(F.relu6(s.c(x))), c=conv(3, 6, 3, dilation=2), d=conv(6, 6, 3, groups=6)), (3, 12, 11)),
    "clamps": (Net(lambda s, x: s.d(F.hardtanh(s.c(x), -0.3, 0.4)).clamp(max=0.1), c=conv(3, 6, 3), d=conv(6, 6, 3)), (3, 9, 9)),
    "flatten": (Net(lambda s, x: s.f(torch.flatten(F.relu(s.c(x)), 1)), c=conv(3, 4, 3), f=nn.Linear(144, 5)), (3, 8, 8)),
    "reshape": (Net(lambda s, x: s.d(s.c(x).view(x.size(0), 2, 3, 49)), c=conv(3, 6, 3), d=conv(2, 4, (1, 3))), (3, 9, 9)),
    "mlp": (Net(lambda s, x: s.b(F.relu(s.n(s.a(x)))), a=nn.Linear(10, 20), n=nn.BatchNorm1d(20), b=nn.Linear(20, 3)), (10,)),
    "mlp on sequences": (Net(lambda s, x: s.b(F.relu(s.a(x))) + x, a=nn.Linear(10, 20), b=nn.Linear(20, 10)), (7, 10)),
    "two outputs": (Net(lambda s, x: (lambda y: (y, s.d(y)))(F.relu(s.c(x))), c=conv(3, 6, 3), d=conv(6, 6, 3)), (3, 9, 9)),
    "fixed batch of 4": (Net(lambda s, x: s.d(s.c(x)).view(4, 150), c=conv(3, 6, 3), d=conv(6, 6, 3)), (3, 9, 9)),
    "batch of a multiple of 4": (Net(lambda s, x: s.d(s.c(x)).view(4, -1), c=conv(3, 6, 3), d=conv(6, 6, 3)), (3, 9, 9)),
}
METHODS: dict[str, dict[str, Any]] = {
    "8/8": {"method": PTQ()},
    "3/5": {"method": PTQ(weight_bits=3, act_bits=5, first_last=None, observer="minmax")},
    "t/4": {"method": PTQ(weight_bits="ternary", act_bits=4)},
    "4/32": {"method": PTQ(weight_bits=4, act_bits=32)},
    "float": {"method": PTQ(), "keep": {"*": "float"}},
}


@cache
def zoo_net(name: str) -> nn.Module:
    """Random weights; tests must leave it as it is."""
    return zoo.randomize_batchnorm(getattr(zoo, name)(), 0)


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with traced_once(zoo_net("resnet20"), zoo_net("resnet18"), *(net for net, _ in NETS.values())):
        yield


def batches_for(shape: tuple[int, ...], count: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    return [torch.randn(4, *shape, generator=generator) for _ in range(count)]


@pytest.mark.filterwarnings("ignore:the model fixes its batch")
@pytest.mark.parametrize("bits", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_small_networks_agree_with_torch_and_with_the_engine(name: str, bits: str) -> None:
    net, shape = NETS[name]
    data = batches_for(shape)
    module = quantize(net, example_inputs=(data[0],), calibration=data, **METHODS[bits])
    engine = build_engine_graph(module, (data[0],))
    assert_within_bounds(differences(module, engine, data[0]))
    assert_engine_equals_twin(convert(module, example_inputs=(data[0],)), data[0])


@pytest.mark.parametrize(
    ("name", "size", "method"),
    [
        ("resnet20", 32, PTQ()),
        ("resnet20", 32, PTQ(weight_bits=4, act_bits=4)),
        ("resnet18", 64, PTQ()),
        ("resnet18", 64, PTQ(weight_bits="ternary", equalize=False, bias_correction=False)),
        pytest.param("resnet50", 64, PTQ(), marks=pytest.mark.slow),
        pytest.param("mobilenet_v2", 64, PTQ(), marks=pytest.mark.slow),
    ],
    ids=["resnet20 8/8", "resnet20 4/4", "resnet18 8/8", "resnet18 t/8", "resnet50 8/8", "mobilenet_v2 8/8"],
)
def test_zoo_networks_agree_with_torch_and_every_layer_is_integer(name: str, size: int, method: PTQ) -> None:
    net = zoo_net(name)
    data = batches_for((3, size, size))
    module = quantize(net, method, example_inputs=(data[0],), calibration=data)
    engine = build_engine_graph(module, (data[0],), fallback="error")
    assert_within_bounds(differences(module, engine, torch.cat(data)))
    names = {node["name"] for node in engine.graph["nodes"] if OPS[node["op"]].agreement is Agreement.SUMS}
    assert names == {n for n, m in net.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    ops = {node["op"] for node in engine.graph["nodes"]}
    assert ops <= {"quantize", "conv2d", "add", "max_pool2d", "adaptive_avg_pool2d", "mean", "reshape", "linear"}


@pytest.mark.parametrize("kwargs", [{}, {"dynamic_size": True}, {"dynamic_batch": False}], ids=str)
def test_a_float_resnet_runs_in_the_engine(kwargs: dict[str, Any]) -> None:
    net = zoo_net("resnet20")
    (x, _) = batches_for((3, 32, 32))
    model = convert(net, example_inputs=(x,), **kwargs)
    sizes = (
        [(4, 32, 32)] + ([(1, 32, 32)] if kwargs.get("dynamic_batch", True) else []) + ([(2, 40, 24)] if "dynamic_size" in kwargs else [])
    )
    for n, height, width in sizes:
        x = torch.randn(n, 3, height, width)
        with torch.no_grad():
            expected = net(x).numpy()
        np.testing.assert_allclose(Session(model, threads=1)(x.numpy()), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_int8_quantizers_of_others_become_unsigned_codes() -> None:
    """The XNNPACK style: signed activations, quantize/dequantize between conv and relu."""
    d = torch.ops.quantized_decomposed

    def fake(x: Tensor, scale: float, zero: int) -> Tensor:
        scale = float(np.float32(scale))  # as in graphs of real quantizers, whose scales come from float32 tensors
        return d.dequantize_per_tensor(d.quantize_per_tensor(x, scale, zero, -128, 127, torch.int8), scale, zero, -128, 127, torch.int8)

    class Signed(Net):
        def forward(self, *x: Tensor) -> Any:
            y = fake(self.c(fake(x[0], 0.03, 5)), 0.02, -7)
            y = fake(F.relu(y), 0.011, -128)
            return F.max_pool2d(fake(y + fake(self.e(y), 0.02, 3), 0.03, -100), 2).flatten(1)

    net = Signed(lambda s, x: x, c=conv(3, 4, 3, padding=1), e=conv(4, 4, 1))
    (x, _) = batches_for((3, 8, 8))
    module = torch.export.export(net, (x,)).module()
    assert isinstance(module, GraphModule)
    engine = build_engine_graph(module, (x,))
    assert_within_bounds(differences(module, engine, x))
    assert [q["qmax"] for q in engine.graph["quants"]] == [255] * 5
    assert "table" in {node["op"] for node in engine.graph["nodes"]}


@pytest.mark.parametrize("quantizer", ["x86", "xnnpack"])
@pytest.mark.parametrize("fold", [True, False])
def test_graphs_of_torchaos_quantizers_agree_with_torch(quantizer: str, fold: bool) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e")
    net, shape = NETS["batch norm"]
    (x, _) = batches_for(shape)
    prepared = pt2e.prepare_pt2e(torch.export.export(net, (x,)).module(), torchao_quantizer(quantizer))
    prepared(x)
    module = pt2e.convert_pt2e(prepared, fold_quantize=fold)
    engine = build_engine_graph(module, (x,), fallback="error")
    assert_within_bounds(differences(module, engine, x))
    assert {node["name"] for node in engine.graph["nodes"] if node["op"] == "conv2d"} == {"c", "d"}


def torchao_quantizer(name: str) -> Any:
    if name == "x86":
        x86 = pytest.importorskip("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")
        return x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer")
    return xnnpack.XNNPACKQuantizer().set_global(xnnpack.get_symmetric_quantization_config(is_per_channel=True))


# Holds K2.
def test_fallback_error_lists_the_float_layers_and_why() -> None:
    net, shape = NETS["plain"]
    data = batches_for(shape)
    module = quantize(net, PTQ(), example_inputs=(data[0],), calibration=data, keep={"c": "float", "d": "4/32"})
    with pytest.raises(UnsupportedError) as error:
        convert(module, example_inputs=(data[0],), fallback="error")
    assert "c: its weights are not quantized" in str(error.value)
    assert "d: its weights are quantized but its input is not" in str(error.value)


def test_the_summary_says_which_layers_run_in_float_and_why() -> None:
    net, shape = NETS["plain"]
    data = batches_for(shape)
    module = quantize(net, PTQ(), example_inputs=(data[0],), calibration=data, keep={"d": "4/32"})
    line = convert(module, example_inputs=(data[0],)).summary().notes[1]
    assert line.startswith("1/2 conv and linear layers run in integers (")
    assert line.endswith("; in float: d (its weights are quantized but its input is not)")


@pytest.mark.parametrize(("samples", "expected"), [(0, 0), (1, 1), (3, 3), (9, 4)])
def test_samples_are_rows_of_the_examples_with_their_outputs(samples: int, expected: int, tmp_path: Path) -> None:
    net, shape = NETS["plain"]
    (x, _) = batches_for(shape)
    model = convert(net, example_inputs=(x,), samples=samples)
    assert len(model.graph["samples"]) == expected
    session = Session(model, threads=1)
    for i, sample in enumerate(model.graph["samples"]):
        stored = model.constant(sample["inputs"][next(iter(model.inputs))])
        np.testing.assert_array_equal(stored, x[i : i + 1].numpy())
        np.testing.assert_array_equal(model.constant(sample["outputs"]["output"]), session(stored))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"fallback": "int"}, ValueError, "fallback: expected 'float' or 'error', got 'int'"),
        ({"samples": -1}, ValueError, "samples"),
        ({"example_inputs": None}, TypeError, "example_inputs: needed"),
        ({"model": "net.pt"}, UnsupportedError, "net.pt: a file of torch, which can run code and is never opened here"),
        ({"model": 5}, TypeError, "expected a torch.nn.Module, got int"),
    ],
)
# Holds K1.
def test_misuse_of_convert_is_refused(kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    net, shape = NETS["plain"]
    arguments = {"model": net, "example_inputs": (batches_for(shape)[0],), **kwargs}
    with pytest.raises(error, match=message):
        convert(arguments.pop("model"), **arguments)


@st.composite
def random_networks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """Convs with any stride, padding, dilation and groups, with and without BatchNorm and activation; pools; residual blocks."""
    width = draw(st.sampled_from([2, 4, 6]))
    torch.manual_seed(draw(st.integers(0, 99)))
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["conv", "residual", "max", "avg"]))
        if kind == "conv":
            groups = draw(st.sampled_from([1, 2, width]))
            kernel, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 2))
            stride, padding = draw(st.integers(1, 2)), draw(st.integers(dilation * (kernel // 2), 3))
            layers.append(nn.Conv2d(width, width, kernel, stride, padding, dilation, groups, bias=draw(st.booleans())))
        elif kind == "residual":
            layers.append(draw(st.sampled_from([Residual(width, True), Residual(width, False)])))
        elif kind == "max":
            layers.append(nn.MaxPool2d(2, 1, draw(st.integers(0, 1)), ceil_mode=draw(st.booleans())))
        else:
            layers.append(nn.AvgPool2d(2, 1, draw(st.integers(0, 1)), count_include_pad=draw(st.booleans())))
        if kind == "conv" and draw(st.booleans()):
            layers.append(nn.BatchNorm2d(width))
        layers.extend(draw(st.sampled_from([[], [nn.ReLU()], [nn.ReLU6()], [nn.Hardtanh(-0.5, 0.7)]])))
    if draw(st.booleans()):
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 3)]
    return nn.Sequential(*layers).eval(), (3, draw(st.integers(9, 12)), draw(st.integers(9, 12)))


class Residual(nn.Module):
    def __init__(self, width: int, projected: bool) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.p = nn.Conv2d(width, width, 1) if projected else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.p(x) + self.b(F.relu(self.a(x))))


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(network=random_networks(), weight_bits=st.sampled_from([8, 5, 3, "ternary"]), act_bits=st.sampled_from([8, 6, 3]))
def test_random_networks_agree_with_torch_and_with_the_engine(network: Any, weight_bits: Any, act_bits: int) -> None:
    net, shape = network
    data = batches_for(shape, 1)
    method = PTQ(weight_bits=weight_bits, act_bits=act_bits, first_last=None, observer="minmax")
    module = quantize(net, method, example_inputs=(data[0],), calibration=data)
    engine = build_engine_graph(module, (data[0],))
    assert_within_bounds(differences(module, engine, data[0]))
    assert_engine_equals_twin(convert(module, example_inputs=(data[0],), samples=0), data[0])


def test_stored_samples_are_a_row_of_the_sizes() -> None:
    net, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    for samples in (0, 1):
        rows = {str(row["name"]): row["bytes"] for row in convert(net, example_inputs=(x,), samples=samples).size_report().rows}
        assert rows.get("(samples for verify)", 0) == samples * 4 * (3 * 8 * 8 + 4 * 6 * 6)
