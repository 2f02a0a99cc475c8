"""Channel permutations cost nothing: what only renames channels goes, and the layers around it read and write them in another order.

Shuffles (reshape, transpose, reshape), splits and concatenations move whole channels of images (``lower.renames``). A value that is nothing
but channels of earlier values is not made: whoever computes with it reads these channels from where they were written, in as few pieces as
can be. For that a convolution takes its inputs in any order, because the columns of its weights are put into that order too, and it writes
its outputs sorted by who reads them.

Sums of integers do not depend on the order of their terms; a float layer adds in the order in which its channels lie then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.ir import Attr, Constant, Graph, Node, Quant, Value, Weight
from pyqinfer.lower.renames import MOVES, Channel, find_renames
from pyqinfer.names import unique_name

# More pieces than this are not worth putting together; the nodes that move them stay.
_MOST_PIECES = 24
# Ops that do the same to every channel of their only operand.
_ALIKE = frozenset({"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "upsample", "unary", "clamp", "quantize", "dequantize"})

_Order = tuple[int, ...]
_Pick = Callable[[Any], Any]


def renumber_channels(graph: Graph) -> None:
    """Rewrite the graph in place, if it has anything to rename but concatenations; what nobody reads any more is left for drop_dead."""
    renumbering = _Renumbering(graph)
    if any(node.op != "concat" and node.output in renumbering.renamed for node in graph.nodes):
        renumbering.run()


@dataclass(frozen=True)
class _Piece:
    """Neighbouring channels of a stored value, ``start`` being the first one's place, behind a table where their codes change."""

    source: Value
    table: bytes
    start: int
    count: int


@dataclass(frozen=True)
class _Gather:
    """How a value that is not made is put together, and which of its channels then lies at each place."""

    pieces: tuple[_Piece, ...]
    order: _Order


class _Renumbering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = graph.output_values()
        renames = find_renames(graph)
        self.renamed, self.between = renames.channels, renames.between
        self.kept: set[Value] = set()  # values that are made after all, channel by channel as they are numbered
        self.free: dict[Value, bool] = {}
        self.order: dict[Value, _Order] = {}  # for a value whose channels do not lie as they are numbered: the channel at each place
        self.gathers: dict[Value, _Gather] = {}
        self.names = {node.name for node in graph.nodes}

    def run(self) -> None:
        while not self._plan():
            self.free, self.order, self.gathers = {}, {}, {}
        made: dict[Value, Value] = {}
        nodes: list[Node] = []
        for node in self.graph.nodes:
            if not self._is_move(node):
                orders = [self._order_of(value) for value in node.inputs]
                for value in node.inputs:
                    if value in self.gathers and value not in made:
                        made[value] = self._put_together(value, nodes)
                node.inputs = [made.get(value, value) for value in node.inputs]
                self._permute(node, orders[0] if orders else None)
            nodes.append(node)
        self.graph.nodes = nodes

    # ---- the plan

    def _plan(self) -> bool:
        """Choose orders and gathers; False if a value turned out to be worth making, after which all is to be chosen again."""
        for node in reversed(self.graph.nodes):
            self._is_free(node.output)  # whose readers are known, so that no question goes deep
        read = [value for value in self.renamed if value not in self.kept and self._readers(value)]
        wanted: dict[Value, dict[int, list[int]]] = {}  # for each channel of a stored value the numbers of the values that hold it
        for number, value in enumerate(read):
            for channel in self.renamed[value]:
                wanted.setdefault(channel.source, {}).setdefault(channel.index, []).append(number)
        for node in self.graph.nodes:
            if self._is_move(node):
                continue
            for value in node.inputs:
                if value in self.renamed and value not in self.kept and value not in self.gathers:
                    self.gathers[value] = self._gather(value)
                    if len(self.gathers[value].pieces) > _MOST_PIECES:
                        self.kept.add(value)
                        return False
            order: _Order | None = None
            if _is_dense(node) and node.output in wanted and len(node.inputs) == 1 and self._is_free(node.output):
                order = tuple(sorted(range(_channels(node.output)), key=lambda c: wanted[node.output].get(c, [])))
            elif node.inputs and self._accepts(node, node.inputs[0]) and not _is_dense(node):
                order = self._order_of(node.inputs[0])
            if order is not None and order != tuple(range(len(order))):
                self.order[node.output] = order
        return True

    def _order_of(self, value: Value) -> _Order | None:
        if value in self.gathers:
            order = self.gathers[value].order
            return None if order == tuple(range(len(order))) else order
        return self.order.get(value)

    def _is_move(self, node: Node) -> bool:
        return node.op in MOVES and (node.output in self.renamed or node.output in self.between)

    def _readers(self, value: Value) -> list[Node]:
        """Who computes with a value."""
        return [node for node in self.users.get(value, []) if not self._is_move(node)]

    def _is_free(self, value: Value) -> bool:
        """Whether nobody minds where a value's channels lie."""
        if value not in self.free:
            self.free[value] = value not in self.outputs and all(self._accepts(node, value) for node in self.users.get(value, []))
        return self.free[value]

    def _accepts(self, node: Node, value: Value) -> bool:
        """Whether a node may find the channels of an operand in any order."""
        if self._is_move(node):
            return self._is_free(node.output)
        if value in self.between or value in self.kept or len(value.shape) != 4:
            return False
        if _is_dense(node):
            return node.inputs[0] is value and value not in node.inputs[1:]
        table = node.constants.get("table")
        one_table = isinstance(table, np.ndarray) and table.size == 256
        alike = node.op in _ALIKE or _is_depthwise(node) or one_table
        return alike and len(node.inputs) == 1 and self._is_free(node.output)

    def _gather(self, value: Value) -> _Gather:
        """The pieces of a value: one after the other by source and place where its readers accept that, else channel by channel."""
        channels = list(enumerate(self.renamed[value]))
        if all(self._accepts(node, value) for node in self._readers(value)):
            groups = list(dict.fromkeys((channel.source, channel.table) for _, channel in channels))
            channels.sort(key=lambda entry: (groups.index((entry[1].source, entry[1].table)), self._place(entry[1])))
        pieces: list[_Piece] = []
        for _, channel in channels:
            place, last = self._place(channel), pieces[-1] if pieces else None
            if last is not None and (last.source, last.table, last.start + last.count) == (channel.source, channel.table, place):
                pieces[-1] = replace(last, count=last.count + 1)
            else:
                pieces.append(_Piece(channel.source, channel.table, place, 1))
        return _Gather(tuple(pieces), tuple(i for i, _ in channels))

    def _place(self, channel: Channel) -> int:
        order = self.order.get(channel.source)
        return channel.index if order is None else order.index(channel.index)

    # ---- the rewriting

    def _put_together(self, value: Value, nodes: list[Node]) -> Value:
        """Append the nodes that make a value of its pieces, and give what they write."""
        pieces = [self._piece(value, piece, nodes) for piece in self.gathers[value].pieces]
        if len(pieces) == 1:
            return pieces[0]
        y = self._appended(nodes, "concat", value, pieces, _channels(value), value.quant)
        if self._order_of(value) is None:
            y.origin = value.origin
        return y

    def _piece(self, value: Value, piece: _Piece, nodes: list[Node]) -> Value:
        x = piece.source
        if piece.count < _channels(x):
            x = self._appended(nodes, "slice", value, [x], piece.count, x.quant, piece.start)
        if piece.table:
            x = self._appended(nodes, "table", value, [x], piece.count, value.quant)
            assert x.producer is not None
            x.producer.constants["table"] = np.frombuffer(piece.table, np.uint8)
        return x

    def _appended(
        self, nodes: list[Node], op: str, value: Value, inputs: list[Value], count: int, quant: Quant | None, start: int = 0
    ) -> Value:
        """What a new node writes: ``count`` channels for ``value``."""
        assert value.producer is not None
        name = unique_name(f"{value.producer.name}.{op}", self.names.__contains__)
        self.names.add(name)
        n, _, h, w = value.shape
        attrs: dict[str, Attr] = {} if op == "table" else {"axis": 1}
        if op == "slice":
            attrs |= {"start": start, "end": start + count, "step": 1}
        output = Value(name, (n, count, h, w), quant)
        nodes.append(Node(op, name, inputs, output, attrs, {}, value.producer.source))
        return output

    def _permute(self, node: Node, order: _Order | None) -> None:
        """Put a layer's weights into the order of its inputs and outputs."""
        written = self.order.get(node.output)
        if written is not None:
            node.output.origin = ""  # no tensor of torch has its channels in this order
        if not node.traits.is_layer or len(node.output.shape) != 4:
            return
        if order is not None and _is_dense(node):
            columns = np.array(order)
            node.constants["weight"] = _weights(node.constants["weight"], lambda array: array[:, columns], lambda array: array)
        if written is not None:
            rows = np.array(written)
            node.constants["weight"] = _weights(node.constants["weight"], lambda array: array[rows], lambda array: array[rows])
            if (bias := node.constants.get("bias")) is not None:
                assert isinstance(bias, np.ndarray)
                node.constants["bias"] = bias[rows]


def _weights(weight: Constant, codes: _Pick, channels: _Pick) -> Constant:
    """Weights with both functions applied, to what there is one of for each weight and what there is one of for each output channel."""
    if not isinstance(weight, Weight):
        floats: NDArray[Any] = codes(weight)
        return floats
    base = None if weight.base is None else channels(weight.base)
    return replace(weight, codes=codes(weight.codes), scale=channels(weight.scale), base=base)


def _channels(value: Value) -> int:
    count = value.shape[1]
    assert isinstance(count, int)
    return count


def _is_dense(node: Node) -> bool:
    """Whether every output channel of a convolution reads every input channel."""
    return node.op == "conv2d" and node.attrs["groups"] == 1


def _is_depthwise(node: Node) -> bool:
    return node.op == "conv2d" and node.attrs["groups"] == node.output.shape[1] == node.inputs[0].shape[1]
