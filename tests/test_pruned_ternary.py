"""Pruning ternary quantization: the parametrization, its stages, what is exported, and a network trained to 88 % zeros."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import digits_resnet
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import pyqinfer as pq
from pyqinfer.bits import parse_bits
from pyqinfer.quantization.exact_sums import ExactSums
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.ternary import Stage, TernaryWeight, prune_weights

SPARSITY = 0.88


def ternary(latent: Tensor, sparsity: float = SPARSITY, per_channel: bool = False) -> TernaryWeight:
    weight = TernaryWeight(latent, parse_bits("t/32"), per_channel)
    prune_weights([weight], sparsity, "layer")
    weight.make_ternary()
    return weight


def cosine(a: Tensor, b: Tensor) -> float:
    return float(F.cosine_similarity(a.flatten().double(), b.flatten().double(), dim=0).detach())


# ---- one weight -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparsity", [0.0, 0.46, 0.8889, 0.95])
def test_a_ternary_tensor_has_three_values_the_share_of_zeros_and_norm_one(sparsity: float) -> None:
    latent = torch.randn(31, 17, 3, 3)
    weight = ternary(latent, sparsity)
    values = weight().detach()
    scale = float(weight.step.detach())
    assert set(values.unique().tolist()) == ({-scale, scale} if sparsity == 0 else {-scale, 0.0, scale})
    kept = round((1 - sparsity) * latent.numel())
    assert int((values != 0).sum()) == kept
    signs = weight.codes().codes.double()
    assert float(signs.norm()) / kept**0.5 == pytest.approx(1, abs=1e-6)
    assert float(values.double().norm()) == pytest.approx(float(latent.double().norm()), rel=1e-6)
    assert latent[values != 0].abs().min() >= latent[values == 0].abs().max() if sparsity else True
    assert torch.equal(values.sign(), latent.sign() * (values != 0))


GAUSSIAN = [
    (0.0, 0.798, 0.798),
    (0.2, 0.866, 0.864),
    (0.46, 0.926, 0.900),
    (0.5, 0.933, 0.899),
    (0.7, 0.962, 0.851),
    (0.8, 0.974, 0.785),
    (0.88, 0.982, 0.688),
    (0.9, 0.984, 0.652),
    (0.95, 0.990, 0.523),
]


@pytest.mark.parametrize(("sparsity", "of_kept", "of_all"), GAUSSIAN)
def test_cosines_of_normal_weights_are_those_of_the_table(sparsity: float, of_kept: float, of_all: float) -> None:
    latent = torch.randn(1000, 1000, generator=torch.Generator().manual_seed(0))
    weight = ternary(latent, sparsity)
    assert cosine(latent * weight.kept, weight()) == pytest.approx(of_kept, abs=2e-3)
    assert cosine(latent, weight()) == pytest.approx(of_all, abs=2e-3)


def test_gradients_go_straight_through_the_mask_and_exactly_through_the_normalization() -> None:
    latent, dy = torch.randn(6, 5, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    weight = ternary(latent.float(), 0.5).double()
    with torch.no_grad():
        weight.latent *= 3  # away from the norm of the start
    weight().backward(dy)
    w = weight.latent.detach().clone().requires_grad_()
    (w / w.norm() * latent.float().double().norm()).backward(dy)
    assert weight.latent.grad is not None
    torch.testing.assert_close(weight.latent.grad, w.grad, rtol=1e-6, atol=1e-9)
    assert float((weight.latent.grad * weight.latent.detach()).sum()) == pytest.approx(0, abs=1e-8), "the norm itself has no gradient"
    assert weight.step.grad is not None
    expected = (dy * weight.codes().codes.double()).sum() * weight._factor
    assert float(weight.step.grad) == pytest.approx(float(expected))


def test_a_pruned_weight_can_return_until_signs_are_fixed() -> None:
    weight = ternary(torch.tensor([[1.0, -2.0, 3.0, 0.1]]), 0.5)
    assert weight.codes().codes.tolist() == [[0, -1, 1, 0]]
    with torch.no_grad():
        weight.latent[0, 3] = -9
    prune_weights([weight], 0.5, "layer")
    assert weight.codes().codes.tolist() == [[0, 0, 1, -1]]
    weight.fix()
    with torch.no_grad():
        weight.latent[0, 0] = 50
    prune_weights([weight], 0.5, "layer")
    assert weight.codes().codes.tolist() == [[0, 0, 1, -1]]
    (weight() * torch.arange(4.0)).sum().backward()
    assert weight.latent.grad is not None
    assert not weight.latent.grad.any()
    assert weight.step.grad is not None
    assert weight.step.grad.all()


def test_a_scale_never_turns_negative() -> None:
    weight = ternary(torch.randn(4, 4), 0.5)
    with torch.no_grad():
        weight.step.fill_(-1)
    assert (weight.codes().scale > 0).all()


def test_channels_can_have_scales_of_their_own() -> None:
    latent = torch.randn(8, 3, 3, 3) * torch.arange(1.0, 9).reshape(-1, 1, 1, 1)
    weight = ternary(latent, 0.3, per_channel=True)
    signs, scale = weight.codes().codes, weight.codes().scale
    counts = (signs != 0).flatten(1).sum(1).clamp_min(1)
    torch.testing.assert_close(scale, latent.flatten(1).norm(dim=1) / counts.sqrt())


def test_globally_weights_compete_in_units_of_their_tensors() -> None:
    small, large = (TernaryWeight(torch.randn(n, n) * size, parse_bits("t/32"), False) for n, size in ((8, 1), (64, 100)))
    prune_weights([small, large], 0.5, "global")
    assert int(small.kept.sum() + large.kept.sum()) == (64 + 4096) // 2
    assert 0.3 < float(small.kept.double().mean()) < 0.7


# ---- a network ------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        y: Tensor = self.fc(torch.relu(self.up(torch.relu(x + self.conv(x)))).mean((2, 3)))
        return y


X, Y = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(32) % 5
LOADER = DataLoader(TensorDataset(X, Y), batch_size=8, shuffle=True)


def net() -> nn.Module:
    torch.manual_seed(0)
    return pq.zoo.randomize_batchnorm(Net(), seed=0, images=X).eval()


def ternary_weights(prepared: Prepared) -> list[TernaryWeight]:
    return [weight for weight in prepared.weights() if isinstance(weight, TernaryWeight)]


def codes_of(model: pq.Model) -> dict[str, np.ndarray[Any, Any]]:
    return {node["name"]: model.constant(node["constants"]["weight"]) for node in model.graph["nodes"] if "weight" in node["constants"]}


def test_it_starts_with_the_float_networks_outputs() -> None:
    float_net = net()
    prepared = pq.PrunedTernary().prepare(float_net, (X,)).eval()
    torch.testing.assert_close(prepared(X), float_net(X), rtol=1e-4, atol=1e-5)


def test_stages_follow_the_share_of_the_training() -> None:
    method = pq.PrunedTernary(sparsity=0.8, prune_share=0.5, fix_share=0.9)
    prepared = method.prepare(net(), (X,))
    weights = ternary_weights(prepared)
    assert len(weights) == 4
    seen = []
    for share in (0.0, 0.2, 0.4, 0.45, 0.5, 0.89, 0.9, 0.5):
        method.advance(prepared, share)
        zeros = {round(1 - float(weight.kept.double().mean()), 2) for weight in weights}
        seen.append((zeros.pop(), {weight.stage for weight in weights}))
        assert not zeros
    p, t, f = {Stage.PRUNED}, {Stage.TERNARY}, {Stage.FIXED}
    assert seen == [(0.0, p), (0.7, p), (0.8, p), (0.8, p), (0.8, t), (0.8, t), (0.8, f), (0.8, f)]


def test_the_stage_and_everything_else_are_part_of_the_state() -> None:
    method = pq.PrunedTernary(sparsity=0.8)
    prepared, other = (method.prepare(net(), (X,)) for _ in range(2))
    for share in (0.3, 0.95):
        method.advance(prepared, share)
        other.load_state_dict(prepared.state_dict())
        torch.testing.assert_close(other.eval()(X), prepared.eval()(X), rtol=0, atol=0)
        torch.testing.assert_close(copy.deepcopy(prepared)(X), prepared(X), rtol=0, atol=0)


@pytest.mark.parametrize(("act_bits", "scope"), [(8, "layer"), (4, "layer"), (4, "global")])
def test_a_trained_network_has_its_zeros_in_the_file_and_the_engine_gives_the_graphs_bits(act_bits: int, scope: Any) -> None:
    method = pq.PrunedTernary(sparsity=SPARSITY, scope=scope, act_bits=act_bits, epochs=3, progress=False)
    graph = pq.quantize(net(), method, example_inputs=(X[:1],), train=LOADER)
    model = pq.convert(graph, example_inputs=(X[:1],), fallback="error")
    codes = codes_of(model)
    assert len(codes) == 4
    assert all(set(np.unique(array)) <= {-1, 0, 1} for array in codes.values())
    sizes = {name: array.size for name, array in codes.items()}
    kept = {name: int((array != 0).sum()) for name, array in codes.items()}
    if scope == "layer":
        assert kept == {name: round((1 - SPARSITY) * size) for name, size in sizes.items()}
    else:
        assert sum(kept.values()) == round((1 - SPARSITY) * sum(sizes.values()))
    packings = {c["name"]: c["packing"] for c in model.graph["constants"] if c["dtype"] == "code"}
    assert packings["conv.weight"] == "trit_rans"
    np.testing.assert_array_equal(ExactSums(graph)(X).numpy(), pq.Session(model, threads=1)(X.numpy()))


def test_every_stage_trains_under_distributed_data_parallel(tmp_path: Path) -> None:
    method = pq.PrunedTernary(sparsity=0.8, act_bits=8)
    prepared = method.prepare(net(), (X,))
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(prepared)
        optimizer = torch.optim.SGD(prepared.parameter_groups(1e-4), lr=0.01)
        for share in (0.0, 0.3, 0.6, 0.7, 0.95, 0.97):
            method.advance(prepared, share)
            optimizer.zero_grad()
            F.cross_entropy(parallel(X), Y).backward()
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()
    assert {weight.stage for weight in ternary_weights(prepared)} == {Stage.FIXED}


def test_float_activations_keep_the_file_small_and_run_in_float() -> None:
    graph = pq.quantize(net(), pq.PrunedTernary(epochs=1, progress=False), example_inputs=(X[:1],), train=LOADER)
    model = pq.convert(graph, example_inputs=(X[:1],))
    assert model.integer_share() == 0
    assert {c["bits"] for c in model.graph["constants"] if c["dtype"] == "code"} == {2}
    np.testing.assert_allclose(pq.Session(model)(X.numpy()), graph(X).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_layers_of_other_bits_are_trained_beside_it() -> None:
    method = pq.PrunedTernary(epochs=1, act_bits=8, progress=False)
    graph = pq.quantize(net(), method, example_inputs=(X[:1],), train=LOADER, keep={"stem": "8/8", "fc": "float"})
    bits = {
        c["name"]: c.get("bits") for c in pq.convert(graph, example_inputs=(X[:1],)).graph["constants"] if c["name"].endswith(".weight")
    }
    assert bits == {"stem.weight": 8, "conv.weight": 2, "up.weight": 2, "fc.weight": None}


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Stopped(pq.PrunedTernary):
        def advance(self, prepared: Prepared, share: float) -> None:
            if share >= 0.6:
                raise Stop
            super().advance(prepared, share)

    options: dict[str, Any] = {"epochs": 4, "sparsity": 0.7, "act_bits": 8, "progress": False}
    whole = pq.quantize(net(), pq.PrunedTernary(**options), example_inputs=(X[:1],), train=LOADER)
    with pytest.raises(Stop):
        pq.quantize(net(), Stopped(**options, checkpoint=tmp_path / "c.pt"), example_inputs=(X[:1],), train=LOADER)
    _rename_settings(tmp_path / "c.pt")
    resumed = pq.quantize(net(), pq.PrunedTernary(**options, checkpoint=tmp_path / "c.pt"), example_inputs=(X[:1],), train=LOADER)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def _rename_settings(path: Path) -> None:
    """The stopped class has another name, which is part of what a checkpoint must agree with."""
    state = torch.load(path, weights_only=True)
    torch.save({**state, "settings": state["settings"].replace("Stopped", "PrunedTernary", 1)}, path)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 1.0},
        {"scope": "net"},
        {"scale": "filter"},
        {"weight_bits": 4},
        {"prune_share": 0.95},
        {"fix_share": 1.5},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        pq.PrunedTernary(**options)


def test_digits_survive_88_percent_zeros() -> None:
    """The published claim in kind: all layers ternary, 88 % zeros, at most a few points lost."""
    images, labels = digits_resnet.digit_images("train")
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    method = pq.PrunedTernary(epochs=8, progress=False)
    graph = pq.quantize(digits_resnet.digits_net(), method, example_inputs=(images[:2],), train=loader)
    assert digits_resnet.top1(graph) >= digits_resnet.top1(digits_resnet.digits_net()) - 4
    model = pq.convert(graph, example_inputs=(images[:2],), samples=0)
    file = model.size_report().rows[-1]
    assert file["zeros"] == pytest.approx(SPARSITY, abs=2e-3)
    assert int(file["code_bytes"] or 0) < 0.7 * 77_000 / 8 * 1.05
