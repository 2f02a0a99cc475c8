"""Running statistics of BatchNorms for a network as it is now."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from pyqinfer.train.prepared import Prepared


def recalibrate_norms(prepared: Prepared, batches: Iterable[tuple[Tensor, ...]]) -> None:
    """Replace running statistics by their means over batches of inputs, of which each counts the same; frozen BatchNorms stay."""
    norms = [norm for norm in prepared.norms() if not norm.frozen]
    momenta = [norm.momentum for norm in norms]
    training = prepared.training
    prepared.train()
    try:
        with torch.no_grad():
            for i, batch in enumerate(batches):
                for norm in norms:
                    norm.momentum = 1 / (i + 1)
                prepared(*batch)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        prepared.train(training)
