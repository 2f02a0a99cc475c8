"""Recurrent layers, traced as one op each and then unrolled over the steps of their sequence.

torch's own decompositions unroll them while they are traced, step by step and in every pass of an export: a minute for a hundred steps.
Here an export sees one op for each layer and direction, and the steps are written into the finished graph.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten
_LIBRARY: Any = torch.library.Library("pyqinfer", "DEF")  # type: ignore[no-untyped-call]
# inputs: the products of all steps with the input's weights [steps, batch, gates]; h, c: states [1, batch, width]; w, b: weights and
# bias of the state; projection: of an LSTM's state. Results: the states behind each step [steps, batch, width], and the last of each kind.
_LIBRARY.define("steps(Tensor inputs, Tensor h, Tensor? c, Tensor w, Tensor? b, Tensor? projection, str kind, bool reverse) -> Tensor[]")


@torch.library.register_fake("pyqinfer::steps", lib=_LIBRARY)  # type: ignore[untyped-decorator]
def _shapes(
    inputs: Tensor, h: Tensor, c: Tensor | None, w: Tensor, b: Tensor | None, projection: Tensor | None, kind: str, reverse: bool
) -> list[Tensor]:
    outputs = h.new_empty((inputs.shape[0], *h.shape[1:]))
    return [outputs, torch.empty_like(h)] + ([] if c is None else [torch.empty_like(c)])


def _one_op_each(kind: str) -> Callable[..., Any]:
    """What is traced for one of torch's functions: an op for each layer and direction.

    NotImplemented where sequences differ in length: torch packs them, and its second argument says how many rows each step has.
    """
    return lambda *args: _layers(kind, *args) if len(args) == 9 and isinstance(args[3], bool) and args[0].ndim == 3 else NotImplemented


def _layers(
    kind: str,
    x: Tensor,
    state: Any,
    weights: Sequence[Tensor],
    biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    both_ways: bool,
    batch_first: bool,
) -> Any:
    """What torch's functions of these names give; dropout between layers acts in training alone."""
    states = state if kind == "lstm" else (state,)
    directions = 2 if both_ways else 1
    count = len(weights) // (layers * directions)
    x = x.transpose(0, 1) if batch_first else x
    int(x.shape[0])  # the length of a sequence is a number from here on, because its steps are written out
    last: list[list[Tensor]] = [[] for _ in states]
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            at = layer * directions + direction
            w_x, w_h, *rest = weights[at * count : (at + 1) * count]
            b_x, b_h = rest[:2] if biases else (None, None)
            projection = rest[-1] if len(rest) % 2 else None
            starts = [s[at : at + 1] for s in states]
            inputs = F.linear(x, w_x, b_x)
            c = starts[1] if kind == "lstm" else None
            y, *ends = torch.ops.pyqinfer.steps(inputs, starts[0], c, w_h, b_h, projection, kind, direction == 1)
            outputs.append(y)
            for kept, end in zip(last, ends, strict=True):
                kept.append(end)
        x = torch.cat(outputs, 2) if both_ways else outputs[0]
    result = x.transpose(0, 1) if batch_first else x
    return (result, *(torch.cat(kept, 0) for kept in last))


class _Writer:
    """Writes nodes in front of one; all values have the shape of the states, or that of the products."""

    def __init__(self, graph: Graph, at: Node) -> None:
        self.graph, self.at = graph, at
        self.meta: dict[str, Any] = {key: at.meta[key] for key in ("nn_module_stack", "stack_trace") if key in at.meta}

    def __call__(self, target: Any, value: Any, *args: Any) -> Node:
        with self.graph.inserting_before(self.at):
            node = self.graph.call_function(target, args)
        node.meta.update(self.meta, val=value)
        return node

    def parts(self, gates: Node, value: Tensor, count: int) -> list[Node]:
        split = self(aten.chunk.default, [value] * count, gates, count, 2)
        return [self(operator.getitem, value, split, i) for i in range(count)]


def _lstm(write: _Writer, gates: Tensor, x: Node, states: list[Node], w: Node, b: Node | None, projection: Node | None) -> list[Node]:
    h, c = states
    cell = c.meta["val"]
    total = write(aten.add.Tensor, gates, write(aten.linear.default, gates, h, w, b), x)
    enter, forget, new, leave = write.parts(total, cell, 4)
    kept = write(aten.mul.Tensor, cell, write(aten.sigmoid.default, cell, forget), c)
    added = write(aten.mul.Tensor, cell, write(aten.sigmoid.default, cell, enter), write(aten.tanh.default, cell, new))
    c = write(aten.add.Tensor, cell, kept, added)
    y = write(aten.mul.Tensor, cell, write(aten.sigmoid.default, cell, leave), write(aten.tanh.default, cell, c))
    return [y if projection is None else write(aten.linear.default, h.meta["val"], y, projection), c]


def _gru(write: _Writer, gates: Tensor, x: Node, states: list[Node], w: Node, b: Node | None, projection: Node | None) -> list[Node]:
    (h,) = states
    value = h.meta["val"]
    own = write.parts(write(aten.linear.default, gates, h, w, b), value, 3)
    reset, update, new = write.parts(x, value, 3)
    reset = write(aten.sigmoid.default, value, write(aten.add.Tensor, value, own[0], reset))
    update = write(aten.sigmoid.default, value, write(aten.add.Tensor, value, own[1], update))
    new = write(aten.tanh.default, value, write(aten.add.Tensor, value, new, write(aten.mul.Tensor, value, own[2], reset)))
    kept = write(aten.mul.Tensor, value, write(aten.sub.Tensor, value, h, new), update)
    return [write(aten.add.Tensor, value, kept, new)]


def _plain(function: Any) -> Callable[..., list[Node]]:
    def step(write: _Writer, gates: Tensor, x: Node, states: list[Node], w: Node, b: Node | None, projection: Node | None) -> list[Node]:
        total = write(aten.add.Tensor, gates, write(aten.linear.default, gates, states[0], w, b), x)
        return [write(function, gates, total)]

    return step


# torch's functions, and what is traced in their place.
FUNCTIONS: Mapping[Any, Callable[..., Any]] = {
    getattr(torch._VF, name): _one_op_each(kind)
    for name, kind in {"lstm": "lstm", "gru": "gru", "rnn_tanh": "tanh", "rnn_relu": "relu"}.items()
}
_STEPS: Mapping[str, Callable[..., list[Node]]] = {
    "lstm": _lstm,
    "gru": _gru,
    "tanh": _plain(aten.tanh.default),
    "relu": _plain(aten.relu.default),
}


def unroll(module: GraphModule) -> None:
    """Write the steps of every recurrent layer of a graph in its place."""
    for node in list(module.graph.nodes):
        if node.target is torch.ops.pyqinfer.steps.default:
            _unroll(module.graph, node)
    module.graph.lint()
    module.recompile()


def _unroll(graph: Graph, node: Node) -> None:
    arguments: Any = node.args
    inputs, h, c, w, b, projection, kind, reverse = arguments
    write, products = _Writer(graph, node), inputs.meta["val"]
    outputs, *_ = node.meta["val"]
    gates = products.new_empty((1, *products.shape[1:]))
    states, rows = [h] if c is None else [h, c], []
    places = range(int(products.shape[0]))  # a number, or a computed size that `_layers` had torch fix
    for i in reversed(places) if reverse else places:
        x = write(aten.slice.Tensor, gates, inputs, 0, i, i + 1)
        states = _STEPS[kind](write, gates, x, states, w, b, projection)
        rows.append(states[0])
    results = [write(aten.cat.default, outputs, rows[::-1] if reverse else rows, 0), *states]
    for user in list(node.users):
        which: Any = user.args[1]
        user.replace_all_uses_with(results[which])
        graph.erase_node(user)
    graph.erase_node(node)
