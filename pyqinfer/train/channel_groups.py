"""Which channels of a network belong together: what has to go with a channel, if that channel is to go.

Every tensor that layers compute gets a label for each index of its channel axis. A layer labels its output anew; ops that keep channels
apart pass labels on; ops that need equal channels of several tensors (residual sums, products, BatchNorm, depthwise convolutions) make
labels one. Labels that are one name one channel, and the tensors that they label, parameters among them, are what it consists of.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pyqinfer.frontend.naming import Namer, source_line
from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name

Ids = list[int]

_BINARY = frozenset(("add", "sub", "mul", "div", "maximum", "minimum"))
_UNARY = frozenset(("abs", "neg", "exp", "log", "sqrt", "rsqrt", "pow", "rsub", "reciprocal", "sin", "cos", "erf", "_to_copy", "to"))
_IMAGES = frozenset(
    (
        "max_pool2d",
        "max_pool2d_with_indices",
        "avg_pool2d",
        "adaptive_avg_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "avg_pool1d",
    )
)
_REDUCE = frozenset(("mean", "sum", "amax", "amin"))
_NORMS = frozenset(("native_group_norm", "native_layer_norm", "group_norm", "layer_norm"))


@dataclass(frozen=True)
class Labels:
    """Labels along one axis of a tensor."""

    axis: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Producer:
    """A layer that computes channels: ``weight`` is the name of its parameter, ``dim`` the axis of the outputs in it, ``ids`` their labels.

    ``gain``: the name of the weight of a BatchNorm that alone reads the layer, or "".
    """

    layer: str
    weight: str
    dim: int
    ids: tuple[int, ...]
    gain: str = ""


@dataclass
class ChannelGroups:
    """The labels of a whole network.

    Attributes:
        bound: (name of a parameter or buffer, its dimension) -> labels along it.
        producers: layers in execution order.
        fixed: labels that must stay (roots): of outputs, and what an op's own numbers rely on.
        unknown: root -> which op reads the channel in a way that is not known here.
    """

    parent: Ids = field(default_factory=list)
    bound: dict[tuple[str, int], tuple[int, ...]] = field(default_factory=dict)
    producers: list[Producer] = field(default_factory=list)
    fixed: set[int] = field(default_factory=set)
    unknown: dict[int, str] = field(default_factory=dict)

    def fresh(self, count: int) -> tuple[int, ...]:
        """New labels."""
        first = len(self.parent)
        self.parent += range(first, first + count)
        return tuple(range(first, first + count))

    def root(self, label: int) -> int:
        """The one label that stands for all that are one with this."""
        while self.parent[label] != label:
            self.parent[label] = self.parent[self.parent[label]]
            label = self.parent[label]
        return label

    def unite(self, a: Sequence[int], b: Sequence[int]) -> None:
        """Make labels one, pair by pair."""
        for left, right in zip(a, b, strict=True):
            self.parent[self.root(left)] = self.root(right)

    def bind(self, name: str, dim: int, ids: tuple[int, ...]) -> None:
        """Label a dimension of a parameter; one that several layers read has one set of labels."""
        if (name, dim) in self.bound:
            self.unite(self.bound[name, dim], ids)
        else:
            self.bound[name, dim] = ids

    def is_fixed(self, label: int) -> bool:
        """Whether the channel must stay. Valid once the whole graph has been read."""
        return self.root(label) in self.fixed


def find_groups(module: GraphModule) -> ChannelGroups:
    """Label a graph that was traced with a fixed batch, by :func:`pyqinfer.frontend.export.export_functional`."""
    reader = _Reader(module)
    for node in module.graph.nodes:
        reader.read(node)
    groups = reader.groups
    groups.fixed = {groups.root(label) for label in groups.fixed}
    groups.unknown = {groups.root(label): reason for label, reason in groups.unknown.items()}
    return groups


class _Reader:
    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self.groups = ChannelGroups()
        self.labels: dict[Node, Labels | list[Labels | None] | None] = {}
        self.namer = Namer()

    def read(self, node: Node) -> None:
        if node.op == "output":
            for source in node.all_input_nodes:
                self._fixed(self._of(source))
        elif node.op == "call_function":
            self.labels[node] = self._call(node)

    # ---- what an op does to labels

    def _call(self, node: Node) -> Labels | list[Labels | None] | None:
        name, kind = op_name(node), kind_of(node)
        if node.target is operator.getitem:
            source = self.labels.get(node.args[0])  # type: ignore[arg-type]
            return source[node.args[1]] if isinstance(source, list) else source  # type: ignore[index]
        if not any(self._of(source) is not None for source in node.all_input_nodes):
            return self._layer(node, name) if kind is Kind.LAYER else None
        if kind is Kind.LAYER:
            return self._layer(node, name)
        if kind is Kind.BATCH_NORM:
            return self._batch_norm(node)
        if name in _BINARY:
            return self._elementwise(node, [a for a in node.args[:2] if isinstance(a, Node)])
        if name == "prelu":
            return self._elementwise(node, [node.args[0], node.args[1]], {1: 1})  # type: ignore[list-item]
        if name == "cat":
            return self._cat(node)
        if name in _REDUCE:
            return self._reduce(node)
        if name in _IMAGES:
            return self._same(node) if self._operand(node).axis == 1 else self._unknown(node)
        if kind in (Kind.CLAMP, Kind.FUNCTION, Kind.IDENTITY) or name in _UNARY:
            return self._same(node)
        if kind in (Kind.SHARE, Kind.SPLIT):
            return self._moved(node)
        if name in _NORMS:
            # Other channels would share the statistics of those that are left.
            self._fixed(self._operand(node))
            return [self._operand(node)]
        return self._unknown(node)

    def _layer(self, node: Node, name: str) -> Labels | None:
        weight = node.args[1]
        x = self._of(node.args[0])
        if not isinstance(weight, Node) or weight.op != "get_attr":
            return self._unknown(node)
        layer, path, shape = self.namer.name(node, name), str(weight.target), _shape(weight)
        groups = int(node.args[6]) if name != "linear" and len(node.args) > 6 else 1  # type: ignore[arg-type]
        out_dim, in_dim = (1, 0) if name == "conv_transpose2d" else (0, 1)
        axis = len(_shape(node)) - 1 if name == "linear" else 1
        depthwise = groups > 1 and x is not None and groups == len(x.ids) and shape[1] == 1 and name != "conv_transpose2d"
        if x is not None and x.axis != axis:
            return self._unknown(node)
        if depthwise:
            assert x is not None
            ids = tuple(label for label in x.ids for _ in range(shape[0] // groups))
        else:
            ids = self.groups.fresh(shape[out_dim] * (groups if out_dim == 1 else 1))
            if groups > 1:
                self._fixed(x)
                self._fixed(Labels(axis, ids))
            elif x is not None:
                self.groups.bind(path, in_dim, x.ids)
        if groups == 1 or depthwise:
            self.groups.bind(path, out_dim, ids)
            self.groups.producers.append(Producer(layer, path, out_dim, ids, _gain(node)))
        bias = node.args[2] if len(node.args) > 2 else None
        if isinstance(bias, Node):
            self.groups.bind(str(bias.target), 0, ids)
        return Labels(axis, ids)

    def _batch_norm(self, node: Node) -> list[Labels | None] | None:
        x = self._operand(node)
        if x.axis != 1:
            self._unknown(node)
            return None
        for parameter in node.args[1:5]:
            if isinstance(parameter, Node):
                self.groups.bind(str(parameter.target), 0, x.ids)
        return [x]

    def _elementwise(self, node: Node, operands: list[Node], axes: dict[int, int] | None = None) -> Labels | None:
        """One result for each channel, from that channel of every operand. ``axes``: by operand, the axis of the result that a parameter's
        dimension 0 belongs to, where that is not the usual one."""
        rank = len(_shape(node))
        first: Labels | None = None
        for source in operands:
            labels = self._of(source)
            if labels is not None:
                labels = Labels(labels.axis + rank - len(_shape(source)), labels.ids)
                if first is not None and (labels.axis != first.axis):
                    return self._unknown(node)
                if first is None or len(first.ids) == 1:
                    if first is not None:
                        self._fixed(first)
                    first = labels
                elif len(labels.ids) == 1:
                    self._fixed(labels)
                else:
                    self.groups.unite(labels.ids, first.ids)
        assert first is not None
        for i, source in enumerate(operands):
            if self._of(source) is None and not self._fits(source, first, rank, (axes or {}).get(i)):
                self._fixed(first)
        return first

    def _fits(self, source: Node, labels: Labels, rank: int, axis: int | None) -> bool:
        """Whether an operand without labels fits fewer channels: it has one number for all, or is a parameter that loses them too."""
        shape = _shape(source)
        dim = labels.axis - (rank - len(shape)) if axis is None else 0
        if dim < 0 or shape[dim] == 1:
            return True
        if source.op != "get_attr":
            return False
        self.groups.bind(str(source.target), dim, labels.ids)
        return True

    def _cat(self, node: Node) -> Labels | None:
        sources: list[Node] = list(node.args[0])  # type: ignore[arg-type]
        dim = int(node.args[1]) % len(_shape(node)) if len(node.args) > 1 else 0  # type: ignore[arg-type]
        labels = [self._of(source) for source in sources]
        for i, (source, found) in enumerate(zip(sources, labels, strict=True)):
            if found is None:
                labels[i] = self._fixed(Labels(dim, self.groups.fresh(_shape(source)[dim])))
        known = [found for found in labels if found is not None]
        if len({found.axis for found in known}) > 1:
            return self._unknown(node)
        if known[0].axis == dim:
            return Labels(dim, tuple(label for found in known for label in found.ids))
        for found in known[1:]:
            self.groups.unite(found.ids, known[0].ids)
        return known[0]

    def _reduce(self, node: Node) -> Labels | None:
        x, rank = self._operand(node), len(_shape(node.args[0]))
        given: Any = node.args[1] if len(node.args) > 1 and node.args[1] not in (None, []) else range(rank)
        dims = {int(d) % rank for d in ([given] if isinstance(given, int) else given)}
        if x.axis in dims:
            return self._unknown(node)
        if len(_shape(node)) == rank:
            return x
        return Labels(x.axis - sum(d < x.axis for d in dims), x.ids)

    def _same(self, node: Node) -> Labels | list[Labels | None] | None:
        return [self._operand(node)] if op_name(node) == "max_pool2d_with_indices" else self._operand(node)

    def _moved(self, node: Node) -> Labels | list[Labels | None] | None:
        """Carry out an op that moves elements on labels. Of one that cuts channels up the model's code has the numbers: they stay."""
        if op_name(node) in ("max_pool2d", "upsample_nearest2d"):
            return self._same(node)
        x = self._operand(node)
        shape = [1] * len(_shape(node.args[0]))
        shape[x.axis] = -1
        spread = (torch.tensor(x.ids) + 1).reshape(shape).expand(_shape(node.args[0])).contiguous()
        assert callable(node.target)
        result = node.target(spread, *node.args[1:], **node.kwargs)
        if not isinstance(result, Tensor):
            self._fixed(x)
            return [self._read_back(part) for part in result]
        labels = self._read_back(result)
        repeats = 0 if labels is None else len(labels.ids) // len(x.ids)
        if labels is None or labels.ids != tuple(label for label in x.ids for _ in range(repeats)):
            self._fixed(x)
        return labels

    def _read_back(self, moved: Tensor) -> Labels | None:
        """Labels of a tensor of labels + 1, in which 0 is padding; None if they do not lie along one axis."""
        for axis in [1, *range(moved.ndim - 1, 1, -1), 0]:
            if axis >= moved.ndim:
                continue
            lines = moved.transpose(0, axis).reshape(moved.shape[axis], -1)
            top = lines.amax(1)
            if bool(((lines == top[:, None]) | (lines == 0)).all()):
                return Labels(axis, tuple(int(label) - 1 if label else self._fixed_label() for label in top))
        return None

    # ---- helpers

    def _fixed_label(self) -> int:
        (label,) = self.groups.fresh(1)
        self.groups.fixed.add(label)
        return label

    def _fixed(self, labels: Labels | None) -> Labels | None:
        if labels is not None:
            self.groups.fixed.update(labels.ids)
        return labels

    def _unknown(self, node: Node) -> Labels | None:
        """Note that an op reads channels in a way that is not known here; its result has no labels."""
        line = source_line(node)
        reason = f"{op_name(node) or node.target}{f' ({line})' if line else ''}"
        for source in node.all_input_nodes:
            labels = self._of(source)
            if labels is not None:
                self.groups.unknown.update((label, reason) for label in labels.ids)
        return None

    def _of(self, source: Any) -> Labels | None:
        labels = self.labels.get(source) if isinstance(source, Node) else None
        return labels[0] if isinstance(labels, list) else labels

    def _operand(self, node: Node) -> Labels:
        labels = self._of(node.args[0])
        assert labels is not None
        return labels


def _gain(node: Node) -> str:
    """The weight of the BatchNorm that alone reads a layer, or ""."""
    users = list(node.users)
    if len(users) == 1 and kind_of(users[0]) is Kind.BATCH_NORM and isinstance(users[0].args[1], Node):
        return str(users[0].args[1].target)
    return ""


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta["val"]
    value = value[0] if isinstance(value, (list, tuple)) else value
    return tuple(int(d) for d in value.shape)
