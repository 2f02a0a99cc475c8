"""Fake-quantize ops, functions and modules become quantize/dequantize pairs: torch's own, learnable ones (LSQ), fused observers, and
users' classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from pyqinfer.frontend.call import Arguments
from pyqinfer.frontend.codes import FakeQuant, activation_quant
from pyqinfer.frontend.reader import GraphReader, Handler
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.sources.stand_ins import QuantizeDequantize, quantize_dequantize
from pyqinfer.frontend.values import NotSupportedHere, QuantizedConstant

# Users' classes: see register_fake_quant.
_REGISTERED: dict[type[nn.Module], Callable[[Any], FakeQuant | None]] = {}


def register_fake_quant(cls: type[nn.Module], fn: Callable[[Any], FakeQuant | None]) -> None:
    """Tell :func:`pyqinfer.convert` what a module class of your own does to a tensor.

    Args:
        cls: the class; subclasses are taken too, the most derived registered class wins.
        fn: called with each instance when a model is converted; returns its parameters, or None where it passes tensors on unchanged.

    Raises:
        TypeError: ``cls`` is no ``nn.Module`` class, or ``fn`` cannot be called.
    """
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise TypeError(f"cls: expected a subclass of torch.nn.Module, got {cls!r}")
    if not callable(fn):
        raise TypeError(f"fn: expected a function of a {cls.__name__}, got {fn!r}")
    _REGISTERED[cls] = fn


def is_fake_quant(module: nn.Module) -> bool:
    """Whether a module is of a registered class, or of one of the fake-quantize classes of torch.ao and torchao."""
    return any(cls in _REGISTERED or _is_torchs(cls) for cls in type(module).__mro__)


def fake_quant_of(module: nn.Module) -> FakeQuant | None:
    """What a module for which :func:`is_fake_quant` holds does in evaluation; None: nothing.

    Raises:
        TypeError: a registered function returned something else.
    """
    for cls in type(module).__mro__:
        if cls in _REGISTERED:
            found = _REGISTERED[cls](module)
            if found is not None and not isinstance(found, FakeQuant):
                raise TypeError(f"the function registered for {cls.__name__} returned {found!r}: expected pyqinfer.FakeQuant or None")
            return found
    return _of_torch(module)


def _is_torchs(cls: type) -> bool:
    # The class is told by name: torch.ao and torchao each have one, and neither needs to be imported to look.
    return cls.__name__ == "FakeQuantizeBase" and cls.__module__.startswith(("torch.ao.", "torchao."))


def _of_torch(module: Any) -> FakeQuant | None:
    """The parameters of a module of torch's as they stand: an observer that would still move them in torch is taken as frozen."""
    if not bool(module.fake_quant_enabled[0]):
        return None
    # The learnable class holds its own range, the others use their observer's.
    learnable = "Learnable" in type(module).__name__
    bounds = module if learnable else module.activation_post_process
    low, high = int(bounds.quant_min), int(bounds.quant_max)
    per_channel = module.qscheme in (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
    zero_point = module.zero_point.detach()
    if learnable:
        zero_point = learned_zero_point(zero_point, low, high, per_channel)
        if module.qscheme in (torch.per_channel_symmetric, torch.per_tensor_symmetric):
            zero_point = torch.zeros_like(zero_point)
    return FakeQuant(module.scale.detach(), zero_point, low, high, int(module.ch_axis) if per_channel else None)


def learned_zero_point(zero_point: Tensor, low: int, high: int, per_channel: bool) -> Tensor:
    """torch rounds a learned zero point half to even per channel, but adds 1/2, clamps and truncates per tensor."""
    if per_channel:
        return zero_point.detach().round().clamp(low, high).to(torch.int64)
    return (zero_point.detach() + 0.5).clamp(low, high).trunc().to(torch.int64)


def apply(reader: GraphReader, node: Node, x: Any, params: FakeQuant) -> Any:
    """Quantize and dequantize an activation, or make a constant a quantized one. Raises NotSupportedHere, ValueError."""
    if isinstance(x, QuantizedConstant):
        x = x.value
    if isinstance(x, Tensor):
        return _of_constant(x, params)
    if params.axis is not None:
        raise NotSupportedHere("activations quantized per channel")
    x = reader.activation(x, "input")
    quant, _ = activation_quant(params.scale, params.zero_point, params.quant_min, params.quant_max, torch.float32)
    codes = reader.emit("quantize", node, [x], x.shape, quant=quant)
    return reader.emit("dequantize", node, [codes], x.shape)


def _stand_in(module: nn.Module) -> nn.Module | None:
    if not is_fake_quant(module):
        return None
    params = fake_quant_of(module)
    return nn.Identity() if params is None else QuantizeDequantize(params)


def _call_module(reader: GraphReader, node: Node, module: nn.Module, operands: Sequence[Any]) -> Any:
    """PT2E models that are prepared and not converted call fake-quantize modules, which their quantizer put into the graph."""
    if not is_fake_quant(module):
        return None
    params = fake_quant_of(module)
    return operands[0] if params is None else apply(reader, node, operands[0], params)


def _of_constant(x: Tensor, params: FakeQuant) -> QuantizedConstant:
    scale = torch.as_tensor(params.scale, dtype=torch.float64).detach().reshape(-1)
    zero_point = torch.as_tensor(params.zero_point, dtype=torch.float64).detach().reshape(-1)
    axis = params.axis
    if axis is None and scale.numel() != 1:
        raise ValueError(f"{scale.numel()} scales and no axis")
    if axis is not None and scale.numel() != x.shape[axis]:
        raise ValueError(f"{scale.numel()} scales for {x.shape[axis]} slices along axis {axis}")
    if not bool((torch.isfinite(scale) & (scale != 0)).all()):
        raise ValueError("a scale that is 0 or not finite")
    along = [1] * x.ndim
    if axis is not None:
        along[axis] = -1
    s, z = scale.reshape(along), zero_point.reshape(along)
    if not bool((z == z.round()).all()):
        raise ValueError("a zero point that is no integer")
    # torch's kernels multiply by the reciprocal of the scale, in one float32 product.
    codes = (torch.round(x.detach().float() * (1.0 / s.float().double()).float()).double() + z).clamp(params.quant_min, params.quant_max)
    value = ((codes - z).float() * s.float()).contiguous()
    return QuantizedConstant(codes.to(torch.int64), scale, zero_point, axis, params.quant_min, params.quant_max, value)


def _per_tensor(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return apply(reader, node, a["self"], FakeQuant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"]))


def _per_tensor_masked(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    enabled = a.get("fake_quant_enabled")
    return (a["self"] if enabled is not None and not bool(enabled.reshape(-1)[0]) else _per_tensor(reader, node, a), None)


def _per_channel(reader: GraphReader, node: Node, a: Arguments) -> Any:
    return apply(reader, node, a["self"], FakeQuant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], a["axis"]))


def _learnable(per_channel: bool) -> Handler:
    def handler(reader: GraphReader, node: Node, a: Arguments) -> Any:
        if not isinstance(a["scale"], Tensor) or not isinstance(a["zero_point"], Tensor):
            raise NotSupportedHere("quantization parameters computed from the input")
        zero_point = learned_zero_point(a["zero_point"], a["quant_min"], a["quant_max"], per_channel)
        axis = a["axis"] if per_channel else None
        return apply(reader, node, a["self"], FakeQuant(a["scale"], zero_point, a["quant_min"], a["quant_max"], axis))

    return handler


def _fused(reader: GraphReader, node: Node, a: Arguments) -> Any:
    if not all(isinstance(a[key], Tensor) for key in ("fake_quant_on", "scale", "zero_point")):
        raise NotSupportedHere("quantization parameters computed from the input")
    if not bool(a["fake_quant_on"].reshape(-1)[0]):
        return a["self"]
    axis = a["ch_axis"] if a["per_row_fake_quant"] else None
    return apply(reader, node, a["self"], FakeQuant(a["scale"], a["zero_point"], a["quant_min"], a["quant_max"], axis))


def _fused_functional(reader: GraphReader, node: Node, a: Arguments) -> tuple[Any, ...]:
    """The functional form also returns its mask and the observer's state, which stays as it is."""
    return (_fused(reader, node, a), None, a["running_min"], a["running_max"], a["scale"], a["zero_point"])


# What is traced in place of torch's fake-quantize functions: torch has no shape function for them with a symbolic batch, so that a graph
# with their own ops would take the batch of the example inputs only.


def _traced_per_tensor(input: Tensor, scale: Any, zero_point: Any, quant_min: int, quant_max: int) -> Tensor:
    return quantize_dequantize(input, scale, zero_point, quant_min, quant_max)


def _traced_per_channel(input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int) -> Tensor:
    return quantize_dequantize(input, scale, zero_point.to(torch.int64), quant_min, quant_max, axis)


def _traced_learnable_per_tensor(
    input: Tensor, scale: Tensor, zero_point: Tensor, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Tensor:
    zero = learned_zero_point(zero_point, quant_min, quant_max, per_channel=False)
    return quantize_dequantize(input, scale, zero, quant_min, quant_max)


def _traced_learnable_per_channel(
    input: Tensor, scale: Tensor, zero_point: Tensor, axis: int, quant_min: int, quant_max: int, grad_factor: float = 1.0
) -> Tensor:
    zero = learned_zero_point(zero_point, quant_min, quant_max, per_channel=True)
    return quantize_dequantize(input, scale, zero, quant_min, quant_max, axis)


SOURCE = Source(
    "fake_quant",
    stand_in=_stand_in,
    functions={
        torch.fake_quantize_per_tensor_affine: _traced_per_tensor,
        torch.fake_quantize_per_channel_affine: _traced_per_channel,
        torch._fake_quantize_learnable_per_tensor_affine: _traced_learnable_per_tensor,
        torch._fake_quantize_learnable_per_channel_affine: _traced_learnable_per_channel,
    },
    call_module=_call_module,
    handlers={
        "aten::fake_quantize_per_tensor_affine": _per_tensor,
        "aten::fake_quantize_per_tensor_affine_cachemask": _per_tensor_masked,
        "aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": _per_tensor_masked,
        "aten::fake_quantize_per_channel_affine": _per_channel,
        "aten::fake_quantize_per_channel_affine_cachemask": lambda r, n, a: (_per_channel(r, n, a), None),
        "aten::_fake_quantize_learnable_per_tensor_affine": _learnable(per_channel=False),
        "aten::_fake_quantize_learnable_per_channel_affine": _learnable(per_channel=True),
        "aten::fused_moving_avg_obs_fake_quant": _fused,
        "aten::_fused_moving_avg_obs_fq_helper": lambda r, n, a: (_fused(r, n, a), None),
        "aten::_fused_moving_avg_obs_fq_helper_functional": _fused_functional,
    },
)
