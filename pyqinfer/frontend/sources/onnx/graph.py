"""An ONNX model as plain data: nodes, constants, inputs and outputs, with no object of the onnx package left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyqinfer.frontend.sources.onnx.values import Array

# A dimension of an input: a number, the name of an open size, or None for one without a name.
Dim = int | str | None


@dataclass(frozen=True)
class Initializer:
    """A constant of the file. ``kind``: the name of its type in ONNX ("float", "int4"), whose numbers the array holds in a wider one."""

    array: Array
    kind: str


@dataclass(frozen=True)
class Port:
    """An input or output of the graph. ``kind``: the name of its element type."""

    name: str
    kind: str
    shape: tuple[Dim, ...] | None


@dataclass(frozen=True)
class Operation:
    """A node. ``version``: of its domain; attributes are numbers, strings, lists of them, or initializers."""

    name: str
    domain: str
    op: str
    version: int
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]

    def describe(self) -> str:
        """Name the node for messages: "/conv1/Conv: Conv"."""
        return f"{self.name}: {self.domain + '.' if self.domain else ''}{self.op}"


@dataclass(frozen=True)
class OnnxGraph:
    """A model: its operations in an order in which they can run."""

    operations: Sequence[Operation]
    constants: Mapping[str, Initializer]
    inputs: Sequence[Port]
    outputs: Sequence[Port]
