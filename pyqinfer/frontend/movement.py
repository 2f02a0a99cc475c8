"""Handlers of aten ops that move elements: views, permutations, concatenation, slices, padding, and images in another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend import shapes
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, QuantizedConstant, SymbolicSize

_TO_END = 2**31 - 1


def reshaped(reader: GraphReader, node: Node, x: ir.Value, target: Sequence[ir.Dim], op: str) -> ir.Value:
    """The elements of ``x`` under another shape, which may hold one -1 or None; ``x`` itself where nothing changes."""
    shape = shapes.reshape(x.shape, target)
    if shape is None:
        raise NotSupportedHere(f"reshape of {x.shape} to {tuple(target)}: more than one unknown dimension")
    if shape == x.shape and None not in shape:
        return x
    return reader.emit("reshape", node, [x], shape, {"shape": shape}, name=reader.namer.name(node, op))


def of_rank(reader: GraphReader, node: Node, x: ir.Value, rank: int) -> ir.Value:
    """``x`` with leading dimensions of 1, as operands of broadcasting operations have them; itself where it has that rank."""
    missing = rank - len(x.shape)
    return x if missing == 0 else inner(reshaped(reader, node, x, (1,) * missing + x.shape, "unsqueeze"))


def permuted(reader: GraphReader, node: Node, x: ir.Value, perm: Sequence[int]) -> ir.Value:
    """``x`` with its axes in another order; ``x`` itself where the order is kept."""
    if list(perm) == list(range(len(x.shape))):
        return x
    return reader.emit("transpose", node, [x], tuple(x.shape[i] for i in perm), {"perm": tuple(perm)})


def sliced(reader: GraphReader, node: Node, x: ir.Value, axis: int, start: int, end: int, step: int = 1) -> ir.Value:
    """``x[start:end:step]`` along an axis; numbers are not negative, an end behind the dimension is its end."""
    dim = x.shape[axis]
    if isinstance(dim, int):
        start, end = min(start, dim), min(end, dim)
        if start >= end:
            raise NotSupportedHere(f"an empty slice [{start}:{end}] of a dimension of {dim}")
    if step == 1 and start == 0 and end in (dim, _TO_END):
        return x
    size = -(-(end - start) // step) if isinstance(dim, int) else None
    attrs: dict[str, ir.Attr] = {"axis": axis, "start": start, "end": end, "step": step}
    return reader.emit("slice", node, [x], (*x.shape[:axis], size, *x.shape[axis + 1 :]), attrs)


def tensor_of(reader: GraphReader, node: Node, operand: Any, what: str = "operand") -> ir.Value:
    """A float value of the graph; a constant becomes one."""
    if not isinstance(operand, (Tensor, QuantizedConstant)):
        return reader.activation(operand, what)
    value = reader.constant(operand, what)
    name = reader.namer.unique(f"{node.name}.constant")
    return inner(reader.emit("constant", node, [], value.shape, {}, {"value": value}, name=name))


def expanded(reader: GraphReader, node: Node, x: ir.Value, target: Sequence[ir.Dim]) -> ir.Value:
    """``x`` with dimensions of 1 repeated; ``target`` has None for one that is kept."""
    x = of_rank(reader, node, x, len(target))
    sizes: list[ir.Dim] = [0 if d is None or d == n else d for d, n in zip(target, x.shape, strict=True)]
    if not any(sizes):
        return x
    wrong = [n for d, n in zip(sizes, x.shape, strict=True) if d and n != 1]
    if wrong:
        raise NotSupportedHere(f"expands a dimension of {wrong[0]}")
    named = {d for d in sizes if isinstance(d, str)}
    like = [v for n, v in reader.env.items() if n.op == "placeholder" and isinstance(v, ir.Value) and named <= set(v.shape)]
    if named and not like:
        raise NotSupportedHere(f"expands to {tuple(target)}, which no input has all of")
    shape = tuple(d or n for d, n in zip(sizes, x.shape, strict=True))
    return reader.emit("expand", node, [x, like[0]] if named else [x], shape, {"shape": tuple(sizes)})


def inner(value: ir.Value) -> ir.Value:
    """A value that no single tensor of torch's graph stands for."""
    value.origin = ""
    return value


def _operand(reader: GraphReader, a: Arguments) -> ir.Value:
    return reader.activation(a.get("self", a.get("input")), "input")


def _axis(a: Arguments, rank: int, key: str = "dim") -> int:
    return int(a[key]) % rank if rank else 0


def _permute(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _operand(reader, a)
    return permuted(reader, node, x, [d % len(x.shape) for d in a["dims"]])


def _swap(reader: GraphReader, node: Node, a: Arguments, first: int, second: int) -> ir.Value:
    x = _operand(reader, a)
    perm = list(range(len(x.shape)))
    if perm:
        perm[first], perm[second] = perm[second], perm[first]
    return permuted(reader, node, x, perm)


def _t(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _swap(reader, node, a, 0, len(_operand(reader, a).shape) - 1)


def _unsqueeze(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape) + 1)
    return reshaped(reader, node, x, (*x.shape[:axis], 1, *x.shape[axis:]), "unsqueeze")


def _cat(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    return _concat(reader, node, [tensor_of(reader, node, x) for x in a["tensors"]], a["dim"])


def _stack(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    values = [tensor_of(reader, node, x) for x in a["tensors"]]
    axis = _axis(a, len(values[0].shape) + 1)
    rows = [inner(reshaped(reader, node, x, (*x.shape[:axis], 1, *x.shape[axis:]), "unsqueeze")) for x in values]
    return _concat(reader, node, rows, axis)


def _concat(reader: GraphReader, node: Node, values: list[ir.Value], dim: int) -> ir.Value:
    values = [x for x in values if x.shape != (0,)]  # torch lets such a one stand anywhere
    rank = len(values[0].shape)
    axis = dim % rank
    shape: ir.Shape | None = values[0].shape
    for x in values[1:]:
        shape = None if shape is None or len(x.shape) != rank else shapes.merge(_without(shape, axis), _without(x.shape, axis))
    if shape is None:
        raise NotSupportedHere(f"concatenates shapes {', '.join(str(x.shape) for x in values)} along {axis}")
    while len(values) > 64:  # what one node of the engine takes
        values = [inner(_concat(reader, node, values[:64], axis)), *values[64:]]
    if len(values) == 1:
        return values[0]
    size = shapes.total([x.shape[axis] for x in values])
    return reader.emit("concat", node, values, (*shape[:axis], size, *shape[axis + 1 :]), {"axis": axis})


def _without(shape: ir.Shape, axis: int) -> ir.Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _slice(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape))
    start, end = (_position(a[key], x.shape[axis], default) for key, default in (("start", 0), ("end", _TO_END)))
    return sliced(reader, node, x, axis, start, end, int(a["step"]))


def _position(value: Any, dim: ir.Dim, default: int) -> int:
    """A start or end as the engine has them: not negative."""
    if value is None:
        return default
    if isinstance(value, SymbolicSize):
        if value.dim is not None and value.dim == dim:
            return _TO_END
        raise NotSupportedHere("a slice to a place that depends on the input's size")
    if value >= 0:
        return min(int(value), _TO_END)
    if not isinstance(dim, int):
        raise NotSupportedHere(f"a slice to place {value} of a dimension that is not known while converting")
    return max(dim + int(value), 0)


def _select(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape))
    return _selected(reader, node, x, axis, _position(a["index"], x.shape[axis], 0))


def _selected(reader: GraphReader, node: Node, x: ir.Value, axis: int, index: int) -> ir.Value:
    piece = sliced(reader, node, x, axis, index, index + 1)
    if piece is not x:
        inner(piece)
    return reshaped(reader, node, piece, (*x.shape[:axis], *x.shape[axis + 1 :]), "select")


def _pieces(reader: GraphReader, node: Node, x: ir.Value, axis: int, sizes: Sequence[int]) -> list[ir.Value]:
    ends = np.cumsum(sizes).tolist()
    return [inner(sliced(reader, node, x, axis, end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def _known(x: ir.Value, axis: int) -> int:
    dim = x.shape[axis]
    if not isinstance(dim, int):
        raise NotSupportedHere(f"splits dimension {axis}, which is not known while converting")
    return dim


def _split(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape))
    size: Any = a.get("split_size", a.get("split_sizes", a.get("split_sections")))
    if not isinstance(size, int):
        return _pieces(reader, node, x, axis, [int(n) for n in size])
    length = _known(x, axis)
    return _pieces(reader, node, x, axis, [min(size, length - i) for i in range(0, length, size)])


def _chunk(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape))
    size = -(-_known(x, axis) // int(a["chunks"]))
    return _split(reader, node, {"self": x, "dim": axis, "split_size": size})


def _unbind(reader: GraphReader, node: Node, a: Arguments) -> list[ir.Value]:
    x = _operand(reader, a)
    axis = _axis(a, len(x.shape))
    return [inner(_selected(reader, node, x, axis, i)) for i in range(_known(x, axis))]


def _repeat(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, repeats = tensor_of(reader, node, a["self"]), [_size(n) for n in a["repeats"]]
    if any(isinstance(n, int) and n < 1 for n in repeats):
        raise NotSupportedHere(f"repeat by {repeats}")
    x = of_rank(reader, node, x, len(repeats))
    once = [count if count != 1 and size == 1 else None for count, size in zip(repeats, x.shape, strict=True)]
    x = expanded(reader, node, x, once)
    for axis, count in enumerate(repeats):
        if count == 1 or once[axis] is not None:
            continue
        if not isinstance(count, int):
            raise NotSupportedHere(f"repeats a dimension of {x.shape[axis]} by a size of the input")
        if count > 1:
            x = inner(_concat(reader, node, [x] * count, axis))
    return x


def _size(value: Any) -> ir.Dim:
    if not isinstance(value, SymbolicSize):
        return int(value)
    if value.dim is None:
        raise NotSupportedHere("a size computed from the input's")
    return value.dim


def _expand(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = tensor_of(reader, node, a["self"])
    return expanded(reader, node, x, [None if d == -1 else d for d in map(_size, a["size"])])


def _expand_as(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    other = a["other"]
    shape = other.shape if isinstance(other, ir.Value) else tuple(other.shape)
    x = tensor_of(reader, node, a["self"])
    return expanded(reader, node, x, shape)


def _tile(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    missing = len(_operand(reader, a).shape) - len(a["dims"])
    return _repeat(reader, node, {"self": a["self"], "repeats": [1] * missing + list(a["dims"])})


def _roll(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x = _operand(reader, a)
    if len(a["dims"]) != len(a["shifts"]):
        raise NotSupportedHere("roll without dimensions")
    for dim, shift in zip(a["dims"], a["shifts"], strict=True):
        axis = dim % len(x.shape)
        cut = -shift % _known(x, axis)
        if cut:
            pieces = [inner(sliced(reader, node, x, axis, cut, _TO_END)), inner(sliced(reader, node, x, axis, 0, cut))]
            x = inner(_concat(reader, node, pieces, axis))
    return x


def _flip(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """A short dimension only: piece by piece."""
    x = _operand(reader, a)
    for axis in {d % len(x.shape) for d in a["dims"]}:
        if _known(x, axis) > 64:
            raise NotSupportedHere(f"flips a dimension of {x.shape[axis]}, more than 64")
        pieces = [inner(sliced(reader, node, x, axis, i, i + 1)) for i in reversed(range(_known(x, axis)))]
        x = inner(_concat(reader, node, pieces, axis))
    return x


def _pad(reader: GraphReader, node: Node, a: Arguments, mode: str) -> ir.Value:
    x = _operand(reader, a)
    amounts: Any = a.get("pad", a.get("padding"))
    if any(isinstance(n, SymbolicSize) for n in amounts):
        raise NotSupportedHere("padding that depends on the input's size")
    before, after = [0] * len(x.shape), [0] * len(x.shape)
    for i in range(len(amounts) // 2):
        before[-1 - i], after[-1 - i] = int(amounts[2 * i]), int(amounts[2 * i + 1])
    for axis in range(len(x.shape)):  # a negative amount cuts off
        if min(before[axis], after[axis]) < 0:
            end = _known(x, axis) + min(after[axis], 0) if after[axis] < 0 else _TO_END
            x = inner(sliced(reader, node, x, axis, max(-before[axis], 0), end))
            before[axis], after[axis] = max(before[axis], 0), max(after[axis], 0)
    if not any(before) and not any(after):
        return x
    shape = tuple(d if b + e == 0 else d + b + e if isinstance(d, int) else None for d, b, e in zip(x.shape, before, after, strict=True))
    value = float(np.float32(a.get("value") or 0.0)) if mode == "constant" else 0.0
    attrs: dict[str, ir.Attr] = {"mode": mode, "before": tuple(before), "after": tuple(after), "value": value}
    return reader.emit("pad", node, [x], shape, attrs)


def _pad_by_name(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    if a["mode"] not in ("constant", "reflect", "replicate"):
        raise NotSupportedHere(f"padding of mode {a['mode']!r}")
    return _pad(reader, node, a, a["mode"])


def _pixel_shuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, factor = _operand(reader, a), int(a["upscale_factor"])
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    n, channels = x.shape[0], _known(x, 1) // factor**2
    size = [d * factor if isinstance(d, int) else None for d in x.shape[2:]]
    attrs: dict[str, ir.Attr] = {"factor": (factor, factor), "crop": (0, 0, 0, 0), "order": "channels"}
    return reader.emit("pixel_shuffle", node, [x], (n, channels, *size), attrs)


def _regrouped(reader: GraphReader, node: Node, x: ir.Value, inside: ir.Shape, perm: Sequence[int], shape: ir.Shape) -> ir.Value:
    """``x`` under the shape ``inside``, its axes permuted, under ``shape``."""
    wide = inner(reshaped(reader, node, x, inside, "reshape"))
    y = reshaped(reader, node, inner(permuted(reader, node, wide, perm)), shape, "reshape")
    y.origin = node.name
    return y


def _pixel_unshuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, f = _operand(reader, a), int(a["downscale_factor"])
    n, (c, h, w) = x.shape[0], (_known(x, axis) for axis in (1, 2, 3))
    inside = (n, c, h // f, f, w // f, f)
    return _regrouped(reader, node, x, inside, (0, 1, 3, 5, 2, 4), (n, c * f * f, h // f, w // f))


def _channel_shuffle(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    x, groups = _operand(reader, a), int(a["groups"])
    n, _, *rest = x.shape
    inside = (n, groups, _known(x, 1) // groups, *rest)
    return _regrouped(reader, node, x, inside, (0, 2, 1, *range(3, len(inside))), x.shape)


def _upsample(reader: GraphReader, node: Node, a: Arguments, mode: str) -> ir.Value:
    x = _operand(reader, a)
    if len(x.shape) != 4:
        raise NotSupportedHere(f"needs an input of rank 4 (N, C, H, W), got rank {len(x.shape)}")
    scales = a.get("scale_factors") or [a.get("scales_h"), a.get("scales_w")]
    corners = bool(a.get("align_corners"))
    size, factor, step, shape = [0, 0], [0, 0], [0.0, 0.0], list(x.shape)
    for i, dim in enumerate(x.shape[2:]):
        scale = scales[i]
        if a.get("output_size"):
            wanted = a["output_size"][i]
            if scale is not None and scale == int(scale) and not isinstance(dim, int):
                factor[i] = int(scale)
            elif isinstance(wanted, SymbolicSize):
                raise NotSupportedHere("an output size that depends on the input's")
            else:
                size[i] = int(wanted)
        elif isinstance(dim, int):
            size[i] = math.floor(dim * scale)
        elif scale == int(scale):
            factor[i] = int(scale)
        else:
            raise NotSupportedHere(f"a scale factor of {scale} for a dimension that is not known while converting")
        if scale is not None and not corners:
            step[i] = float(np.float32(1.0 / scale))
        shape[2 + i] = size[i] or (dim if factor[i] == 1 else None)
    attrs: dict[str, ir.Attr] = {
        "mode": mode,
        "align_corners": int(corners),
        "size": tuple(size),
        "factor": tuple(factor),
        "step": tuple(step),
    }
    return reader.emit("upsample", node, [x], tuple(shape), attrs)


HANDLERS: dict[str, Handler] = {
    "permute": _permute,
    "transpose": lambda r, n, a: _swap(r, n, a, int(a["dim0"]), int(a["dim1"])),
    "t": _t,
    "numpy_T": lambda r, n, a: permuted(r, n, _operand(r, a), range(len(_operand(r, a).shape))[::-1]),
    "unsqueeze": _unsqueeze,
    "cat": _cat,
    "concat": _cat,
    "concatenate": _cat,
    "stack": _stack,
    "slice": _slice,
    "slice_copy": _slice,
    "narrow": lambda r, n, a: _slice(r, n, {**a, "end": _narrow_end(a), "step": 1}),
    "select": _select,
    "split": _split,
    "split_with_sizes": _split,
    "chunk": _chunk,
    "unbind": _unbind,
    "repeat": _repeat,
    "expand": _expand,
    "expand_as": _expand_as,
    "tile": _tile,
    "roll": _roll,
    "flip": _flip,
    "constant_pad_nd": lambda r, n, a: _pad(r, n, a, "constant"),
    "pad": _pad_by_name,
    "reflection_pad1d": lambda r, n, a: _pad(r, n, a, "reflect"),
    "reflection_pad2d": lambda r, n, a: _pad(r, n, a, "reflect"),
    "replication_pad1d": lambda r, n, a: _pad(r, n, a, "replicate"),
    "replication_pad2d": lambda r, n, a: _pad(r, n, a, "replicate"),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    "channel_shuffle": _channel_shuffle,
    "native_channel_shuffle": _channel_shuffle,
    "upsample_nearest2d": lambda r, n, a: _upsample(r, n, a, "nearest"),
    "upsample_bilinear2d": lambda r, n, a: _upsample(r, n, a, "bilinear"),
}


def _narrow_end(a: Arguments) -> int:
    if not isinstance(a["start"], int) or not isinstance(a["length"], int) or a["start"] < 0:
        raise NotSupportedHere(f"narrow from {a['start']}, length {a['length']}")
    return a["start"] + a["length"]
