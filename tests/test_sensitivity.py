"""KL sensitivities: one layer quantized at a time, against the same done by hand on a copy of the model."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer.bits import LayerBits, parse_bits
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.observers import MSEObserver
from pyqinfer.quantization.sensitivity import kl_sensitivities
from pyqinfer.quantization.weights import quantize_weight

BITS = [parse_bits(text) for text in ("2/8", "4/8", "4/3", "t/8", "float")]


class Net(nn.Module):
    """A residual branch, a transposed convolution and a linear layer; no BatchNorm, so that weights are the module's own."""

    def __init__(self, outputs: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.branch = nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.up(F.relu(self.stem(x))))
        return 20 * self.fc((x + self.branch(x)).mean((2, 3)))


LAYERS = ["stem", "up", "branch", "fc"]


def sensitivities(net: nn.Module, x: Tensor | list[Tensor], options: dict[str, list[LayerBits]] | None = None, **flags: bool) -> dict:
    data = [(batch,) for batch in ([x] if isinstance(x, Tensor) else x)]
    traced = TracedModel(net, data[0])
    fold_batch_norm(traced)
    return kl_sensitivities(traced, options or dict.fromkeys(LAYERS, BITS), data, **flags)


def by_hand(net: Net, x: Tensor, layer: str, bits: LayerBits, activations: bool, symmetric: bool) -> float:
    changed = copy.deepcopy(net)
    module = changed.get_submodule(layer)
    if not bits.is_float:
        axis = 1 if layer == "up" else 0
        codes, scale = quantize_weight(module.weight.transpose(0, axis), bits, search=True)
        module.weight.data = (codes * scale.reshape(-1, *[1] * (codes.ndim - 1))).transpose(0, axis)
    if activations and bits.is_integer:
        module.register_forward_pre_hook(lambda _, args: fake_quantized(args[0], bits.act))
    with torch.no_grad():
        p, q = (torch.log_softmax(model(x).double(), 1) for model in (net, changed))
    forward = float((p.exp() * (p - q)).sum(1).mean())
    backward = float((q.exp() * (q - p)).sum(1).mean())
    return (forward + backward) / 2 if symmetric else forward


def fake_quantized(x: Tensor, bits: int) -> Tensor:
    observer = MSEObserver()
    observer.observe(x)
    p = observer.params(bits)
    return torch.fake_quantize_per_tensor_affine(x, p.scale, p.zero_point, p.quant_min, p.quant_max)


@pytest.mark.parametrize("activations", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_equal_to_a_copy_with_one_layer_quantized(activations: bool, symmetric: bool) -> None:
    net, x = Net().eval(), torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = sensitivities(net, x, activations=activations, symmetric=symmetric)
    for layer in LAYERS:
        for bits in BITS:
            expected = by_hand(net, x, layer, bits, activations, symmetric)
            assert found[layer][bits] == pytest.approx(expected, rel=1e-3, abs=1e-9), (layer, bits)
        assert found[layer][parse_bits("float")] == 0
        assert found[layer][parse_bits("2/8")] > found[layer][parse_bits("4/8")] > 0


def test_activations_count_only_when_asked() -> None:
    net, x = Net().eval(), torch.randn(6, 3, 8, 8)
    weights, both = sensitivities(net, x), sensitivities(net, x, activations=True)
    for layer in LAYERS:
        assert weights[layer][parse_bits("4/8")] == weights[layer][parse_bits("4/3")]
        assert both[layer][parse_bits("4/3")] != both[layer][parse_bits("4/8")] != weights[layer][parse_bits("4/8")]


def test_several_batches_count_alike() -> None:
    net, x = Net().eval(), torch.randn(8, 3, 8, 8)
    together, apart = sensitivities(net, x), sensitivities(net, [x[:4], x[4:]])
    for layer in LAYERS:
        assert apart[layer][BITS[0]] == pytest.approx(together[layer][BITS[0]], rel=1e-4)


def test_only_the_layers_asked_for_and_the_network_stays_as_it_is() -> None:
    net, x = Net().eval(), torch.randn(4, 3, 8, 8)
    traced = TracedModel(net, (x,))
    before = traced.module(x).detach().clone()
    found = kl_sensitivities(traced, {"branch": BITS[:1], "stem": BITS[:2]}, [(x,)])
    assert {name: list(row) for name, row in found.items()} == {"stem": BITS[:2], "branch": BITS[:1]}
    assert torch.equal(traced.module(x), before)


def test_a_single_logit_is_that_of_two_classes() -> None:
    one = Net(outputs=1).eval()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = one

        def forward(self, x: Tensor) -> Tensor:
            logit = self.one(x)
            return torch.cat([logit, torch.zeros_like(logit)], 1)

    x = torch.randn(4, 3, 8, 8)
    found = sensitivities(one, x)["branch"][BITS[0]]
    assert found == pytest.approx(sensitivities(Two().eval(), x, {"one.branch": BITS})["one.branch"][BITS[0]], rel=1e-6)
    assert found > 0


def test_a_layer_with_nan_is_named() -> None:
    net = Net().eval()
    net.up.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"layer 'up': the weights hold NaN"):
        sensitivities(net, torch.randn(2, 3, 8, 8))
