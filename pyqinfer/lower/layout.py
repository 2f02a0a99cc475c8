"""Memory order: spatial values are NHWC in the engine, inputs and outputs of the model are as in torch.

Conversions happen inside ``quantize`` and ``dequantize`` where one stands at the right place, else in a ``transpose``. A flatten of
H x W > 1 in front of linear layers costs nothing: the columns of their weights are permuted instead.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pyqinfer.ir import Graph, Node, Shape, Value, Weight, numbers
from pyqinfer.ops import Layout

_TO_NHWC: Shape = (0, 2, 3, 1)
_TO_NCHW: Shape = (0, 3, 1, 2)
_STORED_AXIS = (0, 3, 1, 2)  # the place in NHWC of each axis of NCHW


def assign_layouts(graph: Graph) -> None:
    """Give every node operands in the order it needs. Afterwards ``Value.shape`` of node outputs is not to be relied on."""
    _Layouts(graph).run()


class _Layouts:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.users = graph.users()
        self.outputs = graph.output_values()
        # Values of rank 4 that are stored as NHWC; all others are stored as torch has them.
        self.nhwc: set[Value] = {value for value in graph.inputs if value.nhwc}
        self.converted: dict[Value, Value] = {}
        self.nodes: list[Node] = []
        self.merged: set[Node] = set()

    def run(self) -> None:
        rules = {
            Layout.TORCH: self._in_torch_order,
            Layout.COLUMNS: self._in_torch_order,
            Layout.SPATIAL: self._spatial,
            Layout.ELEMENTWISE: self._follow,
            Layout.ALONG_AXES: self._along_axes,
            Layout.REDUCES: self._reduce,
            Layout.LAST_AXIS: self._along_last_axis,
            Layout.RESHAPES: self._reshape,
            Layout.PERMUTES: self._permute,
        }
        for node in self.graph.nodes:
            if node not in self.merged:
                rules[node.traits.layout](node)
        # _as_torch appends to self.nodes, so the outputs come before the list is taken over.
        self.graph.outputs = [(name, self._as_torch(value)) for name, value in self.graph.outputs]
        self.graph.nodes = self.nodes
        for value in self.nhwc:
            value.nhwc = True

    def _in_torch_order(self, node: Node) -> None:
        node.inputs = [self._as_torch(value) for value in node.inputs]
        self.nodes.append(node)

    def _spatial(self, node: Node) -> None:
        if len(node.inputs[0].shape) != 4:
            self._in_torch_order(node)
            return
        node.inputs = [self._as_nhwc(value) for value in node.inputs]
        if len(node.output.shape) == 4:
            self.nhwc.add(node.output)
        self.nodes.append(node)

    def _follow(self, node: Node) -> None:
        """Keep the order of the operands, which a quantize or dequantize can change on the way."""
        if node.op == "quantize" and self._wants_nhwc(node.output) and node.inputs[0] not in self.nhwc:
            node.attrs["layout"] = "to_nhwc"
            self.nhwc.add(node.output)
        elif node.op == "dequantize" and node.inputs[0] in self.nhwc and node.output in self.outputs and not self.users.get(node.output):
            node.attrs["layout"] = "to_nchw"
        else:
            if node.traits.is_quantizer:
                node.attrs["layout"] = "same"
            if any(value in self.nhwc for value in node.inputs):
                node.inputs = [self._as_nhwc(value) for value in node.inputs]
                self.nhwc.add(node.output)
                other = node.constants.get("other")
                if isinstance(other, np.ndarray):
                    node.constants["other"] = other.transpose(0, 2, 3, 1)
        self.nodes.append(node)

    def _reduce(self, node: Node) -> None:
        """Name the reduced axes as they lie in memory, if what is left has one order in NCHW and NHWC; else go back to torch's."""
        x, axes, keep = node.inputs[0], node.attrs["axes"], node.attrs["keepdim"]
        assert isinstance(axes, tuple)
        if x in self.nhwc and (keep or 1 in axes or {2, 3} <= set(axes)):
            node.attrs["axes"] = tuple(sorted(_STORED_AXIS[d] for d in axes if isinstance(d, int)))
            if keep:
                self.nhwc.add(node.output)
        else:
            node.inputs = [self._as_torch(x)]
        self.nodes.append(node)

    def _along_last_axis(self, node: Node) -> None:
        """Bring the axis to the end, which in NHWC is where the channels are already."""
        axis, last = node.attrs.pop("axis"), len(node.inputs[0].shape) - 1
        if len(node.inputs[0].shape) == 4 and axis == 1:
            self._spatial(node)
            return
        x = self._as_torch(node.inputs[0])
        if axis == last:
            node.inputs = [x]
            self.nodes.append(node)
            return
        order = list(range(last + 1))
        assert isinstance(axis, int)
        order[last], order[axis] = axis, last
        perm: Shape = tuple(order)
        moved, y = (Value(f"{node.name}.{side}", x.shape, quant) for side, quant in (("last", x.quant), ("rows", node.output.quant)))
        self.nodes.append(Node("transpose", moved.name, [x], moved, {"perm": perm}))
        self.nodes.append(Node(node.op, node.name, [moved], y, node.attrs, {}, node.source))
        self.nodes.append(Node("transpose", y.name, [y], node.output, {"perm": perm}))

    def _along_axes(self, node: Node) -> None:
        """Keep the order of the operands; in NHWC the axes that attributes name lie elsewhere."""
        if any(value in self.nhwc for value in node.inputs):
            node.inputs = [self._as_nhwc(value) for value in node.inputs]
            self.nhwc.add(node.output)
            if "axis" in node.attrs:
                axis = node.attrs["axis"]
                assert isinstance(axis, int)
                node.attrs["axis"] = _STORED_AXIS[axis]
            for key in node.attrs.keys() & {"before", "after"}:
                n, c, h, w = numbers(node, key)
                node.attrs[key] = (n, h, w, c)
        self.nodes.append(node)

    def _permute(self, node: Node) -> None:
        """Transpose once, from the order in memory, or not at all: where that is the order wanted, and where what lies there is NHWC."""
        x, perm = node.inputs[0], numbers(node, "perm")
        if perm == _TO_NCHW and x not in self.nhwc:
            node.op = "alias"
            self.nhwc.add(node.output)
        elif x in self.nhwc:
            perm = tuple(_STORED_AXIS[d] for d in perm)
            node.attrs["perm"] = perm
        if perm == tuple(range(len(perm))):
            node.op = "alias"
        self.nodes.append(node)

    def _wants_nhwc(self, value: Value) -> bool:
        """Whether a value is of rank 4 and its first reader, behind ops that keep the order, is spatial."""
        if len(value.shape) != 4:
            return False
        for reader in self.users.get(value, []):
            if reader.traits.layout is Layout.SPATIAL:
                return True
            if reader.traits.layout in (Layout.ELEMENTWISE, Layout.ALONG_AXES):
                return self._wants_nhwc(reader.output)
        return False

    def _reshape(self, node: Node) -> None:
        x = node.inputs[0]
        if x in self.nhwc and self._rows_of_pixels(x, node):
            return
        if x in self.nhwc and _permute_linear_columns(x, node, self.users.get(node.output, []), node.output in self.outputs):
            self.nodes.append(node)
            return
        if x not in self.nhwc or not _same_order_in_memory(x.shape):
            node.inputs = [self._as_torch(x)]
        self.nodes.append(node)

    def _rows_of_pixels(self, x: Value, node: Node) -> bool:
        """Recognize flatten(2).transpose(1, 2), as vision transformers have it: the pixels as they lie in NHWC."""
        y, readers = node.output, self.users.get(node.output, [])
        if len(readers) != 1 or readers[0].attrs.get("perm") != (0, 2, 1) or y in self.outputs or y.shape[:2] != x.shape[:2]:
            return False
        reader = readers[0]
        n, channels, pixels = y.shape
        self.nodes.append(Node("reshape", node.name, [x], reader.output, {"shape": (n, pixels, channels)}, {}, node.source))
        self.merged.add(reader)
        return True

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
    """Whether NCHW and NHWC are the same sequence of elements, because there is one channel or one position."""
    _, channels, height, width = shape
    return channels == 1 or (height == 1 and width == 1)


def _grouped(layer: Node) -> bool:
    """Whether the weights have scales per group of columns, which therefore have to stay with their neighbours."""
    weight = layer.constants["weight"]
    return isinstance(weight, Weight) and weight.grouped


def _permute_linear_columns(x: Value, reshape: Node, readers: list[Node], is_output: bool) -> bool:
    """Flatten NHWC as it lies, if only linear layers read the result, and reorder their columns from (C, H, W) to (H, W, C)."""
    batch, channels, height, width = x.shape
    if not (isinstance(channels, int) and isinstance(height, int) and isinstance(width, int)) or _same_order_in_memory(x.shape):
        return False
    flat = channels * height * width
    if is_output or not readers or reshape.output.shape not in ((batch, flat), (None, flat)):
        return False
    if any(
        reader.traits.layout is not Layout.COLUMNS
        or _grouped(reader)
        or reader.inputs.index(reshape.output) != 0
        or reader.inputs[1:] == [reshape.output]
        for reader in readers
    ):
        return False
    order = np.arange(flat).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    for reader in readers:
        weight = reader.constants["weight"]
        if isinstance(weight, Weight):
            reader.constants["weight"] = replace(weight, codes=weight.codes[:, order])
        else:
            reader.constants["weight"] = weight[:, order]
    reshape.output.origin = ""  # no tensor of torch has the elements in this order
    return True
