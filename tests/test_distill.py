"""Distilled data: what its loss measures, what distillation reaches, and what can be done with the result (docs/methods.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer.quantization.bn_statistics import StatisticsLoss, statistics_loss
from pyqinfer.quantization.distill import Distillation, distill, initial_noise
from pyqinfer.quantization.distilled import Distilled


def trained_on(net: nn.Module, *inputs: Tensor) -> nn.Module:
    """``net`` in evaluation mode, with the inputs' statistics as its running statistics."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = None
    with torch.no_grad():
        net.train()(*inputs)
    return net.eval()


class Net(nn.Module):
    """A conv without BatchNorm in front of one with: pairing them by order would be wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.plain = nn.Conv2d(3, 4, 1)
        self.conv = nn.Conv2d(4, 6, 3, stride=2)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn(self.conv(self.plain(x)))).mean((2, 3)))


def squared(x: Tensor) -> float:
    return float(x.double().square().sum())


def by_hand(module: nn.Module, activation: Tensor, stats: str) -> float:
    """The loss of one layer as the paper has it, image by image or over the batch."""
    target = torch.sqrt(module.running_var + 1e-6)
    if stats == "batch":
        flat = activation.transpose(0, 1).flatten(1)
        return squared(flat.mean(1) - module.running_mean) + squared(torch.sqrt(flat.var(1, correction=0) + 1e-6) - target)
    per_image = [x.flatten(1) for x in activation]
    losses = [squared(x.mean(1) - module.running_mean) + squared(torch.sqrt(x.var(1) + 1e-6) - target) for x in per_image]
    return sum(losses) / len(losses)


@pytest.mark.parametrize("stats", ["image", "batch"])
def test_the_loss_is_the_papers(stats: str) -> None:
    net, x = trained_on(Net(), 3 * torch.randn(8, 3, 9, 9) + 1), torch.randn(5, 3, 9, 9)
    image = nn.BatchNorm2d(3)  # mean 0 and variance 1: the term of the network's own input
    with torch.no_grad():
        expected = by_hand(net.bn, net.conv(net.plain(x)), stats) + by_hand(image, x, stats)
    assert statistics_loss(net, x, stats) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stats", ["image", "batch"])
def test_the_losss_gradient_is_its_derivative(stats: str) -> None:
    net = trained_on(Rows(), torch.randn(8, 3, 5, 5)).double()
    loss = StatisticsLoss(net, stats)
    x = torch.randn(3, 3, 5, 5, dtype=torch.float64, requires_grad=True)
    with loss.attached():
        assert torch.autograd.gradcheck(lambda x: loss([x]), (x,), eps=1e-3, atol=1e-3)


def test_the_term_of_the_input_takes_other_statistics_or_is_left_out() -> None:
    x = 0.5 * torch.randn(64, 3, 9, 9) + 2
    net = trained_on(Net(), x)
    losses = []
    for input_stats in (None, (2.0, 0.5), (0.0, 1.0)):
        loss = StatisticsLoss(net, "batch", input_stats)
        with torch.no_grad(), loss.attached():
            losses.append(float(loss([x])))
    assert losses[0] < losses[1] < 0.01
    assert losses[2] > 12  # three channels, each 2 away from 0


class Shared(nn.Module):
    """One BatchNorm behind two layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.small, self.large = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.small(x)).mean((2, 3)) + self.bn(3 * self.large(x)).mean((2, 3))


def test_a_batch_norm_that_runs_twice_is_compared_with_the_average_of_its_calls() -> None:
    """Training accumulates that average, so that data which made the running statistics has no loss."""
    x = torch.randn(16, 3, 9, 9)
    net = trained_on(Shared(), x)
    assert statistics_loss(net, x, "batch") == pytest.approx(by_hand(nn.BatchNorm2d(3), x, "batch"), abs=1e-3)


class Rows(nn.Module):
    """BatchNorm1d over [N, C] behind a BatchNorm2d over a map of 1x1."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn2 = nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8)
        self.fc, self.bn1 = nn.Linear(8, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn1(self.fc(torch.relu(self.bn2(self.conv(x))).flatten(1)))


def test_a_layer_with_one_value_per_image_takes_the_statistics_of_the_batch() -> None:
    net, x = trained_on(Rows(), 3 * torch.randn(8, 3, 5, 5) + 1), torch.randn(32, 3, 5, 5)
    with torch.no_grad():
        inner = net.conv(x)
        expected = by_hand(net.bn2, inner, "batch") + by_hand(net.bn1, net.fc(torch.relu(net.bn2(inner)).flatten(1)), "batch")
    assert statistics_loss(net, x, "image") == pytest.approx(expected + by_hand(nn.BatchNorm2d(3), x, "image"), rel=1e-5)


@pytest.mark.parametrize("stats", ["image", "batch"])
@pytest.mark.parametrize("images", [1, 8])
def test_maps_of_one_pixel_can_be_distilled(stats: str, images: int) -> None:
    """A variance over one value would be NaN; of a single image the mean alone is matched."""
    settings = Distillation(batch=images, iterations=100, stats=stats, schedule="cosine")
    distilled = distill(trained_on(Rows(), 3 * torch.randn(64, 3, 5, 5) + 1), (torch.zeros(1, 3, 5, 5),), settings)
    assert torch.isfinite(distilled.images).all()
    assert distilled.loss < 0.1 * distilled.losses[0]


def test_three_dimensions_and_one() -> None:
    for cls, conv, shape in ((nn.BatchNorm1d, nn.Conv1d, (2, 3, 30)), (nn.BatchNorm3d, nn.Conv3d, (2, 3, 6, 6, 6))):
        torch.manual_seed(0)
        x = torch.randn(32, *shape[1:]).cumsum(-1)
        net = trained_on(nn.Sequential(conv(3, 4, 3), cls(4)), (x - x.mean()) / x.std())
        distilled = distill(net, (torch.zeros(shape),), Distillation(batch=4, iterations=60, schedule="cosine"))
        assert distilled.images.shape == (4, *shape[1:])
        assert distilled.loss < 0.05 * distilled.losses[0]


def test_several_inputs_are_distilled_together() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.bn(a[:, :, :4, :4] + 2 * b)

    net = trained_on(Two(), torch.randn(64, 3, 6, 6) + 1, torch.randn(64, 3, 4, 4))
    distilled = distill(net, (torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 4, 4)), Distillation(batch=4, iterations=60))
    assert [tuple(x.shape) for x in distilled.inputs] == [(4, 3, 6, 6), (4, 3, 4, 4)]
    assert distilled.loss < 0.5 * distilled.losses[0]


def test_the_model_is_left_as_it_was() -> None:
    net = Net().train()
    net.plain.requires_grad_(False)
    net.bn.eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():  # as in a script for inference
        distill(net, (torch.zeros(1, 3, 9, 9),), Distillation(batch=2, iterations=3))
    assert net.training
    assert not net.bn.training
    assert [p.requires_grad for p in net.parameters()] == [False] * 2 + [True] * 6
    assert all(p.grad is None for p in net.parameters())
    assert not any(module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_seed_decides() -> None:
    net, example = Net().eval(), (torch.zeros(1, 3, 9, 9),)
    first, again, other = (distill(net, example, Distillation(batch=2, iterations=5, seed=seed)).images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_images_kept_are_those_of_the_least_loss() -> None:
    net = trained_on(Net(), torch.randn(64, 3, 9, 9))
    settings = Distillation(batch=2, iterations=6, learning_rate=20.0)
    distilled = distill(net, (torch.zeros(1, 3, 9, 9),), settings)
    assert distilled.losses[-1] > 10 * distilled.losses[0] == 10 * distilled.loss
    assert torch.equal(distilled.images, initial_noise([torch.zeros(1, 3, 9, 9)], settings)[0])


def test_initial_noise_of_the_authors_code() -> None:
    (noise,) = initial_noise([torch.zeros(1, 3, 64, 64)], Distillation(init="repository"))
    assert noise.shape == (32, 3, 64, 64)
    assert float(noise.abs().max()) == pytest.approx(127.5 / 5418.75, rel=1e-5)
    assert float(noise.std()) == pytest.approx(0.0136, abs=1e-4)
    (normal,) = initial_noise([torch.zeros(1, 3, 64, 64)], Distillation())
    assert float(normal.std()) == pytest.approx(1, abs=0.01)


def test_a_network_without_batch_norm_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"no BatchNorm layer.*pq\.PTQ\(\.\.\.\).*calibration="):
        distill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (torch.zeros(1, 3, 8, 8),))
    untracked = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="no BatchNorm layer with running statistics"):
        distill(untracked, (torch.zeros(1, 3, 8, 8),))


def test_errors_name_what_is_wrong() -> None:
    broken = Net()
    broken.bn.running_var[2] = float("nan")
    with pytest.raises(ValueError, match=r"layer 'bn': running statistics that are NaN"):
        distill(broken, (torch.zeros(1, 3, 9, 9),))
    with pytest.raises(ValueError, match=r"example_inputs\[0\] \(torch\.int64.*calibration="):
        distill(Net(), (torch.zeros(1, 9, dtype=torch.int64),))
    for arguments in (
        {"stats": "layer"},
        {"schedule": "step"},
        {"init": "zeros"},
        {"batch": 0},
        {"learning_rate": 0.0},
        {"input_stats": (0, 0)},
    ):
        with pytest.raises(ValueError, match="Distillation"):
            Distillation(**arguments)


def test_distilled_data_comes_back_from_its_file(tmp_path: Path) -> None:
    distilled = distill(Net().eval(), (torch.zeros(1, 3, 9, 9),), Distillation(batch=2, iterations=3))
    distilled.save(tmp_path / "data.npz")
    loaded = Distilled.load(tmp_path / "data.npz")
    assert torch.equal(loaded.images, distilled.images)
    assert np.array_equal(loaded.losses, distilled.losses)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3), input_0=np.zeros(3))
    with pytest.raises(ValueError, match=r"other\.npz: not a file of distilled data"):
        Distilled.load(tmp_path / "other.npz")


def test_the_grid_shows_every_image_from_its_black_to_its_white(tmp_path: Path) -> None:
    from PIL import Image

    ramp = torch.arange(64.0).reshape(1, 1, 8, 8)
    images = torch.cat([ramp, 3 * ramp - 70, -ramp]).expand(3, 3, 8, 8)
    Distilled((images,), np.zeros(1)).save_grid(tmp_path / "grid.png", columns=2, scale=1)
    grid = np.asarray(Image.open(tmp_path / "grid.png"))
    assert grid.shape == (18, 18, 3)
    first, second, third = grid[:8, :8], grid[:8, 10:], grid[10:, :8]
    assert np.array_equal(first, second)
    assert (first[0, 0], first[-1, -1], third[0, 0]) == (pytest.approx([0] * 3), pytest.approx([255] * 3), pytest.approx([255] * 3))
    assert (grid[10:, 10:] == 255).all()
    Distilled((images[:, :2],), np.zeros(1)).save_grid(tmp_path / "grey.png")  # two channels: their mean, enlarged to 64 pixels
    assert Image.open(tmp_path / "grey.png").size == (3 * 8 * 8 + 4 * 8, 64)
    with pytest.raises(ValueError, match=r"first input has shape \(2, 5\)"):
        Distilled((torch.zeros(2, 5),), np.zeros(1)).save_grid(tmp_path / "none.png")
