"""Activations whose quantization parameters are computed from their values while the model runs.

torch writes them as ``choose_qparams``, quantize and dequantize ops; the stand-ins of quantized modules as one op of our own,
``pyqinfer::quantize_dequantize_dynamic``. Only linear layers with quantized weights read such activations (``linear_dynamic``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from pyqinfer import ir
from pyqinfer.frontend.quantized import code_shift, weight_constant
from pyqinfer.frontend.reader import Arguments, GraphReader, Handler, NotSupportedHere, RuntimeQuantized


@dataclass(frozen=True)
class DynamicQuantizer:
    """Parameters of torchao's ``choose_qparams_affine``. ``granularity``: "row" (all axes but the last) or "tensor"."""

    mapping: str
    granularity: str
    quant_min: int
    quant_max: int
    eps: float


class DynamicQuantizeDequantize(nn.Module):
    """What a :class:`DynamicQuantizer` says, in an op that the graph reader knows."""

    def __init__(self, quantizer: DynamicQuantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        q = self.quantizer
        y: Tensor = quantize_dequantize_dynamic(x, q.mapping, q.granularity, q.quant_min, q.quant_max, q.eps)
        return y


@torch.library.custom_op("pyqinfer::quantize_dequantize_dynamic", mutates_args=())
def quantize_dequantize_dynamic(x: Tensor, mapping: str, granularity: str, quant_min: int, quant_max: int, eps: float) -> Tensor:
    """torchao's arithmetic (docs/numerics.md, "linear_dynamic"), operation by operation in float32."""
    rows = x.reshape(-1, x.shape[-1]) if granularity == "row" else x.reshape(1, -1)
    zero = torch.zeros(len(rows), 1)
    low, high = (rows.amin(1, keepdim=True), rows.amax(1, keepdim=True)) if rows.numel() else (zero, zero)
    low, high = torch.minimum(low, zero), torch.maximum(high, zero)
    if mapping == "symmetric":
        scale = (torch.maximum(-low, high) / ((quant_max - quant_min) / 2)).clamp(min=eps)
        zero_point = torch.full_like(scale, (quant_min + quant_max + 1) // 2)
    else:
        scale = ((high - low) / float(quant_max - quant_min)).clamp(min=eps)
        zero_point = (quant_min - torch.round(low / scale)).clamp(quant_min, quant_max)
    codes = (torch.round(rows * (1.0 / scale)) + zero_point).clamp(quant_min, quant_max)
    return ((codes - zero_point) * scale).reshape(x.shape)


@quantize_dequantize_dynamic.register_fake
def _(x: Tensor, mapping: str, granularity: str, quant_min: int, quant_max: int, eps: float) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def linear(reader: GraphReader, node: Node, a: Arguments) -> ir.Value:
    """``aten.linear`` whose input is quantized at run time."""
    operand, weight = a["input"], weight_constant(reader, a["weight"])
    assert isinstance(operand, RuntimeQuantized)
    if operand.stage != "values":
        raise NotSupportedHere("its input is integer codes without a dequantize op in front")
    if not isinstance(weight, ir.Weight):
        raise NotSupportedHere("its activations are quantized at run time, its weights are not quantized")
    constants: dict[str, ir.Constant] = {"weight": weight}
    if a["bias"] is not None:
        constants["bias"] = reader.constant(a["bias"], "bias")
    x = operand.x
    return reader.emit("linear_dynamic", node, [x], (*x.shape[:-1], weight.codes.shape[0]), dict(operand.attrs), constants)


def runtime_quantized(
    x: ir.Value, mapping: str, granularity: str, quant_min: int, quant_max: int, eps: float, stage: str
) -> RuntimeQuantized:
    """``x`` through a quantizer with torch's codes in [quant_min, quant_max].

    Raises:
        NotSupportedHere: more than 8 bits, another mapping than "symmetric" and "asymmetric", symmetric codes around another zero point.
    """
    if mapping not in ("symmetric", "asymmetric"):
        raise NotSupportedHere(f"activations quantized {mapping}")
    shift = code_shift(quant_min, quant_max)
    low, high = quant_min + shift, quant_max + shift
    if not 0 <= low < high <= 255:
        raise NotSupportedHere(f"activations of more than 8 bits (range [{quant_min}, {quant_max}])")
    if mapping == "symmetric" and (low + high + 1) // 2 != (quant_min + quant_max + 1) // 2 + shift:
        raise NotSupportedHere(f"symmetric codes in [{quant_min}, {quant_max}]")
    attrs: dict[str, ir.Attr] = {"mapping": mapping, "granularity": granularity, "qmin": low, "qmax": high, "eps": float(eps)}
    return RuntimeQuantized(x, attrs, quant_min, quant_max, stage)


def _quantize_dequantize(reader: GraphReader, node: Node, a: Arguments) -> RuntimeQuantized:
    x = reader.activation(a["x"], "input")
    return runtime_quantized(x, a["mapping"], a["granularity"], a["quant_min"], a["quant_max"], a["eps"], "values")


def _choose_qparams(mapping: str) -> Handler:
    def handler(reader: GraphReader, node: Node, a: Arguments) -> Any:
        x = reader.activation(a["input"], "input")
        low, high = int(a["quant_min"]), int(a["quant_max"])
        if mapping == "symmetric" and (low + high + 1) // 2 != (128 if a["dtype"] == torch.uint8 else 0):
            raise NotSupportedHere(f"symmetric codes in [{low}, {high}]")
        chosen = runtime_quantized(x, mapping, "tensor", low, high, float(a["eps"]), "parameters")
        return (chosen, chosen)

    return handler


HANDLERS: dict[str, Handler] = {
    "quantize_dequantize_dynamic": _quantize_dequantize,
    "choose_qparams": _choose_qparams("asymmetric"),
    "choose_qparams_symmetric": _choose_qparams("symmetric"),
}
