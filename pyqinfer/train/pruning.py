"""Pruning by magnitude: masks on a module's weights, at once or gradually, kept while it trains and when it is quantized or exported.

A mask is a parametrization of ``module.weight`` (:class:`Mask`): whatever reads the weight, reads it behind the mask, so that optimizers,
weight decay and training loops need not know of it. A pruned weight gets no gradient and stays pruned.

The gradual schedule is that of M. Zhu and S. Gupta, "To prune, or not to prune", 2017, arXiv 1710.01878.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pyqinfer.report import Cell, Column, Report

Scope = Literal["layer", "global"]
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear)


class Mask(nn.Module):
    """A parametrization that multiplies a weight by a mask of zeros and ones, which is a buffer and so part of the state."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def cubic_sparsity(target: float, share: float) -> float:
    """The share of zeros at a point of the way: ``target * (1 - (1 - share)^3)``, fast at first, when there is much to remove.

    Args:
        target: share of zeros in the end. share: of the way done; below 0 it counts as 0, above 1 as 1.
    """
    return target * (1 - (1 - min(1.0, max(0.0, share))) ** 3)


def magnitude_masks(weights: Sequence[Tensor], sparsity: float, scope: Scope) -> list[Tensor]:
    """Masks of the weights' shapes that keep exactly ``round((1 - sparsity) * N)`` of the largest magnitude; of equal ones, the first.

    Args:
        scope: "layer": N is each weight's own count. "global": N is the count of all weights together, and all compete.
    """
    if scope not in ("layer", "global"):
        raise ValueError(f"scope: expected 'layer' or 'global', got {scope!r}")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity: expected a share of zeros in [0, 1), got {sparsity}")
    if scope == "layer":
        return [_largest(w.detach().abs().flatten(), sparsity).reshape(w.shape).to(w) for w in weights]
    if not weights:
        return []
    kept = _largest(torch.cat([w.detach().abs().flatten() for w in weights]), sparsity)
    parts = torch.split(kept, [w.numel() for w in weights])
    return [part.reshape(w.shape).to(w) for part, w in zip(parts, weights, strict=True)]


def _largest(magnitudes: Tensor, sparsity: float) -> Tensor:
    """Which of the magnitudes [N] are kept, as booleans."""
    count = magnitudes.numel()
    kept = round((1 - sparsity) * count)
    if kept == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    threshold = magnitudes.kthvalue(count - kept + 1).values
    mask = magnitudes > threshold
    ties = (magnitudes == threshold).nonzero().flatten()
    mask[ties[: kept - int(mask.sum())]] = True
    return mask


def prunable(model: nn.Module, keep: Sequence[str] = ()) -> dict[str, nn.Module]:
    """The convolutions and linear layers of a module, by name; without those that a name or glob pattern of ``keep`` matches."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}
    unused = [pattern for pattern in keep if not any(fnmatchcase(name, pattern) for name in layers)]
    if unused:
        raise ValueError(f"keep: no layer is named {', '.join(map(repr, unused))}; layers are {', '.join(layers)}")
    return {name: module for name, module in layers.items() if not any(fnmatchcase(name, pattern) for pattern in keep)}


def prune(model: nn.Module, sparsity: float, *, scope: Scope = "layer", keep: Sequence[str] = ()) -> nn.Module:
    """Mask the smallest weights of all convolutions and linear layers, in place.

    Weights that an earlier call has masked are zeros to this one, so they stay masked while the sparsity does not fall. Layers that
    share a weight share its mask.

    Args:
        model: any module, on any device.
        sparsity: share of zeros, in [0, 1); exact to one weight.
        scope: "layer": of each layer; "global": of all together, so that layers differ.
        keep: names or glob patterns of layers that are left alone.

    Returns:
        The model.

    Raises:
        ValueError: shares or scopes that do not exist; a pattern that matches no layer.
    """
    readers: dict[int, list[nn.Module]] = {}
    for module in prunable(model, keep).values():
        readers.setdefault(id(_original(module)), []).append(module)
    with torch.no_grad():
        masks = magnitude_masks([modules[0].weight for modules in readers.values()], sparsity, scope)  # type: ignore[misc]
    for modules, mask in zip(readers.values(), masks, strict=True):
        for module in modules:
            _set_mask(module, mask)
    return model


def _original(module: nn.Module) -> Tensor:
    """The parameter behind a layer's weight."""
    if parametrize.is_parametrized(module, "weight"):
        return module.parametrizations.weight.original  # type: ignore[union-attr,return-value]
    return module.weight  # type: ignore[return-value]


def _mask_of(module: nn.Module) -> Mask | None:
    if not parametrize.is_parametrized(module, "weight"):
        return None
    return next((p for p in module.parametrizations.weight if isinstance(p, Mask)), None)  # type: ignore[union-attr]


def _set_mask(module: nn.Module, mask: Tensor) -> None:
    found = _mask_of(module)
    if found is None:
        parametrize.register_parametrization(module, "weight", Mask(mask))
    else:
        found.mask.copy_(mask)


class GradualPruning:
    """Prunes a module while it trains: call :meth:`step` in front of each step of the optimizer, as one calls a learning rate's schedule.

    ::

        pruning = pq.train.GradualPruning(model, 0.3, steps=epochs * len(loader) // 2)
        for x, y in loader:
            pruning.step()
            optimizer.zero_grad(); loss(model(x), y).backward(); optimizer.step()
        model = pq.train.finish_pruning(model)   # or quantize it as it is

    Args:
        model: its layers are masked at once, with nothing pruned yet, so that an optimizer made afterwards has the right parameters.
        sparsity, scope, keep: what the masks reach in the end, see :func:`prune`.
        steps: how many calls it takes to get there, along :func:`cubic_sparsity`.
        every: how many calls lie between two new sets of masks.
    """

    def __init__(
        self, model: nn.Module, sparsity: float, *, steps: int, every: int = 10, scope: Scope = "layer", keep: Sequence[str] = ()
    ) -> None:
        if steps < 1 or every < 1:
            raise ValueError(f"steps, every: expected at least 1, got {steps} and {every}")
        magnitude_masks([], sparsity, scope)
        self.model, self.sparsity, self.steps, self.every, self.scope, self.keep = model, sparsity, steps, every, scope, tuple(keep)
        self.done = 0
        prune(model, 0.0, scope=scope, keep=self.keep)

    def step(self) -> float:
        """Prune what is due; gives the share of zeros that the masks have now."""
        self.done += 1
        due = self.done <= self.steps and (self.done % self.every == 0 or self.done == self.steps)
        if due:
            prune(self.model, cubic_sparsity(self.sparsity, self.done / self.steps), scope=self.scope, keep=self.keep)
        last = min(self.done, self.steps)
        return cubic_sparsity(self.sparsity, (last if last == self.steps else last // self.every * self.every) / self.steps)

    def state_dict(self) -> dict[str, int]:
        """What a later process needs to go on, beside the module's own state."""
        return {"done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.done = int(state["done"])


def finish_pruning(model: nn.Module) -> nn.Module:
    """Make the masked weights plain parameters again, with their zeros, in place. Other parametrizations are baked in with the mask.

    Returns:
        The model.
    """
    for module in model.modules():
        if _mask_of(module) is not None:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    return model


def sparsity_report(model: nn.Module) -> Report:
    """The zeros of each convolution and linear layer, and of all together."""
    rows: list[dict[str, Cell]] = [{"name": name, "weights": w.numel(), "zeros": int((w == 0).sum())} for name, w in _weights(model)]
    rows.append({"name": "all", **{key: sum(int(row[key] or 0) for row in rows) for key in ("weights", "zeros")}})
    for row in rows:
        row["share"] = int(row["zeros"] or 0) / max(1, int(row["weights"] or 0))
    columns = [
        Column("name", "layer", numeric=False),
        Column("weights", "weights", ",d"),
        Column("zeros", "zeros", ",d"),
        Column("share", "share", ".2%"),
    ]
    return Report("Sparsity", columns, rows)


def _weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    with torch.no_grad():
        for name, module in prunable(model).items():
            yield name, module.weight  # type: ignore[misc]
