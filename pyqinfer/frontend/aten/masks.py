"""Constants that hide positions from a softmax, by minus infinity or a boolean."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.aten.build import inner, summed, tensor_of
from pyqinfer.frontend.aten.infinities import LOWEST, hides_scores, holds_infinity, with_infinities
from pyqinfer.frontend.aten.integers import kind_of, or_integers
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.values import NotSupportedHere


def masked_sum(reader: GraphReader, node: Node, scores: ir.Value, mask: Any) -> ir.Value:
    """Scores plus a mask of booleans or minus infinities, in front of a softmax."""
    return summed(reader, node, scores, additive_mask(mask))


def additive_mask(mask: Any) -> np.ndarray[Any, Any]:
    """A mask as numbers to add to scores: 0 where a position is seen, the lowest float32 where it is hidden."""
    if not isinstance(mask, Tensor):
        raise NotSupportedHere("an attention mask that is quantized")
    added = torch.zeros(mask.shape).masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else mask.to(torch.float32)
    if added.isnan().any() or (added == math.inf).any():
        raise ValueError("the attention mask holds NaN or infinity")
    if (added <= float(LOWEST)).all(-1).any():
        raise NotSupportedHere("an attention mask that hides every position from a row")
    array: np.ndarray[Any, Any] = added.clamp(min=float(LOWEST)).numpy()
    return array


def mask_of_scores(reader: GraphReader, node: Node, mask: Any) -> ir.Value | np.ndarray[Any, Any]:
    """What attention adds to its scores for a mask: truth values that are known only in a run become 0 and the lowest float32.

    So a row that sees nothing weighs all positions alike (``rows_that_see`` makes it 0).
    """
    if not isinstance(mask, ir.Value):
        return additive_mask(mask)
    if kind_of(mask) != "truth":
        return reader.activation(mask, "mask")
    if mask not in reader.masks:
        seen, hidden = (inner(tensor_of(reader, node, torch.full((1,) * len(mask.shape), value))) for value in (0.0, float(LOWEST)))
        name = reader.namer.unique(f"{node.name}.mask")
        reader.masks[mask] = inner(reader.emit("where", node, [mask, seen, hidden], mask.shape, name=name))
    return reader.masks[mask]


def rows_that_see(reader: GraphReader, node: Node, mask: ir.Value) -> ir.Value:
    """1 for each row of a mask of truth values that sees some position, else 0."""
    if mask not in reader.rows:
        axis, name = len(mask.shape) - 1, reader.namer.unique(f"{node.name}.rows")
        attrs: dict[str, ir.Attr] = {"function": "amax", "axes": (axis,), "keepdim": 1}
        reader.rows[mask] = inner(reader.emit("reduce", node, [mask], (*mask.shape[:-1], 1), attrs, name=name))
    return reader.rows[mask]


def _masked_fill(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, mask, value = reader.activation(a["self"], "input"), a["mask"], a["value"]
    if not isinstance(mask, Tensor) or isinstance(value, ir.Value):
        raise NotSupportedHere("a mask or value that is computed from the input")
    filled = torch.zeros(mask.shape).masked_fill(mask, float(value))
    if hides_scores(node, filled):
        return masked_sum(reader, node, x, filled)
    kept, rank = (~mask).to(torch.float32).numpy(), len(x.shape)
    kept = kept.reshape((1,) * (rank - kept.ndim) + kept.shape)
    shape = shapes.broadcast(x.shape, kept.shape)
    if shape is None:
        raise NotSupportedHere(f"a mask of shape {kept.shape} for {x.shape}")
    y = reader.emit("binary", node, [x], shape, {"function": "mul"}, {"other": kept}, name=reader.namer.name(node, "mask"))
    added = with_infinities(reader, node, filled) if holds_infinity(filled) else filled.numpy()
    return summed(reader, node, inner(y), added)


HANDLERS = or_integers({"masked_fill": _masked_fill})
