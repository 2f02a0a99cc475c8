"""Brevitas' layers and activations: each becomes its torch function between quantize/dequantize pairs with the parameters that it has now.

Weights come as the values that Brevitas gives them, whose codes follow exactly, so that they may be of 2 to 8 bits, ternary, or -1 and 1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer.frontend.codes import FakeQuant
from pyqinfer.frontend.export import evaluation_mode
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.sources.stand_ins import QuantizeDequantize
from pyqinfer.frontend.values import NotSupportedHere

_EXPORT = "export the model with brevitas.export.export_onnx_qcdq and convert the file"
# Torch's class of a layer: its function, and which axis of the weights has the outputs.
_LAYERS: dict[type[nn.Module], tuple[Any, int]] = {
    nn.Linear: (F.linear, 0),
    nn.Conv1d: (F.conv1d, 0),
    nn.Conv2d: (F.conv2d, 0),
    nn.ConvTranspose1d: (F.conv_transpose1d, 1),
    nn.ConvTranspose2d: (F.conv_transpose2d, 1),
}
# The fewest bits of a quantized bias whose rounding is far below a step of what its layer writes.
_FINE_BIAS_BITS = 16


class _Layer(nn.Module):
    """A layer with quantized weights, between what quantizes its input and its output."""

    def __init__(
        self, function: Any, weight: Tensor, parameters: FakeQuant | None, bias: Tensor | None, arguments: tuple[Any, ...]
    ) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.weight_quant = nn.Identity() if parameters is None else QuantizeDequantize(parameters)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.function(x, self.weight_quant(self.weight), self.bias, *self.arguments)
        return y


def _is_brevitas(module: object) -> bool:
    # Modules are told by name, so that Brevitas need not be installed.
    return type(module).__module__.startswith("brevitas.nn")


def _stand_in(module: nn.Module) -> nn.Module | None:
    """A plain module for one of Brevitas'; None: another module, or one that only holds others.

    Raises:
        NotSupportedHere: a module of Brevitas' that is not read.
    """
    if not _is_brevitas(module):
        return None
    with evaluation_mode(module), torch.no_grad():
        layer = next((cls for cls in _LAYERS if isinstance(module, cls)), None)
        if layer is not None:
            return _around(module, _layer(module, *_LAYERS[layer]))
        if hasattr(module, "act_quant"):
            return _around(module, *_activation(module.act_quant))
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d, nn.Upsample)):
        return None  # these run as torch's on plain tensors
    raise NotSupportedHere(f"Brevitas' {type(module).__name__}; {_EXPORT}")


def _around(module: Any, *inside: nn.Module) -> nn.Module:
    """What a module does, behind its input's quantizer and in front of its output's."""
    before, after = (_quantizer(getattr(module, name, None)) for name in ("input_quant", "output_quant"))
    steps = [step for step in (before, *inside, after) if step is not None]
    return nn.Sequential(*steps)


def _activation(proxy: Any) -> list[nn.Module]:
    function = getattr(getattr(proxy, "fused_activation_quant_proxy", None), "activation_impl", None)
    quantizer = _quantizer(proxy)
    return [step for step in (function, quantizer) if step is not None] or [nn.Identity()]


def _quantizer(proxy: Any) -> nn.Module | None:
    """What a proxy of activations does to codes; None where it is off."""
    if proxy is None or not getattr(proxy, "is_quant_enabled", False):
        return None
    if getattr(proxy, "is_groupwise", False) or not callable(getattr(proxy, "scale", None)):
        raise NotSupportedHere(f"activations quantized by Brevitas' {type(proxy).__name__}; {_EXPORT}")
    scale, zero_point, bits = proxy.scale(), proxy.zero_point(), proxy.bit_width()
    if scale is None or bits is None:
        raise NotSupportedHere(f"activations whose parameters are computed from them at run time; {_EXPORT}")
    if scale.numel() != 1:
        raise NotSupportedHere(f"activations quantized per channel; {_EXPORT}")
    if str(getattr(proxy, "rounding_mode", "ROUND")).upper() != "ROUND":
        raise NotSupportedHere(f"activations rounded by {proxy.rounding_mode}; {_EXPORT}")
    count, narrow = int(bits), int(bool(proxy.is_narrow_range))
    low, high = (narrow - (1 << (count - 1)), (1 << (count - 1)) - 1) if proxy.is_signed else (0, (1 << count) - 1 - narrow)
    # An integer zero point is counted in the codes, which Brevitas keeps as floats.
    return QuantizeDequantize(FakeQuant(scale.detach().reshape(()), int(torch.round(zero_point)), low, high))


def _layer(module: Any, function: Any, axis: int) -> nn.Module:
    if getattr(module, "padding_mode", "zeros") != "zeros" or getattr(module, "is_same_padded_strided", False):
        raise NotSupportedHere(f"padding other than zeros; {_EXPORT}")
    if module.bias is not None and getattr(module.bias_quant, "is_quant_enabled", False) and not _is_fine(module.bias_quant):
        raise NotSupportedHere(f"a bias of few bits; {_EXPORT}")
    arguments: tuple[Any, ...] = ()
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d)):
        arguments = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
    elif not isinstance(module, nn.Linear):
        arguments = (module.stride, module.padding, module.dilation, module.groups)
    bias = None if module.bias is None else module.bias.detach()
    if not module.weight_quant.is_quant_enabled:
        return _Layer(function, module.weight.detach(), None, bias, arguments)
    return _Layer(function, *_weights(module.quant_weight(), axis), bias, arguments)


def _is_fine(proxy: Any) -> bool:
    bits = proxy.bit_width()
    return bits is None or int(bits) >= _FINE_BIAS_BITS


def _weights(quantized: Any, axis: int) -> tuple[Tensor, FakeQuant]:
    """The weights' values, and the parameters of as few bits as their codes need."""
    scale, zero_point = getattr(quantized, "scale", None), getattr(quantized, "zero_point", None)
    value = getattr(quantized, "value", None)
    if not isinstance(scale, Tensor) or not isinstance(zero_point, Tensor) or not isinstance(value, Tensor):
        raise NotSupportedHere(f"weights quantized to Brevitas' {type(quantized).__name__}; {_EXPORT}")
    value, scale = value.detach(), scale.detach()
    varying = [i for i, size in enumerate(scale.shape) if size != 1] if scale.ndim == value.ndim else []
    if scale.numel() != 1 and varying != [axis]:
        raise NotSupportedHere(f"weights with scales of shape {tuple(scale.shape)}; {_EXPORT}")
    zero = torch.round(zero_point.detach().double()).broadcast_to(scale.shape)
    codes = torch.round(value.double() / scale.double() + zero)
    low, high = min(int(codes.min()), -1), max(int(codes.max()), 1)
    if low < -1 or high > 1:
        reach = 1 << max(-low - 1, high).bit_length()
        low, high = (0, (1 << high.bit_length()) - 1) if int(codes.min()) >= 0 else (-reach, reach - 1)
    one = scale.numel() == 1
    parameters = FakeQuant(scale.reshape(() if one else -1), zero.reshape(() if one else -1).long(), low, high, None if one else axis)
    return value.contiguous(), parameters


SOURCE = Source("brevitas", stand_in=_stand_in)
