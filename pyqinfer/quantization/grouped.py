"""Transposed convolutions in groups as one for each group, so that each of their output channels can have a scale of its own.

A column of torch's weights [inputs, outputs of a group, ...] holds channels of several groups, and a quantizer gives it one scale.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from pyqinfer.frontend.naming import attribute_of
from pyqinfer.names import unique_name
from pyqinfer.quantization.aten_traits import op_name

aten = torch.ops.aten


def split_transposed(module: GraphModule) -> None:
    """Exchange every transposed convolution in groups; depthwise ones, which have one scale for each channel as they are, stay."""
    for node in list(module.graph.nodes):
        if op_name(node).startswith("conv_transpose") and len(node.args) > 6 and isinstance(node.args[1], Node):
            weight = attribute_of(module, node.args[1]) if node.args[1].op == "get_attr" else None
            groups: Any = node.args[6]
            if weight is not None and groups > 1 and (groups < len(weight) or weight.shape[1] > 1):
                _split(module, node, weight, groups)
    module.recompile()


def _split(module: GraphModule, node: Node, weight: Tensor, groups: int) -> None:
    arguments: Any = node.args
    x, bias, value = arguments[0], arguments[2], node.meta["val"]
    parts = None if bias is None else attribute_of(module, bias).detach().chunk(groups)

    def write(target: Any, shape: Any, *args: Any) -> Node:
        made = module.graph.call_function(target, args)
        made.meta.update(node.meta, val=shape)
        return made

    def constant(name: str, tensor: Tensor) -> Node:
        unique = unique_name(f"{node.name}_{name}", lambda taken: hasattr(module, taken))
        module.register_buffer(unique, tensor.contiguous())
        made = module.graph.get_attr(unique)
        made.meta["val"] = tensor
        return made

    with module.graph.inserting_before(node):
        source = x.meta["val"]
        piece = source.new_empty((source.shape[0], source.shape[1] // groups, *source.shape[2:]))
        result = value.new_empty((value.shape[0], value.shape[1] // groups, *value.shape[2:]))
        pieces = write(aten.chunk.default, [piece] * groups, x, groups, 1)
        outputs = []
        for i, rows in enumerate(weight.detach().chunk(groups)):
            one = write(operator.getitem, piece, pieces, i)
            added = None if parts is None else constant("bias", parts[i])
            outputs.append(write(node.target, result, one, constant("weight", rows), added, *arguments[3:6], 1, *arguments[7:]))
        whole = write(aten.cat.default, value, outputs, 1)
    node.replace_all_uses_with(whole)
    module.graph.erase_node(node)
