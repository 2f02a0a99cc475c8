"""Activation functions: accuracy, torch modules in float, tables in place of whole chains, and networks of our PTQ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
import torch.nn.functional as F
from scipy import special
from torch import Tensor, nn

from pyqinfer import _core, ir
from pyqinfer.conversion import convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.lower.tables import code_table
from pyqinfer.methods.ptq import PTQ
from pyqinfer.model import Model
from pyqinfer.quantization import quantize
from pyqinfer.reference import functions
from pyqinfer.session import Session

# For each function: its exact value, an interval, and the largest error in units of the last place (docs/numerics.md).
ACCURACY: list[tuple[Callable[[Any], Any], Callable[[Any], Any], float, float, float]] = [
    (functions.exp, np.exp, -104, 88.7, 1.1),
    (functions.expm1, np.expm1, -20, 0, 1.0),
    (functions.erf, special.erf, -4.2, 4.2, 1.3),
    (functions.log, np.log, 0, 3e38, 1.2),
    (functions.softplus, lambda x: np.logaddexp(0, x), -104, 100, 2.0),
    (functions.sigmoid, lambda x: 1 / (1 + np.exp(-x)), -104, 30, 2.5),
    (functions.silu, lambda x: x / (1 + np.exp(-x)), -110, 30, 2.9),
    (functions.tanh, np.tanh, -10, 10, 2.6),
    (functions.gelu, lambda x: x * special.ndtr(x), -14.5, 10, 8.5),
    (functions.gelu_tanh, lambda x: x / (1 + np.exp(-2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))), -11, 10, 2.9),
]


@pytest.mark.parametrize(("function", "exact", "low", "high", "bound"), ACCURACY, ids=[a[0].__name__ for a in ACCURACY])
def test_functions_are_accurate(function: Any, exact: Any, low: float, high: float, bound: float) -> None:
    rng = np.random.default_rng(0)
    small = np.exp2(rng.uniform(-30, 1, 20_000)) * rng.choice([-1, 1], 20_000)
    x = np.concatenate([rng.uniform(low, high, 60_000), small]).astype(np.float32)
    x = x[(x >= low) & (x <= high)]
    expected = exact(x.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(function(x).astype(np.float64) - expected) / unit) <= bound


MODULES: list[nn.Module] = [
    nn.Sigmoid(),
    nn.Tanh(),
    nn.SiLU(),
    nn.GELU(),
    nn.GELU(approximate="tanh"),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.ELU(0.7),
    nn.LeakyReLU(0.1),
    nn.PReLU(1, 0.3),
    nn.SELU(),
    nn.CELU(),
    nn.Softplus(),
]
SPREAD = torch.linspace(-12, 12, 4 * 3 * 5 * 7).reshape(4, 3, 5, 7)


def outputs_of_every_isa(model: Model, x: Tensor) -> dict[str, Any]:
    return {isa: Session(model, threads=1, isa=isa)(x) for isa in _core.cpu_info()["isas"]}


@pytest.mark.parametrize("module", [*MODULES, nn.PReLU(3), nn.CELU(1.7), nn.Softplus(0.5, 30)], ids=repr)
def test_float_modules_agree_with_torch_and_every_isa_gives_the_same_bits(module: nn.Module) -> None:
    if isinstance(module, nn.PReLU) and module.num_parameters == 3:
        module.weight.data.copy_(torch.tensor([0.1, -0.2, 0.9]))
    results = outputs_of_every_isa(convert(module.eval(), example_inputs=(SPREAD,)), SPREAD)
    expected = module(SPREAD).detach()
    for result in results.values():
        torch.testing.assert_close(result, expected, rtol=3e-6, atol=3e-6)
        assert torch.equal(result, results["reference"])


D = torch.ops.quantized_decomposed
Q, TARGET = ir.Quant(0.05, 120, 0, 255), ir.Quant(0.02, 90, 0, 255)


class Chain(nn.Module):
    """quantize, dequantize, functions, quantize, dequantize."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.steps = nn.Sequential(*steps)

    def forward(self, x: Tensor) -> Tensor:
        for quant, step in ((Q, self.steps), (TARGET, nn.Identity())):
            p = (quant.scale, quant.zero_point, quant.qmin, quant.qmax, torch.uint8)
            x = step(D.dequantize_per_tensor(D.quantize_per_tensor(x, *p), *p))
        return x


@pytest.mark.parametrize("steps", [*[(m,) for m in MODULES], (nn.Hardsigmoid(), nn.SiLU(), nn.ReLU6()), (nn.Tanh(), nn.GELU())], ids=repr)
def test_a_chain_between_codes_is_one_table_without_difference_from_torch(steps: tuple[nn.Module, ...]) -> None:
    net = Chain(*steps).eval()
    model = convert(net, example_inputs=(SPREAD,))
    assert [node["op"] for node in model.graph["nodes"]] == ["quantize", "table", "dequantize"]
    assert torch.equal(Session(model, threads=1)(SPREAD), net(SPREAD).detach())


def test_a_table_turns_nan_into_the_zero_point() -> None:
    infinite = ir.Node("clamp", "c", [ir.Value("x", ())], ir.Value("y", ()), {"lo": -float("inf"), "hi": -float("inf")})
    silu = ir.Node("unary", "s", [infinite.output], ir.Value("z", ()), {"function": "silu", "alpha": 0.0})
    assert set(code_table(Q, [infinite, silu], TARGET).tolist()) == {TARGET.zero_point}


@pytest.mark.parametrize(("smooth", "op"), [(True, "table"), (False, "unary")])
@pytest.mark.parametrize("module", [nn.SiLU(), nn.Hardswish(), nn.GELU(), nn.LeakyReLU(0.1)], ids=repr)
def test_ptq_quantizes_behind_the_activation_of_a_layer_and_in_front_of_it_if_asked_to(module: nn.Module, smooth: bool, op: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), module, nn.Conv2d(8, 5, 3)).eval()
    x = torch.randn(2, 3, 12, 12)
    quantized = quantize(net, PTQ(smooth=smooth), example_inputs=(x,), calibration=[(x,)])
    model = convert(quantized, example_inputs=(x,), fallback="error")
    assert [node["op"] for node in model.graph["nodes"]] == ["quantize", "conv2d", op, "conv2d", "transpose"]
    results = outputs_of_every_isa(model, x)
    expected = quantized(x).detach()
    for result in results.values():
        assert torch.equal(result, results["reference"])
        assert ((result - expected).abs() > 1e-4).float().mean() < 0.02
    assert F.mse_loss(expected, net(x)) < 1e-3


class Gate(nn.Module):
    """A squeeze-and-excitation block: channels multiplied by a gate that is computed from their means."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.down, self.up, self.last = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(x))
        return self.last(y * F.hardsigmoid(self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1))))))


def test_ptq_multiplies_the_codes_of_a_gate() -> None:
    net, x = Gate().eval(), torch.randn(2, 3, 12, 12)
    quantized = quantize(net, PTQ(), example_inputs=(x,), calibration=[(x,)])
    model = convert(quantized, example_inputs=(x,), fallback="error")
    (product,) = (node for node in model.graph["nodes"] if node["op"] == "binary")
    assert all(model.graph["values"][v]["dtype"] == "u8" for v in product["inputs"] + product["outputs"])
    results = outputs_of_every_isa(model, x)
    assert all(torch.equal(result, results["reference"]) for result in results.values())
    assert ((results["reference"] - quantized(x).detach()).abs() > 1e-4).float().mean() < 0.02


ARITHMETIC: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, p: x * 0.3 + 2,
    lambda x, p: 1 - x,
    lambda x, p: 2 / (x + 20),
    lambda x, p: (x - p) / 3,
    lambda x, p: p * F.relu(x),
    lambda x, p: x + F.adaptive_avg_pool2d(x, 1),
    lambda x, p: x * F.relu6(x + 3) / 6,
    lambda x, p: torch.add(x, p, alpha=0.3) - torch.sub(x, F.relu(x), alpha=2),
    lambda x, p: x**2 + x**3 - (x + 20) ** -1,
    lambda x, p: torch.maximum(x, p) - torch.minimum(p, F.relu(x)) * torch.minimum(x, x**2),
    lambda x, p: torch.sqrt(x.abs()) + torch.rsqrt(x * x + 1) - torch.log(x.abs() + 1e-3) + (x * x + 2) ** -0.5 - x.abs() ** 0.5,
    lambda x, p: x.var(1, keepdim=True) + x.std((1, 2), correction=0, keepdim=True) - x.var((2, 3), unbiased=False, keepdim=True),
    lambda x, p: F.normalize(x) + F.normalize(x, p=1.0, dim=2) - F.normalize(x, p=float("inf"), dim=(1, 3)),
    lambda x, p: torch.linalg.vector_norm(x, dim=(1, 2)) + x.norm(dim=(1, 2)) + torch.squeeze(x.mean(1, keepdim=True)).std(1),
    lambda x, p: -torch.maximum(x, torch.tensor(0.5)) + torch.clamp_max(x, 1),
]


@pytest.mark.parametrize("index", range(len(ARITHMETIC)))
def test_float_arithmetic_broadcasts_as_in_torch(index: int) -> None:
    class Arithmetic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = nn.Parameter(torch.tensor([0.5, -1.5, 2.0]).reshape(3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return ARITHMETIC[index](x, self.p)

    net = Arithmetic().eval()
    result = Session(convert(net, example_inputs=(SPREAD,)), threads=1)(SPREAD)
    torch.testing.assert_close(result, net(SPREAD).detach(), rtol=2e-6, atol=2e-6)


def test_functions_of_zeros_infinities_and_numbers_outside_their_domain_are_torch_s() -> None:
    x = torch.tensor([0.0, -0.0, -1.0, -torch.inf, torch.inf, torch.nan, 1e-45, 1e-38, 3.4e38])
    for function in (torch.sqrt, torch.rsqrt, torch.abs, torch.log, F.softplus):

        class Function(nn.Module):
            def forward(self, x: Tensor, function: Callable[[Tensor], Tensor] = function) -> Tensor:
                return function(x)

        results = outputs_of_every_isa(convert(Function().eval(), example_inputs=(x,), samples=0), x)
        for isa, result in results.items():
            torch.testing.assert_close(result, function(x), rtol=3e-7, atol=0, equal_nan=True, msg=f"{function} on {isa}: {result}")


def test_the_larger_of_nan_and_a_number_is_nan() -> None:
    class Extrema(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return torch.stack([torch.maximum(x, y), torch.minimum(x, y)])

    x, y = torch.tensor([torch.nan, 1.0, torch.inf, -torch.inf]), torch.tensor([1.0, torch.nan, 2.0, 2.0])
    for isa in _core.cpu_info()["isas"]:
        got = Session(convert(Extrema().eval(), example_inputs=(x, y), samples=0), threads=1, isa=isa)(x, y)
        torch.testing.assert_close(got, Extrema()(x, y), rtol=0, atol=0, equal_nan=True)


def test_a_variance_over_the_batch_leaves_it_open() -> None:
    class OverBatch(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.var(0)

    model = convert(OverBatch().eval(), example_inputs=(SPREAD,), samples=0)
    assert isinstance(model.inputs["x"][0], str)
    for batch in (2, 4):
        torch.testing.assert_close(torch.as_tensor(Session(model)(SPREAD[:batch])), SPREAD[:batch].var(0), rtol=1e-5, atol=1e-5)


def test_a_variance_of_one_number_is_refused() -> None:
    class Refused(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :1].var(1)

    with pytest.raises(UnsupportedError, match="a correction of 1"):
        convert(Refused().eval(), example_inputs=(SPREAD,))


def test_norms_of_any_order() -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.vector_norm(x, 3, 1)

    result = torch.as_tensor(Session(convert(Norm().eval(), example_inputs=(SPREAD,)))(SPREAD))
    torch.testing.assert_close(result, Norm()(SPREAD), rtol=1e-5, atol=1e-5)
