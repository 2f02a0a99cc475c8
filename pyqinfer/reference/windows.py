"""Windows over NHWC images, for convolutions and pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray


def count(length: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """Count output positions along one axis, by torch's rule."""
    room = length + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return room // stride + 1
    n = -(-room // stride) + 1
    return n - 1 if (n - 1) * stride >= length + before else n


def patches(
    x: NDArray[Any],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    ceil_mode: bool,
    fill: Any,
) -> NDArray[Any]:
    """Give a view ``[N, out_h, out_w, kh, kw, C]`` of the NHWC array `x` padded with `fill` (top, left, bottom, right)."""
    top, left, bottom, right = padding
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    out_h = count(x.shape[1], kernel[0], stride[0], top, bottom, dilation[0], ceil_mode)
    out_w = count(x.shape[2], kernel[1], stride[1], left, right, dilation[1], ceil_mode)
    # In ceil mode the last window may stand out of the padded image: pad as far as it reaches.
    bottom = max(bottom, (out_h - 1) * stride[0] + reach[0] - x.shape[1] - top)
    right = max(right, (out_w - 1) * stride[1] + reach[1] - x.shape[2] - left)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    windows = sliding_window_view(padded, tuple(reach), axis=(1, 2))
    windows = windows[:, : out_h * stride[0] : stride[0], : out_w * stride[1] : stride[1], :, :: dilation[0], :: dilation[1]]
    result: NDArray[Any] = windows[:, :out_h, :out_w].transpose(0, 1, 2, 4, 5, 3)
    return result


def row_blocks(view: NDArray[Any], elements: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Flatten ``[N, out_h, out_w, ...]`` to rows of one window each, about `elements` numbers at a time: ``(rows, [rows, K])``."""
    n, out_h, out_w = view.shape[:3]
    k = int(np.prod(view.shape[3:]))
    per_block = max(1, elements // max(1, out_w * k))
    for image in range(n):
        for first in range(0, out_h, per_block):
            last = min(out_h, first + per_block)
            rows = slice((image * out_h + first) * out_w, (image * out_h + last) * out_w)
            yield rows, view[image, first:last].reshape(-1, k)
