"""Orthogonality of layers: how much the functions of two layers of a network have in common, estimated from samples.

ORM(i, j) = <K_i, K_j> / (||K_i|| ||K_j||) with K_i = F_i F_i^T, the samples' inner products of layer i's features F_i [N, d] (Ma et al.
2023, arXiv 2109.07865). With centred K it is linear CKA (Kornblith et al. 2019, arXiv 1905.00414).

For few samples of many features the plain estimate is close to 1 whatever the layers do (independent Gaussian features, d = 2000,
N = 32: 0.986). The debiased one leaves the diagonal out as the unbiased HSIC does (Song et al. 2012, JMLR 13): about 0 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

_CHUNK = 1 << 22  # how many features are turned to float64 at one time


def gram(features: Tensor) -> Tensor:
    """Inner products of samples: [N, ...] to float64 [N, N]."""
    rows = features.detach().reshape(len(features), -1)
    total = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for piece in torch.split(rows, max(1, _CHUNK // len(rows)), dim=1):
        wide = piece.double()
        total += wide @ wide.T
    return total


def orm(a: Tensor, b: Tensor, *, center: bool = True, debiased: bool = True) -> float:
    """ORM of two layers from their Gram matrices.

    Args:
        a, b: float64 [N, N] of the same samples, see :func:`gram`.
        center: make it invariant to shifts of the features.
        debiased: leave out the diagonal. Then it may be below 0.

    Returns:
        1 for layers that are equal up to rotation and scale, about 0 for orthogonal ones; 0 where a layer's output is constant.

    Raises:
        ValueError: fewer than 4 samples for a debiased estimate.
    """
    return float(orm_matrix([a, b], center=center, debiased=debiased)[0, 1])


def orm_matrix(grams: Sequence[Tensor], *, center: bool = True, debiased: bool = True) -> Tensor:
    """ORM of every pair of layers: float64 [L, L]. Arguments and errors as for :func:`orm`."""
    flat = torch.stack([_prepared(k, center, debiased).reshape(-1) for k in grams])
    norms = flat.norm(dim=1, keepdim=True)
    unit = flat / torch.where(norms > 0, norms, torch.ones_like(norms))
    return unit @ unit.T


def collect_grams(module: GraphModule, taps: Sequence[Node], inputs: tuple[Tensor, ...]) -> dict[Node, Tensor]:
    """Gram matrices of the tapped nodes' outputs for one batch; no features are kept."""
    watcher = _Watcher(module, dict.fromkeys(taps))
    with torch.no_grad():
        watcher.run(*inputs)
    return {node: found for node, found in watcher.grams.items() if found is not None}


class _Watcher(Interpreter):
    def __init__(self, module: GraphModule, grams: Mapping[Node, Tensor | None]) -> None:
        super().__init__(module)
        self.grams = dict(grams)

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.grams:
            self.grams[n] = gram(result)
        return result


def _prepared(k: Tensor, center: bool, debiased: bool) -> Tensor:
    n = len(k)
    if not debiased:
        return k - k.mean(0, keepdim=True) - k.mean(1, keepdim=True) + k.mean() if center else k
    if n < 4:
        raise ValueError(f"a debiased estimate needs at least 4 samples, got {n}: pass more, or debiased=False")
    k = k - torch.diag(k.diagonal())
    if center:
        # U-centring (Szekely and Rizzo 2014): its inner product is the unbiased HSIC up to a factor that cancels here.
        rows = k.sum(0) / (n - 2)
        k = k - rows[:, None] - rows[None, :] + k.sum() / ((n - 1) * (n - 2))
        k = k - torch.diag(k.diagonal())
    return k
