"""NNCF's form of quantized weights in FX graphs: ``codes * scale - zero_point``, two plain aten ops of constants.

``codes`` is an 8-bit tensor; ``scale`` and what is subtracted are scalars or broadcast along one axis. The subtrahend is in the
units of the weights, so that the zero point in codes is its quotient by the scale.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.values import QuantizedConstant

_RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255)}
# A zero point that was written in float32 is this close to a whole number of codes.
_TOLERANCE = 1e-3


def _fold(op: str, arguments: Arguments) -> QuantizedConstant | None:
    """A quantized constant where ``op`` of constants has that form, else None: it is evaluated as it stands."""
    if op == "mul":
        return _scaled(arguments["self"], arguments["other"])
    if op == "sub" and arguments.get("alpha", 1) == 1:
        return _shifted(arguments["self"], arguments["other"])
    return None


def _scaled(codes: object, scale: object) -> QuantizedConstant | None:
    if isinstance(scale, Tensor) and scale.dtype in _RANGES:
        codes, scale = scale, codes
    if isinstance(scale, float):
        scale = torch.tensor(scale)
    if not isinstance(codes, Tensor) or codes.dtype not in _RANGES or not isinstance(scale, Tensor) or not scale.is_floating_point():
        return None
    axis = _axis(scale, codes)
    if axis == -1 or not bool((torch.isfinite(scale) & (scale != 0)).all()):
        return None
    flat = scale.detach().double().reshape(-1)
    return QuantizedConstant(codes, flat, torch.zeros_like(flat), axis, *_RANGES[codes.dtype], codes * scale.detach())


def _shifted(product: object, offset: object) -> QuantizedConstant | None:
    if not isinstance(product, QuantizedConstant) or bool(product.zero_point.any()):
        return None
    offset = torch.as_tensor(offset)
    axis = _axis(offset, product.codes)
    if axis == -1 or (axis is not None and axis != product.axis):
        return None
    zero_point = offset.detach().double().reshape(-1) / product.scale
    if bool(((zero_point - zero_point.round()).abs() > _TOLERANCE).any()):
        return None
    value = product.value - offset
    return QuantizedConstant(product.codes, product.scale, zero_point.round(), product.axis, product.quant_min, product.quant_max, value)


def _axis(parameter: Tensor, codes: Tensor) -> int | None:
    """The axis along which a parameter varies, None for a scalar, -1 where it has another form."""
    if parameter.numel() == 1:
        return None
    full = (1,) * (codes.ndim - parameter.ndim) + tuple(parameter.shape)
    varying = [i for i, size in enumerate(full) if size != 1]
    return varying[0] if len(full) == codes.ndim and len(varying) == 1 and full[varying[0]] == codes.shape[varying[0]] else -1


SOURCE = Source("nncf", fold_weights=_fold)
