"""Pruning ternary quantization: networks of -a, 0 and a, most of them 0."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from pyqinfer.bits import FLOAT, LayerBits, WeightBits
from pyqinfer.quantization.graph import Layer
from pyqinfer.quantization.pipeline import Settings
from pyqinfer.train.method import TrainingMethod
from pyqinfer.train.prepare import Parts
from pyqinfer.train.prepared import Prepared
from pyqinfer.train.pruning import Scope, cubic_sparsity, magnitude_masks
from pyqinfer.train.ternary import TernaryWeight, prune_weights
from pyqinfer.train.weights import TrainedWeight

# The share of the pruning stage after which its target is reached: the rest lets the pruned network settle.
_RISE = 0.8


@dataclass(frozen=True)
class PrunedTernary(TrainingMethod):
    """Pruning ternary quantization (Liu et al., arXiv 2107.10998): weights are normalized, pruned, and then ternary, in stages.

    Weights take 0.65 bits each in the file at 88 % zeros (docs/format.md, "Entropy-coded trits"), all layers included: a ResNet-18 takes
    1.02 MB, and 968 kB at 88.9 %. With activations of a few bits the layers run in the engine's integer kernels; with float activations
    they run in float, and only the file is small.

    Three stages: zeros rise along a cubic to ``sparsity`` over 80 % of the first, with the kept weights as they are; then the kept weights
    are ternary; in the end signs stay, and scales and BatchNorm statistics settle. BatchNorms are not frozen before the end ("auto").

    Args:
        sparsity: share of zeros in the end, in [0, 1).
        scope: "layer": in each layer; "global": in all together, so that layers differ.
        prune_share: share of the training that is the first stage; 0: the network is sparse and ternary from the start.
        fix_share: share of the training after which signs stay.
        scale: "tensor": one a for each layer, and BatchNorm makes channels differ; "channel": one for each output channel.
        weight_bits: of layers that ``bits`` or ``keep`` do not name, "ternary". Others (``keep={"stem": "8/8"}``) are trained as QAT does.
        act_bits, first_last, bits: see :class:`~pyqinfer.quantization.chosen_bits.ChosenBits`.
        equalize: False, because a tensor's weights compete by their magnitudes, which equalization changes.
        epochs, lr and the others: see :class:`~pyqinfer.train.recipe.Recipe`.

    Raises:
        ValueError: shares, scopes or widths that do not exist.
    """

    weight_bits: WeightBits = "ternary"
    act_bits: int = FLOAT
    first_last: str | LayerBits | None = None
    sparsity: float = field(default=0.88, kw_only=True)
    scope: Scope = field(default="layer", kw_only=True)
    prune_share: float = field(default=0.5, kw_only=True)
    fix_share: float = field(default=0.9, kw_only=True)
    scale: str = field(default="tensor", kw_only=True)
    lr: float = field(default=0.05, kw_only=True)
    weight_decay: float = field(default=5e-4, kw_only=True)
    equalize: bool | Literal["auto"] = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        magnitude_masks([], self.sparsity, self.scope)
        if self.weight_bits != "ternary":
            raise ValueError(f"weight_bits: expected 'ternary', got {self.weight_bits!r}; name other layers under bits or keep")
        if self.scale not in ("tensor", "channel"):
            raise ValueError(f"scale: expected 'tensor' or 'channel', got {self.scale!r}")
        if not 0 <= self.prune_share <= self.fix_share <= 1:
            raise ValueError(f"prune_share, fix_share: expected 0 <= {self.prune_share} <= {self.fix_share} <= 1")

    def parts(self) -> Parts:
        return _TernaryParts(self.start_settings, self.scale == "channel")

    def advance(self, prepared: Prepared, share: float) -> None:
        """Prune, make ternary and fix what is due; see :meth:`~pyqinfer.train.method.TrainingMethod.advance`."""
        super().advance(prepared, share)
        weights = [weight for weight in prepared.weights() if isinstance(weight, TernaryWeight)]
        rise = _RISE * self.prune_share
        prune_weights(weights, cubic_sparsity(self.sparsity, share / rise if rise else 1.0), self.scope)
        for weight in weights:
            if share >= self.fix_share:
                weight.fix()
            elif share >= self.prune_share:
                weight.make_ternary()

    def _freeze_share(self, bits: Any) -> float:
        return 1.0 if self.freeze_bn == "auto" else self.freeze_bn


class _TernaryParts(Parts):
    """Ternary layers get the staged parametrization, all others that of QAT."""

    def __init__(self, settings: Settings, per_channel: bool) -> None:
        super().__init__(settings)
        self.per_channel = per_channel

    def weight(self, layer: Layer, latent: Tensor, gain: Tensor | None, bits: LayerBits) -> TrainedWeight:
        if bits.weight == "ternary":
            return TernaryWeight(latent, bits, self.per_channel)
        return super().weight(layer, latent, gain, bits)
