"""The typed graph between frontends and lowering: torch's meaning (NCHW activations, OIHW weights), no torch objects.

A frontend builds it with the ops of ``pyqinfer.ops`` that have ``from_frontend``. The passes of ``pyqinfer.lower`` rewrite it, step by
step, into the ops of docs/format.md, which ``lower.emit`` writes down.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ops import OPS, OpTraits
from pyqinfer.terms import Condition, Term

# A dimension is a number, the name of a symbol or of a size that is computed from symbols, or None if it is known only once the inputs'
# shapes are.
Dim = int | str | None
Shape = tuple[Dim, ...]

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Quant:
    """Parameters of a u8 value: ``(q - zero_point) * scale`` for q in [qmin, qmax]. ``scale`` is a float32 value."""

    scale: float
    zero_point: int
    qmin: int
    qmax: int

    @property
    def bits(self) -> int:
        """The smallest b >= 2 with qmax < 2^b."""
        return max(2, self.qmax.bit_length())


TRUTH = Quant(1.0, 0, 0, 1)


@dataclass(frozen=True, eq=False)
class Weight:
    """Quantized weights ``scale[c] * (step*code + base[c])``; c is a channel on axis 0, or in linear layers a group of inputs of one.

    ``codes``: int8 in torch's layout; ``scale``: float32 [O] or [O, G]; ``base``: int32 of that shape or None (all 0); ``step``: 1 or 2;
    ``bits``: declared width, 2 where ``ternary``.
    """

    codes: NDArray[np.int8]
    scale: FloatArray
    base: NDArray[np.int32] | None
    step: int
    bits: int
    ternary: bool

    def expand(self) -> FloatArray:
        """Give float weights, each operation rounded once (docs/numerics.md)."""
        values = self.codes.astype(np.int32).reshape(self.scale.size, -1) * self.step
        if self.base is not None:
            values = values + self.base.reshape(-1, 1)
        return (values.astype(np.float32) * self.scale.reshape(-1, 1)).reshape(self.codes.shape)

    @property
    def grouped(self) -> bool:
        """Whether the scales are those of groups of inputs."""
        return self.scale.ndim == 2


Attr = int | float | str | Shape | tuple[float, ...]
Constant = NDArray[np.generic] | Weight


@dataclass(eq=False)
class Value:
    """A tensor between nodes: float32, or u8 codes where ``quant`` is set. ``shape`` is torch's (NCHW) until the layout pass has run.

    ``integer``: int32 elements, such as indices and positions. A tensor of truth values has codes with the parameters ``TRUTH``.

    ``origin``: the node of the torch graph that computes the same tensor (as codes, or what the codes stand for), or "".
    ``nhwc``: stored with the channels last, by the layout pass or as an image input; ``shape`` is NCHW all the same.
    """

    name: str
    shape: Shape
    quant: Quant | None = None
    producer: Node | None = None
    origin: str = ""
    nhwc: bool = False
    integer: bool = False


@dataclass(eq=False)
class Node:
    """One operation. ``name``: the layer's name in torch; ``source``: "file:line" of the user's code, or ""."""

    op: str
    name: str
    inputs: list[Value]
    output: Value
    attrs: dict[str, Attr] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        self.output.producer = self

    @property
    def traits(self) -> OpTraits:
        """The row of the node's op."""
        return OPS[self.op]

    @property
    def picks_elements(self) -> bool:
        """Whether the node writes elements of its first operand as they are."""
        return self.traits.picks_with(self.attrs)

    @property
    def absorbs_quantize(self) -> bool:
        """Whether a quantize behind the node becomes part of it."""
        return self.traits.absorbs_quantize_with(self.attrs)

    @property
    def bounds(self) -> tuple[float, float]:
        """The bounds of a clamp, or of a layer's activation; infinities where there are none."""
        low, high = self.attrs.get("lo", -math.inf), self.attrs.get("hi", math.inf)
        assert isinstance(low, float)
        assert isinstance(high, float)
        return low, high

    def describe(self) -> str:
        """Name the node for messages: "layer1.0.conv1 (conv2d, model.py:12)"."""
        return f"{self.name} ({self.op}{', ' + self.source if self.source else ''})"


@dataclass(eq=False)
class Graph:
    """A network: ``nodes`` are in topological order; every value is a graph input or the output of one node.

    It computes what the model computes where the numbers that ``symbols`` stand for fulfil all ``conditions``. ``sizes``: what is computed
    from symbols, by the names that attributes have for it.
    """

    symbols: list[str]
    inputs: list[Value]
    outputs: list[tuple[str, Value]]
    nodes: list[Node]
    conditions: list[Condition] = field(default_factory=list)
    sizes: dict[str, Term] = field(default_factory=dict)

    def users(self) -> dict[Value, list[Node]]:
        """Give for each value the nodes that read it, once per read, in order."""
        result: dict[Value, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for value in node.inputs:
                result[value].append(node)
        return result

    def output_values(self) -> set[Value]:
        return {value for _, value in self.outputs}

    def drop_dead(self) -> None:
        """Remove nodes whose output nobody reads."""
        alive = self.output_values()
        kept: list[Node] = []
        for node in reversed(self.nodes):
            if node.output in alive:
                kept.append(node)
                alive.update(node.inputs)
        self.nodes = kept[::-1]


def clamp_bounds(node: Node) -> tuple[float, float]:
    """Give ``lo`` and ``hi`` of a node with an activation."""
    lo, hi = node.attrs["lo"], node.attrs["hi"]
    assert isinstance(lo, float)
    assert isinstance(hi, float)
    return lo, hi


def real(node: Node, key: str) -> float:
    """Give an attribute that is a float."""
    value = node.attrs[key]
    assert isinstance(value, float)
    return value


def numbers(node: Node, key: str) -> tuple[int, ...]:
    """Give an attribute that is a list of integers."""
    value = node.attrs[key]
    assert isinstance(value, tuple)
    return tuple(int(v) for v in value if v is not None)


def quants_of(values: Iterable[Value]) -> list[Quant]:
    """Give the distinct quantization parameters, in order of appearance."""
    return list(dict.fromkeys(value.quant for value in values if value.quant is not None))
