"""Functions of single elements between integer layers: which are found, what range stands in front of them, and where none should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import pyqinfer as pq
from pyqinfer.quantization.exact_sums import ExactSums
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.observers import FunctionObserver, MSEObserver
from pyqinfer.quantization.pointwise import pointwise_of

Function = Callable[[Tensor], Tensor]
X = torch.randn(4, 6, 9, 9, generator=torch.Generator().manual_seed(0))
OPS = ["quantize", "conv2d", "table", "conv2d", "transpose"]


def often_read(x: Tensor) -> Tensor:
    """Each of 40 results is read twice: there are 2^40 ways back to ``x``."""
    for _ in range(40):
        x = 0.5 * (x + x.tanh())
    return x


# Functions in one operation and in several.
FUNCTIONS: dict[str, Function] = {
    "silu": F.silu,
    "silu as a product": lambda x: x * torch.sigmoid(x),
    "silu as a quotient": lambda x: x / (1 + torch.exp(-x)),
    "mish": F.mish,
    "mish written out": lambda x: x * torch.tanh(F.softplus(x)),
    "gelu": F.gelu,
    "gelu by erf": lambda x: 0.5 * x * (1 + torch.erf(x * 0.7071067811865476)),
    "gelu by tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "hardswish": F.hardswish,
    "hardswish written out": lambda x: x * F.relu6(x + 3) / 6,
    "hardsigmoid written out": lambda x: F.relu6(x + 3) / 6,
    "square of relu": lambda x: F.relu(x) ** 2,
    "x plus its tanh": lambda x: x + x.tanh(),
    "elu": F.elu,
    "selu": F.selu,
    "softsign": F.softsign,
    "one slope": nn.PReLU(),
    "two in a row": lambda x: F.silu(F.tanh(x)),
    "clamped in front": lambda x: F.silu(F.relu6(x)),
    "clamped behind": lambda x: F.gelu(x).clamp(-0.1, 2),
    "scaled": lambda x: F.silu(x * 1.7) * 0.5,
    "results that are read twice": often_read,
}


class Between(nn.Module):
    """A convolution, a function, and a convolution that wants codes."""

    def __init__(self, function: Function, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.function, self.a, self.b = function, nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(channels, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.function(self.a(x)))


def converted(net: nn.Module, method: object) -> tuple[torch.fx.GraphModule, pq.Model]:
    graph = pq.quantize(net.eval(), method, example_inputs=(X[:1],), calibration=[X])
    return graph, pq.convert(graph, example_inputs=(X[:1],))


def ops(model: pq.Model) -> list[str]:
    return [node["op"] for node in model.graph["nodes"]]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_between_layers_is_one_table_whatever_operations_it_is_written_in(name: str) -> None:
    net = Between(FUNCTIONS[name])
    graph, model = converted(net, pq.PTQ(smooth=True))
    assert ops(model) == OPS
    assert torch.equal(pq.Session(model)(X), ExactSums(graph)(X))
    with torch.no_grad():
        assert (graph(X) - net(X)).norm() < 0.03 * net(X).norm()


def test_a_gate_of_codes_is_computed_on_codes() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.silu(x)
            return x * torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))

    graph, model = converted(Between(Gated()), pq.PTQ(smooth=True))
    assert ops(model) == ["quantize", "conv2d", "table", "mean", "conv2d", "table", "conv2d", "table", "binary", "conv2d", "transpose"]
    assert torch.equal(pq.Session(model)(X), ExactSums(graph)(X))


def test_pieces_of_a_concatenation_are_tables() -> None:
    graph, model = converted(Between(lambda x: torch.cat([F.silu(x), x.tanh()], 1), 16), pq.PTQ(smooth=True))
    assert ops(model) == ["quantize", "conv2d", "table", "table", "concat", "conv2d", "transpose"]
    assert torch.equal(pq.Session(model)(X), ExactSums(graph)(X))


NOT_FUNCTIONS: dict[str, Function] = {
    "of two tensors": lambda x: x[:, :4] * torch.sigmoid(x[:, 4:]),
    "broadcast": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "with a number for each channel": lambda x: F.prelu(x, torch.linspace(0.1, 0.4, 8)),
    "a bound alone": lambda x: F.relu(x),
}


@pytest.mark.parametrize("name", NOT_FUNCTIONS)
def test_what_is_no_function_of_one_tensor_is_not_taken_for_one(name: str) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return NOT_FUNCTIONS[name](x)

    graph = TracedModel(Net(), (torch.randn(2, 8, 4, 4),)).module.graph
    (output,) = (node for node in graph.nodes if node.op == "output")
    assert pointwise_of(output.all_input_nodes[0], ()) is None


def test_a_tensor_that_others_read_as_floats_is_not_quantized_for_a_function() -> None:
    _, model = converted(Between(lambda x: F.silu(x) + F.softmax(x, 1)), pq.PTQ(smooth=True))
    assert "table" not in ops(model)


def test_a_tensor_that_layers_read_has_its_own_range_and_bits_whether_a_function_reads_it_too_or_not() -> None:
    class Net(nn.Module):
        def __init__(self, function: Function) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b, self.c, self.function = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1), function

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.b(x).mean(1) + self.c(self.function(x)).mean(1)

    def parameters(function: Function) -> tuple[object, ...]:
        graph = pq.quantize(Net(function).eval(), pq.PTQ(act_bits=5, first_last=None), example_inputs=(X,), calibration=[X])
        found = [n.args[1:5] for n in graph.graph.nodes if n.name.startswith("quantize") and n.args[0].name == "conv2d"]
        return tuple(found)

    assert parameters(F.silu) == parameters(F.relu)


def test_a_function_with_a_constant_of_more_dimensions_has_the_same_range() -> None:
    divided, plain = FunctionObserver([lambda x: F.gelu(x) / torch.full((1, 1, 1, 1), 3.0)]), FunctionObserver([lambda x: F.gelu(x) / 3.0])
    for observer in (divided, plain):
        observer.observe(X)
    assert divided.params(8) == plain.params(8)


def test_the_range_in_front_of_a_function_ends_where_the_function_does() -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(100_000)
    behind, plain = FunctionObserver([F.gelu]), MSEObserver()
    behind.observe(x[:50_000])
    behind.observe(x[50_000:])
    plain.observe(x)

    def error(p: pq.quantization.observers.ActivationParams) -> float:
        codes = (x / p.scale).round().add(p.zero_point).clamp(p.quant_min, p.quant_max)
        return float((F.gelu((codes - p.zero_point) * p.scale) - F.gelu(x)).double().square().mean())

    found = behind.params(8)
    assert -3.5 < (found.quant_min - found.zero_point) * found.scale < -1.5
    assert error(found) < 0.6 * error(plain.params(8))


def test_auto_leaves_out_the_quantizers_that_do_harm_and_keeps_the_others() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(1)
            self.a, self.b, self.c = nn.Conv2d(6, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            steep = torch.log(self.a(x).abs() + 1e-4)
            return self.c(torch.tanh(self.b(steep)))

    _, model = converted(Net(), pq.PTQ())
    assert ops(model).count("table") == 1
    assert ops(model)[1:5] == ["conv2d", "unary", "binary", "unary"]


@pytest.mark.parametrize("move", [lambda x: x, lambda x: x.transpose(2, 3), lambda x: x[:, :, 1:]])
def test_auto_keeps_quantizers_that_do_no_harm_whatever_moves_their_elements(move: Function) -> None:
    graph, model = converted(Between(lambda x: F.silu(move(x))), pq.PTQ())
    assert ops(model).count("table") == 1
    assert torch.equal(pq.Session(model)(X), ExactSums(graph)(X))


def test_training_starts_with_the_same_quantizers_and_exports_tables() -> None:
    prepared = pq.QAT(smooth=True).prepare(Between(F.silu).eval(), (X[:1],), calibration=[X])
    assert len(list(prepared.activations())) == 3
    prepared(X).square().mean().backward()
    assert all(a.step.grad is not None and a.step.grad.abs().sum() > 0 for a in prepared.activations())
    graph = pq.QAT(smooth=True).finish(prepared)
    model = pq.convert(graph, example_inputs=(X[:1],))
    assert ops(model) == OPS
    assert torch.equal(pq.Session(model)(X), ExactSums(graph)(X))
    assert len(list(pq.QAT(smooth=False).prepare(Between(F.silu).eval(), (X[:1],), calibration=[X]).activations())) == 2


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="smooth"):
        pq.PTQ(smooth="always")
