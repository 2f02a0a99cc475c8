"""Quantization in torch: folding, observers, weight codes, where quantizers go, and what the result is."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import GraphModule
from traces import traced_once

from pyqinfer.bits import BitConfig, parse_bits
from pyqinfer.errors import UnsupportedError
from pyqinfer.methods.ptq import PTQ
from pyqinfer.quantization import quantize
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.observers import MinMaxObserver, MSEObserver, affine_params
from pyqinfer.quantization.weights import WeightSearch, quantize_weight


class Block(nn.Module):
    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(width, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.down is None else self.down(x)
        return self.relu(y)


class SmallNet(nn.Module):
    """Stem, max-pool, two residual blocks, pool, linear: every placement rule once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 1), Block(8, 2))
        self.drop = nn.Dropout()
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn(self.stem(x))), 2)
        x = F.adaptive_avg_pool2d(self.blocks(x), 1)
        return self.fc(self.drop(torch.flatten(x, 1)))


LAYERS = ["stem", "blocks.0.conv1", "blocks.0.conv2", "blocks.1.conv1", "blocks.1.conv2", "blocks.1.down", "fc"]


def make_net(seed: int = 0) -> SmallNet:
    torch.manual_seed(seed)
    net = SmallNet()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval()


@pytest.fixture(scope="module")
def net() -> Iterator[SmallNet]:
    net = make_net()
    with traced_once(net):
        yield net


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.randn(8, 3, 16, 16) for _ in range(3)]


def quantized(net: nn.Module, batches: list[Tensor], method: PTQ | None = None, **keep: str) -> GraphModule:
    return quantize(net, method or PTQ(), example_inputs=(batches[0],), calibration=batches, keep=keep)


def quantizers(module: GraphModule) -> dict[str, tuple[float, int, int, int]]:
    """Scale, zero point, quant_min and quant_max of each quantizer, by the name of the float tensor in front of it."""
    return {n.args[0].name: tuple(n.args[1:5]) for n in module.graph.nodes if "quantize_per_tensor" in n.name and "de" not in n.name[:2]}


def sqnr(reference: Tensor, value: Tensor) -> float:
    return float(10 * torch.log10(reference.square().sum() / (reference - value).square().sum()))


def test_folding_batch_norm_changes_outputs_by_rounding_only(net: SmallNet, batches: list[Tensor]) -> None:
    traced = TracedModel(net, (batches[0],))
    assert len(fold_batch_norm(traced)) == 5
    folded = traced.finish()
    with torch.no_grad():
        torch.testing.assert_close(folded(batches[0]), net(batches[0]), rtol=0, atol=1e-5)
    assert not any("batch_norm" in n.name for n in folded.graph.nodes)


def test_layers_have_the_models_names_in_execution_order(net: SmallNet, batches: list[Tensor]) -> None:
    assert [layer.name for layer in TracedModel(net, (batches[0],)).layers] == LAYERS


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "high"), [(0.0, 6.0), (-1.0, 3.0), (-2.0, 0.0), (0.5, 1.0), (-3.0, -1.0), (0.0, 0.0), (-1e-30, 1e-30)])
def test_affine_parameters_hold_zero_exactly_and_the_range(low: float, high: float, bits: int) -> None:
    p = affine_params(low, high, bits)
    assert (p.quant_min, p.quant_max) == (0, 2**bits - 1)
    assert p.quant_min <= p.zero_point <= p.quant_max
    assert p.scale == float(np.float32(p.scale)) > 0
    assert (p.quant_min - p.zero_point) * p.scale <= min(low, 0) + p.scale / 2 + 1e-20
    assert (p.quant_max - p.zero_point) * p.scale >= max(high, 0) - p.scale / 2 - 1e-20


@pytest.mark.parametrize("bits", [3, 4, 8])
def test_mse_range_is_no_worse_than_min_max_and_clips_outliers_at_low_bits(bits: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(5000).relu(), 3 * torch.randn(5000).relu(), torch.tensor([40.0])]  # the limit doubles on the way
    x = torch.cat(parts)
    errors, tops = {}, {}
    for observer in (MinMaxObserver(), MSEObserver()):
        for part in parts:
            observer.observe(part)
        p = observer.params(bits)
        value = (torch.clamp(torch.round(x / p.scale) + p.zero_point, p.quant_min, p.quant_max) - p.zero_point) * p.scale
        errors[type(observer)] = float((value - x).square().sum())
        tops[type(observer)] = p.quant_max * p.scale
    assert errors[MSEObserver] <= errors[MinMaxObserver] * 1.001
    assert tops[MSEObserver] < tops[MinMaxObserver] or bits == 8


def test_values_are_counted_as_torch_counts_them_but_for_those_on_the_edge_of_a_bin() -> None:
    torch.manual_seed(0)
    x = torch.cat([torch.randn(2_300_000) * torch.rand(1), torch.tensor([3.7, -3.7, 0.0])])  # more than is counted at once
    observer = MSEObserver()
    observer.observe(x.reshape(-1, 1))
    counts = observer._counts
    expected = torch.histc(x, len(counts), -3.7, 3.7).double().numpy()
    assert counts.sum() == x.numel()
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 1e-4 * x.numel()


def test_codes_that_are_known_are_the_callers_own() -> None:
    weight, other = torch.randn(4, 3, 3, 3), torch.randn(4, 3, 3, 3)
    search, bits = WeightSearch(), parse_bits("4/8")
    codes, scale = search(weight, bits, search=True)
    codes.zero_(), scale.zero_()
    for tensor in (weight, other, weight.transpose(0, 1)):
        for found, expected in zip(search(tensor, bits, search=True), quantize_weight(tensor, bits, search=True), strict=True):
            assert torch.equal(found, expected)


def test_an_observer_that_saw_nothing_says_so() -> None:
    for observer in (MinMaxObserver(), MSEObserver()):
        with pytest.raises(ValueError, match="nothing was observed"):
            observer.params(8)


@pytest.mark.parametrize("bits", ["8/8", "6/8", "4/8", "3/8", "2/8", "t/8"])
def test_weight_search_is_no_worse_than_the_largest_magnitude_on_every_channel(bits: str) -> None:
    torch.manual_seed(0)
    weight = torch.randn(16, 4, 3, 3) * torch.logspace(-3, 2, 16).reshape(-1, 1, 1, 1)
    weight[3] = 0
    errors = []
    for search in (False, True):
        codes, scale = quantize_weight(weight, parse_bits(bits), search)
        low, high = parse_bits(bits).weight_range
        assert codes.dtype == torch.int8
        assert low <= int(codes.min())
        assert int(codes.max()) <= high
        assert not codes[3].any()
        assert bool((scale > 0).all())
        errors.append((codes * scale.reshape(-1, 1, 1, 1) - weight).square().sum((1, 2, 3)))
    assert bool((errors[1] <= errors[0] * (1 + 1e-5)).all())


def test_quantizers_stand_behind_fused_layers_and_once_per_tensor(net: SmallNet, batches: list[Tensor]) -> None:
    module = quantized(net, batches)
    counts = Counter(name.rstrip("0123456789").rstrip("_") for name in quantizers(module))
    # Quantized are the input, the ReLU of the stem, of two conv1 and of two sums, and the projection beside the last sum. Max-pool and
    # flatten keep their input's parameters, the average pool has its own.
    assert counts == {"x": 1, "relu": 5, "conv2d": 1, "max_pool2d": 1, "adaptive_avg_pool2d": 1, "flatten": 1}
    found = quantizers(module)
    assert found["max_pool2d"] == found["relu"]
    assert found["flatten"] == found["adaptive_avg_pool2d"]
    assert found["adaptive_avg_pool2d"] != found["relu_4"]
    assert all(p[1] == 0 for name, p in found.items() if name.startswith("relu"))
    assert [n.name for n in module.graph.nodes if n.op == "output" for n in n.all_input_nodes] == ["linear"]


def test_the_last_conv_of_an_add_stays_float_and_the_other_operand_is_quantized(net: SmallNet, batches: list[Tensor]) -> None:
    for node in quantized(net, batches).graph.nodes:
        if node.name.startswith("add"):
            kinds = sorted(operand.name.rstrip("0123456789").rstrip("_") for operand in node.all_input_nodes)
            assert kinds == ["conv2d", "dequantize_per_tensor_default"]


def test_ranges_carry_the_bits_of_the_layer_that_reads_the_tensor(net: SmallNet, batches: list[Tensor]) -> None:
    module = quantized(net, batches, PTQ(weight_bits=4, act_bits=5, bits={"blocks.1.conv2": "t/3"}))
    tops = {name: p[3] for name, p in quantizers(module).items()}
    assert tops["x"] == 255  # the first layer's input, first_last="8/8"
    assert tops["relu"] == tops["max_pool2d"] == 31
    assert tops["relu_3"] == 7
    assert tops["conv2d_4"] == 255  # only an add reads it: it costs no MACs
    assert tops["adaptive_avg_pool2d"] == tops["flatten"] == 255
    ranges = [n.args[4:6] for n in module.graph.nodes if n.name.startswith("dequantize_per_channel")]
    assert Counter(ranges) == {(-127, 127): 2, (-7, 7): 4, (-1, 1): 1}
    codes = [b for name, b in module.named_buffers() if name.endswith("weight_codes")]
    assert all(c.dtype == torch.int8 for c in codes)


@pytest.mark.parametrize(
    ("keep", "absent"),
    [({"fc": "float"}, {"view", "adaptive_avg_pool2d"}), ({"stem": "float"}, {"x"}), ({"*": "float"}, None)],
)
def test_layers_kept_in_float_need_no_quantized_input(net: SmallNet, batches: list[Tensor], keep: dict[str, str], absent: set[str]) -> None:
    module = quantize(net, PTQ(), example_inputs=(batches[0],), calibration=batches, keep=keep)
    found = set(quantizers(module))
    assert not found if absent is None else not (found & absent)
    with torch.no_grad():
        assert sqnr(net(batches[0]), module(batches[0])) > (100 if absent is None else 30)


@pytest.mark.parametrize(
    ("method", "least_db"),
    [
        (PTQ(), 35),
        (PTQ(observer="minmax"), 33),
        (PTQ(weight_bits=6), 28),
        (PTQ(weight_bits=4), 18),
        (PTQ(weight_bits=4, act_bits=4), 12),
        (PTQ(weight_bits=4, act_bits=32), 18),
    ],
)
def test_the_quantized_graph_stays_close_to_the_model(net: SmallNet, batches: list[Tensor], method: PTQ, least_db: float) -> None:
    torch.manual_seed(2)
    x = torch.randn(32, 3, 16, 16)
    with torch.no_grad():
        assert sqnr(net(x), quantized(net, batches, method)(x)) > least_db


def test_the_result_takes_any_batch_and_holds_no_float_weights(net: SmallNet, batches: list[Tensor]) -> None:
    module = quantize(net, PTQ(), example_inputs=(batches[0][:1],), calibration=batches)
    for n in (1, 2, 7):
        assert module(batches[0][:n]).shape == (n, 5)
    floats = {name: t for name, t in module.state_dict().items() if t.dtype == torch.float32 and t.ndim > 1}
    assert not floats


def test_layer_names_survive_in_the_nodes_metadata(net: SmallNet, batches: list[Tensor]) -> None:
    module = quantized(net, batches)
    paths = [list(n.meta["nn_module_stack"].values())[-1][0] for n in module.graph.nodes if n.name.startswith(("conv2d", "linear"))]
    assert sorted(paths) == sorted(LAYERS)


def test_a_model_with_a_fixed_batch_is_quantized_for_that_batch() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).view(2, 16))

    x = torch.randn(2, 3, 4, 4)
    with pytest.warns(UserWarning, match="fixes its batch"):
        module = quantize(Fixed(), PTQ(), example_inputs=(x,), calibration=[x])
    assert module(x).shape == (2, 2)


def test_the_model_is_left_as_it_was(batches: list[Tensor]) -> None:
    net = make_net().train()
    net.bn.eval()
    before = copy.deepcopy(net.state_dict())
    modes = [m.training for m in net.modules()]
    quantized(net, batches)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_calibration_takes_tensors_tuples_labels_and_generators(net: SmallNet, batches: list[Tensor]) -> None:
    plain = quantized(net, batches)
    labelled = quantize(net, PTQ(), example_inputs=(batches[0],), calibration=((b, torch.zeros(8)) for b in batches))
    assert quantizers(plain) == quantizers(labelled)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"calibration": None}, ValueError, "PTQ needs batches"),
        ({"calibration": []}, ValueError, "no batches"),
        ({"calibration": ["x"]}, TypeError, "batch 0"),
        ({"calibration": [torch.full((1, 3, 16, 16), float("nan"))]}, ValueError, "batch 0: holds NaN"),
        ({"keep": {"head": "8/8"}}, ValueError, "no layer matches 'head'.*stem"),
        ({"keep": {"fc": "8/16"}}, ValueError, r"keep\['fc'\]"),
        ({"budget": 1}, ValueError, "takes no budget"),
        ({"example_inputs": ("x",)}, TypeError, r"example_inputs\[0\]"),
        ({"example_inputs": (torch.zeros(1, 3, 16, 16, dtype=torch.float64),)}, ValueError, "expected float32"),
        ({"model": "model.pt"}, UnsupportedError, "model.pt: a file of torch, which can run code and is never opened here"),
        ({"model": 5}, TypeError, "expected a torch.nn.Module, got int"),
        ({"method": "ptq"}, TypeError, "method"),
    ],
)
def test_misuse_is_refused_with_a_sentence(
    net: SmallNet, batches: list[Tensor], kwargs: dict[str, object], error: type[Exception], message: str
) -> None:
    arguments = {"model": net, "method": PTQ(), "example_inputs": (batches[0],), "calibration": batches, **kwargs}
    with pytest.raises(error, match=message):
        quantize(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("kwargs", [{"weight_bits": 9}, {"weight_bits": 1}, {"act_bits": 16}, {"observer": "kl"}, {"first_last": "x"}])
def test_a_method_refuses_what_does_not_exist(kwargs: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"bits|observer"):
        PTQ(**kwargs)  # type: ignore[arg-type]


def test_nan_weights_are_refused_by_layer_name(batches: list[Tensor]) -> None:
    net = make_net()
    with torch.no_grad():
        net.blocks[1].conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"blocks\.1\.conv1"):
        quantized(net, batches, PTQ(act_bits=32))


def test_activations_that_overflow_are_refused_by_name_and_line(net: SmallNet, batches: list[Tensor]) -> None:
    class Overflowing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x) + self.a(x))

    model = Overflowing()
    with torch.no_grad():
        model.a.weight.fill_(3e38)
    with pytest.raises(ValueError, match=r"calibrating 'conv2d.*test_quantize\.py.*NaN or infinity"):
        quantized(model, batches)


def test_bits_win_in_the_order_keep_bits_first_last_default() -> None:
    names = ["a", "b", "c", "d"]
    method = PTQ(weight_bits=4, act_bits=4, bits=BitConfig({"b": "6/6", "c": "5/5"}))
    assert {k: str(v) for k, v in method.layer_bits(names, {"c": "float"}).items()} == {"a": "8/8", "b": "6/6", "c": "float", "d": "8/8"}
    assert str(PTQ(weight_bits=4, act_bits=4, first_last=None).layer_bits(names, {})["a"]) == "4/4"
    assert str(PTQ(weight_bits=4, act_bits=32).layer_bits(names, {})["a"]) == "8/32"
