"""A model that is tried, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass
class Built:
    """A model in evaluation mode with inputs of batch 2."""

    model: nn.Module
    examples: tuple[Tensor, ...]


@dataclass
class Case:
    """A row: the package that it comes from, the family's name, and what builds its smallest member with random weights."""

    package: str
    name: str
    build: Callable[[], Built]


@dataclass
class Outcome:
    """What came of one way to convert one model. ``seconds``: processor time, which is the same on a machine that others use too.

    ``how``: "open" (any batch), "fixed" (the examples' batch only), or "refused". ``integers``: the share of multiplications in integers.
    """

    package: str
    name: str
    form: str
    how: str
    seconds: float
    peak_mb: float
    integers: float = 0.0
    reason: str = ""
