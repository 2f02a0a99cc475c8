"""Models of the older torch.ao flows: prepared by FX, converted by FX, and converted eager modules.

Their tensors hold codes, which torch.export cannot trace. Every quantized module and function gets a stand-in that computes on what
the codes stand for, with quantize and dequantize behind it. An op that keeps its input's parameters (pools, ReLU6) rounds to them.
Classes are told by name, so that nothing here needs torch to have them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from pyqinfer.frontend.codes import FakeQuant
from pyqinfer.frontend.dynamic_recurrent import DynamicCell, DynamicRecurrent
from pyqinfer.frontend.sources.dynamic import DynamicQuantizeDequantize, DynamicQuantizer
from pyqinfer.frontend.sources.source import Source
from pyqinfer.frontend.sources.stand_ins import CodedLinear, QuantizeDequantize, quantize_dequantize
from pyqinfer.frontend.values import NotSupportedHere

_QUANTIZED = ("torch.ao.nn.quantized.", "torch.ao.nn.intrinsic.quantized.")
_RANGES = {torch.quint8: (0, 255), torch.qint8: (-128, 127)}
_UNSIGNED = (0, 255)  # what stand-ins quantize to until the whole graph is there: see _sign_like_inputs
_SMALLEST_DYNAMIC_SCALE = 6.1e-5  # torch's SMALL_SCALE_THRESHOLD
# Ops between a dequantize and the next quantize: those in _MOVES pick elements; those in _ROUNDS compute, and torch rounds their results
# to the parameters of the input.
_MOVES = frozenset({"max_pool2d", "view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "slice", "select"})
_ROUNDS = frozenset({"relu", "relu6", "hardtanh", "clamp", "avg_pool2d", "adaptive_avg_pool2d", "mean"})


def is_quantized_eagerly(model: object) -> bool:
    """Whether a model was converted, in eager mode (``quantize_dynamic`` too) or by FX."""
    return isinstance(model, nn.Module) and any(_is_quantized(module) for module in model.modules())


def _is_quantized(module: nn.Module) -> bool:
    """Whether the module's class computes on codes; the classes of torch's reference form compute on floats."""
    path = type(module).__module__
    return path.startswith(_QUANTIZED) and ".reference." not in path


def _plain(model: nn.Module) -> nn.Module | None:
    """For an FX model that observes or was converted: one whose own graph torch.export can read once its modules have stand-ins.

    An FX model that only observes is converted to torch's reference form; in a converted one the quantized functions are replaced.

    Raises:
        NotSupportedHere: quantized functions that have no stand-in, all of them.
    """
    if not isinstance(model, GraphModule):
        return None
    if _only_observes(model):
        from torch.ao.quantization.backend_config import get_native_backend_config, get_qnnpack_backend_config
        from torch.ao.quantization.quantize_fx import _convert_to_reference_decomposed_fx

        # A prepared model does not say for which backend. Only qnnpack's layers take signed activations; by another backend's rules
        # every layer that has them would stay float.
        backend = get_qnnpack_backend_config() if _observes_signed(model) else get_native_backend_config()
        return _convert_to_reference_decomposed_fx(copy.deepcopy(model), backend_config=backend)
    return _with_plain_functions(model) if is_quantized_eagerly(model) else None


def _only_observes(model: GraphModule) -> bool:
    """Whether a model is prepared for post-training quantization; those prepared for training hold fake-quantize modules instead."""
    calls = [model.get_submodule(str(n.target)) for n in model.graph.nodes if n.op == "call_module"]
    return "_observed_graph_module_attrs" in model.meta and any(type(m).__name__.endswith("Observer") for m in calls)


def _observes_signed(model: GraphModule) -> bool:
    calls = [model.get_submodule(str(n.target)) for n in model.graph.nodes if n.op == "call_module"]
    return any(getattr(module, "dtype", None) is torch.qint8 for module in calls)


def _quantize(x: Tensor, scale: Any, zero_point: Any, dtype: torch.dtype) -> Tensor:
    return quantize_dequantize(x, scale, zero_point, *_RANGES[dtype])


def _binary(function: Callable[[Tensor, Tensor], Tensor], relu: bool) -> Callable[[Tensor, Tensor, Any, Any], Tensor]:
    def compute(a: Tensor, b: Tensor, scale: Any, zero_point: Any) -> Tensor:
        y = function(a, b)
        return quantize_dequantize(F.relu(y) if relu else y, scale, zero_point, *_UNSIGNED)

    return compute


def _cat(tensors: list[Tensor], dim: int, scale: Any, zero_point: Any) -> Tensor:
    return quantize_dequantize(torch.cat(tensors, dim), scale, zero_point, *_UNSIGNED)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "quantized.add": _binary(torch.add, False),
    "quantized.add_relu": _binary(torch.add, True),
    "quantized.mul": _binary(torch.mul, False),
    "quantized.mul_relu": _binary(torch.mul, True),
    "quantized.cat": _cat,
}


def _with_plain_functions(model: GraphModule) -> GraphModule:
    graph = Graph()
    graph.output(graph.graph_copy(model.graph, {}))
    unknown: list[str] = []
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "call_function" and node.target is torch.quantize_per_tensor:
            node.target = _quantize
        elif node.op == "call_method" and name == "dequantize":
            node.op, node.target = "call_function", torch.clone
        elif node.op == "call_function" and name.startswith("quantized."):
            if name in _FUNCTIONS:
                node.target = _FUNCTIONS[name]
            else:
                unknown.append(f"{node.name} ({name})")
    if unknown:
        raise NotSupportedHere(f"quantized functions: {', '.join(unknown)}; convert from the prepared model instead")
    return GraphModule(model, graph)


def _stand_in(module: nn.Module) -> nn.Module | None:
    """A plain module for a quantized one; None: not a quantized module.

    Raises:
        NotSupportedHere: a quantized module without a stand-in.
    """
    quantized: Any = module
    kind, path = type(module).__name__, type(module).__module__
    if not _is_quantized(module):
        return None
    if ".dynamic." in path:
        if kind in ("LSTM", "GRU"):
            return DynamicRecurrent(quantized, _dynamic_weights)
        if kind in ("LSTMCell", "GRUCell", "RNNCell"):
            return DynamicCell(quantized, _dynamic_weights)
        if kind not in ("Linear", "LinearReLU"):
            raise NotSupportedHere(f"a dynamically quantized {kind}")
        return _dynamic_linear(quantized, nn.ReLU() if kind == "LinearReLU" else None)
    if kind in ("Linear", "LinearReLU"):
        return _linear(quantized, _Output(quantized, kind))
    if kind in ("Conv2d", "ConvReLU2d"):
        return _Conv(quantized, kind)
    if kind in ("BatchNorm2d", "BNReLU2d"):
        return nn.Sequential(_batch_norm(quantized), _Output(quantized, kind))
    simple: dict[str, Callable[[], nn.Module]] = {
        "Quantize": lambda: QuantizeDequantize(FakeQuant(quantized.scale, quantized.zero_point, *_RANGES[quantized.dtype])),
        "DeQuantize": _Dequantize,
        "QFunctional": lambda: _Functional(quantized),
        "ReLU6": nn.ReLU6,
        "Dropout": nn.Identity,
    }
    if kind not in simple:
        raise NotSupportedHere(f"a quantized {kind}")
    return simple[kind]()


class _Dequantize(nn.Module):
    """Marks where codes end: what follows is computed in float."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _Output(nn.Module):
    """The end of a quantized module: its ReLU, where it has one, and codes with its parameters."""

    def __init__(self, module: Any, kind: str) -> None:
        super().__init__()
        self.relu = "ReLU" in kind
        self.quantize = QuantizeDequantize(FakeQuant(float(module.scale), int(module.zero_point), *_UNSIGNED))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.quantize(F.relu(x) if self.relu else x)
        return y


class _Functional(nn.Module):
    """``QFunctional``: the arithmetic of eager models, with one set of parameters."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.parameters_of = (float(module.scale), int(module.zero_point), *_UNSIGNED)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return quantize_dequantize(a + b, *self.parameters_of)

    def add_relu(self, a: Tensor, b: Tensor) -> Tensor:
        return quantize_dequantize(F.relu(a + b), *self.parameters_of)

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        return quantize_dequantize(a * b, *self.parameters_of)

    def cat(self, tensors: list[Tensor], dim: int = 0) -> Tensor:
        return quantize_dequantize(torch.cat(tensors, dim), *self.parameters_of)


def _weight(module: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _codes(module.weight())


def _codes(weight: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of a layer: codes, and a scale and a zero point for each output channel."""
    if weight.qscheme() == torch.per_tensor_affine:
        scale, zero = torch.tensor([weight.q_scale()]), torch.tensor([weight.q_zero_point()])
    elif weight.q_per_channel_axis() == 0:
        scale, zero = weight.q_per_channel_scales().float(), weight.q_per_channel_zero_points().to(torch.int64)
    else:
        raise NotSupportedHere(f"weights quantized along axis {weight.q_per_channel_axis()}")
    count = weight.shape[0]
    return weight.int_repr(), scale.expand(count).contiguous(), zero.expand(count).contiguous()


def _linear(module: Any, after: nn.Module | None) -> nn.Module:
    return CodedLinear(*_weight(module), -128, 127, module.bias(), after=after)


def _dynamic_linear(module: Any, after: nn.Module | None) -> nn.Module:
    """torch finds one range for the whole input; its x86 kernels, which could overflow with 8 bits, take 7 of them."""
    if module._packed_params.dtype != torch.qint8:
        raise NotSupportedHere(f"a dynamic Linear of {module._packed_params.dtype}")
    return _dynamic_coded(_weight(module), module.bias(), after)


def _dynamic_weights(weight: Tensor, bias: Tensor | None) -> nn.Module:
    return _dynamic_coded(_codes(weight), bias, None)


def _dynamic_coded(weight: tuple[Tensor, Tensor, Tensor], bias: Tensor | None, after: nn.Module | None) -> nn.Module:
    top = 255 if torch.backends.quantized.engine == "qnnpack" else 127
    before = DynamicQuantizeDequantize(DynamicQuantizer("asymmetric", "tensor", 0, top, _SMALLEST_DYNAMIC_SCALE))
    return CodedLinear(*weight, -128, 127, bias, before, after)


def _batch_norm(module: Any) -> nn.Module:
    plain = nn.BatchNorm2d(module.num_features, module.eps)
    plain.load_state_dict({key: getattr(module, key) for key in ("weight", "bias", "running_mean", "running_var")}, strict=False)
    return plain.eval()


class _Conv(nn.Module):
    def __init__(self, module: Any, kind: str) -> None:
        super().__init__()
        if module.padding_mode != "zeros":
            raise NotSupportedHere(f"padding mode {module.padding_mode!r}")
        codes, scale, zero_point = _weight(module)
        for name, tensor in (("codes", codes), ("scale", scale), ("zero_point", zero_point), ("bias", module.bias())):
            self.register_buffer(name, None if tensor is None else tensor.detach())
        self.window = (module.stride, module.padding, module.dilation, module.groups)
        self.output = _Output(module, kind)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.ops.quantized_decomposed.dequantize_per_channel(self.codes, self.scale, self.zero_point, 0, -128, 127, torch.int8)
        y: Tensor = self.output(F.conv2d(x, weight, self.bias, *self.window))  # type: ignore[arg-type]
        return y


def _round_like_codes(model: nn.Module, module: GraphModule) -> None:
    """In the exported graph of a converted model, put quantize and dequantize behind ops that keep the parameters of their input."""
    if not is_quantized_eagerly(model):
        return
    _sign_like_inputs(module)
    parameters: dict[Node, Node] = {}  # a value -> the dequantize whose parameters its codes would have
    for node in list(module.graph.nodes):
        op = _op_of(node)
        source = node.args[0] if node.args and isinstance(node.args[0], Node) else None
        if op == "dequantize_per_tensor":
            parameters[node] = node
        elif source in parameters and op in _MOVES:
            parameters[node] = parameters[source]
        elif source in parameters and op in _ROUNDS:
            parameters[_requantize(module.graph, node, parameters[source])] = parameters[source]
    module.graph.lint()
    module.recompile()


def _sign_like_inputs(module: GraphModule) -> None:
    """Give the codes that a quantized module or function makes the range of those that it reads.

    Such a module knows its scale and zero point, but not whether its codes are signed: torch takes the type of its input.

    Raises:
        NotSupportedHere: codes made from signed and unsigned ones.
    """
    for node in module.graph.nodes:
        if not _is_quantize(node):
            continue
        ranges = {tuple(source.args[3:5]) for source in _codes_behind(node.args[0])}
        if len(ranges) > 1:
            raise NotSupportedHere(f"{node.name} computes with codes of the ranges {sorted(ranges)}")
        for low, high in ranges:
            for pair in (node, *(user for user in node.users if _op_of(user) == "dequantize_per_tensor")):
                pair.args = (*pair.args[:3], low, high, *pair.args[5:])


def _codes_behind(value: Any) -> list[Node]:
    """The dequantizes whose codes a value is computed from, within one quantized module or function."""
    found, seen, left = [], set[Node](), [value]
    while left:
        node = left.pop()
        if not isinstance(node, Node) or node in seen or _ends_codes(node):
            continue
        seen.add(node)
        if _op_of(node) == "dequantize_per_tensor":
            found.append(node)
        else:
            left += node.all_input_nodes
    return found


def _ends_codes(node: Node) -> bool:
    """Whether a node stands for a dequantize of the model. torch.export makes clones too, where it reshapes, and names their layout."""
    return _op_of(node) == "clone" and "memory_format" not in node.kwargs


def _op_of(node: Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return schema.name.partition("::")[2].rstrip("_") if schema is not None else ""


def _is_quantize(node: Node) -> bool:
    return _op_of(node) == "quantize_per_tensor"


def _requantize(graph: Graph, node: Node, like: Node) -> Node:
    """Let every reader of ``node`` read it through codes, with the parameters of the dequantize ``like``; returns the new dequantize."""
    codes_of = like.args[0]
    assert isinstance(codes_of, Node)
    readers = list(node.users)
    with graph.inserting_after(node):
        codes = graph.call_function(codes_of.target, (node, *codes_of.args[1:]))  # type: ignore[arg-type]
    with graph.inserting_after(codes):
        value = graph.call_function(like.target, (codes, *like.args[1:]))  # type: ignore[arg-type]
    for reader in readers:
        reader.replace_input_with(node, value)
    return value


SOURCE = Source("legacy", plain=_plain, stand_in=_stand_in, refine=_round_like_codes)
