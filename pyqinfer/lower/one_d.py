"""Values [N, C, L] between layers that run as images one row high stay such images.

A frontend puts a reshape in front of and behind every such layer. Here the one behind moves down over elementwise ops, until it meets the
next one in front and both go: else each layer would be left for torch's order and entered again.
"""

from __future__ import annotations

import numpy as np

from pyqinfer.ir import Graph, Node, Shape, Value


def keep_as_images(graph: Graph) -> None:
    """Rewrite the graph in place; reshapes that nobody reads any more are dropped."""
    image_of: dict[Value, Value] = {}  # a value [N, C, L] -> the value with the same elements as [N, C, 1, L]
    same: dict[Value, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node.inputs = [same.get(value, value) for value in node.inputs]
        x, y = (node.inputs[0] if node.inputs else node.output), node.output
        if node.op == "reshape" and x in image_of and y.shape == _as_image(x.shape):
            same[y] = image_of[x]
            continue
        if node.traits.on_images and all(value in image_of for value in node.inputs):
            image = Value(y.name, _as_image(y.shape), y.quant)
            nodes.append(_over_images(node, [image_of[value] for value in node.inputs], image))
            node = Node("reshape", f"{node.name}.reshape", [image], y, {"shape": y.shape}, {}, node.source)
            image_of[y] = image
        elif node.op == "reshape" and len(y.shape) == 3 and x.shape == _as_image(y.shape):
            image_of[y] = x
        nodes.append(node)
    graph.nodes = nodes
    graph.outputs = [(name, same.get(value, value)) for name, value in graph.outputs]
    graph.drop_dead()


def _as_image(shape: Shape) -> Shape:
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else ()


def _over_images(node: Node, inputs: list[Value], output: Value) -> Node:
    attrs, constants = dict(node.attrs), dict(node.constants)
    if attrs.get("axis") == 2:
        attrs["axis"] = 3
    other = constants.get("other")
    if isinstance(other, np.ndarray):
        constants["other"] = np.expand_dims(other, 2)
    return Node(node.op, node.name, inputs, output, attrs, constants, node.source)
