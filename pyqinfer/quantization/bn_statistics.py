"""How far inputs are from the statistics that a network's BatchNorm layers remember of their training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pyqinfer.frontend.export import evaluation_mode

Stats = Literal["image", "batch"]
_EPS = 1e-6  # Keeps the square root differentiable where a channel is constant.


class StatisticsLoss:
    """Squared distance of activation statistics to the running statistics, summed over BatchNorm layers and channels.

    Every layer contributes ``||mean - running_mean||^2 + ||std - running_std||^2`` at its input, where ``std = sqrt(var + 1e-6)``; so does
    each input of the network with ``input_stats`` as target (ZeroQ, arXiv 2001.00281, equation 3). Statistics are taken

    - ``"image"``: for each image over its positions (unbiased variance), and the loss is averaged over images. Every image is then
      driven to the statistics of the whole training set, as in the authors' code. Where a channel has one value per image (BatchNorm1d
      over [N, C], 1x1 maps) a variance within the image does not exist: those layers take the statistics of the batch.
    - ``"batch"``: over images and positions together (biased variance), as in the paper's equation. A single value per channel has a mean
      only, and its standard deviation is left out.

    A module that runs several times (shared between branches or levels) has running statistics that average over its calls, so the
    statistics of the calls are averaged in front of the comparison.

    Args:
        model: network whose BatchNorm modules are read, and others that keep ``running_mean`` and ``running_var`` and use them in
            evaluation mode.
        stats: what the statistics are taken over, "image" or "batch".
        input_stats: mean and standard deviation that every channel of the inputs should have; None leaves that term out.

    Raises:
        ValueError: no such module, or one whose running statistics are not finite or negative.
    """

    def __init__(self, model: nn.Module, stats: Stats, input_stats: tuple[float, float] | None = (0.0, 1.0)) -> None:
        self.model, self.stats, self.input_stats = model, stats, input_stats
        self._targets: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for name, module in model.named_modules():
            mean, variance = getattr(module, "running_mean", None), getattr(module, "running_var", None)
            if isinstance(mean, Tensor) and isinstance(variance, Tensor):
                if not torch.isfinite(mean).all() or not torch.isfinite(variance).all() or bool((variance < 0).any()):
                    raise ValueError(f"layer {name!r}: running statistics that are NaN, infinite or negative")
                self._targets[module] = (mean.detach().float(), _std(variance.detach().float()))
        if not self._targets:
            raise ValueError(
                f"{type(model).__name__} has no BatchNorm layer with running statistics, which is what ZeroQ makes its data from: "
                "quantize it with pq.PTQ(...) and batches of typical inputs as calibration="
            )

    @property
    def layers(self) -> int:
        """Number of BatchNorm layers."""
        return len(self._targets)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on the layers; the model is in evaluation mode and its parameters need no gradients. All is undone at the end."""
        needed = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self._seen: dict[nn.Module, list[tuple[Tensor, Tensor | None]]] = {}
        hooks = [module.register_forward_pre_hook(self._observe) for module in self._targets]
        try:
            for parameter in needed:
                parameter.requires_grad_(False)
            with evaluation_mode(self.model):
                yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in needed:
                parameter.requires_grad_(True)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """The loss, a scalar that can be differentiated by the inputs. Only inside :meth:`attached`.

        Raises:
            ValueError: the model ran without its BatchNorm layers.
        """
        self._seen = {}
        self.model(*inputs)
        if not self._seen:
            raise ValueError(f"{type(self.model).__name__} did not run any of its BatchNorm layers on these inputs")
        loss = torch.zeros(())
        for module, calls in self._seen.items():
            loss = loss + _distance(calls, *self._targets[module])
        if self.input_stats is not None:
            mean, std = (torch.tensor(value) for value in self.input_stats)
            for x in inputs:
                if x.is_floating_point():
                    loss = loss + _distance([_statistics(x, self.stats)], mean, std)
        return loss

    def _observe(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._seen.setdefault(module, []).append(_statistics(args[0].float(), self.stats))


def statistics_loss(model: nn.Module, inputs: Tensor | Sequence[Tensor], stats: Stats = "batch") -> float:
    """The loss of given inputs, such as real images: see :class:`StatisticsLoss`."""
    loss = StatisticsLoss(model, stats)
    with torch.no_grad(), loss.attached():
        return float(loss([inputs] if isinstance(inputs, Tensor) else inputs))


def _statistics(x: Tensor, stats: Stats) -> tuple[Tensor, Tensor | None]:
    """Mean and variance of ``[N, C, ...]``: [N, C] each for images, [1, C] for batches. A single value has None for its variance."""
    positions = tuple(range(2, x.ndim))
    if stats == "image" and x[0, 0].numel() > 1:
        mean, variance = _MeanVariance.apply(x, positions, 1)  # type: ignore[no-untyped-call]
        return mean, variance
    if x[:, 0].numel() == 1:
        return x.mean((0, *positions))[None], None
    mean, variance = _MeanVariance.apply(x, (0, *positions), 0)  # type: ignore[no-untyped-call]
    return mean[None], variance[None]


class _MeanVariance(torch.autograd.Function):
    """Mean and variance over some dimensions, as torch.var_mean gives them, but a few times faster on the CPU, backward too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: tuple[int, ...], correction: int) -> tuple[Tensor, Tensor]:
        mean = x.mean(dims, keepdim=True)
        ctx.count = x.numel() // mean.numel()
        ctx.freedom = ctx.count - correction
        variance = torch.linalg.vector_norm(x - mean, 2, dims, keepdim=True).square() / ctx.freedom
        ctx.save_for_backward(x, mean)
        kept = [size for i, size in enumerate(x.shape) if i not in dims]
        return mean.reshape(kept), variance.reshape(kept)

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_variance: Tensor) -> tuple[Tensor, None, None]:
        x, mean = ctx.saved_tensors
        slope = grad_variance.reshape(mean.shape) * (2 / ctx.freedom)
        return torch.addcmul(grad_mean.reshape(mean.shape) / ctx.count - slope * mean, x, slope), None, None


def _distance(calls: Sequence[tuple[Tensor, Tensor | None]], mean: Tensor, std: Tensor) -> Tensor:
    loss = (_average([m for m, _ in calls]) - mean).square().sum(1).mean()
    variances = [v for _, v in calls if v is not None]
    return loss + (_std(_average(variances)) - std).square().sum(1).mean() if variances else loss


def _average(values: list[Tensor]) -> Tensor:
    """Mean over calls; where these differ in their number of images (views of one image as a batch), mean of their batch averages."""
    if len({value.shape for value in values}) > 1:
        values = [value.mean(0, keepdim=True) for value in values]
    return torch.stack(values).mean(0)


def _std(variance: Tensor) -> Tensor:
    return torch.sqrt(variance + _EPS)
