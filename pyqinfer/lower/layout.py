"""Memory order: spatial values are NHWC in the engine, inputs and outputs of the model are as in torch.

Conversions happen inside ``quantize`` and ``dequantize`` where one stands at the right place, else in a ``transpose``. A flatten of
H x W > 1 in front of linear layers costs nothing: the columns of their weights are permuted instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyqinfer.ir import Graph, Node, Shape, Value, Weight

_SPATIAL_OPS = frozenset({"conv2d", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "mean", "affine", "prelu"})
_FOLLOWING_OPS = frozenset({"clamp", "add", "unary", "binary", "table", "quantize", "dequantize"})
_TO_NHWC: Shape = (0, 2, 3, 1)
_TO_NCHW: Shape = (0, 3, 1, 2)


def assign_layouts(graph: Graph) -> None:
    """Give every node operands in the order it needs. Afterwards ``Value.shape`` of node outputs is not to be relied on."""
    _Layouts(graph).run()


class _Layouts:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = graph.output_values()
        self.nhwc: set[Value] = set()  # rank-4 values stored as NHWC; all others as torch has them
        self.converted: dict[Value, Value] = {}
        self.nodes: list[Node] = []

    def run(self) -> None:
        for node in self.graph.nodes:
            if node.op in _SPATIAL_OPS and len(node.inputs[0].shape) == 4:
                self._spatial(node)
            elif node.op == "reshape":
                self._reshape(node)
            elif node.op in _FOLLOWING_OPS:
                self._follow(node)
            else:
                node.inputs = [self._as_torch(value) for value in node.inputs]
                self.nodes.append(node)
        # _as_torch appends to self.nodes, so the outputs come before the list is taken over.
        self.graph.outputs = [(name, self._as_torch(value)) for name, value in self.graph.outputs]
        self.graph.nodes = self.nodes
        for value in self.nhwc:
            value.nhwc = True

    def _spatial(self, node: Node) -> None:
        node.inputs = [self._as_nhwc(value) for value in node.inputs]
        if len(node.output.shape) == 4:
            self.nhwc.add(node.output)
        self.nodes.append(node)

    def _follow(self, node: Node) -> None:
        """Ops that work element by element keep the order of their input; quantize and dequantize can change it on the way."""
        if node.op == "quantize" and self._wants_nhwc(node.output) and node.inputs[0] not in self.nhwc:
            node.attrs["layout"] = "to_nhwc"
            self.nhwc.add(node.output)
        elif node.op == "dequantize" and node.inputs[0] in self.nhwc and node.output in self.outputs and not self.users.get(node.output):
            node.attrs["layout"] = "to_nchw"
        else:
            if node.op in ("quantize", "dequantize"):
                node.attrs["layout"] = "same"
            if any(value in self.nhwc for value in node.inputs):
                node.inputs = [self._as_nhwc(value) for value in node.inputs]
                self.nhwc.add(node.output)
                other = node.constants.get("other")
                if isinstance(other, np.ndarray):
                    node.constants["other"] = other.transpose(0, 2, 3, 1)
        self.nodes.append(node)

    def _wants_nhwc(self, value: Value) -> bool:
        """A rank-4 value whose first reader, through elementwise ops, is spatial."""
        if len(value.shape) != 4:
            return False
        for reader in self.users.get(value, []):
            if reader.op in _SPATIAL_OPS:
                return True
            if reader.op in _FOLLOWING_OPS:
                return self._wants_nhwc(reader.output)
        return False

    def _reshape(self, node: Node) -> None:
        x = node.inputs[0]
        if x in self.nhwc and _permute_linear_columns(x, node, self.users.get(node.output, []), node.output in self.outputs):
            self.nodes.append(node)
            return
        if x not in self.nhwc or not _same_order_in_memory(x.shape):
            node.inputs = [self._as_torch(x)]
        self.nodes.append(node)

    def _as_nhwc(self, value: Value) -> Value:
        return value if value in self.nhwc else self._transposed(value, _TO_NHWC, "nhwc")

    def _as_torch(self, value: Value) -> Value:
        return value if value not in self.nhwc else self._transposed(value, _TO_NCHW, "nchw")

    def _transposed(self, value: Value, perm: Shape, suffix: str) -> Value:
        if value not in self.converted:
            name = f"{value.name}.{suffix}"
            output = Value(name, value.shape, value.quant)
            self.nodes.append(Node("transpose", name, [value], output, {"perm": perm}))
            self.converted[value] = output
            if suffix == "nhwc":
                self.nhwc.add(output)
        return self.converted[value]


def _same_order_in_memory(shape: Shape) -> bool:
    """NCHW and NHWC are the same sequence of elements: one channel, or one position."""
    _, channels, height, width = shape
    return channels == 1 or (height == 1 and width == 1)


def _permute_linear_columns(x: Value, reshape: Node, readers: list[Node], is_output: bool) -> bool:
    """Flatten NHWC as it lies, if only linear layers read the result; reorders their columns from (C, H, W) to (H, W, C)."""
    batch, channels, height, width = x.shape
    if not (isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)) or _same_order_in_memory(x.shape):
        return False
    flat = channels * height * width
    if is_output or not readers or reshape.output.shape not in ((batch, flat), (None, flat)):
        return False
    if any(
        reader.op != "linear" or reader.inputs.index(reshape.output) != 0 or reader.inputs[1:] == [reshape.output] for reader in readers
    ):
        return False
    order = np.arange(flat).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    for reader in readers:
        weight = reader.constants["weight"]
        if isinstance(weight, Weight):
            reader.constants["weight"] = replace(weight, codes=weight.codes[:, order])
        else:
            reader.constants["weight"] = weight[:, order]
    reshape.output.origin = ""  # torch has these elements in another order
    return True
