"""Finds values that are nothing but channels of other values, by running what moves elements on an array of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ir import Dim, Graph, Node, Quant, Shape, Value, numbers
from pyqinfer.lower.tables import code_table

MOVES = frozenset({"reshape", "transpose", "slice", "concat"})
# Sizes that are open are tried as these: different ones, so that no two are taken for each other.
_PRIMES = (2, 3, 5, 7, 11, 13)
_MOST_ELEMENTS = 2**23


@dataclass(frozen=True)
class Channel:
    """Channel ``index`` of ``source``; its codes are those of another value once ``table`` (256 bytes, or none) has turned them."""

    source: Value
    index: int
    table: bytes = b""


@dataclass(frozen=True)
class Renames:
    """``channels``: what each value [N, C, H, W] consists of that is written by moving whole channels.

    ``between``: values on the way there that have another shape.
    """

    channels: Mapping[Value, tuple[Channel, ...]] = field(default_factory=dict)
    between: frozenset[Value] = frozenset()


def find_renames(graph: Graph) -> Renames:
    """Look at every ``reshape``, ``transpose``, ``slice`` and ``concat`` of a graph whose values are in torch's order."""
    finder = _Finder(graph)
    for node in graph.nodes:
        if node.op in MOVES:
            finder.follow(node)
    return Renames(finder.renamed, frozenset(finder.between))


class _Finder:
    """Elements have numbers: the channel's number in ``channels`` times the positions of a channel, plus the position."""

    def __init__(self, graph: Graph) -> None:
        self.sizes = dict(zip(graph.symbols, _PRIMES, strict=False))
        self.channels: list[Channel] = []
        self.numbers: dict[Channel, int] = {}
        self.renamed: dict[Value, tuple[Channel, ...]] = {}
        self.between: dict[Value, tuple[NDArray[np.int64], tuple[int, ...]]] = {}  # with the sizes N, H, W of a channel

    def follow(self, node: Node) -> None:
        found = [self._elements(value) for value in node.inputs]
        inputs = [entry for entry in found if entry is not None]
        if len(inputs) < len(found) or len({pixels for _, pixels in inputs}) != 1:
            return
        pixels = inputs[0][1]
        pieces = [
            self._converted(x, value.quant, node.output.quant, prod(pixels)) for (x, _), value in zip(inputs, node.inputs, strict=True)
        ]
        y = self._moved(node, pieces)
        if y is None:
            return
        channels = _channels_of(y, pixels)
        if channels is None:
            self.between[node.output] = y, pixels
        else:
            self.renamed[node.output] = tuple(self.channels[i] for i in channels)

    def _elements(self, value: Value) -> tuple[NDArray[np.int64], tuple[int, ...]] | None:
        if value in self.between:
            return self.between[value]
        shape = self._known(value.shape)
        if len(shape) != 4 or prod(shape) > _MOST_ELEMENTS or min(shape) < 1:
            return None
        n, count, h, w = shape
        own = self.renamed.get(value) or tuple(Channel(value, i) for i in range(count))
        numbered = np.array([self._number(channel) for channel in own], np.int64).reshape(1, -1, 1, 1)
        return numbered * (n * h * w) + _positions((n, h, w)), (n, h, w)

    def _known(self, shape: Shape) -> tuple[int, ...]:
        """Sizes to try; empty if one of them is not known."""
        sizes = [self.sizes.get(d, 0) if isinstance(d, str) else d or 0 for d in shape]
        return tuple(sizes) if all(sizes) else ()

    def _number(self, channel: Channel) -> int:
        if channel not in self.numbers:
            self.numbers[channel] = len(self.channels)
            self.channels.append(channel)
        return self.numbers[channel]

    def _converted(self, x: NDArray[np.int64], source: Quant | None, target: Quant | None, pixels: int) -> NDArray[np.int64]:
        """The elements with the tables that a concat puts codes of other parameters through (docs/numerics.md)."""
        if source is None or target is None or source == target:
            return x
        table = code_table(source, [], target)
        old = np.unique(x // pixels)
        new = []
        for channel in (self.channels[i] for i in old):
            before = np.frombuffer(channel.table or bytes(range(256)), np.uint8)
            new.append(self._number(Channel(channel.source, channel.index, table[before].tobytes())))
        return np.array(new, np.int64)[np.searchsorted(old, x // pixels)] * pixels + x % pixels

    def _moved(self, node: Node, inputs: list[NDArray[np.int64]]) -> NDArray[np.int64] | None:
        """What the node makes of arrays; None where their sizes do not fit it."""
        x = inputs[0]
        axis, attrs = node.attrs.get("axis", 0), node.attrs
        assert isinstance(axis, int)
        try:
            if node.op == "reshape":
                shape = attrs["shape"]
                assert isinstance(shape, tuple)
                return x.reshape([-1 if d is None else self._size(d) for d in shape])
            if node.op == "transpose":
                return x.transpose(numbers(node, "perm"))
            if node.op == "concat":
                return np.concatenate(inputs, axis)
        except ValueError:
            return None
        start, end, step = (attrs[key] for key in ("start", "end", "step"))
        if not (isinstance(start, int) and isinstance(end, int) and isinstance(step, int)):
            return None  # at a place that is known only in a run
        return x[(slice(None),) * axis + (slice(start, end, step),)]

    def _size(self, d: Dim | float) -> int:
        return self.sizes.get(d, 0) if isinstance(d, str) else int(d or 0)


def _positions(pixels: tuple[int, ...]) -> NDArray[np.int64]:
    n, h, w = pixels
    return np.arange(n * h * w, dtype=np.int64).reshape(n, 1, h, w)


def _channels_of(y: NDArray[np.int64], pixels: tuple[int, ...]) -> NDArray[np.int64] | None:
    """The number of each channel of an array [N, C, H, W] that consists of whole ones; None for any other array."""
    if y.ndim != 4 or (y.shape[0], *y.shape[2:]) != pixels:
        return None
    count = prod(pixels)
    channels = y[0, :, 0, 0] // count
    whole = np.array_equal(y, channels.reshape(1, -1, 1, 1) * count + _positions(pixels))
    return channels if whole else None
