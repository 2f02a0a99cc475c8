"""Rows of ops that move elements, and the steps that other rows share with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pyqinfer.errors import UnsupportedError
from pyqinfer.onnx_export.builder import TO_NCHW, TO_NHWC, Builder, real

Node = Mapping[str, Any]
Row = Callable[[Builder, Node], None]
_AXIS_OF_NHWC = {0: 0, 1: 2, 2: 3, 3: 1}  # where a dimension of NHWC lies in NCHW


def refuse(node: Node, why: str) -> None:
    """Say what the export has no form for. Raises UnsupportedError."""
    raise UnsupportedError(f"{node['name']} ({node['op']}): {why}, which the export to ONNX has no form for")


def _transpose(b: Builder, n: Node) -> None:
    perm, x = tuple(n["attrs"]["perm"]), n["inputs"][0]
    if perm == TO_NHWC:
        moved(b, n, b.get(x, False), True)
    elif perm == TO_NCHW:
        moved(b, n, b.get(x, True), False)
    else:
        moved(b, n, b.add("Transpose", [b.get(x, False)], n["name"], perm=perm), False)


def moved(b: Builder, n: Node, y: str, nchw: bool) -> None:
    """Store what a movement of elements gives. Codes are quantized again, which changes none, so that a reader sees the parameters."""
    b.store(n["outputs"][0], y, nchw, n["name"])


def _reshape(b: Builder, n: Node) -> None:
    source, target = b.shape(n["inputs"][0]), list(n["attrs"]["shape"])
    unknown = [i for i, d in enumerate(target) if d == "?"]
    numbers: list[int] = []
    for i, d in enumerate(target):
        if isinstance(d, int):
            numbers.append(d)
        elif i < len(source) and d == source[i] and d != "?":
            numbers.append(0)
        elif not unknown or unknown == [i]:
            unknown = [i]
            numbers.append(-1)
        else:
            refuse(n, f"a reshape of {source} to {target}")
    x = b.get(n["inputs"][0], False)
    moved(b, n, b.add("Reshape", [x, b.constant(np.array(numbers, np.int64), f"{n['name']}.shape")], n["name"]), False)


def along(b: Builder, n: Node) -> bool:
    """Whether a node works on images that are known as NCHW."""
    return len(b.shape(n["inputs"][0])) == 4 and any(b.has_nchw(v) for v in n["inputs"])


def axis_of(axis: int, nchw: bool) -> int:
    """Where a dimension of the engine's order lies."""
    return _AXIS_OF_NHWC[axis] if nchw else axis


def _concat(b: Builder, n: Node) -> None:
    nchw = along(b, n)
    y = b.add("Concat", [b.get(v, nchw) for v in n["inputs"]], n["name"], axis=axis_of(n["attrs"]["axis"], nchw))
    b.store(n["outputs"][0], y, nchw, n["name"])


def _slice(b: Builder, n: Node) -> None:
    a, nchw = n["attrs"], along(b, n)
    numbers = (a["start"], a["end"], axis_of(a["axis"], nchw), a["step"])
    parts = [
        b.constant(np.array([v], np.int64), f"{n['name']}.{k}") for v, k in zip(numbers, ("start", "end", "axis", "step"), strict=True)
    ]
    moved(b, n, b.add("Slice", [b.get(n["inputs"][0], nchw), *parts], n["name"]), nchw)


def _pad(b: Builder, n: Node) -> None:
    a, nchw, quant = n["attrs"], along(b, n), b.quant(n["inputs"][0])
    order = TO_NCHW if nchw else range(len(a["before"]))
    pads = [*[a["before"][i] for i in order], *[a["after"][i] for i in order]]
    inputs = [b.get(n["inputs"][0], nchw), b.constant(np.array(pads, np.int64), f"{n['name']}.pads")]
    if a["mode"] == "constant":
        value = np.float32((a["value"] - quant["zero_point"]) * quant["scale"]) if quant else np.float32(real(a["value"]))
        inputs.append(b.constant(value, f"{n['name']}.value"))
    mode = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[a["mode"]]
    moved(b, n, b.add("Pad", inputs, n["name"], mode=mode), nchw)


def _upsample(b: Builder, n: Node) -> None:
    a, sizes = n["attrs"], b.shape(n["inputs"][0])[1:3]
    scales = []
    for length, size, factor, step in zip(sizes, a["size"], a["factor"], a["step"], strict=True):
        scale = float(factor) if factor else size / length if isinstance(length, int) else 0.0
        if not scale or scale != int(scale) or (step and abs(real(step) * scale - 1) > 1e-6):
            refuse(n, "a resize by a factor that is not whole")
        scales.append(scale)
    transform = "align_corners" if a["align_corners"] else "half_pixel" if a["mode"] == "bilinear" else "asymmetric"
    mode = {"nearest": "nearest", "bilinear": "linear"}[a["mode"]]
    factors = b.constant(np.array([1, 1, *scales], np.float32), f"{n['name']}.scales")
    more = {"nearest_mode": "floor"} if mode == "nearest" else {}
    y = b.add("Resize", [b.get(n["inputs"][0], True), "", factors], n["name"], mode=mode, coordinate_transformation_mode=transform, **more)
    b.store(n["outputs"][0], y, True, n["name"])


def _pixel_shuffle(b: Builder, n: Node) -> None:
    a = n["attrs"]
    if a["factor"][0] != a["factor"][1]:
        refuse(n, f"pixels shuffled by {a['factor']}")
    y = b.get(n["inputs"][0], True)
    if a["factor"][0] > 1:
        y = b.add("DepthToSpace", [y], n["name"], blocksize=a["factor"][0], mode="CRD" if a["order"] == "channels" else "DCR")
    top, left, bottom, right = a["crop"]
    if any(a["crop"]):
        ends = [-bottom or 2**31 - 1, -right or 2**31 - 1]
        parts = [b.constant(np.array(v, np.int64), f"{n['name']}.crop") for v in ([top, left], ends, [2, 3])]
        y = b.add("Slice", [y, *parts], f"{n['name']}.cropped")
    moved(b, n, y, True)


def _constant(b: Builder, n: Node) -> None:
    b.set(n["outputs"][0], b.constant(b.constants[n["constants"]["value"]], n["name"]), False)


def _expand(b: Builder, n: Node) -> None:
    target = list(n["attrs"]["shape"])
    if any(isinstance(d, str) for d in target):
        refuse(n, f"an expansion to {target}")
    shape = b.constant(np.array([d or 1 for d in target], np.int64), f"{n['name']}.shape")
    moved(b, n, b.add("Expand", [b.get(n["inputs"][0], False), shape], n["name"]), False)


ROWS: Mapping[str, Row] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "upsample": _upsample,
    "pixel_shuffle": _pixel_shuffle,
    "constant": _constant,
    "expand": _expand,
}
