"""Handlers of the places of largest elements in windows of an image, and of what puts elements back there."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.aten.build import pair
from pyqinfer.frontend.aten.pooling import PLACES, max_pool
from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.composed import composed
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.values import NotSupportedHere


def _max_pool_and_places(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, Any]:
    """Largest elements of windows, and their places in the image where anything reads them."""
    largest = max_pool(reader, node, a)
    if not any(user.target is operator.getitem and user.args[1] == 1 and user.users for user in node.users):
        return largest, PLACES
    kernel, stride = pair(a["kernel_size"]), pair(a["stride"] or a["kernel_size"])
    if pair(a["padding"]) != (0, 0) or pair(a["dilation"]) != (1, 1) or a["ceil_mode"]:
        raise NotSupportedHere("places of largest elements in windows that are padded or dilated")
    return largest, composed(reader, node, lambda self: _places(self, kernel, stride), {"self": a["self"]})


def _places(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    n, c, height, width = x.shape
    rows, columns = ((size - k) // s + 1 for size, k, s in zip((height, width), kernel, stride, strict=True))
    windows = F.unfold(x, kernel, stride=stride).reshape(n, c, kernel[0] * kernel[1], rows, columns)
    inside = windows.argmax(2)
    top = torch.arange(rows).unsqueeze(1) * stride[0] + inside // kernel[1]
    return top * width + torch.arange(columns) * stride[1] + inside % kernel[1]


def _max_unpool(reader: GraphReader, node: Node, a: Arguments) -> Any:
    """Elements back at the places that a pool of windows side by side found: each lies in the window that its element fills here."""
    pool = _pool_of(node.args[1])
    factor = pair(pool[0]) if pool is not None else (0, 0)
    height, width = (int(size) for size in a["output_size"])
    sizes = [size // f if f else 0 for size, f in zip((height, width), factor, strict=True)]
    source: Any = node.args[0]
    if pool is None or pair(pool[1] or pool[0]) != factor or [reader.named(d) for d in source.meta["val"].shape[2:]] != sizes:
        raise NotSupportedHere("puts elements at places that are not those of a pool over windows side by side")

    def unpooled(self: Tensor, indices: Tensor) -> Tensor:
        def filled(x: Tensor) -> Tensor:
            n, c, rows, columns = x.shape
            wide = x.reshape(n, c, rows, 1, columns, 1).expand(n, c, rows, factor[0], columns, factor[1])
            return F.pad(wide.reshape(n, c, rows * factor[0], columns * factor[1]), (0, width % factor[1], 0, height % factor[0]))

        places = torch.arange(height * width).reshape(height, width)
        return torch.where(filled(indices.to(torch.float32)) == places, filled(self), 0.0)

    return composed(reader, node, unpooled, {"self": a["self"], "indices": a["indices"]})


def _pool_of(indices: Any) -> tuple[Any, Any] | None:
    """The window and the stride of the pool that found these places; None where it was none."""
    pool: Any = indices.args[0] if isinstance(indices, Node) and indices.target is operator.getitem else None
    if not isinstance(pool, Node) or "max_pool2d_with_indices" not in str(pool.target):
        return None
    return pool.args[1], pool.args[2] if len(pool.args) > 2 else None


HANDLERS: dict[str, Handler] = {"max_pool2d_with_indices": _max_pool_and_places, "max_unpool2d": _max_unpool}
