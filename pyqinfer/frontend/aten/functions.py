"""Handlers of elementary functions, distances and tests that are made of others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.aten.activations import HANDLERS as ACTIVATIONS
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere

_LARGEST = torch.finfo(torch.float32).max
# torch takes distances between more rows from a product of matrices.
_FEW_ROWS = 25


def _made_of(function: Callable[..., Any]) -> Handler:
    return lambda reader, node, a: composed(reader, node, function, a)


def _atan(self: Tensor) -> Tensor:
    """The polynomial of Cephes' atanf between -tan(pi/8) and tan(pi/8), to which the rest is brought: 2 units in the last place."""
    size = self.abs()
    far, near = size > math.tan(3 * math.pi / 8), size > math.tan(math.pi / 8)
    t = torch.where(far, -1 / size.clamp(min=1), torch.where(near, (size - 1) / (size + 1), size))
    z = t * t
    series = (((8.05374449538e-2 * z - 1.38776856032e-1) * z + 1.99777106478e-1) * z - 3.33329491539e-1) * z * t + t
    return torch.where(self < 0, -1.0, 1.0) * (torch.where(far, math.pi / 2, torch.where(near, math.pi / 4, 0.0)) + series)


def angle_of(self: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, self). Where ``other`` is 0, that is a right angle, and 0 for the origin."""
    angle = _atan(self / torch.where(other == 0, 1.0, other))
    turned = angle + torch.where(other < 0, torch.where(self < 0, -math.pi, math.pi), 0.0)
    upright = torch.where(self > 0, math.pi / 2, torch.where(self < 0, -math.pi / 2, 0.0))
    return torch.where(other == 0, upright, turned)


def _nan_to_num(self: Tensor, nan: float | None, posinf: float | None, neginf: float | None) -> Tensor:
    high, low = _LARGEST if posinf is None else posinf, -_LARGEST if neginf is None else neginf
    x = torch.where(self != self, 0.0 if nan is None else nan, self)
    return torch.where(x > _LARGEST, high, torch.where(x < -_LARGEST, low, x))


def _rest(self: Tensor, other: Any) -> Tensor:
    """What a division leaves, with the sign of the dividend."""
    quotient = self / other
    rest: Tensor = self - torch.where(quotient < 0, quotient.ceil(), quotient.floor()) * other
    return rest


def _distances(x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Tensor:
    """The distance of each row of ``x1`` from each row of ``x2``."""
    rows, others = x1.shape[-2], x2.shape[-2]
    if p == 2 and compute_mode != 2 and (compute_mode == 1 or rows > _FEW_ROWS or others > _FEW_ROWS):
        squares = x1.pow(2).sum(-1, keepdim=True) + x2.pow(2).sum(-1, keepdim=True).transpose(-2, -1)
        return (squares - 2 * torch.matmul(x1, x2.transpose(-2, -1))).clamp(min=0).sqrt()
    difference = x1.unsqueeze(-2) - x2.unsqueeze(-3)
    if p == 2:
        return difference.pow(2).sum(-1).sqrt()
    return difference.abs().sum(-1) if p == 1 else difference.abs().amax(-1)


def _cdist(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if a["p"] not in (1, 2, math.inf):
        raise NotSupportedHere(f"a distance of order {a['p']:g}")
    return composed(reader, node, _distances, a)


def _rrelu(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if a["training"]:
        raise NotSupportedHere("rrelu in training mode; call model.eval() before exporting")
    slope = (float(a["lower"]) + float(a["upper"])) / 2
    return ACTIVATIONS["leaky_relu"](reader, node, {"self": a["self"], "negative_slope": slope})


def _whole(function: str) -> Handler:
    """``any`` or ``all`` of truth values over dimensions: the largest or the smallest."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> Any:
        dims, keep = a.get("dim"), bool(a.get("keepdim", False))

        def tested(self: Tensor) -> Tensor:
            axes = list(range(self.ndim)) if dims is None else [dims] if isinstance(dims, int) else list(dims)
            x = (self if self.dtype == torch.bool else self != 0).to(torch.float32)
            return (x.amax(axes, keep) if function == "any" else x.amin(axes, keep)) > 0

        return composed(reader, node, tested, {"self": a["self"]})

    return run


HANDLERS: dict[str, Handler] = {
    # The sum's rounding makes an absolute error of at most 6e-8.
    "expm1": _made_of(lambda self: self.exp() - 1),
    "exp2": _made_of(lambda self: (self * math.log(2)).exp()),
    "log2": _made_of(lambda self: self.log() * (1 / math.log(2))),
    "log10": _made_of(lambda self: self.log() * (1 / math.log(10))),
    "erfc": _made_of(lambda self: 1 - self.erf()),
    "tan": _made_of(lambda self: self.sin() / self.cos()),
    "sinh": _made_of(lambda self: (self.exp() - (-self).exp()) * 0.5),
    "cosh": _made_of(lambda self: (self.exp() + (-self).exp()) * 0.5),
    "asinh": _made_of(lambda self: torch.where(self < 0, -1.0, 1.0) * (self.abs() + (self * self + 1).sqrt()).log()),
    "acosh": _made_of(lambda self: (self + (self * self - 1).sqrt()).log()),
    "atanh": _made_of(lambda self: ((1 + self) / (1 - self)).log() * 0.5),
    "atan": _made_of(_atan),
    "arctan": _made_of(_atan),
    "atan2": _made_of(angle_of),
    "asin": _made_of(lambda self: angle_of(self, (1 - self * self).sqrt())),
    "acos": _made_of(lambda self: angle_of((1 - self * self).sqrt(), self)),
    "sinc": _made_of(lambda self: torch.where(self == 0, 1.0, (self * math.pi).sin() / (torch.where(self == 0, 1.0, self) * math.pi))),
    "hypot": _made_of(lambda self, other: (self * self + other * other).sqrt()),
    "frac": _made_of(lambda self: self - torch.where(self < 0, self.ceil(), self.floor())),
    "trunc": _made_of(lambda self: torch.where(self < 0, self.ceil(), self.floor())),
    "fmod": _made_of(_rest),
    "xlogy": _made_of(lambda self, other: torch.where(self == 0, 0.0, self * torch.where(self == 0, 1.0, other).log())),
    "special_entr": _made_of(lambda self: torch.where(self == 0, 0.0, -self * torch.where(self == 0, 1.0, self).log())),
    "isnan": _made_of(lambda self: self != self),
    "isinf": _made_of(lambda self: self.abs() > _LARGEST),
    "isfinite": _made_of(lambda self: self.abs() <= _LARGEST),
    "nan_to_num": _made_of(_nan_to_num),
    "logaddexp": _made_of(lambda self, other: torch.maximum(self, other) + (1 + (-(self - other).abs()).exp()).log()),
    "heaviside": _made_of(lambda self, values: torch.where(self == 0, values, torch.where(self > 0, 1.0, 0.0))),
    "_cdist_forward": _cdist,
    "cdist": _cdist,
    "rrelu": _rrelu,
    "rrelu_with_noise_functional": lambda r, n, a: (_rrelu(r, n, {**a, "training": False}), None),
    "any": _whole("any"),
    "all": _whole("all"),
}
