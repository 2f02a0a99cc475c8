"""What a file of this package says about its ops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from hypothesis import strategies as st

from op_rows.one_op import OneOp
from op_rows.stream import Stream

Shape = tuple[int, ...]


class Draw(Protocol):
    def __call__(self, strategy: st.SearchStrategy[Any], /) -> Any: ...


@dataclass(frozen=True)
class Case:
    """A golden vector: how the node of this name is built. ``build`` draws its arrays from the stream that it is given."""

    name: str
    build: Callable[[Stream], OneOp]

    def node(self) -> OneOp:
        """The stream depends on the name alone, so a case keeps its arrays whatever other cases there are."""
        return self.build(Stream(self.name))


@dataclass(frozen=True)
class Kind:
    """A kind of nodes that random networks are made of (tests/random_graphs).

    Attributes:
        name: of the kind.
        ops: the engine's ops, some or all of which its modules become.
        ranks: that its first operand may have.
        module: an expression over torch, torch.nn and ``random_graphs.modules`` for operands of these shapes; None where there is none.
        second: which shapes the second operand may have, for kinds that take two.
    """

    name: str
    ops: tuple[str, ...]
    ranks: tuple[int, ...]
    module: Callable[[Draw, Shape], str | None]
    second: Callable[[Shape, Shape], bool] | None = None


@dataclass(frozen=True)
class Refusal:
    """A module (an expression, as in Kind) that the converter refuses for an input of zeros; ``message``: what the error says."""

    module: str
    shape: Shape
    message: str
    dtype: torch.dtype = torch.float32  # of the input


@dataclass(frozen=True)
class Family:
    """Some ops that belong together.

    Attributes:
        exact: for each op the output of a node in exact arithmetic.
        cases: golden vectors, at least one for each op.
        nodes: random nodes of all the ops.
        kinds: modules of random networks. not_drawn: ops that no such module becomes, and why.
        refused: modules that look like the family's and that the engine does not have.
    """

    exact: Mapping[str, Callable[[OneOp], np.ndarray]]
    cases: Sequence[Case]
    nodes: st.SearchStrategy[OneOp]
    kinds: Sequence[Kind] = ()
    not_drawn: Mapping[str, str] = field(default_factory=dict)
    refused: Sequence[Refusal] = ()
