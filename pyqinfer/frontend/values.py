"""What a node of torch's graph can stand for besides an ``ir.Value``, and how an op handler refuses one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from pyqinfer import ir


class NotSupportedHere(Exception):
    """Raised by a handler for what the engine cannot do; the reader collects all of them into one UnsupportedError."""


@dataclass(frozen=True)
class SymbolicSize:
    """A size that is no number while converting.

    ``dim``: the symbol of the input's dimension that it is; None: it is computed from some. ``traced``: torch's integer for it, if known.
    """

    dim: str | None
    traced: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Absent:
    """A tensor that no value of the graph stands for: a result that is not computed, or (``empty``) one without elements."""

    what: str
    empty: bool = False


@dataclass(frozen=True)
class Places:
    """The integers start, start + step, ... along one axis of an open dimension; the other ``rank - 1`` dimensions are 1.

    They are numbers only in a run, yet what they say about an index or a bound can be proved while converting.
    """

    dim: str
    rank: int
    axis: int
    start: int
    step: int


@dataclass(frozen=True, eq=False)
class Complex:
    """Complex numbers: their real and imaginary parts, each a value of the graph or a constant."""

    real: Any
    imag: Any


@dataclass(frozen=True, eq=False)
class QuantizedConstant:
    """A constant behind a dequantize op: codes, parameters on ``axis`` (None: per tensor), and the float tensor it stands for."""

    codes: Tensor
    scale: Tensor  # float64; [1], or [channels], or [channels, groups]
    zero_point: Tensor
    axis: int | None
    quant_min: int
    quant_max: int
    value: Tensor


@dataclass(frozen=True, eq=False)
class RuntimeQuantized:
    """``x`` on its way through a quantizer whose parameters are computed from it while the model runs.

    ``attrs`` are those of the IR's linear_dynamic. ``stage`` says which of the quantizer's results a node of torch's graph stands for:
    "parameters", "codes" or "values".
    """

    x: ir.Value
    attrs: dict[str, ir.Attr]
    quant_min: int
    quant_max: int
    stage: str
