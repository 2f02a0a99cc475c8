"""A node as an operation of the twin sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pyqinfer.reference.quantize import Quant, Tensor


@dataclass(frozen=True)
class NodeArgs:
    """One node: inputs in order, constants and attributes by name, the output's parameters (None: float32), values of the symbols."""

    inputs: list[Tensor]
    constants: Mapping[str, NDArray[Any]]
    attrs: Mapping[str, Any]
    output: Quant | None
    symbols: Mapping[str, int]


# One op of the twin. Each file of ops ends in its table, OPS.
Op = Callable[[NodeArgs], Tensor]
