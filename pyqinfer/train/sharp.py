"""The two-pass step of sharpness-aware quantization: gradients at the worst point near the quantized weights.

1. Forward and backward; the gradients ``g`` with respect to the quantized weights, and to biases, BatchNorms and clips of activations.
2. ``eps = rho * g / G`` for each, G the norm over all of them together.
3. Forward and backward with ``eps`` added; these gradients are the step's. Then everything is as it was before.

Running statistics of BatchNorms learn from the first pass alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from pyqinfer.train.loop import Loss
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.weights import FloatWeight, TrainedWeight

_TINY = 1e-12
# Where the gradient is taken, and where its direction is added.
CASES = ("quantized", "latent-after", "latent-before")


class SharpStepper:
    """Gradients for :class:`pyqinfer.SAQ`; use it in a loop of one's own as ``stepper.backward(lambda: loss(prepared(x), y))``.

    Args:
        prepared: the module.
        rho: norm of the perturbation over all tensors.
        case: "quantized": L(Q(w) + eps(Q(w))), as the released code does; "latent-after": L(Q(w) + eps(w)); "latent-before":
            L(Q(w + eps(w))). Weights are meant as they enter the quantizer, standardized where they are.
        include_norms, include_clips: whether BatchNorms' gamma and beta, and clips of activations, are perturbed too.
        first_pass: makes a context for the first pass: DistributedDataParallel's ``no_sync``, so that each process climbs by its own batch.
    """

    def __init__(
        self,
        prepared: Prepared,
        rho: float,
        case: str = "quantized",
        include_norms: bool = True,
        include_clips: bool = True,
        first_pass: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.prepared, self.rho, self.case = prepared, rho, case
        self.include_norms, self.include_clips = include_norms, include_clips
        self.first_pass = first_pass

    def backward(self, loss: Loss) -> Tensor:
        """Leave the gradients of the second pass in the parameters, instead of those that were there. Returns the first pass's loss."""
        self._drop_gradients()
        with self.first_pass(), self.watched() as weights:
            value = loss()
            value.backward()  # type: ignore[no-untyped-call]
            ascent = self.gradients(weights).scaled_to(self.rho)
        self._drop_gradients()
        with ascent.applied(), self._passive_norms():
            loss().backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def gradients(self, weights: Sequence[TrainedWeight]) -> Direction:
        """What the backward pass of a watched forward pass has left, for all that is perturbed."""
        at = 1 if self.case == "quantized" else 0
        seen = [(weight, weight.seen[at].grad) for weight in weights if weight.seen is not None]
        in_weights = {weight: gradient for weight, gradient in seen if gradient is not None}
        in_parameters = {p: p.grad for p in self._perturbed_parameters() if p.grad is not None}
        return Direction(in_weights, in_parameters, before=self.case == "latent-before")

    def _perturbed_parameters(self) -> Iterator[nn.Parameter]:
        for path in self.prepared.blueprint.layers.values():
            layer = self.prepared.graph.get_submodule(path)
            if isinstance(layer.bias, nn.Parameter) and not isinstance(layer.weight, FloatWeight):
                yield layer.bias
        if self.include_norms:
            for norm in self.prepared.norms():
                yield from norm.parameters()
        if self.include_clips:
            for activation in self.prepared.activations():
                yield from activation.parameters()

    @contextmanager
    def watched(self) -> Iterator[list[TrainedWeight]]:
        weights = [weight for weight in self.prepared.weights() if not isinstance(weight, FloatWeight)]
        for weight in weights:
            weight.watched = True
        try:
            yield weights
        finally:
            for weight in weights:
                weight.watched, weight.seen = False, None

    @contextmanager
    def _passive_norms(self) -> Iterator[None]:
        norms = list(self.prepared.norms())
        for norm in norms:
            norm.passive = True
        try:
            yield
        finally:
            for norm in norms:
                norm.passive = False

    def _drop_gradients(self) -> None:
        for parameter in self.prepared.parameters():
            parameter.grad = None


class Direction:
    """A perturbation of a prepared module, or a gradient that becomes one.

    Args:
        weights: what is added to a weight, behind the quantizer, or in front of it with ``before``.
        parameters: what is added to a parameter.
    """

    def __init__(self, weights: dict[TrainedWeight, Tensor], parameters: dict[nn.Parameter, Tensor], before: bool = False) -> None:
        self.weights, self.parameters, self.before = weights, parameters, before

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Add the perturbation while this lasts; afterwards everything has the bits that it had, whatever happens meanwhile."""
        kept = {parameter: parameter.detach().clone() for parameter in self.parameters}
        try:
            with torch.no_grad():
                for weight, move in self.weights.items():
                    if self.before:
                        weight.shift = move
                    else:
                        weight.delta = move
                for parameter, move in self.parameters.items():
                    parameter.add_(move)
            yield
        finally:
            for weight in self.weights:
                weight.shift = weight.delta = None
            with torch.no_grad():
                for parameter, value in kept.items():
                    parameter.copy_(value)

    def scaled_to(self, norm: float) -> Direction:
        """The perturbation of this norm in the same direction."""
        moves = [*self.weights.values(), *self.parameters.values()]
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(move) for move in moves])) if moves else torch.zeros(1)
        return self.times(norm / (length + _TINY))

    def times(self, factor: float | Tensor) -> Direction:
        """Every tensor times a number."""
        return Direction(
            {weight: move * factor for weight, move in self.weights.items()},
            {parameter: move * factor for parameter, move in self.parameters.items()},
            self.before,
        )

    def plus(self, other: Direction, factor: float) -> Direction:
        """The sum with ``factor`` times another direction of the same tensors."""
        return Direction(
            {weight: move + factor * other.weights[weight] for weight, move in self.weights.items()},
            {parameter: move + factor * other.parameters[parameter] for parameter, move in self.parameters.items()},
            self.before,
        )

    def like_noise(self, generator: torch.Generator) -> Direction:
        """Normally distributed numbers for the same tensors."""

        def drawn(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator).to(x)

        weights = {weight: drawn(move) for weight, move in self.weights.items()}
        return Direction(weights, {parameter: drawn(move) for parameter, move in self.parameters.items()}, self.before)

    def norm(self) -> float:
        """Over all tensors together."""
        moves = [*self.weights.values(), *self.parameters.values()]
        return float(torch.stack([move.double().square().sum() for move in moves]).sum().sqrt()) if moves else 0.0
