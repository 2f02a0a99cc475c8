"""Makes inputs images in bytes: normalize and quantize become one table per channel, so no float stands in front of the first layer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyqinfer.images import ImageInput
from pyqinfer.ir import Graph, Node, Quant, Value
from pyqinfer.lower.tables import quantized

BYTES = Quant(float(np.float32(1 / 255)), 0, 0, 255)


def take_images(graph: Graph, images: Mapping[str, ImageInput]) -> None:
    """Exchange the inputs named for u8 NHWC images.

    A quantize that reads one becomes a ``table``; other readers get a dequantize and the normalization in float.

    Raises:
        ValueError: no such input, not [N, C, H, W] with a fixed C, or another number of channels than ``mean`` and ``std`` have.
    """
    unknown = images.keys() - {value.name for value in graph.inputs}
    if unknown:
        raise ValueError(f"image_inputs: the model has no input {sorted(unknown)}; it has {[value.name for value in graph.inputs]}")
    for i, value in enumerate(graph.inputs):
        if value.name in images:
            graph.inputs[i] = _take(graph, value, images[value.name])


def _take(graph: Graph, x: Value, image: ImageInput) -> Value:
    if len(x.shape) != 4 or not isinstance(x.shape[1], int):
        raise ValueError(f"image_inputs: input {x.name!r} is {x.shape}, not (N, C, H, W) with a number of channels")
    channels = x.shape[1]
    try:
        values = image.values(channels)
    except ValueError as error:
        raise ValueError(f"image_inputs: input {x.name!r}: {error}") from None
    codes = Value(x.name, x.shape, BYTES, nhwc=True)
    for node in graph.nodes:
        if node.op == "quantize" and node.inputs == [x]:
            assert node.output.quant is not None
            table = quantized(values, node.output.quant)
            same = bool((table == table[0]).all())
            node.op, node.name, node.inputs = "table", f"{x.name}.normalize", [codes]
            node.constants = {"table": table[0] if same else table}
    if any(x in node.inputs for node in graph.nodes):
        graph.nodes[:0] = _in_float(x, codes, image, channels)
    return codes


def _in_float(x: Value, codes: Value, image: ImageInput, channels: int) -> list[Node]:
    """Give nodes that write ``x`` itself from the bytes."""
    mean, std = (v.astype(np.float64) for v in image.parameters(channels))
    between = Value(f"{x.name}.float", x.shape)
    constants = {"scale": 1 / std, "shift": -mean / std}
    return [
        Node("dequantize", f"{x.name}.dequantize", [codes], between),
        Node("batch_norm", f"{x.name}.normalize", [between], x, {}, {**constants}),
    ]
