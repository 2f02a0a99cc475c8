"""One node per layer: a conv, linear, add or pool takes in the dequantize in front of it and what follows in the engine's epilogue.

The epilogue's order is fixed (docs/numerics.md): bias, residual, activation, quantize. So a layer absorbs, each only as the sole
reader of what comes before: an add (conv and linear), a clamp (conv, linear, add), a quantize. A unary function, a softmax and a norm read
floats, a binary function codes or floats, a product of matrices codes or floats alone, an embedding indices; all absorb a quantize, a
product of codes only.
"""

from __future__ import annotations

from pyqinfer.ir import DYNAMIC_OPS, POOL_OPS, ROW_OPS, WEIGHT_OPS, Graph, Node, Value, Weight, computes

_ANCHORS = WEIGHT_OPS | DYNAMIC_OPS | POOL_OPS | ROW_OPS | {"add", "unary", "binary", "matmul", "reduce", "embedding"}
_FLOAT_INPUT = ROW_OPS | DYNAMIC_OPS | {"unary"}
# Codes of every operand, or floats alone: a layer with floats writes floats.
_OF_ONE_KIND = WEIGHT_OPS | {"matmul"}
_WITH_RESIDUAL = frozenset({"conv2d", "linear"})
_WITH_ACTIVATION = WEIGHT_OPS | DYNAMIC_OPS | {"add"}


def fuse(graph: Graph) -> None:
    """Rewrite the graph's anchors; nodes they took in disappear, dequantize nodes that nobody reads any more are left for drop_dead."""
    _Fusion(graph).run()


class _Fusion:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = graph.output_values()
        self.position = {node: i for i, node in enumerate(graph.nodes)}
        self.absorbed: set[Node] = set()

    def run(self) -> None:
        owners = {add: layer for add in self.graph.nodes if add.op == "add" and (layer := self._residual_owner(add)) is not None}
        place = dict(self.position)
        for node in self.graph.nodes:
            if (node.op in _ANCHORS or computes(node)) and node not in self.absorbed:
                # The fused node stands where the last part stood: a residual may be computed between the two.
                place[node] = self._fuse(node, owners)
        self.graph.nodes = sorted((n for n in self.graph.nodes if n not in self.absorbed), key=lambda n: place[n])

    def _residual_owner(self, add: Node) -> Node | None:
        """The layer that an add becomes the residual of: of its operands' layers the last in execution order."""
        left, right = add.inputs
        if left is right:
            return None
        layers = [v.producer for v in (left, right) if v.producer and v.producer.op in _WITH_RESIDUAL and self._sole_reader(v) is add]
        return max(layers, key=lambda n: (_is_integer(n), self.position[n])) if layers else None

    def _fuse(self, node: Node, owners: dict[Node, Node]) -> int:
        _read_codes(node)
        integer = node.op not in _OF_ONE_KIND or node.inputs[0].quant is not None
        last = node
        reader = self._sole_reader(node.output)
        if reader is not None and owners.get(reader) is node:
            other = reader.inputs[0] if reader.inputs[1] is node.output else reader.inputs[1]
            node.inputs.append(_codes_or_self(other) if integer else other)
            last = self._absorb(node, reader)
            reader = self._sole_reader(node.output)
        if reader is not None and reader.op == "clamp" and node.op in _WITH_ACTIVATION:
            node.attrs.update(reader.attrs)
            last = self._absorb(node, reader)
            reader = self._sole_reader(node.output)
        if reader is not None and reader.op == "quantize" and integer:
            last = self._absorb(node, reader)
        return self.position[last]

    def _absorb(self, node: Node, reader: Node) -> Node:
        self.absorbed.add(reader)
        node.output = reader.output
        node.output.producer = node
        return reader

    def _sole_reader(self, value: Value) -> Node | None:
        readers = self.users.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None


def _is_integer(layer: Node) -> bool:
    """Quantized weights and an input that is codes, or the dequantized form of codes."""
    x, weight = layer.inputs[0], layer.constants["weight"]
    return isinstance(weight, Weight) and not weight.grouped and _codes_or_self(x).quant is not None


def _read_codes(node: Node) -> None:
    """Read codes in place of what a dequantize makes of them, where the engine has an integer form."""
    if node.op in WEIGHT_OPS:
        if _is_integer(node):
            node.inputs[0] = _codes_or_self(node.inputs[0])
    elif node.op == "matmul":
        codes = [_codes_or_self(value) for value in node.inputs]
        if all(value.quant is not None for value in codes):
            node.inputs = codes
    elif node.op not in _FLOAT_INPUT:
        node.inputs = [_codes_or_self(value) for value in node.inputs]


def _codes_or_self(value: Value) -> Value:
    producer = value.producer
    return producer.inputs[0] if producer is not None and producer.op == "dequantize" else value
