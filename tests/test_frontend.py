"""Torch graphs to the IR: graphs of other quantizers, parameters, in-place ops, names, and one error that lists everything."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, GraphModule

from pyqinfer import ir
from pyqinfer.conversion import convert
from pyqinfer.errors import UnsupportedError
from pyqinfer.frontend import import_module, shapes
from pyqinfer.frontend.codes import activation_quant
from pyqinfer.frontend.values import NotSupportedHere
from pyqinfer.session import Session

ops = torch.ops.quantized_decomposed
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Modules by keyword and a forward function of (self, x)."""

    def __init__(self, forward: Callable[..., Any], **modules: Any) -> None:
        super().__init__()
        self._forward = forward
        torch.manual_seed(0)
        for name, module in modules.items():
            if isinstance(module, Tensor):
                self.register_buffer(name, module)
            else:
                setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def quantize_s8(x: Tensor, scale: float, zero: int, low: int = -128, high: int = 127) -> Tensor:
    codes = ops.quantize_per_tensor(x, scale, zero, low, high, torch.int8)
    return ops.dequantize_per_tensor(codes, scale, zero, low, high, torch.int8)


def imported(net: nn.Module, x: Tensor = X, **kwargs: Any) -> ir.Graph:
    return import_module(net, (x,), **kwargs)


def node(graph: ir.Graph, op: str, index: int = 0) -> ir.Node:
    return [n for n in graph.nodes if n.op == op][index]


@pytest.mark.parametrize(
    ("low", "high", "zero", "dtype", "expected"),
    [
        (0, 255, 3, torch.uint8, (3, 0, 255, 8)),
        (0, 15, 0, torch.uint8, (0, 0, 15, 4)),
        (0, 127, 64, torch.int8, (64, 0, 127, 7)),
        (-128, 127, -128, torch.int8, (0, 0, 255, 8)),
        (-127, 127, 0, torch.int8, (128, 1, 255, 8)),
        (-8, 7, 7, torch.int8, (15, 0, 15, 4)),
        (-7, 7, 0, torch.int8, (8, 1, 15, 4)),
        (-128, 127, 5, torch.int32, (133, 0, 255, 8)),
        (0, 1, 0, torch.uint8, (0, 0, 1, 2)),
    ],
)
def test_activation_ranges_become_unsigned_codes(
    low: int, high: int, zero: int, dtype: torch.dtype, expected: tuple[int, int, int, int]
) -> None:
    quant, shift = activation_quant(0.1, zero, low, high, dtype)
    assert (quant.zero_point, quant.qmin, quant.qmax, quant.bits) == expected
    assert quant.qmin - shift == low
    assert quant.scale == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("scale", "zero", "low", "high", "error"),
    [
        (0.0, 0, 0, 255, ValueError),
        (-1.0, 0, 0, 255, ValueError),
        (float("nan"), 0, 0, 255, ValueError),
        (float("inf"), 0, 0, 255, ValueError),
        (1e-45, 0, 0, 255, ValueError),
        (1e39, 0, 0, 255, ValueError),
        (2.0**-101, 0, 0, 255, ValueError),
        (0.1, 256, 0, 255, ValueError),
        (0.1, -1, 0, 255, ValueError),
        (0.1, 0, 5, 5, ValueError),
        (0.1, 0, -32768, 32767, NotSupportedHere),
        (0.1, 0.5, 0, 255, NotSupportedHere),
    ],
)
def test_meaningless_activation_parameters_are_refused(scale: float, zero: Any, low: int, high: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        activation_quant(scale, zero, low, high, torch.int8)


def per_channel(codes: Tensor, scales: Tensor, zeros: Tensor, low: int, high: int, dtype: torch.dtype, axis: int = 0) -> nn.Module:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, ops.dequantize_per_channel(self.w, self.s, self.z, axis, low, high, dtype))

    return Net(forward, w=codes.to(dtype), s=scales, z=zeros)


@pytest.mark.parametrize(
    ("low", "high", "zeros", "dtype", "bits", "step", "base", "ternary"),
    [
        (-128, 127, [0, 0], torch.int8, 8, 1, None, False),
        (-127, 127, [0, 0], torch.int8, 8, 1, None, False),
        (-7, 7, [0, 0], torch.int8, 4, 1, None, False),
        (-8, 7, [3, 0], torch.int8, 4, 1, [-3, 0], False),
        (-3, 3, [0, 0], torch.int8, 3, 1, None, False),
        (-1, 1, [0, 0], torch.int8, 2, 1, None, True),
        (-2, 1, [-0.5, -0.5], torch.int8, 2, 2, [1, 1], False),
        (0, 255, [128, 120], torch.uint8, 8, 1, [0, 8], False),
        (0, 15, [8, 8], torch.uint8, 4, 1, None, False),
    ],
)
def test_weight_ranges_become_codes_step_and_base(
    low: int, high: int, zeros: list[float], dtype: torch.dtype, bits: int, step: int, base: list[int] | None, ternary: bool
) -> None:
    codes = torch.randint(low, high + 1, (2, 3, 3, 3), generator=torch.Generator().manual_seed(1))
    scales = torch.tensor([0.01, 0.02])
    zero_points = torch.tensor(zeros) if any(z % 1 for z in zeros) else torch.tensor(zeros, dtype=torch.int64)
    net = per_channel(codes, scales, zero_points, low, high, dtype)
    weight = node(imported(net), "conv2d").constants["weight"]
    assert isinstance(weight, ir.Weight)
    assert (weight.bits, weight.step, weight.ternary) == (bits, step, ternary)
    assert (None if weight.base is None else weight.base.tolist()) == base
    expected = (codes - torch.tensor(zeros).reshape(2, 1, 1, 1)) * scales.reshape(2, 1, 1, 1)
    np.testing.assert_allclose(weight.expand(), expected.numpy(), rtol=1e-6)


def test_weights_the_integer_form_cannot_express_become_float() -> None:
    codes, scales = torch.randint(-7, 8, (2, 3, 3, 3)), torch.tensor([0.01, 0.02, 0.03])
    other_axis = per_channel(codes, scales, torch.zeros(3, dtype=torch.int64), -7, 7, torch.int8, axis=1)
    thirds = per_channel(codes, scales[:2], torch.tensor([1 / 3, 0]), -7, 7, torch.int8)
    for net in (other_axis, thirds):
        weight = node(imported(net), "conv2d").constants["weight"]
        assert isinstance(weight, np.ndarray)
        assert weight.dtype == np.float32


def test_float_weights_behind_an_explicit_quantizer_are_folded_to_codes() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        codes = ops.quantize_per_channel(self.w, self.s, self.z, 0, -127, 127, torch.int8)
        return F.conv2d(x, ops.dequantize_per_channel(codes, self.s, self.z, 0, -127, 127, torch.int8))

    w = torch.randn(4, 3, 3, 3)
    net = Net(forward, w=w, s=w.abs().amax((1, 2, 3)) / 127, z=torch.zeros(4, dtype=torch.int64))
    weight = node(imported(net), "conv2d").constants["weight"]
    assert isinstance(weight, ir.Weight)
    assert np.abs(weight.codes).max(axis=(1, 2, 3)).tolist() == [127] * 4


def test_scales_may_be_tensors() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        codes = ops.quantize_per_tensor.tensor(x, self.s, self.z, -128, 127, torch.int8)
        return ops.dequantize_per_tensor.tensor(codes, self.s, self.z, -128, 127, torch.int8)

    graph = imported(Net(forward, s=torch.tensor(0.25), z=torch.tensor(-3)))
    assert node(graph, "quantize").output.quant == ir.Quant(0.25, 125, 0, 255)


def test_an_integer_bias_becomes_float() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w, ops.dequantize_per_tensor(self.b, 0.5, 0, -(2**31), 2**31 - 1, torch.int32))

    graph = imported(Net(forward, w=torch.randn(2, 3, 1, 1), b=torch.tensor([7, -100000], dtype=torch.int32)))
    assert np.asarray(node(graph, "conv2d").constants["bias"]).tolist() == [3.5, -50000.0]


def test_constants_computed_from_parameters_are_folded() -> None:
    net = Net(lambda s, x: F.conv2d(x, s.w / s.w.abs().max()), w=torch.randn(2, 3, 1, 1))
    assert np.abs(np.asarray(node(imported(net), "conv2d").constants["weight"])).max() == 1


def in_place_graph(body: Callable[[Graph, Any], Any]) -> GraphModule:
    graph = Graph()
    x = graph.placeholder("x")
    graph.output(body(graph, x))
    return GraphModule(nn.Module(), graph)


def test_readers_after_an_in_place_op_see_its_result() -> None:
    aten = torch.ops.aten

    def body(g: Graph, x: Any) -> Any:
        y = g.call_function(aten.hardtanh.default, (x, -1.0, 1.0))
        g.call_function(aten.relu_.default, (y,))
        return g.call_function(aten.add.Tensor, (y, y))

    graph = import_module(in_place_graph(body), (X,))
    add = node(graph, "add")
    assert [v.producer.name for v in add.inputs if v.producer] == ["relu", "relu"]


@pytest.mark.parametrize("through_view", [False, True])
def test_an_input_may_be_changed_in_place(through_view: bool) -> None:
    class ChangesInput(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            y = x.flatten(1) if through_view else x
            return F.relu(y, inplace=True), x - 1

    x = torch.linspace(-3, 3, 24).reshape(2, 3, 2, 2)
    model = convert(ChangesInput(), example_inputs=(x,), samples=0)
    got = Session(model, threads=1)(x)
    for a, b in zip(got, ChangesInput()(x.clone()), strict=True):
        assert torch.equal(a, b)


def test_an_in_place_op_seen_through_a_view_is_refused() -> None:
    aten = torch.ops.aten

    def body(g: Graph, x: Any) -> Any:
        y = g.call_function(aten.relu.default, (x,))
        view = g.call_function(aten.view.default, (y, [2, -1]))
        g.call_function(aten.relu_.default, (y,))
        return view

    with pytest.raises(UnsupportedError, match="read through a view"):
        import_module(in_place_graph(body), (X,))


def test_an_in_place_op_on_a_piece_of_a_tensor_is_refused() -> None:
    aten = torch.ops.aten

    def body(g: Graph, x: Any) -> Any:
        y = g.call_function(aten.relu.default, (x,))
        piece = g.call_function(operator.getitem, (g.call_function(aten.split.Tensor, (y, 1)), 0))
        g.call_function(aten.sigmoid_.default, (piece,))
        return y

    with pytest.raises(UnsupportedError, match="read through a view"):
        import_module(in_place_graph(body), (X,))


def test_all_unsupported_ops_are_listed_at_once_with_layer_and_line() -> None:
    class Head(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.i0(x.lgamma())

    class Shrink(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.digamma(x)

    net = Net(lambda s, x: s.head(s.shrink(torch.erfinv(x))), shrink=Shrink(), head=Head())
    with pytest.raises(UnsupportedError) as error:
        imported(net)
    text = str(error.value)
    assert "4 operation(s)" in text
    for part in (
        "erfinv: aten.erfinv",
        "shrink.digamma: aten.digamma",
        "head.lgamma: aten.lgamma",
        "head.i0: aten.i0",
        "test_frontend.py:",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Net(lambda s, x: x.flatten(1).repeat(1, 30).cumprod(1)), "runs over"),
        (Net(lambda s, x: torch.ops.aten.elu(x, 1.0, 1.0, 2.0)), "input_scale"),
        (Net(lambda s, x: x**20), "power"),
        (Net(lambda s, x: F.softplus(x, 1, 5)), r"threshold=5\.0"),
        (Net(lambda s, x: F.avg_pool2d(x, 2, divisor_override=3)), "divisor_override"),
        (Net(lambda s, x: F.dropout(x, 0.5, True)), "dropout"),
        (Net(lambda s, x: F.batch_norm(x, None, None, training=True)), "batch_norm|_native_batch_norm_legit|batch norm"),
        (Net(lambda s, x: s.c(x.unsqueeze(2)), c=nn.ConvTranspose3d(3, 3, 2, dilation=2)), "dilated in depth"),
    ],
)
def test_forms_the_engine_lacks_are_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        imported(net)


@pytest.mark.parametrize("model", ["model.pt2", b"bytes", None, torch.zeros(1)])
def test_only_models_are_taken_never_paths(model: Any) -> None:
    with pytest.raises(TypeError, match=r"model: expected nn\.Module"):
        import_module(model, (X,))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Net(lambda s, x: (F.relu(x), x)), "output 'output_1' is the input 'x' unchanged"),
        (Net(lambda s, x: (F.relu(x), s.w), w=torch.ones(1, dtype=torch.complex64)), "output 'output_1' does not depend"),
        (Net(lambda s, x: ops.quantize_per_tensor(x, 0.5, 0, 0, 255, torch.uint8)), "output 'output' is integer codes"),
    ],
)
def test_outputs_the_file_cannot_hold_are_refused(net: nn.Module, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        imported(net)


def test_infinite_weights_are_refused_by_layer_name() -> None:
    conv = nn.Conv2d(3, 2, 1)
    with torch.no_grad():
        conv.weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"'head'.*weight: holds NaN or infinity"):
        imported(Net(lambda s, x: s.head(x), head=conv))


def test_shapes_hold_symbols_where_they_stay_the_same() -> None:
    net = Net(lambda s, x: s.b(F.max_pool2d(s.a(x), 2)).mean((2, 3)), a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(4, 5, 3))
    graph = imported(net, dynamic_size=True)
    assert graph.symbols == ["N", "H", "W"]
    assert [n.output.shape for n in graph.nodes] == [
        ("N", 4, "H", "W"),
        ("N", 4, "H // 2", "W // 2"),
        ("N", 5, "(H // 2) - 2", "(W // 2) - 2"),
        ("N", 5),
    ]
    assert imported(net).inputs[0].shape == ("N", 3, 8, 8)
    assert imported(net, dynamic_batch=False).inputs[0].shape == (2, 3, 8, 8)


def test_outputs_are_named_by_the_models_dict_or_numbered() -> None:
    assert [n for n, _ in imported(Net(lambda s, x: {"a": F.relu(x), "b": x.mean((2, 3))})).outputs] == ["a", "b"]
    assert [n for n, _ in imported(Net(lambda s, x: (F.relu(x), x.mean((2, 3))))).outputs] == ["output_0", "output_1"]
    assert [n for n, _ in imported(Net(lambda s, x: F.relu(x))).outputs] == ["output"]


def test_an_input_of_another_size_than_the_graph_fixes_is_refused() -> None:
    exported = torch.export.export(Net(lambda s, x: F.relu(x)), (X,))
    with pytest.raises(ValueError, match="fixes dimension 2 to 8, example_inputs has 9"):
        import_module(exported, (torch.zeros(2, 3, 9, 8),))
    with pytest.raises(ValueError, match="1 inputs, got 2"):
        import_module(exported, (X, X))


@pytest.mark.parametrize("size", [5, 6, 8, 13])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"), [(1, 1, 0, 1), (3, 2, 1, 1), (2, 3, 1, 1), (3, 1, 1, 2), (4, 3, 2, 1)]
)
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_window_sizes_are_torchs(size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> None:
    expected = F.max_pool1d(torch.zeros(1, 1, size), kernel, stride, padding, dilation, ceil_mode).shape[-1]
    assert shapes.window_output(size, kernel, stride, 2 * padding, dilation, ceil_mode) == expected


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((2, 3, 4), (6, -1), (6, 4)),
        (("N", 3, 4), ("N", -1), ("N", 12)),
        (("N", 3, 4), (-1, 12), ("N", 12)),
        (("N", 3, "H"), ("N", -1, 3), ("N", "H", 3)),
        (("N", 3, None), ("N", -1), ("N", None)),
        (("N", 3, None), (None, -1), None),
        ((None, 4), (-1, 4), (None, 4)),
        ((None, 6, 4), ("N", 4, 6, 4), ("N", 4, 6, 4)),
    ],
)
def test_reshape_targets(shape: ir.Shape, target: tuple[ir.Dim, ...], expected: ir.Shape | None) -> None:
    assert shapes.reshape(shape, target) == expected
