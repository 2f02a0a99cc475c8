"""Concatenations and their pieces under one pair of parameters, where that costs little: pieces are copied then, or written in place.

A concatenation that converts codes takes a table for each piece, and a dense block, whose every layer reads a concatenation of its own,
converts all pieces again and again.
"""

from __future__ import annotations

from collections.abc import Mapping, Set

from torch.fx import Node

from pyqinfer.quantization.aten_traits import op_name
from pyqinfer.quantization.observers import ActivationParams

# Tensors of fewer codes keep their own range.
_CODES = 255
# By how much the step of a tensor may grow: one of eight bits is lost at most.
_LARGEST_GROWTH = 2.0


def share_with_concats(params: dict[Node, ActivationParams], shared: Mapping[Node, Node], fixed: Set[Node]) -> None:
    """Give concatenations the parameters of a later one that holds all their pieces, and pieces those of the concatenation that reads them.

    Args:
        params: of tensors with a quantizer of their own; changed in place. shared: tensors that have another one's parameters.
        fixed: tensors that keep theirs.
    """
    done: set[Node] = set()
    later: list[tuple[Node, set[Node]]] = []
    for concat in reversed([node for node in params if op_name(node) == "cat"]):
        pieces = {shared.get(piece, piece) for piece in concat.all_input_nodes}
        around = next((params[other] for other, held in reversed(later) if held >= pieces), None)
        if concat not in done and concat not in fixed and around is not None and _may_take(params[concat], around):
            params[concat] = around
            done.add(concat)
        for piece in pieces:
            if piece in params and piece not in done and piece not in fixed and _may_take(params[piece], params[concat]):
                params[piece] = params[concat]
                done.add(piece)
        later.append((concat, pieces))


def _may_take(own: ActivationParams, other: ActivationParams) -> bool:
    """Whether a tensor loses at most a bit by other parameters, whose range holds its own but for a step."""
    if min(own.quant_max - own.quant_min, other.quant_max - other.quant_min) < _CODES:
        return False
    ends = [((p.quant_min - p.zero_point) * p.scale, (p.quant_max - p.zero_point) * p.scale) for p in (own, other)]
    inside = ends[1][0] <= ends[0][0] + other.scale and ends[1][1] >= ends[0][1] - other.scale
    return inside and own.scale <= other.scale <= _LARGEST_GROWTH * own.scale
