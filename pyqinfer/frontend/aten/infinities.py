"""Infinities in constants, which a file cannot hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import inner, tensor_of
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere

# The lowest float32 stands for minus infinity where only a softmax reads it: a score that it is added to vanishes.
LOWEST = float(np.finfo(np.float32).min)
_SOFTMAX = frozenset({"softmax", "_softmax", "_safe_softmax", "scaled_dot_product_attention"})
# What may lie between a hidden score and its softmax: it moves elements, changes their type, or adds to them.
_MOVED = frozenset(
    {"view", "reshape", "_unsafe_view", "permute", "transpose", "expand", "unsqueeze", "squeeze", "slice", "select", "repeat"}
)
_BETWEEN = _MOVED | {"clone", "contiguous", "alias", "detach", "dropout", "to", "_to_copy", "type_as", "add"}


def hides_scores(node: Node, addend: Any) -> bool:
    """Whether a constant that is added here hides positions from the softmax that reads the sum."""
    return isinstance(addend, Tensor) and bool((addend == -math.inf).any()) and only_softmax_reads(node)


def only_softmax_reads(node: Node) -> bool:
    """Whether all that reads a tensor of scores, by itself or moved, is a softmax."""
    seen, ahead = {node}, [node]
    while ahead:
        users = list(ahead.pop().users)
        if not users:
            return False
        for user in users:
            name = getattr(getattr(user.target, "_schema", None), "name", "").removeprefix("aten::")
            if name in _BETWEEN and user not in seen:
                seen.add(user)
                ahead.append(user)
            elif name not in _BETWEEN | _SOFTMAX:
                return False
    return True


def holds_infinity(constant: Any) -> bool:
    """Whether a constant has infinite elements, and no NaN."""
    return isinstance(constant, Tensor) and constant.is_floating_point() and bool(constant.isinf().any()) and not constant.isnan().any()


def with_infinities(reader: GraphReader, node: Node, constant: Tensor) -> ir.Value:
    """A constant that holds infinities: half of it, added to itself.

    Raises NotSupportedHere for NaN, and for numbers so small that half of them is another number.
    """
    half = (constant.to(torch.float32) / 2).clamp(LOWEST, -LOWEST)
    if not torch.equal(half + half, constant.to(torch.float32)):
        raise NotSupportedHere("a constant that holds NaN, or infinities beside numbers below 2^-126")
    value = inner(tensor_of(reader, node, half))
    return inner(reader.emit("add", node, [value, value], value.shape, name=reader.namer.unique(f"{node.name}.infinite")))
