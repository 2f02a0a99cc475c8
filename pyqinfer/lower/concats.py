"""Concatenations that hold all of an earlier one, as in dense blocks, read its output: the earlier pieces move together, once."""

from __future__ import annotations

from pyqinfer.ir import Graph, Value


def read_earlier_concats(graph: Graph) -> None:
    """Rewrite the inputs of concatenations in place. Codes stay what they are, because the outputs have the same parameters."""
    earlier: dict[object, list[tuple[list[Value], Value]]] = {}  # by axis, parameters and first piece: all pieces, and the output
    for node in graph.nodes:
        if node.op != "concat":
            continue
        pieces, axis, quant = list(node.inputs), node.attrs["axis"], node.output.quant
        for place in range(len(pieces)):
            known = earlier.get((axis, quant, node.inputs[place]), []) if place < len(node.inputs) else []
            fitting = [found for found in known if node.inputs[place : place + len(found[0])] == found[0]]
            if fitting:
                inside, output = max(fitting, key=lambda found: len(found[0]))
                node.inputs[place : place + len(inside)] = [output]
        if len(pieces) > 1:
            earlier.setdefault((axis, quant, pieces[0]), []).append((pieces, node.output))
