"""The training base: prepared modules, parametrizations, the loop, checkpoints, one's own loop under DDP and autocast."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import digits_net
import digits_resnet
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from traces import traced_once

import pyqinfer as pq
from pyqinfer.bits import parse_bits
from pyqinfer.quantization.exact_sums import ExactSums
from pyqinfer.quantization.fold import FoldedNorm
from pyqinfer.quantization.observers import affine_params
from pyqinfer.quantization.weights import WeightCodes
from pyqinfer.train.activations import TrainedActivation
from pyqinfer.train.fake_quant import round_to_grid
from pyqinfer.train.layers import TrainedNorm
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.seeds import kept_generators
from pyqinfer.train.weights import SteppedWeight

X = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
Y = torch.arange(8) % 5


class Mixed(nn.Module):
    """Layers with and without BatchNorm and bias, a BatchNorm that cannot be folded, a weight that two layers share, a PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.pre = nn.BatchNorm2d(8, momentum=0.02)
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2, bias=False)
        self.act = nn.PReLU(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.a(x)))
        x = F.relu(self.pre(x + self.shared(F.relu(self.shared(x)))))
        return self.fc(self.act(self.up(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def mixed() -> nn.Module:
    torch.manual_seed(0)
    net = Mixed()
    with torch.no_grad():
        for _ in range(20):
            net(X + 0.5)  # so that running statistics are not those of no data
        net.bn.weight.copy_(torch.linspace(-1.5, 1.5, 8))
        net.bn.weight[3] = 0.0
    return net.eval()


@pytest.fixture(scope="module", autouse=True)
def _traced_once(mixed: nn.Module) -> Iterator[None]:
    with traced_once(digits_net.trained(), digits_resnet.digits_net(), mixed):
        yield


def loader(count: int = 192, batch: int = 32) -> DataLoader[Any]:
    images, labels = digits_net.data("train")
    return DataLoader(TensorDataset(images[:count], labels[:count]), batch, shuffle=True)


def prepared_digits(method: pq.QAT) -> Prepared:
    images = digits_net.data("train")[0][:128]
    return method.prepare(digits_net.trained(), (images[:2],), calibration=images.split(32))


def steps(prepared: nn.Module, count: int, lr: float = 0.01, net: Prepared | None = None) -> list[float]:
    """Train by a loop of one's own on the first digits; the loss of each step."""
    images, labels = digits_net.data("train")
    optimizer = torch.optim.SGD((net or prepared).parameter_groups(1e-4), lr=lr, momentum=0.9)  # type: ignore[operator]
    losses = []
    for i in range(count):
        loss = F.cross_entropy(prepared(images[i * 32 : i * 32 + 32]), labels[i * 32 : i * 32 + 32])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---- rounding with a learned step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [False, True])
def test_rounding_gives_multiples_of_the_step_and_lsq_gradients(channels: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(4, 6, 5, generator=generator)).requires_grad_()
    step = (torch.full((4, 1, 1), 0.3) if channels else torch.tensor([0.3])).requires_grad_()
    dy = torch.randn(4, 6, 5, generator=generator)
    y = round_to_grid(x, step, -7, 8, 0.25)
    y.backward(dy)
    ratio = (x / step).detach()
    codes = ratio.round().clamp(-7, 8)
    inside = (ratio > -7) & (ratio < 8)
    torch.testing.assert_close(y.detach(), codes * 0.3)
    torch.testing.assert_close(x.grad, dy * inside)
    moved = dy * torch.where(inside, codes - ratio, codes)
    expected = 0.25 * (moved.sum((1, 2), keepdim=True) if channels else moved.sum().reshape(1))
    torch.testing.assert_close(step.grad, expected)


def test_a_step_that_an_optimizer_made_negative_is_held_above_zero_and_can_come_back() -> None:
    activation = TrainedActivation(affine_params(0.0, 1.5, 4))
    with torch.no_grad():
        activation.step.fill_(-1.0)
    x = torch.linspace(0, 1, 50)
    activation(x).square().sum().backward()
    assert activation.params().scale > 0
    assert float(activation.step.grad) != 0


# ---- parametrizations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", ["8/8", "3/8", "2/8", "t/8"])
def test_codes_are_what_the_weight_is(bits: str) -> None:
    latent = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    weight = SteppedWeight(latent, parse_bits(bits), torch.full((6,), 0.05))
    codes = weight.codes()
    torch.testing.assert_close(codes.codes * codes.scale.reshape(-1, 1, 1, 1), weight().detach())
    assert -weight.high <= int(codes.codes.min()) < 0 < int(codes.codes.max()) <= weight.high


@pytest.mark.parametrize("zero_point", [0, -0.5])
def test_codes_times_a_gain_stand_for_the_multiplied_weight(zero_point: float) -> None:
    codes = torch.randint(-2, 2, (3, 4), generator=torch.Generator().manual_seed(0)).to(torch.int8).clamp(-1 if not zero_point else -2, 1)
    gain = torch.tensor([0.5, -2.0, 1.0])
    made = WeightCodes(codes, torch.tensor([0.1, 0.2, 0.3]), -2, 1, zero_point).times(gain)
    expected = (codes - zero_point) * torch.tensor([0.1, 0.2, 0.3])[:, None] * gain[:, None]
    torch.testing.assert_close((made.codes - zero_point) * made.scale[:, None], expected)
    assert made.codes.dtype == torch.int8


def test_a_mask_prunes_the_graph_gives_pruned_weights_no_gradient_and_is_part_of_the_state() -> None:
    prepared = prepared_digits(pq.QAT(4, 4))
    weight = prepared.layer("blocks.1.project").weight
    mask = (torch.arange(weight.latent.numel()).reshape(weight.latent.shape) % 3 != 0).float()
    weight.set_mask(mask)
    steps(prepared, 2)
    assert not bool(weight.latent.grad[mask == 0].any())
    assert not bool(weight()[mask == 0].any())
    codes = {name: tensor for name, tensor in prepared.finish().named_buffers() if name.startswith("blocks_1_project_weight_codes")}
    (only,) = codes.values()
    assert not bool(only[mask == 0].any())
    other = prepared_digits(pq.QAT(4, 4))
    other.load_state_dict(prepared.state_dict())
    assert torch.equal(other.layer("blocks.1.project").weight.mask, mask)
    other.load_state_dict(prepared_digits(pq.QAT(4, 4)).state_dict())
    assert other.layer("blocks.1.project").weight.mask is None


def test_a_frozen_norm_is_affine_in_training_mode_and_says_so_in_its_state() -> None:
    norm = TrainedNorm(FoldedNorm(torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0]), torch.zeros(2), torch.ones(2), 1e-5)).train()
    x = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 3
    assert norm(x).mean((0, 2, 3))[0].item() == pytest.approx(0.5, abs=1e-5)
    norm.freeze()
    before = norm.running_mean.clone()
    gain, bias = norm.affine()
    torch.testing.assert_close(norm(x), x * gain.reshape(-1, 1, 1) + bias.reshape(-1, 1, 1))
    assert torch.equal(norm.running_mean, before)
    other = TrainedNorm(FoldedNorm(torch.ones(2), torch.ones(2), torch.ones(2), torch.ones(2), 1e-5))
    other.load_state_dict(norm.state_dict())
    assert other.frozen


# ---- prepared modules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("equalize", [False, True])
@pytest.mark.parametrize(("weight_bits", "act_bits"), [(8, 8), (4, 4), ("ternary", 3), (3, 32)])
def test_a_prepared_module_starts_where_post_training_quantization_ends(weight_bits: Any, act_bits: int, equalize: bool) -> None:
    images = digits_net.data("test")[0]
    calibration = digits_net.data("train")[0][:128].split(32)
    ptq = pq.PTQ(weight_bits, act_bits, equalize=equalize, bias_correction=False)
    graph = pq.quantize(digits_net.trained(), ptq, example_inputs=(images[:2],), calibration=calibration)
    prepared = prepared_digits(pq.QAT(weight_bits, act_bits, equalize=equalize)).eval()
    finished = prepared.finish()
    codes = [{name: t for name, t in g.named_buffers() if t.dtype == torch.int8} for g in (graph, finished)]
    assert equal(*codes)
    with torch.no_grad():
        wanted = graph(images)
        for outputs in (prepared(images), finished(images)):
            assert float((outputs - wanted).norm()) < 0.01 * float(wanted.norm())  # a code on an edge may fall the other way


@pytest.mark.parametrize("bits", ["8/8", "4/4", "t/8", "float"])
def test_every_kind_of_layer_trains_and_exports_what_it_computes(mixed: nn.Module, bits: str) -> None:
    parsed = parse_bits(bits)
    method = pq.QAT(parsed.weight, parsed.act, first_last=None)
    prepared = method.prepare(mixed, (X,))
    start = [p.detach().clone() for p in prepared.parameters()]
    optimizer = torch.optim.SGD(prepared.parameter_groups(1e-4), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(prepared(X), Y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(not torch.equal(before, after) for before, after in zip(start, prepared.parameters(), strict=True))
    assert sorted(norm.momentum for norm in prepared.norms()) == [0.02, 0.1]
    first, second = (prepared.layer(name).weight for name in prepared.bits if name.startswith("shared"))
    assert first is second
    prepared.eval()
    graph = method.finish(prepared)
    with torch.no_grad():
        torch.testing.assert_close(graph(X), prepared(X), rtol=1e-3, atol=1e-3)
    session = pq.Session(pq.convert(graph, example_inputs=(X,)))
    torch.testing.assert_close(torch.as_tensor(session(X.numpy())), ExactSums(graph)(X), rtol=1e-3, atol=1e-3)


def test_copies_and_states_give_the_same_module() -> None:
    prepared = prepared_digits(pq.QAT(4, 4))
    twin = copy.deepcopy(prepared)
    other = prepared_digits(pq.QAT(4, 4))
    steps(prepared, 3)
    steps(twin, 3)
    other.load_state_dict(prepared.state_dict())
    images = digits_net.data("test")[0][:32]
    with torch.no_grad():
        outputs = [module.eval()(images) for module in (prepared, twin, other)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_autocast_trains_in_bfloat16_and_leaves_parameters_in_float32() -> None:
    prepared = prepared_digits(pq.QAT(4, 4))
    images, labels = (t[:32] for t in digits_net.data("train"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = prepared(images)
        loss = F.cross_entropy(outputs.float(), labels)
    loss.backward()
    assert outputs.dtype == torch.bfloat16
    gradients = [p.grad for p in prepared.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and bool(torch.isfinite(g).all()) for g in gradients)


def test_only_latent_weights_decay() -> None:
    prepared = prepared_digits(pq.QAT(4, 4))
    decayed, others = (group["params"] for group in prepared.parameter_groups(0.1))
    names = {id(p): name for name, p in prepared.named_parameters()}
    assert {names[id(p)].rpartition(".")[2] for p in decayed} == {"latent"}
    assert {names[id(p)].rpartition(".")[2] for p in others} == {"step", "weight", "bias"}


# ---- the loop -------------------------------------------------------------------------------------------------------


def train(method: pq.QAT, **given: Any) -> Any:
    images = digits_net.data("train")[0]
    return pq.quantize(digits_net.trained(), method, example_inputs=(images[:2],), **{"train": loader(), **given})


def state(graph: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in graph.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_training_reaches_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    method = pq.QAT(3, 3, epochs=4, freeze_bn=0.6, distill=0.5, seed=3)
    whole = train(method)

    class Interrupted:
        """The loader, until the third epoch's second batch is asked for."""

        def __init__(self) -> None:
            self.inner, self.epochs = loader(), 0

        def __len__(self) -> int:
            return len(self.inner)

        def __iter__(self) -> Iterator[Any]:
            self.epochs += 1
            for i, batch in enumerate(self.inner):
                if (self.epochs, i) == (4, 1):  # one pass went to calibration
                    raise KeyboardInterrupt
                yield batch

    kept = replace(method, checkpoint=tmp_path / "run" / "state.pt")
    with pytest.raises(KeyboardInterrupt):
        train(kept, train=Interrupted())
    resumed = train(kept)
    assert equal(state(whole), state(resumed))
    rows = [resumed.meta["training"].rows, whole.meta["training"].rows]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    with pytest.raises(ValueError, match="other settings"):
        train(replace(kept, lr=0.5))


def test_a_seed_decides_and_the_callers_generator_stays() -> None:
    method = pq.QAT(3, 3, epochs=1)
    torch.manual_seed(5)
    first = state(train(method))
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    assert equal(first, state(train(method)))
    assert not equal(first, state(train(replace(method, seed=1))))
    with kept_generators():
        torch.manual_seed(9)


def test_batch_norms_freeze_when_their_time_has_come_and_the_rate_falls_with_them() -> None:
    rows = train(pq.QAT(4, 4, epochs=4, freeze_bn=0.5, frozen_lr=0.01)).meta["training"].rows
    assert rows[1]["lr"] > 50 * rows[2]["lr"]
    assert train(pq.QAT(8, 8, epochs=1, lr=0.1, frozen_lr=0.01)).meta["training"].rows[0]["lr"] < 0.001


def test_training_gains_at_low_bits_and_reports_each_epoch() -> None:
    images, labels = digits_net.data("test")
    validation = DataLoader(TensorDataset(images, labels), 128)
    graph = train(pq.QAT(2, 4, epochs=3, lr=0.02), train=loader(512), val=validation)
    rows = graph.meta["training"].rows
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["val_top1_percent"] == pytest.approx(digits_net.accuracy(graph), abs=0.6)
    start = train(pq.QAT(2, 4, epochs=0))
    assert digits_net.accuracy(graph) > max(digits_net.accuracy(start) + 10, 85)


def test_distillation_draws_the_outputs_towards_the_float_models() -> None:
    images = digits_net.data("test")[0]
    with torch.no_grad():
        wanted = digits_net.trained()(images)
        away = {share: float((train(pq.QAT(3, 3, epochs=2, distill=share))(images) - wanted).square().mean()) for share in (0.0, 1.0)}
    assert away[1.0] < away[0.0]


def test_a_loss_of_ones_own_gets_all_targets() -> None:
    images, labels = (t[:64] for t in digits_net.data("train"))
    boxes = torch.rand(64, 2, generator=torch.Generator().manual_seed(0))

    def loss(outputs: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        classes, corners = targets
        return F.cross_entropy(outputs, classes) + F.mse_loss(outputs[:, :2], corners)

    graph = train(pq.QAT(8, 8, epochs=1, loss=loss), train=[(images, labels, boxes)])
    assert graph.meta["training"].rows[0]["top1_percent"] is None


def test_batches_that_can_be_read_only_once_are_kept() -> None:
    batches = list(loader())
    method = pq.QAT(4, 4, epochs=2)
    lists, generators = (train(method, train=make(), val=make()) for make in (lambda: batches, lambda: (b for b in batches)))
    assert equal(state(lists), state(generators))
    assert generators.meta["training"].rows[1]["val_loss"] == lists.meta["training"].rows[1]["val_loss"]


@pytest.mark.parametrize(
    ("options", "batches", "message"),
    [
        ({}, [], "train: no batches"),
        ({}, [torch.zeros(4, 1, 16, 16)], "expected a tuple of 1 input"),
        ({"lr": 1e6, "freeze_bn": 0.0, "frozen_lr": 1.0}, None, "the loss became"),
    ],
)
def test_what_cannot_be_trained_says_so(options: dict[str, Any], batches: Any, message: str) -> None:
    images = digits_net.data("train")[0][:64]
    with pytest.raises(ValueError, match=message):
        train(pq.QAT(8, 8, epochs=2, **options), train=loader() if batches is None else batches, calibration=[images])


@pytest.mark.parametrize(
    "options",
    [{"epochs": -1}, {"lr": 0.0}, {"momentum": 1.0}, {"weight_decay": -1.0}, {"freeze_bn": 2.0}, {"distill": 1.5}, {"observer": "x"}],
    ids=str,
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        pq.QAT(**options)


# ---- several processes ----------------------------------------------------------------------------------------------

LOOP = """
import digits_net
import torch
import torch.nn.functional as F
import pyqinfer as pq

def own_loop(rank, world, wrap):
    images, labels = digits_net.data("train")
    method = pq.QAT(3, 3)
    prepared = method.prepare(digits_net.trained(), (images[:2],), calibration=images[:128].split(32))
    model = wrap(prepared)
    optimizer = torch.optim.SGD(prepared.parameter_groups(1e-4), lr=0.01, momentum=0.9)
    for epoch in range(2):
        if epoch == 1:
            prepared.freeze_batch_norm()
            for group in optimizer.param_groups:
                group["lr"] = 0.001
        for rows in torch.randperm(320, generator=torch.Generator().manual_seed(epoch)).split(64):
            mine = rows.chunk(world)[rank]
            optimizer.zero_grad()
            F.cross_entropy(model(images[mine]), labels[mine]).backward()
            optimizer.step()
    return prepared
"""
WORKER = """
import sys
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
prepared = own_loop(rank, 2, DistributedDataParallel)
dist.barrier()
torch.save(prepared.state_dict(), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_train_one_model_as_well_as_one_does(tmp_path: Path) -> None:
    program = f"import sys; sys.path[:0] = {[str(Path(__file__).parent)]}\n{LOOP}\n{WORKER}"
    workers = [subprocess.Popen([sys.executable, "-c", program, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [worker.wait(timeout=240) for worker in workers] == [0, 0]
    names: dict[str, Any] = {}
    exec(LOOP, names)
    alone = names["own_loop"](0, 1, lambda prepared: prepared)
    states = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    learned = dict(alone.named_parameters())
    assert all(torch.equal(states[0][name], states[1][name]) for name in learned)
    together = copy.deepcopy(alone)
    together.load_state_dict(states[0])
    one, two = (digits_net.accuracy(module.finish()) for module in (alone, together))
    assert two > one - 1.5
    assert two > 93
