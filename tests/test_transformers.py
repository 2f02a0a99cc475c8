"""Softmax, norms, products of matrices and attention: against torch, the NumPy twin, and every ISA bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
import torch.nn.functional as F
from agreement import assert_within_bounds, differences
from torch import Tensor, nn

from pyqinfer import _core, reference
from pyqinfer.conversion import build_engine_graph, convert
from pyqinfer.frontend.tracing import trace
from pyqinfer.model import Model
from pyqinfer.session import Session


class Net(nn.Module):
    """A function of its inputs and parameters."""

    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*self.parts, *inputs)


def randomized(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def check(net: nn.Module, *inputs: Tensor, tolerance: float = 3e-6, **options: Any) -> Model:
    """Every ISA and thread count gives the bits of the twin; torch agrees. Returns the model."""
    net.eval()
    model = convert(net, example_inputs=inputs, **options)
    arrays = {name: x.numpy() for name, x in zip(model.inputs, inputs, strict=True)}
    constants = [model.constant(i) for i in range(len(model.graph["constants"]))]
    names = [node["name"] for node in model.graph["nodes"]]
    twin = reference.run(model.graph, constants, arrays, names)
    for isa in _core.cpu_info()["isas"]:
        for threads in (1, 3):
            got = Session(model, threads=threads, isa=isa).run(arrays, capture=names)
            for name, value in twin.items():
                np.testing.assert_array_equal(got[name], value, err_msg=f"{name}, {isa}, {threads} threads")
    with torch.no_grad():
        expected = net(*inputs)
    flat = expected if isinstance(expected, tuple) else (expected,)
    for port, value in zip(model.graph["outputs"], flat, strict=True):
        torch.testing.assert_close(torch.from_numpy(twin[port["name"]]), value, rtol=tolerance, atol=tolerance)
    return model


def ops(model: Model) -> list[str]:
    return [node["op"] for node in model.graph["nodes"]]


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3


NETS: list[tuple[str, nn.Module, tuple[tuple[int, ...], ...]]] = [
    ("softmax", nn.Softmax(-1), ((3, 5, 37),)),
    ("softmax of the first axis", nn.Softmax(0), ((4, 6),)),
    ("softmax of a middle axis", nn.Softmax(2), ((2, 3, 5, 7),)),
    ("log_softmax", nn.LogSoftmax(1), ((5, 1000),)),
    ("layer_norm", nn.LayerNorm(37), ((3, 5, 37),)),
    ("layer_norm without parameters", nn.LayerNorm(8, elementwise_affine=False, eps=0.1), ((3, 8),)),
    ("layer_norm of three axes", nn.LayerNorm((3, 4, 5)), ((2, 3, 4, 5),)),
    ("rms_norm", nn.RMSNorm(21), ((3, 4, 21),)),
    ("rms_norm with eps", nn.RMSNorm((3, 7), eps=0.01), ((3, 4, 3, 7),)),
    ("group_norm", nn.GroupNorm(2, 6), ((2, 6, 7, 5),)),
    ("group_norm of wide groups", nn.GroupNorm(2, 64), ((2, 64, 3, 5),)),
    ("group_norm of rank 3", nn.GroupNorm(3, 6), ((2, 6, 11),)),
    ("group_norm of rank 2", nn.GroupNorm(3, 12), ((4, 12),)),
    ("instance_norm", nn.InstanceNorm2d(6, affine=True), ((2, 6, 7, 5),)),
    ("instance_norm of rank 3", nn.InstanceNorm1d(6), ((2, 6, 19),)),
    ("mean of tokens", Net(lambda x: x.mean(1)), ((2, 37, 20),)),
    ("sum of everything", Net(lambda x: x.sum()), ((2, 3, 7),)),
    ("largest", Net(lambda x: x.amax((0, 2), keepdim=True)), ((2, 3, 7),)),
    ("largest channel of an image", Net(lambda c, x: c(x).amax(1), nn.Conv2d(3, 5, 3)), ((2, 3, 7, 8),)),
    ("sums of rows of an image", Net(lambda c, x: c(x).sum(3), nn.Conv2d(3, 5, 3)), ((2, 3, 7, 8),)),
    ("means of columns of an image", Net(lambda c, d, x: d(c(x).mean(2, True)), nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1)), ((2, 3, 7, 8),)),
    ("matmul", Net(torch.matmul), ((5, 9), (9, 4))),
    ("matmul of batches", Net(torch.matmul), ((2, 3, 7, 33), (2, 3, 33, 65))),
    ("matmul of one right operand", Net(torch.matmul), ((2, 3, 7, 8), (8, 5))),
    ("bmm", Net(torch.bmm), ((4, 70, 6), (4, 6, 70))),
    ("baddbmm", Net(lambda c, a, b: torch.baddbmm(c, a, b, beta=0.5, alpha=2)), ((2, 5, 3), (2, 5, 4), (2, 4, 3))),
    ("addmm", Net(torch.addmm), ((3,), (5, 4), (4, 3))),
    ("a linear layer written as a product", Net(lambda m, x: x @ m.weight.mT + m.bias, nn.Linear(8, 5)), ((3, 4, 8),)),
    ("attention", Net(F.scaled_dot_product_attention), ((2, 4, 6, 8), (2, 4, 9, 8), (2, 4, 9, 5))),
    ("causal attention", Net(lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=0.3)), ((2, 7, 8), (2, 7, 8))),
    (
        "attention with an additive mask",
        Net(lambda q, m: F.scaled_dot_product_attention(q, q, q, attn_mask=m)),
        ((2, 2, 7, 16), (7, 7)),
    ),
]


@pytest.mark.parametrize(("net", "shapes"), [row[1:] for row in NETS], ids=[row[0] for row in NETS])
def test_float_ops_agree_with_torch_and_every_isa_gives_the_bits_of_the_twin(net: nn.Module, shapes: tuple[tuple[int, ...], ...]) -> None:
    torch.manual_seed(0)
    check(randomized(net), *(images(*shape) for shape in shapes), tolerance=1e-5)


def test_one_session_takes_any_batch_and_image_size() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.GroupNorm(2, 6), nn.Softmax(1)).eval()
    model = convert(net, example_inputs=(images(2, 3, 8, 8),), dynamic_size=True)
    session = Session(model, threads=2)
    assert "transpose" not in ops(model)[1:-1]
    for shape in ((1, 3, 5, 9), (4, 3, 8, 8)):
        torch.testing.assert_close(session(images(*shape)), net(images(*shape)).detach(), rtol=1e-5, atol=1e-5)


def test_a_batch_of_attention_is_symbolic() -> None:
    net = Net(lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True))
    session = Session(convert(net, example_inputs=(images(2, 4, 6, 8), images(2, 4, 9, 8))), threads=1)
    for batch in (1, 5):
        q, k = images(batch, 4, 6, 8), images(batch, 4, 9, 8)
        torch.testing.assert_close(session(q, k), net(q, k), rtol=1e-5, atol=1e-5)


MASK = torch.ones(6, 6).tril().bool()


@pytest.mark.parametrize("mask", [MASK, torch.zeros(6, 6).masked_fill(~MASK, -torch.inf), torch.randn(2, 1, 6, 6)], ids=str)
def test_constant_masks_are_added_to_the_scores(mask: Tensor) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", mask)

        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)

    check(Masked(), images(2, 4, 6, 8), tolerance=1e-5, dynamic_batch=mask.ndim == 2)


INFINITIES = torch.zeros(6, 6).masked_fill(~MASK, -torch.inf)
SCORES: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, scores: (scores + INFINITIES).softmax(-1) @ x,
    lambda x, scores: scores.masked_fill(~MASK, -torch.inf).softmax(-1) @ x,
    lambda x, scores: scores.masked_fill(~MASK, -1e9).softmax(-1) @ x,
    lambda x, scores: torch.baddbmm(INFINITIES, scores, x).softmax(-1) @ x,
]


@pytest.mark.parametrize("index", range(len(SCORES)))
def test_masks_in_front_of_a_softmax_may_hold_minus_infinity(index: int) -> None:
    check(Net(SCORES[index]), images(2, 6, 6), images(2, 6, 6), tolerance=1e-4)


def test_minus_infinity_is_itself_where_its_value_counts() -> None:
    for net in (Net(lambda x: (x + INFINITIES).exp()), Net(lambda x: x.masked_fill(~MASK, -torch.inf).exp())):
        check(net, images(2, 6, 6), tolerance=1e-5)


def test_a_mask_that_hides_a_whole_row_is_refused() -> None:
    hidden = MASK.clone()
    hidden[2] = False
    net = Net(lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=hidden))
    with pytest.raises(NotImplementedError, match="hides every position from a row"):
        convert(net, example_inputs=(images(2, 4, 6, 8),))


D = torch.ops.quantized_decomposed


def through_codes(x: Tensor, scale: float, zero_point: int) -> Tensor:
    p = (scale, zero_point, 0, 255, torch.uint8)
    return D.dequantize_per_tensor(D.quantize_per_tensor(x, *p), *p)


PRODUCTS: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...], list[str]]] = {
    "to codes": (
        lambda x, y: through_codes(through_codes(x, 0.05, 120) @ through_codes(y, 0.06, 77), 0.87654, 131),
        ((2, 3, 60, 33), (2, 3, 33, 40)),
        ["quantize", "quantize", "matmul", "dequantize"],
    ),
    "to float, zero point 128": (
        lambda x, y: through_codes(x, 0.05, 3) @ through_codes(y, 0.06, 128),
        ((5, 31, 16), (5, 16, 70)),
        ["quantize", "quantize", "matmul"],
    ),
    "codes by floats": (lambda x, y: through_codes(x, 0.05, 3) @ y, ((5, 7, 16), (5, 16, 8)), ["quantize", "dequantize", "matmul"]),
    "attention": (
        lambda q, k: (
            through_codes((through_codes(q, 0.05, 128) @ through_codes(k, 0.05, 128)).softmax(-1), 1 / 256, 0) @ through_codes(q, 0.05, 128)
        ),
        ((4, 17, 16), (4, 16, 17)),
        ["quantize", "quantize", "matmul", "softmax", "matmul"],
    ),
    "sums of codes": (
        lambda x, y: through_codes(through_codes(x, 0.05, 3).sum(1), 0.3173, 100) + through_codes(y, 0.05, 3).mean((1, 2), True),
        ((5, 3, 17), (5, 3, 17)),
        ["quantize", "reduce", "quantize", "reduce", "reshape", "binary"],
    ),
    "largest of codes": (
        lambda x, y: through_codes(through_codes(x, 0.05, 3).amax(-1), 0.05, 3) + through_codes(y, 0.05, 3).amax((0, 2)),
        ((5, 3, 17), (5, 3, 17)),
        ["quantize", "reduce", "quantize", "reduce", "reshape", "binary"],
    ),
    "norm to codes": (
        lambda x, y: through_codes(F.layer_norm(x, (16,)), 0.03, 128) @ through_codes(y, 0.06, 99),
        ((3, 7, 16), (3, 16, 9)),
        ["layer_norm", "quantize", "matmul"],
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_quantized_tensors_run_in_integers(name: str) -> None:
    function, shapes, expected = PRODUCTS[name]
    net, x = Net(function), tuple(images(*shape) for shape in shapes)
    graph = trace(net, x)
    assert_within_bounds(differences(graph, build_engine_graph(net, x), *x))
    model = check(net, *x, tolerance=2.0)
    assert ops(model) == expected


def graph_of(op: str, attrs: dict[str, Any], shapes: list[list[int]]) -> Model:
    values = [{"name": f"x{i}", "dtype": "f32", "shape": shape} for i, shape in enumerate(shapes)]
    node = {"op": op, "name": "op", "inputs": list(range(len(shapes))), "outputs": [len(shapes)], "constants": {}, "attrs": attrs}
    graph = {
        "symbols": [],
        "quants": [],
        "constants": [],
        "values": [*values, {"name": "y", "dtype": "f32"}],
        "nodes": [node],
        "inputs": [{"name": f"x{i}", "value": i} for i in range(len(shapes))],
        "outputs": [{"name": "y", "value": len(shapes)}],
        "samples": [],
    }
    return _core.Model.from_bytes(_core.write_model(json.dumps(graph), [], "test"))


ROWS: list[tuple[str, dict[str, Any]]] = [
    ("softmax", {"causal": 0, "log": 0}),
    ("softmax", {"causal": 1, "log": 0}),
    ("softmax", {"causal": 0, "log": 1}),
    ("layer_norm", {"eps": 0, "center": 1}),
    ("layer_norm", {"eps": 0x3727C5AC, "center": 0}),
]


@pytest.mark.parametrize(("op", "attrs"), ROWS, ids=str)
def test_rows_of_every_length_give_the_bits_of_the_twin(op: str, attrs: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for n in [*range(1, 50), 197, 1000]:
        model = graph_of(op, attrs, [[2, 3, n]])
        x = {"x0": (rng.standard_normal((2, 3, n)) * 4).astype(np.float32)}
        expected = reference.run(json.loads(model.graph_json), [], x)["y"]
        for isa in _core.cpu_info()["isas"]:
            np.testing.assert_array_equal(_core.Session(model, 2, isa).run(x, [])["y"], expected, err_msg=f"{n}, {isa}")
