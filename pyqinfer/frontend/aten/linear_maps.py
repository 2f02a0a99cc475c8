"""Handlers of aten ops that resample images: each new element is a sum of old ones with constant weights, a product with a matrix.

The matrices are torch's own answers for images of one pixel, so that no formula of torch's is written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.aten.build import constant_under, inner, known_size, operand, permuted, reshaped
from pyqinfer.frontend.aten.picking import picked
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere

# A matrix of more elements would cost more than the network around it.
_LARGEST = 2**22


def _applied(reader: GraphReader, node: Node, x: ir.Value, axis: int, matrix: Tensor) -> ir.Value:
    """``x`` multiplied along an axis by ``matrix`` [new size, old size]; places are picked where each row has one weight of 1."""
    size, rank = known_size(x, axis), len(x.shape)
    if torch.equal(matrix, torch.eye(size)):
        return x
    if bool((((matrix == 1).sum(1) == 1) & ((matrix != 0).sum(1) == 1)).all()):
        return picked(reader, node, x, axis, matrix.argmax(1).tolist())
    perm = [i for i in range(rank) if i != axis] + [axis]
    last = permuted(reader, node, x, perm)
    last = last if last is x else inner(last)
    weight = reader.constant(matrix, "weights")
    name = reader.namer.unique(f"{node.name}.axis{axis}")
    y = reader.emit("linear", node, [last], (*last.shape[:-1], len(matrix)), {}, {"weight": weight}, name=name)
    return permuted(reader, node, inner(y), [perm.index(i) for i in range(rank)])


def _matrices(node: Node, a: Arguments, sizes: Sequence[int]) -> list[Tensor]:
    """For each axis of the image the matrix that torch's op is, from an image of two equal rows along all others, which become two.

    One row would do, but torch 2.13 resamples images of one column wrongly where it smooths them.
    """
    rank = len(sizes)
    outputs = list(a.get("output_size") or [])
    scales: list[Any] = list(a.get("scale_factors") or [a.get(f"scales_{name}") for name in "dhw"[3 - rank :]])
    if any(not isinstance(size, int) for size in outputs):
        raise NotSupportedHere("an output size that depends on the input's")
    found = []
    for axis, size in enumerate(sizes):
        image = torch.eye(size).reshape(size, 1, *(size if i == axis else 1 for i in range(rank)))
        image = image.expand(size, 1, *(size if i == axis else 2 for i in range(rank))).contiguous()
        changed: Arguments = {**a, "self": image, "input": image}
        if outputs:
            changed["output_size"] = [outputs[i] if i == axis else 2 for i in range(rank)]
        if a.get("scale_factors"):
            changed["scale_factors"] = [scales[i] if i == axis else 1.0 for i in range(rank)]
        changed |= {f"scales_{name}": scales[i] if i == axis else None for i, name in enumerate("dhw"[3 - rank :])}
        target: Any = node.target
        names = {argument.name for argument in target._schema.arguments}
        with torch.no_grad():
            answer: Tensor = target(**{key: value for key, value in changed.items() if key in names})
        line = answer[(slice(None), 0, *(slice(None) if i == axis else 0 for i in range(rank)))]
        found.append(line.T.contiguous())
    return found


def separable(rank: int) -> Handler:
    """A handler for an op that resamples one axis after the other."""

    def run(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
        x = operand(reader, a)
        if len(x.shape) != rank + 2:
            raise NotSupportedHere(f"needs an input of rank {rank + 2}, got rank {len(x.shape)}")
        y = x
        for axis, matrix in enumerate(_matrices(node, a, [known_size(x, axis) for axis in range(2, rank + 2)]), 2):
            y = y if y is x else inner(y)
            y = _applied(reader, node, y, axis, matrix)
        if y is not x:
            y.origin = node.name
        return y

    return run


def sampled_at_constants(reader: GraphReader, node: Node, a: Arguments) -> ir.Value | None:
    """``grid_sample`` at constant places that are the same for the whole batch, a product with a matrix; None at others, or many."""
    x, grid = operand(reader, a), constant_under(a["grid"])
    if grid is None or len(x.shape) != 4 or (len(grid) > 1 and not torch.equal(grid, grid[:1].expand_as(grid))):
        return None
    n, channels, height, width = x.shape
    rows, columns = grid.shape[1:3]
    if not isinstance(height, int) or not isinstance(width, int) or height * width * rows * columns > _LARGEST:
        return None
    image = torch.eye(height * width).reshape(1, height * width, height, width)
    modes = (a["interpolation_mode"], a["padding_mode"], a["align_corners"])
    matrix = torch.grid_sampler(image, grid[:1], *modes).reshape(height * width, -1).T.contiguous()
    flat = inner(reshaped(reader, node, x, (n, channels, height * width), "flatten"))
    y = reshaped(reader, node, inner(_applied(reader, node, flat, 2, matrix)), (n, channels, rows, columns), "reshape")
    y.origin = node.name
    return y


HANDLERS: dict[str, Handler] = {
    "upsample_bicubic2d": separable(2),
    "_upsample_bicubic2d_aa": separable(2),
    "_upsample_bilinear2d_aa": separable(2),
    "upsample_trilinear3d": separable(3),
    "_upsample_nearest_exact3d": separable(3),
    "upsample_nearest3d": separable(3),
}
