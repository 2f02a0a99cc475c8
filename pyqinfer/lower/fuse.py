"""One node per layer: an op that ends in an epilogue takes in the dequantize in front of it and what follows in the epilogue.

The epilogue's order is fixed (docs/numerics.md): bias, residual, activation, quantize. So a node absorbs an add, a clamp and a quantize,
each only as the sole reader of what comes before, and only where the op's row in ``pyqinfer.ops`` says so (a clamp also where the codes
behind it have its bounds anyway). An op that reads codes of all
operands or floats alone absorbs a quantize only if it reads codes.
"""

from __future__ import annotations

import numpy as np

from pyqinfer.ir import Graph, Node, Value, Weight
from pyqinfer.ops import Reads


def fuse(graph: Graph) -> None:
    """Rewrite the graph. Nodes that were taken in disappear; dequantize nodes that nobody reads any more are left for drop_dead."""
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
            if node.absorbs_quantize and node not in self.absorbed:
                # The fused node stands where the last part stood: a residual may be computed between the two.
                place[node] = self._fuse(node, owners)
        self.graph.nodes = sorted((n for n in self.graph.nodes if n not in self.absorbed), key=lambda n: place[n])

    def _residual_owner(self, add: Node) -> Node | None:
        """Find the layer that an add becomes the residual of: the last in execution order of the layers that write its operands."""
        left, right = add.inputs
        if left is right:
            return None
        layers = [p for v in (left, right) if (p := v.producer) and p.traits.takes_residual and self._sole_reader(v) is add]
        return max(layers, key=lambda n: (_is_integer(n), self.position[n])) if layers else None

    def _fuse(self, node: Node, owners: dict[Node, Node]) -> int:
        _read_codes(node)
        # With float operands a layer or product writes floats, and absorbs no quantize.
        integer = node.traits.reads is not Reads.ALIKE or node.inputs[0].quant is not None
        last = node
        reader = self._sole_reader(node.output)
        if reader is not None and owners.get(reader) is node:
            other = reader.inputs[0] if reader.inputs[1] is node.output else reader.inputs[1]
            node.inputs.append(_codes_or_self(other) if integer else other)
            last = self._absorb(node, reader)
            reader = self._sole_reader(node.output)
        if reader is not None and reader.op == "clamp" and node.traits.has_activation:
            node.attrs.update(reader.attrs)
            last = self._absorb(node, reader)
            reader = self._sole_reader(node.output)
        elif reader is not None and reader.op == "clamp" and integer and self._implied(reader):
            last = self._absorb(node, reader)
            reader = self._sole_reader(node.output)
        if reader is not None and reader.op == "quantize" and integer:
            last = self._absorb(node, reader)
        return self.position[last]

    def _implied(self, clamp: Node) -> bool:
        """Whether a clamp changes nothing, because the quantize that alone reads it has no codes beyond its bounds."""
        quantize = self._sole_reader(clamp.output)
        if quantize is None or quantize.op != "quantize" or (quant := quantize.output.quant) is None:
            return False
        inverse = np.float32(1 / quant.scale)
        low, high = (np.float32(bound) * inverse for bound in clamp.bounds)
        return bool(np.rint(low) <= quant.qmin - quant.zero_point and np.rint(high) >= quant.qmax - quant.zero_point)

    def _absorb(self, node: Node, reader: Node) -> Node:
        self.absorbed.add(reader)
        node.output = reader.output
        node.output.producer = node
        return reader

    def _sole_reader(self, value: Value) -> Node | None:
        readers = self.users.get(value, [])
        return readers[0] if len(readers) == 1 and value not in self.outputs else None


def _is_integer(layer: Node) -> bool:
    """Whether a layer has quantized weights and an input that is codes, or the dequantized form of codes."""
    x, weight = layer.inputs[0], layer.constants["weight"]
    return isinstance(weight, Weight) and not weight.grouped and _codes_or_self(x).quant is not None


def _read_codes(node: Node) -> None:
    """Let a node read codes in place of what a dequantize makes of them, where the engine has an integer form."""
    codes = [_codes_or_self(value) for value in node.inputs]
    if node.traits.reads is Reads.EITHER:
        node.inputs = codes
    elif node.traits.reads is Reads.ALIKE:
        integer = _is_integer(node) if node.traits.is_layer else all(value.quant is not None for value in codes)
        if integer:
            node.inputs = codes


def _codes_or_self(value: Value) -> Value:
    producer = value.producer
    return producer.inputs[0] if producer is not None and producer.op == "dequantize" else value
