"""Handlers of torchao's affine ops, in exported models whose weights are ``IntxUnpackedToInt8Tensor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from pyqinfer.frontend.dynamic import runtime_quantized
from pyqinfer.frontend.quantized import advance
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, QuantizedConstant, RuntimeQuantized


def _choose_qparams(reader: GraphReader, node: Node, a: Arguments) -> Any:
    x = reader.activation(a["input"], "input")
    block = list(a["block_size"])
    if block[-1] != x.shape[-1] or any(size != 1 for size in block[:-1]):
        raise NotSupportedHere(f"activations quantized in blocks of {block}; rows are read")
    eps = a["eps"] if a["eps"] is not None else torch.finfo(torch.float32).smallest_normal
    chosen = runtime_quantized(x, str(a["mapping_type"]).lower(), "row", int(a["quant_min"]), int(a["quant_max"]), eps, "parameters")
    return (chosen, chosen)


def _quantize(reader: GraphReader, node: Node, a: Arguments) -> RuntimeQuantized:
    if not isinstance(a["scale"], RuntimeQuantized):
        raise NotSupportedHere("activations with fixed parameters")
    return advance(a, "codes")


def _dequantize(reader: GraphReader, node: Node, a: Arguments) -> Any:
    codes, scale, zero_point = a["input"], a["scale"], a["zero_point"]
    if isinstance(codes, RuntimeQuantized) and codes.stage == "codes":
        return advance(a, "values")
    if not isinstance(codes, Tensor) or not isinstance(scale, Tensor):
        raise NotSupportedHere("dequantizes something that is neither a constant nor quantized at run time")
    if isinstance(a["output_dtype"], torch.dtype) and a["output_dtype"] != torch.float32:  # where it is left out the schema gives a number
        raise NotSupportedHere(f"dequantizes to {a['output_dtype']}")
    value = node.target(**{name: operand for name, operand in a.items() if name != "output_dtype"})  # type: ignore[operator]
    zero_point = torch.zeros_like(scale) if zero_point is None else zero_point
    lines, channels = _lines(codes, a["block_size"]), len(codes)
    scale, zero_point = (t.double().reshape(channels, -1).squeeze(1) if lines else t.double().reshape(1) for t in (scale, zero_point))
    return QuantizedConstant(codes, scale, zero_point, 0 if lines else None, int(a["quant_min"]), int(a["quant_max"]), value)


def _lines(codes: Tensor, block: Sequence[int]) -> bool:
    """Blocks are rows or groups of a row (True), or the whole tensor."""
    if tuple(block) == tuple(codes.shape):
        return False
    if codes.ndim != 2 or block[0] != 1:
        raise NotSupportedHere(f"weights of shape {tuple(codes.shape)} quantized in blocks of {list(block)}")
    return True


HANDLERS: dict[str, Handler] = {
    "choose_qparams_affine": _choose_qparams,
    "quantize_affine": _quantize,
    "dequantize_affine": _dequantize,
}
