"""Linear layers whose weights torchao's ``quantize_`` made: codes are read from the tensor subclass, before torch.export sees it.

Weights in 8 or fewer bits, per row or per group. Activations of such a layer are float (weight only), quantized with fixed
parameters (static), or with parameters computed per row (dynamic), which the engine has no operation for: such a layer runs in float.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer.frontend.fake_quant import FakeQuant
from pyqinfer.frontend.reader import NotSupportedHere
from pyqinfer.frontend.surrogates import CodedLinear, QuantizeDequantize

DYNAMIC = "its activations are quantized with parameters computed from each row, which the engine does in float"
GROUPS = "its weights have one scale per group of {} inputs, which the engine expands to float"


def is_torchao_tensor(tensor: object) -> bool:
    """Any of torchao's tensor subclasses. By name: it works, and costs nothing, where torchao is not installed."""
    return any(cls.__name__ == "TorchAOBaseTensor" and cls.__module__.startswith("torchao.") for cls in type(tensor).__mro__)


def linear_stand_in(module: nn.Module) -> tuple[nn.Module, str] | None:
    """A plain module for a linear layer with torchao weights, and why it runs in float ("": as its operands allow); None: another module.

    Raises:
        NotSupportedHere: torchao weights in another module than ``nn.Linear``, or of a kind that holds no integer codes.
    """
    foreign = [name for name, parameter in module.named_parameters(recurse=False) if is_torchao_tensor(parameter)]
    if not foreign:
        return None
    weight: Any = module._parameters["weight"] if foreign == ["weight"] else None
    if not isinstance(module, nn.Linear) or weight is None:
        raise NotSupportedHere(f"torchao tensors ({', '.join(foreign)}) in a {type(module).__name__}; only weights of nn.Linear are read")
    codes, scale, zero_point = (getattr(weight, key, None) for key in ("qdata", "scale", "zero_point"))
    if not isinstance(codes, Tensor) or not isinstance(scale, Tensor) or codes.dtype != torch.int8 or codes.ndim != 2:
        raise NotSupportedHere(f"weights of type {type(weight).__name__}; Int8Tensor and IntxUnpackedToInt8Tensor are read")
    if getattr(weight, "act_pre_scale", None) is not None:
        raise NotSupportedHere("an activation scale in front of the layer (act_pre_scale)")
    codes, scale = codes.detach(), scale.detach()
    zero_point = torch.zeros_like(scale) if zero_point is None else zero_point.detach()
    low, high = _code_range(weight)
    activation, reason = _activation(weight)
    group = int(weight.block_size[-1])
    if group < codes.shape[1]:
        if activation is not None:
            raise NotSupportedHere("group-wise weights with a fixed activation scale")
        plain = nn.Linear(codes.shape[1], codes.shape[0], bias=module.bias is not None, device="meta")
        wide, zeros = (t.float().reshape(codes.shape[0], -1).repeat_interleave(group, 1) for t in (scale, zero_point))
        plain.weight = nn.Parameter((codes.float() - zeros) * wide, requires_grad=False)
        plain.bias = module.bias
        return plain, reason or GROUPS.format(group)
    return CodedLinear(codes, scale, zero_point, low, high, module.bias, activation), reason


def _code_range(weight: Any) -> tuple[int, int]:
    """From ``target_dtype`` (torch.int4 and so on), else all of int8."""
    name = str(getattr(weight, "target_dtype", torch.int8)).removeprefix("torch.")
    bits = int(name.removeprefix("int")) if name.removeprefix("int").isdigit() else 8
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _activation(weight: Any) -> tuple[nn.Module | None, str]:
    if getattr(weight, "activation_quantization", None) is not None:
        return None, DYNAMIC
    if getattr(weight, "act_quant_kwargs", None) is None:
        return None, ""
    scale = getattr(weight, "act_quant_scale", None)
    if scale is None:
        return None, DYNAMIC
    if scale.numel() != 1:
        raise NotSupportedHere("activations quantized per channel")
    zero_point = getattr(weight, "act_quant_zero_point", None)
    low, high = (-64, 63) if getattr(weight.act_quant_kwargs, "reduce_range", False) else (-128, 127)
    return QuantizeDequantize(FakeQuant(scale, 0 if zero_point is None else zero_point, low, high)), ""
