"""Brings every quantize and dequantize next to the arithmetic that needs it.

Data movement and max-pools commute with dequantize (they pick elements, and dequantize is monotone), so they move to the side of the
codes. A quantize behind a dequantize is nothing (same parameters) or a table of 256 entries; the same with activations and other
elementwise functions between them. torch's graphs hold one dequantize per reader: copies become one.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyqinfer.ir import Graph, Node, Quant, Value, real
from pyqinfer.lower.tables import code_of, code_table, has_table


def propagate(graph: Graph) -> None:
    """Walk the graph once in topological order. Every rewrite leaves the meaning of all values unchanged, bit for bit."""
    _Propagation(graph).run()
    graph.drop_dead()


class _Propagation:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = graph.output_values()
        self.nodes: list[Node] = []
        self.same: dict[Value, Value] = {}  # a value that was replaced -> what its readers read instead
        self.dequantized: dict[Value, Value] = {}
        self.quantized: dict[tuple[Value, Quant], Value] = {}

    def run(self) -> None:
        for node in self.graph.nodes:
            node.inputs = [self.same.get(value, value) for value in node.inputs]
            if node.op == "dequantize":
                self._dequantize(node)
            elif node.op == "quantize":
                self._quantize(node)
            elif _moves_codes(node):
                self._move(node)
            else:
                self.nodes.append(node)
        self.graph.nodes = self.nodes
        self.graph.outputs = [(name, self.same.get(value, value)) for name, value in self.graph.outputs]

    def _dequantize(self, node: Node) -> None:
        codes = node.inputs[0]
        if codes in self.dequantized:
            self.same[node.output] = self.dequantized[codes]
            return
        self.dequantized[codes] = node.output
        self.nodes.append(node)

    def _quantize(self, node: Node) -> None:
        x, quant = node.inputs[0], node.output.quant
        assert quant is not None
        key = (x, quant)
        if key in self.quantized:
            self.same[node.output] = self.quantized[key]
            return
        codes, chain = _chain_behind_codes(x)
        if codes is not None and codes.quant == quant and not chain:
            self.same[node.output] = codes
            return
        if codes is not None and codes.quant is not None:
            table = code_table(codes.quant, chain, quant)
            # The table is named after the last function that it carries out, where there is one.
            name = chain[-1].name if chain else f"{codes.name}.requantize"
            node = Node("table", name, [codes], node.output, {}, {"table": table}, node.source)
        elif self._is_private(x, "concat"):
            self._quantize_before_concat(node)
            self.quantized[key] = node.output
            return
        elif self._is_private_reshape(x):
            node = self._quantize_before_reshape(node)
        self.quantized[key] = node.output
        self.nodes.append(node)

    def _is_private_reshape(self, x: Value) -> bool:
        return self._is_private(x, "reshape") or self._is_private(x, "transpose")

    def _is_private(self, x: Value, op: str) -> bool:
        """Whether a value is computed by such a node, and read once."""
        return x.producer is not None and x.producer.op == op and len(self.users[x]) == 1 and x not in self.outputs

    def _quantize_before_reshape(self, node: Node) -> Node:
        """Quantize in front of reshapes and transposes, so that the layer there writes codes. Returns the last node."""
        result, last = node.output, node
        moved: list[Node] = []
        x = node.inputs[0]
        while self._is_private_reshape(x):
            assert x.producer is not None
            moved.append(x.producer)
            x = x.producer.inputs[0]
        value = Value(node.name, x.shape, result.quant, origin=x.origin)
        self.nodes.append(Node("quantize", node.name, [x], value, {}, {}, node.source))
        for reshape in reversed(moved):
            output = result if reshape is moved[0] else _codes_like(reshape.output, result.quant)
            last = Node(reshape.op, reshape.name, [value], output, dict(reshape.attrs), {}, reshape.source)
            value = output
            if reshape is not moved[0]:
                self.nodes.append(last)
        return last

    def _quantize_before_concat(self, node: Node) -> None:
        """Quantize the pieces of a concat, so that layers write codes. The concat itself converts codes of other parameters."""
        concat = node.inputs[0].producer
        assert concat is not None
        pieces: list[Value] = []
        for x in concat.inputs:
            codes = _codes_of(x)
            if codes is None:
                piece = Node("quantize", f"{concat.name}.quantize", [x], Value(x.name, x.shape, node.output.quant, origin=x.origin))
                self.users[x] = [piece if user is concat else user for user in self.users[x]]
                self._quantize(piece)
                codes = self.same.get(piece.output, piece.output)
            pieces.append(codes)
        self.nodes.append(Node("concat", concat.name, pieces, node.output, concat.attrs, {}, concat.source))

    def _move(self, node: Node) -> None:
        inputs = [codes if (codes := _codes_of(value)) is not None else value for value in node.inputs]
        result = node.output
        moved = _codes_like(result, inputs[0].quant)
        self.nodes.append(Node(node.op, node.name, inputs, moved, node.attrs, {}, node.source))
        self.nodes.append(Node("dequantize", node.name, [moved], result, {}, {}, node.source))
        self.dequantized[moved] = result


def _moves_codes(node: Node) -> bool:
    """Whether a node picks elements and does the same on the codes of its operands; what a pad adds must have a code."""
    if node.op == "concat":
        return _have_one_quant(node.inputs)
    codes = _codes_of(node.inputs[0]) if node.picks_elements else None
    if codes is None or codes.quant is None:
        return False
    return node.op != "pad" or node.attrs["mode"] != "constant" or code_of(real(node, "value"), codes.quant) is not None


def _have_one_quant(values: Sequence[Value]) -> bool:
    """Whether the values are dequantized codes, all of the same parameters."""
    codes = [_codes_of(value) for value in values]
    return all(c is not None and codes[0] is not None and c.quant == codes[0].quant for c in codes)


def _codes_like(value: Value, quant: Quant | None) -> Value:
    """Make a value for the codes of a float value."""
    return Value(value.name, value.shape, quant, origin=value.origin)


def _codes_of(value: Value) -> Value | None:
    """Give the codes that a float value is the dequantized form of."""
    producer = value.producer
    return producer.inputs[0] if producer is not None and producer.op == "dequantize" else None


def _chain_behind_codes(value: Value) -> tuple[Value | None, list[Node]]:
    """Give the codes that a value is a function of element by element, and the nodes from there to the value in order of execution.

    None for the codes if there are none, or several values of them.
    """
    chain: dict[Node, None] = {}  # in the order in which nodes were added, each followed once however many read it
    found: set[Value] = set()
    # A stack of its own: a recurrent layer's state goes through some operations in every step, thousands in all.
    open_values = [value]
    while open_values:
        x = open_values[-1]
        codes, node = _codes_of(x), x.producer
        if codes is not None:
            found.add(codes)
            if len(found) > 1:
                return None, []
        elif node not in chain:
            if node is None or not has_table(node):
                return None, []
            if ahead := [y for y in node.inputs if _codes_of(y) not in found and y.producer not in chain]:
                open_values += reversed(ahead)
                continue
            chain[node] = None
        open_values.pop()
    return (found.pop(), list(chain)) if found else (None, [])
