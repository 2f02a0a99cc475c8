"""Pruning of weights and of channels: what is removed, that it stays removed, and that nothing else changes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

import pyqinfer as pq
from pyqinfer.frontend.functional import export_functional
from pyqinfer.train.channel_groups import find_groups
from pyqinfer.train.channels import removable_channels
from pyqinfer.train.pruning import magnitude_masks


def zeros(module: nn.Module) -> int:
    return int((module.weight == 0).sum())  # type: ignore[operator,union-attr]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))
        return y


# ---- masks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.5, 0.8889, 0.999])
def test_each_layer_has_the_share_of_zeros_to_one_weight(sparsity: float) -> None:
    net = pq.train.prune(Net(), sparsity)
    for layer in (net.conv, net.fc):
        count = layer.weight.numel()
        assert zeros(layer) == count - round((1 - sparsity) * count)


def test_global_pruning_lets_layers_differ_and_counts_all_together() -> None:
    net = Net()
    with torch.no_grad():
        net.fc.weight.fill_(100)
    pq.train.prune(net, 0.5, scope="global")
    total = net.conv.weight.numel() + net.fc.weight.numel()
    assert zeros(net.conv) + zeros(net.fc) == total - round(0.5 * total)
    assert zeros(net.fc) == 0


def test_ties_are_kept_in_order() -> None:
    (mask,) = magnitude_masks([torch.tensor([1.0, -2.0, 2.0, 1.0, -1.0, 0.5])], 0.5, "layer")
    assert mask.tolist() == [1, 1, 1, 0, 0, 0]


def test_the_smallest_go() -> None:
    net = Net()
    before = net.conv.weight.detach().clone()
    pq.train.prune(net, 0.5)
    gone = net.conv.weight == 0
    assert before[gone].abs().max() < before[~gone].abs().min()
    assert torch.equal(net.conv.weight[~gone], before[~gone])


def test_kept_layers_are_left_alone() -> None:
    net = pq.train.prune(Net(), 0.5, keep=["f*"])
    assert zeros(net.fc) == 0
    assert not parametrize.is_parametrized(net.fc)
    with pytest.raises(ValueError, match="no layer is named 'head'; layers are conv, fc"):
        pq.train.prune(Net(), 0.5, keep=["head"])


@pytest.mark.parametrize(("sparsity", "scope"), [(1.0, "layer"), (-0.1, "layer"), (0.5, "channel")])
def test_shares_and_scopes_that_do_not_exist_are_refused(sparsity: float, scope: Any) -> None:
    with pytest.raises(ValueError, match=r"sparsity|scope"):
        pq.train.prune(Net(), sparsity, scope=scope)


def train(net: nn.Module, pruning: pq.train.GradualPruning, steps: int) -> list[float]:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    shares = []
    for _ in range(steps):
        shares.append(pruning.step())
        optimizer.zero_grad()
        F.cross_entropy(net(torch.randn(16, 3, 8, 8)), torch.randint(5, (16,))).backward()
        optimizer.step()
    return shares


def test_gradual_pruning_follows_the_cubic_and_nothing_comes_back() -> None:
    net = Net()
    pruning = pq.train.GradualPruning(net, 0.75, steps=20, every=5)
    shares = train(net, pruning, 20)
    assert shares[3] == 0
    assert shares[9] == shares[12] == pytest.approx(pq.train.cubic_sparsity(0.75, 0.5)) == 0.75 * 0.875
    assert shares[-1] == 0.75
    pruned = net.conv.weight == 0
    train(net, pruning, 10)
    assert torch.equal(net.conv.weight == 0, pruned), "masks stay as they are when the target is reached"
    assert pruned.sum() == 162
    baked = pq.train.finish_pruning(net)
    assert not parametrize.is_parametrized(baked.conv)
    assert torch.equal(baked.conv.weight == 0, pruned)


def test_masks_are_part_of_the_state() -> None:
    net, other = Net(), Net()
    first, second = (pq.train.GradualPruning(n, 0.5, steps=4, every=1) for n in (net, other))
    train(net, first, 3)
    other.load_state_dict(net.state_dict())
    second.load_state_dict(first.state_dict())
    assert torch.equal(net.conv.weight, other.conv.weight)
    assert first.step() == second.step() == 0.5


def test_shared_weights_share_their_mask() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    net[1].weight = net[0].weight
    pq.train.prune(net, 0.5)
    assert zeros(net[0]) == 18
    assert torch.equal(net[0].weight, net[1].weight)
    assert len(list(net.parameters())) == 3


def test_the_report_counts_zeros() -> None:
    rows = pq.train.sparsity_report(pq.train.prune(Net(), 0.5)).rows
    assert [row["name"] for row in rows] == ["conv", "fc", "all"]
    assert rows[-1]["zeros"] == 128
    assert rows[-1]["share"] == 0.5


@pytest.mark.parametrize("baked", [False, True])
def test_a_pruned_network_is_quantized_like_any_other_and_keeps_its_zeros(baked: bool) -> None:
    net = pq.train.prune(Net().eval(), 0.6)
    masks = [layer.weight == 0 for layer in (net.conv, net.fc)]
    if baked:
        pq.train.finish_pruning(net)
    x = torch.randn(4, 3, 8, 8)
    graph = pq.quantize(net, pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    model = pq.convert(graph, example_inputs=(x,), fallback="error")
    conv, fc = (model.constant(node["constants"]["weight"]) for node in model.graph["nodes"] if "weight" in node["constants"])
    assert (conv.transpose(0, 3, 1, 2)[masks[0].numpy()] == 0).all()
    assert (fc[masks[1].numpy()] == 0).all()
    np.testing.assert_allclose(pq.Session(model)(x.numpy()), net(x).detach().numpy(), atol=0.1)


@pytest.mark.parametrize("bits", [8, 3])
def test_what_was_pruned_stays_pruned_through_training_for_low_precision(bits: int) -> None:
    net = pq.train.prune(Net(), 0.6)
    x, y = torch.randn(16, 3, 8, 8), torch.arange(16) % 5
    masks = [layer.weight == 0 for layer in (net.conv, net.fc)]
    method = pq.QAT(weight_bits=bits, first_last=None, epochs=5, lr=0.1, progress=False)
    graph = pq.quantize(net, method, example_inputs=(x[:1],), train=[(x, y)])
    model = pq.convert(graph, example_inputs=(x[:1],), fallback="error")
    conv, fc = (model.constant(node["constants"]["weight"]) for node in model.graph["nodes"] if "weight" in node["constants"])
    assert (conv.transpose(0, 3, 1, 2)[masks[0].numpy()] == 0).all()
    assert (fc[masks[1].numpy()] == 0).all()
    assert (fc[~masks[1].numpy()] != 0).mean() > 0.5


# ---- channels -------------------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Residual sum, concatenation, depthwise convolution with a multiplier, squeeze and excitation, PReLU, transposed conv, flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.left, self.right = nn.Conv2d(16, 12, 1), nn.Conv2d(16, 8, 3, padding=1)
        self.depthwise = nn.Sequential(nn.Conv2d(20, 40, 3, 2, 1, groups=20), nn.PReLU(40))
        self.squeeze, self.excite = nn.Conv2d(40, 8, 1), nn.Conv2d(8, 40, 1)
        self.project, self.skip = nn.Conv2d(40, 24, 1), nn.Conv2d(40, 24, 1)
        self.up = nn.ConvTranspose2d(24, 12, 2, 2)
        self.scale = nn.Parameter(torch.rand(12, 1, 1))
        self.fc1, self.fc2 = nn.Linear(12 * 16, 20), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        x = self.depthwise(x)
        x = x * torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        x = F.max_pool2d(torch.relu(self.project(x) + self.skip(x)), 2)
        x = torch.relu(self.up(x)) * self.scale
        y: Tensor = self.fc2(torch.relu(self.fc1(torch.flatten(x, 1))))
        return y


class Dense(nn.Module):
    """Concatenation of all earlier results, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(c, 8, 3, padding=1) for c in (3, 11, 19)])
        self.norm, self.fc = nn.BatchNorm2d(27), nn.Linear(27, 4)

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = torch.cat([x, torch.relu(conv(x))], 1)
        y: Tensor = self.fc(F.adaptive_avg_pool2d(torch.relu(self.norm(x)), 1).flatten(1))
        return y


def without(model: nn.Module, x: Tensor, share: float, **options: Any) -> nn.Module:
    """The model at its own size, with the channels that would be removed made zero."""
    groups = find_groups(export_functional(model, (x,), dynamic_batch=False))
    removed = removable_channels(
        model, groups, share, options.get("scope", "layer"), options.get("keep", ()), options.get("multiple_of", 4)
    )
    assert removed
    zeroed = copy.deepcopy(model)
    tensors = dict(zeroed.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for (name, dim), ids in groups.bound.items():
            gone = [i for i, label in enumerate(ids) if groups.root(label) in removed]
            if gone and name in tensors:
                tensors[name].index_fill_(dim, torch.tensor(gone), 0)
    return zeroed


NETS = {
    "everything": (Everything, 8),
    "dense": (Dense, 8),
    "resnet20": (pq.zoo.resnet20, 16),
    "mobilenet_v2": (lambda: pq.zoo.mobilenet_v2(10), 32),
}


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", NETS)
def test_the_smaller_network_computes_what_the_large_one_does_without_those_channels(name: str, scope: Any) -> None:
    build, size = NETS[name]
    net = build()
    pq.zoo.randomize_batchnorm(net, seed=0, images=torch.randn(8, 3, size, size))
    x = torch.randn(2, 3, size, size)
    smaller = pq.train.remove_channels(net.train(), 0.3, example_inputs=(x,), scope=scope, multiple_of=4)
    assert smaller.training
    assert sum(p.numel() for p in smaller.parameters()) < 0.8 * sum(p.numel() for p in net.parameters())
    expected = without(net, x, 0.3, scope=scope).eval()(x).detach()
    torch.testing.assert_close(smaller.eval()(x), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    F.cross_entropy(smaller.train()(x), torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in smaller.parameters())


def test_modules_know_their_new_sizes() -> None:
    smaller = pq.train.remove_channels(Everything(), 0.5, example_inputs=(torch.randn(1, 3, 8, 8),), multiple_of=1)
    assert (smaller.stem[0].out_channels, smaller.stem[1].num_features, smaller.left.in_channels) == (8, 8, 8)
    depthwise, prelu = smaller.depthwise
    assert (depthwise.groups, depthwise.in_channels, depthwise.out_channels, prelu.num_parameters) == (10, 10, 20, 20)
    assert (smaller.up.in_channels, smaller.up.out_channels, smaller.fc1.in_features, smaller.fc2.out_features) == (12, 6, 96, 5)


def test_the_least_important_channels_go_and_kept_layers_stay() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.arange(1.0, 9)[:, None, None, None].expand(8, 3, 1, 1))
    smaller = pq.train.remove_channels(net, 0.5, example_inputs=(torch.randn(1, 3, 4, 4),), keep=["2"], multiple_of=1)
    assert smaller[0].weight[:, 0, 0, 0].tolist() == [5, 6, 7, 8]
    assert smaller[2].out_channels == 8
    assert [m.out_channels for m in net if isinstance(m, nn.Conv2d)] == [8, 8, 4], "the model itself is not changed"


def test_shared_parameters_stay_shared() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    net[4].weight = net[2].weight
    smaller = pq.train.remove_channels(net, 0.5, example_inputs=(torch.randn(2, 3),), multiple_of=1)
    assert smaller[4].weight is smaller[2].weight
    assert smaller[2].weight.shape == (4, 4)


def test_masked_networks_lose_their_masks_and_keep_their_zeros() -> None:
    net = pq.train.prune(pq.zoo.resnet20(), 0.6)
    smaller = pq.train.remove_channels(net, 0.3, example_inputs=(torch.randn(2, 3, 16, 16),), multiple_of=4)
    assert not any(parametrize.is_parametrized(module) for module in smaller.modules())
    assert float(pq.train.sparsity_report(smaller).rows[-1]["share"] or 0) > 0.4


class Attention(nn.Module):
    """A product of matrices over the channels, which nothing here understands."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1))
        return y


def test_coupling_that_is_not_understood_is_refused_by_name() -> None:
    x = torch.randn(2, 4, 6)
    with pytest.raises(pq.UnsupportedError, match=r"layer query: its channels reach .*(matmul|bmm).*keep=\['query'\]"):
        pq.train.remove_channels(Attention(), 0.5, example_inputs=(x,))
    with pytest.raises(ValueError, match="no layer has channels that can be removed"):
        pq.train.remove_channels(Attention(), 0.5, example_inputs=(x,), keep=["query", "key"])


class Fixed(nn.Module):
    """Code that knows how many channels there are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8 * 16, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.conv(x).reshape(-1, 8 * 16))
        return y


def test_code_that_fixes_a_number_of_channels_is_refused() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(pq.UnsupportedError, match="does not run with fewer channels"):
        pq.train.remove_channels(Fixed(), 0.5, example_inputs=(x,), multiple_of=4)
    net = nn.Sequential(Fixed(), nn.Linear(2, 8), nn.Linear(8, 2))
    assert pq.train.remove_channels(net, 0.5, example_inputs=(x,), keep=["0.conv"], multiple_of=4)[1].out_features == 4


@pytest.mark.parametrize("options", [{"share": 1.0}, {"scope": "net"}, {"multiple_of": 0}, {"keep": ["nothing"]}, {}])
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"share|scope|multiple_of: expected|multiple_of: sets of 8 channels|no layer is named"):
        pq.train.remove_channels(Net(), **{"share": 0.5, "example_inputs": (torch.randn(1, 3, 4, 4),), **options})


def test_a_smaller_network_is_quantized_and_runs() -> None:
    x = torch.randn(4, 3, 32, 32)
    smaller = pq.train.remove_channels(pq.zoo.resnet20_wide().eval(), 0.3, example_inputs=(x,))
    assert {m.out_channels for m in smaller.modules() if isinstance(m, nn.Conv2d)} == {16, 48, 96}
    graph = pq.quantize(smaller, pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    model = pq.convert(graph, example_inputs=(x,), fallback="error")
    assert pq.Session(model)(x.numpy()).shape == (4, 10)
