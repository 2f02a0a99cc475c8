"""Activations whose quantization parameters are computed from their values while the model runs.

torch writes them as ``choose_qparams``, quantize and dequantize ops. Stand-ins of quantized modules have one op of our own for all three,
``pyqinfer::quantize_dequantize_dynamic``. Only linear layers with quantized weights read such activations (``linear_dynamic``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import runtime_quantized
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.values import NotSupportedHere, RuntimeQuantized


@dataclass(frozen=True)
class DynamicQuantizer:
    """Parameters of torchao's ``choose_qparams_affine``. ``granularity``: "row" (all axes but the last) or "tensor"."""

    mapping: str
    granularity: str
    quant_min: int
    quant_max: int
    eps: float


class DynamicQuantizeDequantize(nn.Module):
    """Codes and back by a :class:`DynamicQuantizer`, in one op that the graph reader knows."""

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


# What graphs call.
QUANTIZE_DEQUANTIZE = torch.ops.pyqinfer.quantize_dequantize_dynamic.default


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


SOURCE = Source(
    "dynamic",
    handlers={
        "pyqinfer::quantize_dequantize_dynamic": _quantize_dequantize,
        "quantized_decomposed::choose_qparams": _choose_qparams("asymmetric"),
        "quantized_decomposed::choose_qparams_symmetric": _choose_qparams("symmetric"),
    },
)
