"""Linear layers whose weights torchao's ``quantize_`` made: codes are read from the tensor subclass, before torch.export sees it, or from
torchao's affine ops in an exported model.

Weights in 8 or fewer bits, per row or per group. Activations of such a layer are float (weight only: the layer runs in float), quantized
with fixed parameters (static), or with parameters computed from each row or the whole tensor (dynamic): these run in integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import FakeQuant, advance, runtime_quantized
from pyqinfer.frontend.reader import GraphReader
from pyqinfer.frontend.sources.dynamic import DynamicQuantizeDequantize, DynamicQuantizer
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.sources.stand_ins import CodedLinear, QuantizeDequantize
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant, RuntimeQuantized


def _is_torchao_tensor(tensor: object) -> bool:
    """Whether this is any of torchao's tensor subclasses. They are told by name, so that torchao need not be installed."""
    return any(cls.__name__ == "TorchAOBaseTensor" and cls.__module__.startswith("torchao.") for cls in type(tensor).__mro__)


def _stand_in(module: nn.Module) -> nn.Module | None:
    """A plain module for a linear layer with torchao weights; None: another module.

    Raises:
        NotSupportedHere: torchao weights in another module than ``nn.Linear``, or of a kind that holds no integer codes.
    """
    foreign = [name for name, parameter in module.named_parameters(recurse=False) if _is_torchao_tensor(parameter)]
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
    activation = _activation(weight)
    if int(weight.block_size[-1]) < codes.shape[1] and isinstance(activation, QuantizeDequantize):
        raise NotSupportedHere("group-wise weights with a fixed activation scale")
    return CodedLinear(codes, scale, zero_point, low, high, module.bias, activation)


def _code_range(weight: Any) -> tuple[int, int]:
    """The least and the largest code: from ``target_dtype`` (torch.int4 and so on), else all of int8."""
    name = str(getattr(weight, "target_dtype", torch.int8)).removeprefix("torch.")
    bits = int(name.removeprefix("int")) if name.removeprefix("int").isdigit() else 8
    return -(1 << (bits - 1)), (1 << (bits - 1)) - 1


def _activation(weight: Any) -> nn.Module | None:
    """What quantizes the layer's input; None: nothing does."""
    how = getattr(weight, "activation_quantization", None)  # IntxUnpackedToInt8Tensor has this one
    if how is not None:
        if getattr(how, "value", how) != "int8_asym_per_token":
            raise NotSupportedHere(f"activations quantized as {how}")
        return DynamicQuantizeDequantize(DynamicQuantizer("asymmetric", "row", -128, 127, torch.finfo(torch.float32).smallest_normal))
    kwargs = getattr(weight, "act_quant_kwargs", None)  # Int8Tensor has these
    if kwargs is None:
        return None
    low, high = (-64, 63) if getattr(kwargs, "reduce_range", False) else (-128, 127)
    scale = getattr(weight, "act_quant_scale", None)
    if scale is None:
        mapping = str(getattr(kwargs.mapping_type, "name", kwargs.mapping_type)).lower()
        granularity = {"PerRow": "row", "PerTensor": "tensor"}.get(type(kwargs.granularity).__name__)
        if mapping not in ("symmetric", "asymmetric") or granularity is None:
            raise NotSupportedHere(f"activations quantized {mapping}, {type(kwargs.granularity).__name__}")
        return DynamicQuantizeDequantize(DynamicQuantizer(mapping, granularity, low, high, torch.finfo(torch.float32).eps))
    if scale.numel() != 1:
        raise NotSupportedHere("activations quantized per channel")
    zero_point = getattr(weight, "act_quant_zero_point", None)
    return QuantizeDequantize(FakeQuant(scale, 0 if zero_point is None else zero_point, low, high))


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
    if isinstance(a["output_dtype"], torch.dtype) and a["output_dtype"] != torch.float32:  # the schema's default is a number
        raise NotSupportedHere(f"dequantizes to {a['output_dtype']}")
    value = node.target(**{name: operand for name, operand in a.items() if name != "output_dtype"})  # type: ignore[operator]
    zero_point = torch.zeros_like(scale) if zero_point is None else zero_point
    lines, channels = _lines(codes, a["block_size"]), len(codes)
    scale, zero_point = (t.double().reshape(channels, -1).squeeze(1) if lines else t.double().reshape(1) for t in (scale, zero_point))
    return QuantizedConstant(codes, scale, zero_point, 0 if lines else None, int(a["quant_min"]), int(a["quant_max"]), value)


def _lines(codes: Tensor, block: Sequence[int]) -> bool:
    """True: blocks are rows, or groups of a row; False: the only block is the whole tensor."""
    if tuple(block) == tuple(codes.shape):
        return False
    if codes.ndim != 2 or block[0] != 1:
        raise NotSupportedHere(f"weights of shape {tuple(codes.shape)} quantized in blocks of {list(block)}")
    return True


SOURCE = Source(
    "torchao",
    stand_in=_stand_in,
    handlers={
        "torchao::choose_qparams_affine": _choose_qparams,
        "torchao::quantize_affine": _quantize,
        "torchao::dequantize_affine": _dequantize,
    },
)
