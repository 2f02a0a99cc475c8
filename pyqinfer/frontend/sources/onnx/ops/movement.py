"""Operators that move elements: shapes, order, pieces, places, padding, other sizes of images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyqinfer.frontend.sources.onnx.call import Call, Handler, axis_of, check_count
from pyqinfer.frontend.sources.onnx.ops.sizes import as_objects, objects
from pyqinfer.frontend.sources.onnx.values import Coded, CodedRows, CodeNumbers, Const, LookedUp, Sizes, Value
from pyqinfer.frontend.sources.onnx.weights import transposed
from pyqinfer.frontend.values import NotSupportedHere

_TO_END = 2**31 - 1


def _reshape(c: Call) -> Value:
    shape = list(c.listed(1, "shape", "shape") or [])
    if isinstance(c.value(0), Sizes):
        return Sizes(c.value(0).array.reshape([int(n) for n in shape]))
    x = c.tensor(0)
    if not c.attribute("allowzero", 0):
        shape = [x.shape[i] if isinstance(n, int) and n == 0 else n for i, n in enumerate(shape)]
    return x.reshape(shape)


def _flatten(c: Call) -> Tensor:
    x = c.tensor(0)
    axis = int(c.attribute("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    if x.ndim == 0:
        return x.reshape(1, 1)
    if axis == 0:
        return x.reshape(1, -1)
    if axis == x.ndim:
        return x.reshape(-1, 1)
    y = x.flatten(axis)
    return y if axis == 1 else y.flatten(0, axis - 1)


def _transpose(c: Call) -> Value:
    value = c.value(0)
    perm = c.attribute("perm")
    if isinstance(value, Coded) and value.codes.ndim == 2:
        return transposed(value) if perm is None or list(perm) == [1, 0] else value
    x = c.tensor(0)
    perm = [int(p) for p in perm] if perm is not None else list(range(x.ndim))[::-1]
    return x.permute(perm) if perm else x


def _squeeze(c: Call) -> Value:
    axes = c.listed(1, "axes", "axes")
    value = c.value(0)
    if isinstance(value, Sizes):
        array = value.array
        return Sizes(np.squeeze(array, None if axes is None else tuple(int(a) for a in axes)))
    x = c.tensor(0)
    if axes is None:
        return x.squeeze()
    wanted = [axis_of(int(a), x.ndim) for a in axes]
    if any(isinstance(x.shape[a], int) and x.shape[a] != 1 for a in wanted):
        raise ValueError(f"squeezes axes {wanted} of {list(x.shape)}")
    return x.squeeze(wanted)


def _unsqueeze(c: Call) -> Value:
    axes = [int(a) for a in c.listed(1, "axes", "axes") or []]
    value = c.value(0)
    if isinstance(value, Sizes):
        return Sizes(np.expand_dims(value.array, tuple(axes)))
    x = c.tensor(0)
    for axis in sorted(axis_of(a, x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def _concat(c: Call) -> Value:
    if any(isinstance(value, Sizes) for value in c.operands):
        parts = [as_objects(value) for value in c.operands]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            return Sizes(np.concatenate(known, int(c.attribute("axis", 0))))
    parts_of = c.tensors()
    return torch.cat(parts_of, axis_of(int(c.attribute("axis", 1)), parts_of[0].ndim))


def _slice(c: Call) -> Value:
    value = c.value(0)
    starts, ends = c.listed(1, "starts", "starts") or [], c.listed(2, "ends", "ends") or []
    axes = c.listed(3, "axes", "axes")
    steps = c.sizes(4, "steps") if c.has(4) else [1] * len(starts)
    axes = list(range(len(starts))) if axes is None else axes
    if isinstance(value, Sizes):
        if len(starts) != 1:
            raise NotSupportedHere("a slice of sizes along several axes")
        return Sizes(value.array[slice(starts[0], ends[0], steps[0])])
    x = c.tensor(0)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = axis_of(int(axis), x.ndim)
        if isinstance(step, int) and step < 0:
            x = _backwards(x, int(start), int(end), axis, int(step))
            continue
        if isinstance(end, int) and end >= _TO_END:
            end = _TO_END
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def _backwards(x: Tensor, start: int, end: int, axis: int, step: int) -> Tensor:
    size = x.shape[axis]
    if not isinstance(size, int):
        raise NotSupportedHere("a slice backwards along an open dimension")
    places = list(range(size))[max(start, -size - 1) if start < 0 else start : None if end < -size else end : step]
    if not places:
        raise NotSupportedHere("an empty slice")
    return x.index_select(axis, torch.tensor(places))


def _gather(c: Call) -> Value:
    value, axis = c.value(0), int(c.attribute("axis", 0))
    if isinstance(c.value(1), CodeNumbers):
        return _looked_up(value, c.value(1))
    if isinstance(value, Sizes):
        places = as_objects(c.value(1))
        if places is None:
            raise NotSupportedHere("sizes at places that are computed")
        if places.ndim == 0:
            return Sizes(objects([value.array[int(places.item())]], ()))
        return Sizes(np.take(value.array, places.astype(np.int64), axis))
    indices = c.value(1)
    if (
        isinstance(value, Const)
        and value.array.dtype in (np.int8, np.uint8)
        and axis == 0
        and value.array.ndim == 2
        and isinstance(indices, Tensor)
    ):
        return CodedRows(value, indices)
    if isinstance(value, Coded) and isinstance(indices, Tensor) and axis == 0 and value.codes.ndim == 2:
        return F.embedding(indices, c.tensor(0))
    x = c.tensor(0)
    axis = axis_of(axis, x.ndim)
    known = as_objects(indices)
    if known is not None and known.ndim == 0:
        return x.select(axis, known.item())
    if known is not None and isinstance(x.shape[axis], int):
        picked = x.index_select(axis, torch.tensor([int(n) % x.shape[axis] for n in known.reshape(-1)]))
        return picked if known.ndim == 1 else picked.reshape(*x.shape[:axis], *known.shape, *x.shape[axis + 1 :])
    index = c.tensor(1)
    if axis == 0 and x.ndim == 2:
        return F.embedding(index, x)
    picked = x.index_select(axis, index.reshape(-1))
    return picked.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


def _looked_up(table: Value, numbers: CodeNumbers) -> LookedUp:
    """Codes at the places of an activation's codes in a table of 256 for all channels, or for each."""
    if not isinstance(table, Const) or table.kind != "uint8":
        raise NotSupportedHere("codes as places in something other than a constant table of codes")
    offsets, count = numbers.offsets, table.array.size // 256
    by_channel = offsets is not None and np.array_equal(offsets.reshape(-1), 256 * np.arange(count))
    if table.array.size != 256 * count or (offsets is not None and not by_channel) or (offsets is None and count != 1):
        raise NotSupportedHere("a table of another size than 256 codes, or 256 for each channel")
    return LookedUp(numbers.codes, table.array.reshape(count, 256) if by_channel else table.array)


def _split(c: Call) -> tuple[Value, ...]:
    count = int(c.attribute("num_outputs", len(c.operation.outputs)))
    value, axis = c.value(0), int(c.attribute("axis", 0))
    sizes = c.listed(1, "split", "sizes")
    if isinstance(value, Sizes):
        length = len(value.array)
        each = -(-length // count)
        ends = np.cumsum([int(n) for n in sizes] if sizes is not None else [each] * count)[:-1]
        return tuple(Sizes(part) for part in np.split(value.array, ends))
    x = c.tensor(0)
    axis = axis_of(axis, x.ndim)
    if sizes is None:
        each = -(-x.shape[axis] // count)
        sizes = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    if len(sizes) != count:
        raise ValueError(f"{len(sizes)} sizes for {count} outputs")
    return tuple(torch.split(x, sizes, axis))


def _expand(c: Call) -> Value:
    shape = c.sizes(1, "shape")
    check_count(shape)
    if isinstance(c.value(0), Sizes):
        return Sizes(np.broadcast_to(c.value(0).array, np.broadcast_shapes(c.value(0).array.shape, tuple(int(n) for n in shape))))
    x = c.tensor(0)
    shape = [1] * (x.ndim - len(shape)) + list(shape)
    offset = len(shape) - x.ndim
    target = [x.shape[i - offset] if i >= offset and isinstance(n, int) and n == 1 else n for i, n in enumerate(shape)]
    check_count(target)
    return x.expand(target)


def _tile(c: Call) -> Tensor:
    x, repeats = c.tensor(0), c.sizes(1, "repeats")
    check_count([n * m if isinstance(n, int) and isinstance(m, int) else n for n, m in zip(x.shape, repeats, strict=True)])
    return x.repeat(repeats)


def _pad(c: Call) -> Tensor:
    x, mode = c.tensor(0), c.attribute("mode", "constant")
    amounts = c.listed(1, "pads", "padding") or c.attribute("paddings") or []
    value = c.number(2, "value", c.attribute("value", 0.0))
    axes = c.sizes(3, "axes") if c.has(3) else list(range(x.ndim))
    before, after = [0] * x.ndim, [0] * x.ndim
    for i, axis in enumerate(axes):
        before[axis_of(int(axis), x.ndim)], after[axis_of(int(axis), x.ndim)] = amounts[i], amounts[i + len(axes)]
    check_count([n + b + a if all(isinstance(m, int) for m in (n, b, a)) else 1 for n, b, a in zip(x.shape, before, after, strict=True)])
    first = next((i for i in range(x.ndim) if before[i] or after[i]), x.ndim)
    flat = [n for pair in zip(before[first:][::-1], after[first:][::-1], strict=True) for n in pair]
    if not flat:
        return x
    if mode == "constant":
        return F.pad(x, flat, value=value)
    kinds = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in kinds:
        raise NotSupportedHere(f"padding of mode {mode!r}")
    padded = x.ndim - first
    if padded > 2:
        raise NotSupportedHere(f"padding of mode {mode!r} over {padded} dimensions")
    lead = x.shape[: x.ndim - padded]
    image = x.reshape(1, -1, *x.shape[x.ndim - padded :]) if x.ndim != padded + 2 else x
    y = F.pad(image, flat, mode=kinds[mode])
    return y if image is x else y.reshape(*lead, *y.shape[2:])


def _depth_to_space(c: Call) -> Tensor:
    x, size = c.tensor(0), int(c.attribute("blocksize", 1))
    if c.attribute("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, size)
    n, channels, height, width = x.shape
    y = x.reshape(n, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, channels // size**2, height * size, width * size)


def _space_to_depth(c: Call) -> Tensor:
    x, size = c.tensor(0), int(c.attribute("blocksize", 1))
    n, channels, height, width = x.shape
    y = x.reshape(n, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, channels * size**2, height // size, width // size)


def _resize(c: Call) -> Tensor:
    x = c.tensor(0)
    upsample = c.operation.op == "Upsample"
    scales_at, sizes_at = (1, 9) if upsample or c.version < 11 else (2, 3)
    mode, transform = (
        c.attribute("mode", "nearest"),
        c.attribute("coordinate_transformation_mode", "asymmetric" if upsample else "half_pixel"),
    )
    axes = [axis_of(int(a), x.ndim) for a in c.attribute("axes") or range(x.ndim)]
    if c.attribute("keep_aspect_ratio_policy", "stretch") != "stretch" or c.attribute("antialias", 0):
        raise NotSupportedHere("a resize that keeps the aspect ratio, or with antialias")
    scale: list[Any] = [1.0] * x.ndim
    size: list[Any] = list(x.shape)
    has_scales = (c.has(scales_at) and c.array(scales_at, "scales").size) or c.attribute("scales")
    if has_scales:
        given = [float(s) for s in (c.array(scales_at, "scales") if c.has(scales_at) else c.attribute("scales"))]
        for axis, factor in zip(axes, given, strict=True):
            scale[axis] = factor
            size[axis] = math.floor(x.shape[axis] * factor) if isinstance(x.shape[axis], int) else None
    else:
        for axis, n in zip(axes, c.sizes(sizes_at, "sizes"), strict=True):
            size[axis], scale[axis] = n, n / x.shape[axis] if isinstance(n, int) and isinstance(x.shape[axis], int) else None
    if not has_scales and size == list(x.shape):
        return x
    return _interpolated(c, x, mode, transform, scale, size, bool(has_scales))


def _interpolated(c: Call, x: Tensor, mode: str, transform: str, scale: list[Any], size: list[Any], by_scale: bool) -> Tensor:
    if x.ndim not in (3, 4) or any(scale[i] not in (1.0, None) for i in (0, 1)):
        raise NotSupportedHere(f"a resize of rank {x.ndim}, or of the batch or the channels")
    factors = [float(s) if s is not None else None for s in scale[2:]]
    to: dict[str, Any] = {"scale_factor": factors} if by_scale else {"size": size[2:]}
    whole = all(f is not None and f == int(f) for f in factors)
    if mode == "nearest":
        rounding = c.attribute("nearest_mode", "floor" if c.version < 11 or c.operation.op == "Upsample" else "round_prefer_floor")
        if transform == "asymmetric" and (
            rounding == "floor" or (whole and rounding == "round_prefer_floor" and max(f or 0 for f in factors) < 2)
        ):
            return F.interpolate(x, **to, mode="nearest")
        if transform == "half_pixel" and whole and rounding in ("round_prefer_floor", "round_prefer_ceil"):
            return F.interpolate(x, **to, mode="nearest")
        raise NotSupportedHere(f"nearest elements of mode {transform}, {rounding}")
    if mode == "linear" and transform in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        corners = transform == "align_corners"
        if transform == "pytorch_half_pixel" and any(n == 1 for n in size[2:]):
            raise NotSupportedHere("a linear resize to one position")
        if corners and by_scale and any(f is None or n != f * m for n, f, m in zip(size[2:], factors, x.shape[2:], strict=True)):
            raise NotSupportedHere("a linear resize between corners by a factor that gives no whole size")
        kind = "linear" if x.ndim == 3 else "bilinear"
        if corners and by_scale:
            to = {"size": size[2:]}
        return F.interpolate(x, **to, mode=kind, align_corners=corners)
    raise NotSupportedHere(f"a resize of mode {mode}, {transform}")


def _one_hot(c: Call) -> Tensor:
    depth, values = int(c.number(1, "depth")), c.array(2, "values")
    check_count([*c.tensor(0).shape, depth])
    axis = int(c.attribute("axis", -1))
    indices = c.tensor(0).to(torch.int64)
    hot = torch.where(indices < 0, indices + depth, indices).unsqueeze(-1) == torch.arange(depth)
    y = torch.where(hot, torch.tensor(values.reshape(-1)[1].item()), torch.tensor(values.reshape(-1)[0].item()))
    return y.movedim(-1, axis_of(axis, y.ndim))


def _trilu(c: Call) -> Tensor:
    k = int(c.number(1, "diagonal", 0))
    x = c.tensor(0)
    return torch.triu(x, k) if c.attribute("upper", 1) else torch.tril(x, k)


def _eye(c: Call) -> Tensor:
    shape = list(c.tensor(0).shape)
    check_count(shape)
    k = int(c.attribute("k", 0))
    return (torch.arange(shape[1]).unsqueeze(0) - torch.arange(shape[0]).unsqueeze(1) == k).to(torch.float32)


# These leave elements as they are, so codes stay codes.
MOVING_ROWS: dict[str, Handler] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
ROWS: dict[str, Handler] = {
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "OneHot": _one_hot,
    "Trilu": _trilu,
    "EyeLike": _eye,
}
