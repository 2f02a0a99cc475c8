"""Layers and BatchNorms of a prepared module."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer.quantization.fold import FoldedNorm
from pyqinfer.train.weights import TrainedWeight


class TrainedNorm(nn.Module):
    """BatchNorm over axis 1 that can be frozen for good: then training mode uses the running statistics too, and leaves them alone.

    Frozen it is an affine function of each channel, which the exported layer has in its scales and bias. Its gamma and beta go on
    learning, as a scale and a bias would.

    Args:
        norm: where it starts.

    Attributes:
        passive: whether running statistics are left alone in training mode, where the batch's own are used: for a second pass over a batch.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: FoldedNorm) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(norm.gamma.clone()), nn.Parameter(norm.beta.clone())
        self.register_buffer("running_mean", norm.mean.clone())
        self.register_buffer("running_var", norm.variance.clone())
        self.eps, self.momentum = norm.eps, norm.momentum
        self.frozen = self.passive = False

    def freeze(self) -> None:
        """Use the running statistics from now on."""
        self.frozen = True

    def get_extra_state(self) -> bool:
        return self.frozen

    def set_extra_state(self, state: bool) -> None:
        self.frozen = state

    def forward(self, x: Tensor) -> Tensor:
        learns = self.training and not self.frozen
        momentum = 0.0 if self.passive else self.momentum
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, learns, momentum, self.eps)

    def affine(self) -> tuple[Tensor, Tensor]:
        """Gain and bias [channels] of the function that it is with its running statistics, on the CPU."""
        with torch.no_grad():
            gain = self.weight.double() * torch.rsqrt(self.running_var.double() + self.eps)
            bias = self.bias.double() - self.running_mean.double() * gain
            return gain.float().cpu(), bias.float().cpu()


class TrainedLayer(nn.Module):
    """A conv or linear layer with the BatchNorm behind it.

    Args:
        op: the aten operator. rest: its arguments behind weight and bias (stride, padding ...).
        weight: its parametrization; several layers may share one.
        axis: where the operator's weight has the output channels.
        bias: float32 [channels], or None.
        norm: the BatchNorm behind the layer, which then has no bias of its own, or None.
    """

    def __init__(
        self, op: Any, rest: tuple[Any, ...], weight: TrainedWeight, axis: int, bias: Tensor | None, norm: nn.Module | None
    ) -> None:
        super().__init__()
        self.op, self.rest, self.axis = op, rest, axis
        self.weight = weight
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight()
        y: Tensor = self.op(x, weight.transpose(0, 1) if self.axis == 1 else weight, self.bias, *self.rest)
        return y if self.norm is None else self.norm(y)

    def affine(self) -> tuple[Tensor | None, Tensor | None]:
        """Gain (None: 1) and bias (None: none) [channels] that the exported layer has beside its weight."""
        if self.norm is not None:
            gain, bias = self.norm.affine()  # type: ignore[operator]
            return gain, bias
        return None, None if self.bias is None else self.bias.detach().cpu()
